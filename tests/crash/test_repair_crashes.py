"""A repair is stopped at every call it makes, by the power or a kill: the next one finishes it, to the same end.

One store with damage of every kind is repaired without disturbance; then again and again with a power cut at one call
after the other, and what is left is repaired again. ``POWER_CUT_ROUNDS`` multiplies the number of cases.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from lifecycle_support import LIVELY
from machine import ROOT, ROUNDS, Machine
from oracle import EVERYTHING
from support import put_many
from test_lifecycle_crashes import act_forget, records, spread, told, write_back

from memstore.format.names import StorePaths, tier_of
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.repair.repair_store import repair_store
from memstore.testing.crashing import CrashingStorage

Lines = dict[str, list[bytes]]
SETTINGS = {**LIVELY, "storage.retention.rules": [{"agent": "short", "keep_days": 20}]}
CASES = max(int(40 * ROUNDS), 1)


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memstore.lifecycle.manager.DRAIN_WAIT_S", 0.0)
    monkeypatch.setattr("memstore.ops.repair.bit_search.SEARCH_BYTES_MAX", 600)  # what is lost is lost quickly


def prepare(machine: Machine) -> None:
    """Every tier, tombstones, trash, and a lane that nobody sealed."""
    engine = machine.engine()
    put_many(engine, records(-60, -56, agents=("a", "b.B")))
    put_many(engine, records(-20, -9))
    engine.drain(timeout_s=0)
    Lifecycle(engine).manager.maintain()
    put_many(engine, records(-14, -12, agents=("a",)))
    put_many(engine, records(-3, 0))
    engine.drain(timeout_s=0)
    put_many(engine, records(-1, 0, agents=("a", "short")))
    engine.drain(timeout_s=0)
    machine.goes = []
    act_forget(machine)
    for number in range(3):
        put_many(engine, [{"agent_id": agent, "content": f"{number} in a lane"} for agent in ("a", "b.B", "new")])
    machine.kill(engine)
    write_back(machine.storage)


def spoil(storage: CrashingStorage, path: str, offset: int, data: bytes) -> None:
    file = storage.open_update(path)
    file.write(data, offset)
    file.close()


def files(storage: CrashingStorage, *, agent: str, tier: str | None) -> list[str]:
    return [
        path
        for path in storage.files(ROOT)
        if f"/{agent}/" in path and tier_of(os.path.basename(path)) == tier and "/.trash/" not in path
    ]


def damage_files(storage: CrashingStorage) -> None:
    for agent, tier in (("a", "hot"), ("a", "warm"), ("a", "cold"), ("short", "hot")):
        path = files(storage, agent=agent, tier=tier)[0]
        spoil(storage, path, len(storage.files(ROOT)[path]) // 3, b"????")
    spoil(storage, f"{ROOT}/STORE.json", 20, b"!!")


def damage_indexes(storage: CrashingStorage) -> None:
    for agent, line in (("a", 2), ("short", 0)):
        path = f"{home(storage, agent)}/MANIFEST"
        whole = storage.files(ROOT)[path].split(b"\n")
        spoil(storage, path, sum(len(each) + 1 for each in whole[:line]) + 30, b"????")
    storage.unlink(f"{home(storage, 'b-b~6be8c537e9dc1b21ec551ae58e520e98')}/MANIFEST")


def damage_lanes(storage: CrashingStorage) -> None:
    (lane,) = [path for path in storage.files(ROOT) if path.endswith(".lane")]
    data = storage.files(ROOT)[lane]
    places = [at for at in range(len(data)) if data.startswith(b'{"commit":', at)]
    spoil(storage, lane, places[0] + 30, b"????")
    spoil(storage, lane, data.index(b"1 in a lane"), b"????")
    spoil(storage, f"{ROOT}/FORGOTTEN", 12, b"????")


def damage_all(storage: CrashingStorage) -> None:
    damage_lanes(storage)
    damage_files(storage)
    damage_indexes(storage)


def home(storage: CrashingStorage, name: str) -> str:
    return next(os.path.dirname(path) for path in storage.files(ROOT) if path.endswith(f"/{name}/MANIFEST"))


def repair(machine: Machine) -> RepairReport:
    report = repair_store(machine.storage, StorePaths(ROOT), clock=machine.clock, open_engine=machine.engine)
    machine.journal.entries.clear()
    return report


def lines(machine: Machine) -> Lines:
    engine = machine.engine()
    found = {
        agent: [line for line, _ in engine.reader.lines(agent, EVERYTHING, newest_first=False, on_damage="raise")]
        for agent in engine.inventory.agents()
    }
    for of_agent in found.values():
        twice = [line for line, count in Counter(of_agent).items() if count > 1]
        assert not twice, twice[:3]
        assert of_agent == sorted(of_agent)
    return {agent: of_agent for agent, of_agent in found.items() if of_agent}


DAMAGES = [damage_files, damage_indexes, damage_lanes, damage_all]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("ending", ["power", "kill"])
def test_a_repair_that_was_stopped_is_finished_by_the_next_one(damage, ending: str) -> None:
    def spoiled(seed: int | str) -> Machine:
        machine = Machine(seed, settings=SETTINGS)
        prepare(machine)
        damage(machine.storage)
        write_back(machine.storage)
        return machine

    sample = spoiled("sample")
    whole = lines_before(sample)
    before = sample.storage.power.calls
    report = repair(sample)
    assert report.is_clean, ([each.sentence for each in report.after.findings], report.failed)
    calls = sample.storage.power.calls - before
    expected = lines(sample)
    assert all(set(of_agent) <= whole[agent] for agent, of_agent in expected.items())
    assert sum(map(len, expected.values())) > 40
    for number, call in enumerate(spread(calls, CASES)):
        with told(f"stopped at call {call} of {calls}, seed {number}"):
            machine = spoiled(f"{call}:{number}")
            machine.run(lambda each: repair(each) and None, cut_at=call)
            if ending == "kill":
                write_back(machine.storage)
            machine.crash()
            report = repair(machine)
            assert report.is_clean, ([each.sentence for each in report.after.findings], report.failed)
            found = lines(machine)
            assert {agent: set(of) for agent, of in found.items()} == {agent: set(of) for agent, of in expected.items()}
            machine.crash()
            assert lines(machine) == found


def lines_before(machine: Machine) -> dict[str, set[bytes]]:
    """Every line that was ever handed in, by agent."""
    found: dict[str, set[bytes]] = {}
    for entry in machine.journal.entries.values():
        if entry.there is not False:
            found.setdefault(entry.agent, set()).update(entry.lines)
    return found
