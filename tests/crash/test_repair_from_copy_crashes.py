"""A repair that takes from the second copy is stopped at every call: the next one finishes it, and nothing is lost.

``POWER_CUT_ROUNDS`` multiplies the number of cases.
"""

from __future__ import annotations

import os

import pytest
from machine import ROOT, ROUNDS, SECOND_VOLUME, Machine
from replica_support import InlineExecutor, give_copy
from support import put_many
from test_lifecycle_crashes import act_forget, records, spread, told, write_back
from test_repair_crashes import SETTINGS, damage_files, home, lines, spoil

from memstore.backup.find_copies import find_copies
from memstore.format.names import StorePaths
from memstore.fs.trees import remove_tree
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.repair.repair_store import repair_store
from memstore.testing.crashing import CrashingStorage
from memstore.wal import mirror

CASES = max(int(30 * ROUNDS), 1)


@pytest.fixture(autouse=True)
def _as_it_has_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "one_thread", InlineExecutor)
    monkeypatch.setattr("memstore.lifecycle.manager.DRAIN_WAIT_S", 0.0)
    monkeypatch.setattr("memstore.ops.repair.bit_search.SEARCH_BYTES_MAX", 600)


def prepare(machine: Machine) -> None:
    """Every tier, tombstones, trash, all of it in the second copy too, and a lane that only lanes have."""
    engine = machine.engine()
    put_many(engine, records(-60, -56, agents=("a", "b.B")))
    put_many(engine, records(-20, -9))
    engine.drain(timeout_s=0)
    Lifecycle(engine).manager.maintain()
    put_many(engine, records(-3, 0))
    engine.drain(timeout_s=0)
    machine.goes = []
    act_forget(machine)
    give_copy(engine, SECOND_VOLUME)
    for number in range(3):
        put_many(engine, [{"agent_id": agent, "content": f"{number} in a lane"} for agent in ("a", "b.B", "new")])
    machine.kill(engine)
    write_back(machine.storage)


def lane_of(storage: CrashingStorage) -> str:
    (lane,) = [path for path in storage.files(ROOT) if path.endswith(".lane")]
    return lane


def damage_indexes(storage: CrashingStorage) -> None:
    path = f"{home(storage, 'a')}/MANIFEST"
    spoil(storage, path, storage.files(ROOT)[path].index(b"\n") + 30, b"????")
    storage.unlink(f"{home(storage, 'short')}/MANIFEST")


def lose_everything_of_some(storage: CrashingStorage) -> None:
    storage.unlink(lane_of(storage))
    name = "b-b~6be8c537e9dc1b21ec551ae58e520e98"
    remove_tree(storage, home(storage, name))
    remove_tree(storage, os.path.join(StorePaths(ROOT).archive, name))


def damage_a_lane(storage: CrashingStorage) -> None:
    lane = lane_of(storage)
    spoil(storage, lane, storage.files(ROOT)[lane].index(b"1 in a lane"), b"????")


def repair(machine: Machine) -> RepairReport:
    paths = StorePaths(ROOT)
    copies = find_copies(machine.storage, paths, named=None, known=True, replica_volume=SECOND_VOLUME)
    report = repair_store(machine.storage, paths, clock=machine.clock, open_engine=machine.engine, copies=copies)
    machine.journal.entries.clear()
    return report


@pytest.mark.parametrize(
    "damage", [damage_files, damage_indexes, damage_a_lane, lose_everything_of_some], ids=lambda damage: damage.__name__
)
def test_a_repair_from_the_second_copy_that_was_stopped_is_finished_and_loses_nothing(damage) -> None:
    def spoiled(seed: int | str, *, is_spoiled: bool = True) -> Machine:
        machine = Machine(seed, settings=SETTINGS)
        prepare(machine)
        if is_spoiled:
            damage(machine.storage)
            write_back(machine.storage)
        return machine

    expected = lines(spoiled("sample", is_spoiled=False))
    assert {"a", "b.B", "new"} <= expected.keys()
    sample = spoiled("sample")
    before = sample.storage.power.calls
    report = repair(sample)
    assert report.is_clean, ([each.sentence for each in report.after.findings], report.failed)
    calls = sample.storage.power.calls - before
    assert lines(sample) == expected
    for number, call in enumerate(spread(calls, CASES)):
        with told(f"stopped at call {call} of {calls}, seed {number}"):
            machine = spoiled(f"{call}:{number}")
            machine.run(lambda each: repair(each) and None, cut_at=call)
            machine.crash()
            report = repair(machine)
            assert report.is_clean, ([each.sentence for each in report.after.findings], report.failed)
            assert lines(machine) == expected
            machine.crash()
            assert lines(machine) == expected
