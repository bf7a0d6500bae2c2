"""The lifecycle is stopped at every call it makes: records are there once, what was hidden stays hidden, and the next
run finishes the work and leaves nothing behind (P5, P7).

For each kind of action a store is prepared; then the action is done with the power cut, a disk that refuses, or a kill
at one call after the other. ``POWER_CUT_ROUNDS`` multiplies the number of cases.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import zstandard
from lifecycle_support import DAY_S, LIVELY, compare_files, iso
from machine import ROOT, ROUNDS, SECOND_VOLUME, Machine
from oracle import check, traces
from support import put_many

from memstore import StorageError, StorageFullError
from memstore.engine.engine import Engine
from memstore.errors import MemstoreError, WriterBrokenError
from memstore.format.names import MANIFEST, SHARD_LOCK
from memstore.lifecycle.action import Withheld
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.lifecycle.maintain_report import MaintainReport
from memstore.testing.crashing import CrashingStorage
from memstore.testing.faulty import disk_full

RULES: list[dict[str, Any]] = [
    {"agent": "short", "keep_days": 20},
    {"memory_type": "PERFORMANCE", "keep_days": 20},
]
SETTINGS = {**LIVELY, "storage.retention.rules": RULES}
ELSEWHERE = {
    **SETTINGS,
    "storage.lifecycle.archive_volume": SECOND_VOLUME,
    "storage.lifecycle.deduplication_enabled": True,
}
AGENTS = ("a", "b.B", "short")


def records(first: float, last: float, *, agents: tuple[str, ...] = AGENTS) -> list[dict[str, Any]]:
    """Two records of each agent and day, one of them PERFORMANCE with a content that repeats."""
    return [
        {
            "agent_id": agent,
            "memory_type": memory_type,
            "content": {"state": "all is well " * 4} if memory_type == "PERFORMANCE" else f"{agent} {day} " + "w" * 300,
            "timestamp_utc": iso(day + hour / 24),
        }
        for day in range(int(first), int(last))
        for agent in agents
        for hour, memory_type in ((3, "INTERACTION"), (5, "PERFORMANCE"))
    ]


@dataclass
class Deed:
    """Something the lifecycle does, with a store in which it is due.

    Attributes:
        prepare: makes the store.
        act: does it; asks for nothing else.
        goes: what of the store may be removed while it is done or finished later.
        settings: of the store.
        expected: kinds of actions that are to be among those that were done.
    """

    prepare: Callable[[Machine], None]
    act: Callable[[Machine], None]
    goes: Callable[[Machine], list[str]] = lambda _: []
    settings: dict[str, Any] = field(default_factory=lambda: SETTINGS)
    expected: tuple[str, ...] = ()


def maintain(machine: Machine, engine: Engine | None = None, goes: list[str] | None = None) -> MaintainReport:
    """One run, in which nothing else than ``goes`` may disappear."""
    engine = engine or machine.engine()
    with machine.journal.forgetting(goes or []):
        report = Lifecycle(engine).manager.maintain()
    # What a failed action was to remove may be there still, or again after a power cut; what an erasure was to remove
    # that was stopped goes if its intent was noted.
    if report.failed or machine.erases:
        for memory_id in goes or []:
            machine.journal.entries[memory_id].there = None
    return report


def of(machine: Machine, agent: str = "", memory_type: str = "", before_days: float = 1e6) -> list[str]:
    return [
        entry.memory_id
        for entry in machine.journal.entries.values()
        if (not agent or entry.agent == agent)
        and (not memory_type or any(f'"{memory_type}"'.encode() in line for line in entry.lines))
        and any(iso(before_days).encode() > line.partition(b'"timestamp_utc":"')[2] for line in entry.lines)
        and entry.there is not False
    ]


def short_lived(machine: Machine) -> list[str]:
    return sorted({*of(machine, agent="short"), *of(machine, memory_type="PERFORMANCE")})


# -- what can be due


def some_days(machine: Machine) -> None:
    engine = machine.engine()
    put_many(engine, records(-20, -2))
    engine.drain(timeout_s=0)


def days_of_two_merges(machine: Machine) -> None:
    some_days(machine)
    engine = machine.engine()
    put_many(engine, records(-12, -2, agents=("a",)))
    engine.drain(timeout_s=0)


def warm_days(machine: Machine) -> None:
    some_days(machine)
    maintain(machine)


def warm_days_of_an_old_month(machine: Machine) -> None:
    warm_days(machine)
    machine.clock.advance(26 * DAY_S)


def warm_days_that_got_late_records(machine: Machine) -> None:
    warm_days(machine)
    engine = machine.engine()
    put_many(engine, records(-18, -8, agents=("a", "b.B")))
    engine.drain(timeout_s=0)
    machine.clock.advance(2 * DAY_S)


def cold_month_that_got_late_records(machine: Machine) -> None:
    engine = machine.engine()
    put_many(engine, records(-60, -50, agents=("a", "b.B")))
    maintain(machine, engine)
    put_many(engine, records(-58, -56, agents=("a", "b.B")))
    engine.drain(timeout_s=0)
    machine.clock.advance(2 * DAY_S)


def days_whose_period_has_ended(machine: Machine) -> None:
    warm_days(machine)
    machine.clock.advance(15 * DAY_S)
    maintain(machine)  # the last of them go warm
    machine.clock.advance(7 * DAY_S)


def days_with_forgotten_records(machine: Machine) -> None:
    warm_days(machine)
    engine = machine.engine()
    ids = of(machine, agent="a")[::3]
    with machine.journal.forgetting(ids):
        assert len(Lifecycle(engine).forgetter.forget(ids).hidden) == len(ids)


def days_in_the_trash(machine: Machine) -> None:
    days_whose_period_has_ended(machine)
    maintain(machine, goes=short_lived(machine))


def trash_whose_grace_has_ended(machine: Machine) -> None:
    days_in_the_trash(machine)
    machine.clock.advance(3 * DAY_S)


def leftovers(machine: Machine) -> None:
    """Old files that could not be removed, results that never counted, a move to the trash that stopped half way."""
    some_days(machine)
    for call in (1, 2, 5):
        machine.storage.power.fail("unlink", call=call)
    engine = machine.engine()
    maintain(machine, engine)
    for agent in AGENTS:
        directory = engine.catalog.state.homes(agent)[0]
        for name in (".tmp-left", "20241226-20241231.77.jsonl.zst", ".trash/.tmp-old"):
            path = os.path.join(directory, name)
            if engine.storage.identify(os.path.dirname(path)) is None:
                engine.storage.make_directory(os.path.dirname(path))
            engine.storage.create(path).write(b"of no use", 0)


def a_line_that_could_not_be_taken_back(machine: Machine) -> None:
    """A move's line was refused with all its bytes written, and its cut could not be synced: its result is an orphan
    now, and a power cut may still make it count."""
    some_days(machine)
    engine = machine.engine()
    manifest = os.path.join(engine.catalog.state.homes("a")[0], MANIFEST)
    last = sum(action.agent == "a" for action in Lifecycle(engine).manager.plan())
    machine.storage.power.fail("write", call=last, path=manifest, error=disk_full, written_bytes=100_000)
    machine.storage.power.fail_sync(call=last, path=manifest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memstore.lifecycle.manager.ROUNDS_MAX", 1)  # the second would clean up
        assert [type(error) for _, error in maintain(machine, engine).failed] == [WriterBrokenError]


def long_manifests(machine: Machine) -> None:
    """Lines that say what nobody needs any more: late records are folded in, again and again."""
    engine = machine.engine()
    put_many(engine, records(-60, -40, agents=("b.B",)))
    for _ in range(16):
        put_many(engine, records(-59, -41, agents=("b.B",))[::6])
        engine.drain(timeout_s=0)
        machine.clock.advance(2 * DAY_S)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("memstore.lifecycle.policy.COMPACT_BYTES_MIN", 1 << 30)
            maintain(machine, engine)


def act_maintain(machine: Machine) -> None:
    report = maintain(machine, goes=machine.goes)
    machine.kinds = {result.action.kind for result in report.done}


def act_forget(machine: Machine) -> None:
    engine = machine.engine()
    ids = of(machine, agent="a")[::4] + of(machine, agent="b.B")[:3]
    with machine.journal.forgetting(ids):
        Lifecycle(engine).forgetter.forget(ids)


def act_undelete_agent(machine: Machine) -> None:
    engine = machine.engine()
    with machine.journal.restoring(gone(machine, "short")):
        Lifecycle(engine).forgetter.undelete_agent("short")


def act_undelete_ids(machine: Machine) -> None:
    engine = machine.engine()
    ids = gone(machine, "a")[::3]
    assert ids
    with machine.journal.restoring(ids):
        Lifecycle(engine).forgetter.undelete_ids(ids)


def all_tiers(machine: Machine) -> None:
    cold_month_that_got_late_records(machine)
    engine = machine.engine()
    put_many(engine, records(-20, 1, agents=("a", "b.B")))
    maintain(machine, engine)
    put_many(engine, records(-1, 1, agents=("a", "b.B")))


def act_erase_ids(machine: Machine) -> None:
    machine.goes, machine.erases = of(machine, agent="a")[::5], True
    with machine.journal.erasing(machine.goes):
        Lifecycle(machine.engine()).eraser.erase_ids(machine.goes)


def act_erase_agent(machine: Machine) -> None:
    machine.goes, machine.erases = of(machine, agent="a"), True
    with machine.journal.erasing(machine.goes):
        Lifecycle(machine.engine()).eraser.erase_agent("a")


def gone(machine: Machine, agent: str) -> list[str]:
    return [e.memory_id for e in machine.journal.entries.values() if e.agent == agent and not e.there]


DEEDS = {
    "warm": Deed(some_days, act_maintain, expected=("pack",)),
    "warm of two merges": Deed(days_of_two_merges, act_maintain, expected=("pack",)),
    "cold": Deed(warm_days_of_an_old_month, act_maintain, goes=short_lived, expected=("pack",)),
    "cold elsewhere": Deed(
        warm_days_of_an_old_month, act_maintain, goes=short_lived, settings=ELSEWHERE, expected=("pack",)
    ),
    "fold": Deed(warm_days_that_got_late_records, act_maintain, expected=("pack",)),
    "fold cold": Deed(cold_month_that_got_late_records, act_maintain, settings=ELSEWHERE, expected=("pack",)),
    "expire": Deed(days_whose_period_has_ended, act_maintain, goes=short_lived, expected=("expire",)),
    "drop tombstones": Deed(days_with_forgotten_records, act_maintain, expected=("drop_tombstones",)),
    "purge": Deed(trash_whose_grace_has_ended, act_maintain, expected=("purge",)),
    "clean up": Deed(leftovers, act_maintain, expected=("clean_up",)),
    "clean up a refused line": Deed(a_line_that_could_not_be_taken_back, act_maintain, expected=("clean_up",)),
    "compact": Deed(long_manifests, act_maintain, expected=("compact",)),
    "forget": Deed(warm_days, act_forget),
    "undelete an agent": Deed(days_in_the_trash, act_undelete_agent),
    "undelete ids": Deed(days_in_the_trash, act_undelete_ids),
    "erase ids": Deed(all_tiers, act_erase_ids, settings=ELSEWHERE),
    "erase beside a refused line": Deed(a_line_that_could_not_be_taken_back, act_erase_ids),
    "erase an agent": Deed(all_tiers, act_erase_agent, settings=ELSEWHERE),
}


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memstore.lifecycle.policy.COMPACT_BYTES_MIN", 4000)
    monkeypatch.setattr("memstore.lifecycle.manager.DRAIN_WAIT_S", 0.0)


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def prepared(deed: Deed, seed: str) -> Machine:
    machine = Machine(seed, settings=deed.settings)
    machine.erases = False
    deed.prepare(machine)
    machine.goes = deed.goes(machine)
    machine.kinds = set()
    for engine in list(machine._engines):
        engine.close()
        machine._engines.remove(engine)
    return machine


def calls_of(deed: Deed) -> int:
    """How many changing calls the deed makes; and it does what it is to be tested for."""
    machine = prepared(deed, "sample")
    before = machine.storage.power.calls
    assert not machine.run(deed.act)
    assert set(deed.expected) <= machine.kinds, machine.kinds
    calls = machine.storage.power.calls - before
    finish(machine)
    return calls


def spread(calls: int, cases: int) -> list[int]:
    """Call numbers from 1 on, evenly; all of them where there are so many cases."""
    count = max(int(cases * ROUNDS), 1)
    return [1 + number * calls // count if count < calls else 1 + number % calls for number in range(count)]


def files_of(machine: Machine) -> dict[str, int]:
    """Files of agents, with their sizes."""
    return {
        path: len(data)
        for base in (f"{ROOT}/memory", SECOND_VOLUME)
        for path, data in machine.storage.files(base).items()
        if os.path.basename(path) not in (MANIFEST, SHARD_LOCK)
    }


def finish(machine: Machine) -> None:
    """The next runs do what is left, and then there is nothing left to do and nothing left behind."""
    engine = machine.engine()
    check(engine, machine.journal)
    goes, machine.goes = machine.goes, [i for i in machine.goes if machine.journal.entries[i].there]
    for _ in range(2):
        report = maintain(machine, engine, goes=machine.goes)
        assert report.failed == [], [f"{action.sentence}: {error}" for action, error in report.failed]
        check(engine, machine.journal)
    left = [a.sentence for a in Lifecycle(engine).manager.plan() if not isinstance(a, Withheld)]
    assert left == [], left
    compare_files(engine, files_of(machine))
    for memory_id in goes if machine.erases else ():
        machine.journal.entries[memory_id].erased |= machine.journal.entries[memory_id].there is False
    files = {path: data for path, data in machine.storage.files("/").items() if not path.endswith("/FORGOTTEN")}
    assert traces(files, machine.journal, unpack=unpacked) == []
    put_many(engine, records(0, 1, agents=("b.B", "short")))
    check(engine, machine.journal)
    engine.close()
    check(machine.engine(), machine.journal)


def unpacked(path: str, data: bytes) -> bytes:
    if not path.endswith(".zst"):
        return data
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
        error.add_note(f"{what}; to replay: POWER_CUT_ROUNDS={ROUNDS} {sys.executable} -m pytest '{test}'")
        raise


@pytest.mark.parametrize("name", DEEDS)
def test_the_power_goes_at_any_call(name: str) -> None:
    deed = DEEDS[name]
    for number, call in enumerate(spread(calls_of(deed), 16)):
        with told(f"power cut at call {call}, seed {number}"):
            machine = prepared(deed, f"{call}:{number}")
            machine.run(deed.act, cut_at=call)
            for _ in range(machine.chance.randint(0, 2)):  # and again, while the next run is at it
                machine.crash()
                check(machine.engine(), machine.journal)
                machine.run(act_maintain, cut_at=machine.chance.randint(1, 60))
            machine.crash()
            finish(machine)
            machine.crash()
            check(machine.engine(), machine.journal)


def test_a_long_manifest_line_whose_sync_failed_does_not_become_damage_in_the_middle() -> None:
    """Later lines are synced, and carry its last page at most."""

    def two_long_months(machine: Machine) -> None:
        engine = machine.engine()
        months = [
            {"agent_id": "a", "content": "w" * 3000, "timestamp_utc": iso(day + minute / 24 / 12)}
            for day in (-75, -45)
            for minute in range(120)
        ]
        put_many(engine, months)
        engine.drain(timeout_s=0)

    deed = Deed(two_long_months, act_maintain, expected=("pack",))
    calls = calls_of(deed)
    for number, call in enumerate(range(calls - 12, calls + 8)):  # from before the second line of the MANIFEST on
        with told(f"power cut at call {call}, seed {number}"):
            machine = prepared(deed, f"{call}:{number}")
            machine.storage.power.fail_sync(path="*/MANIFEST")
            machine.run(deed.act, cut_at=call)
            machine.crash()
            finish(machine)


@pytest.mark.parametrize("name", DEEDS)
def test_the_process_is_killed_at_any_call(name: str) -> None:
    """What it wrote is there, synced or not: the page cache outlives it."""
    deed = DEEDS[name]
    for number, call in enumerate(spread(calls_of(deed), 8)):
        with told(f"killed at call {call}, seed {number}"):
            machine = prepared(deed, f"{call}:{number}")
            machine.run(deed.act, cut_at=call)
            write_back(machine.storage)
            machine.crash()
            if number % 2:  # before anything else is done, the power goes, and nothing more is lost
                check(machine.engine(), machine.journal)
                machine.crash()
            finish(machine)
            machine.crash()
            check(machine.engine(), machine.journal)


def write_back(storage: CrashingStorage) -> None:
    """Everything that was written reaches the disk, as it does when only a process has died."""
    with storage.lock:
        for content in storage.tree.contents():
            content.sync()
        for device in {storage.tree.find(path).device for path in ("/", SECOND_VOLUME)}:
            storage.tree.names.sync_device(device)


@pytest.mark.parametrize("error", [StorageError, StorageFullError], ids=["refused", "full"])
@pytest.mark.parametrize("name", DEEDS)
def test_one_call_is_refused_and_the_power_goes_later(name: str, error: type[StorageError]) -> None:
    deed = DEEDS[name]
    for number, call in enumerate(spread(calls_of(deed), 8)):
        with told(f"call {call} refused, seed {number}"):
            machine = prepared(deed, f"{call}:{number}")
            before = machine.storage.power.calls
            machine.storage.power.fail(call=call, error=lambda path: error(f"{path}: refused (injected)"))
            with contextlib.suppress(MemstoreError):
                deed.act(machine)
            assert machine.storage.power.calls >= before + call
            check(machine.engine(), machine.journal, settle=False)
            if number % 2:
                machine.crash()
            finish(machine)
            machine.crash()
            check(machine.engine(), machine.journal)


@pytest.mark.parametrize("name", DEEDS)
def test_one_sync_fails_and_what_it_was_for_is_lost_with_the_power(name: str) -> None:
    """As Linux has it: what was written is read back, is clean by name, and never reaches the disk."""
    deed = DEEDS[name]
    calls_of(deed)
    sample = prepared(deed, "syncs")
    before = sum(sample.storage.power.counts[kind] for kind in ("sync_data", "sync_directory", "sync_file_system"))
    deed.act(sample)
    syncs = sum(sample.storage.power.counts[k] for k in ("sync_data", "sync_directory", "sync_file_system")) - before
    for number, call in enumerate(spread(syncs, 8)):
        with told(f"sync {call} failed, seed {number}"):
            machine = prepared(deed, f"{call}:{number}")
            machine.storage.power.fail_sync(call=call)
            with contextlib.suppress(MemstoreError):
                deed.act(machine)
            check(machine.engine(), machine.journal, settle=False)
            machine.crash()
            finish(machine)
            machine.crash()
            check(machine.engine(), machine.journal)


# -- and a lifecycle that forgot a sync would be found out


def packed_data(kind: str, path: str) -> bool:
    return kind == "sync_data" and "/.tmp-" in path and "/memory/" in path


def packed_names(kind: str, path: str) -> bool:
    return kind == "sync_directory" and "/archive" in path


def moves(kind: str, path: str) -> bool:
    return path.endswith("MANIFEST") and kind == "sync_data"


@pytest.mark.parametrize("forgotten", [packed_data, packed_names, moves], ids=lambda value: value.__name__)
def test_a_lifecycle_that_forgets_one_kind_of_sync_is_caught(forgotten: Callable[[str, str], bool]) -> None:
    deed = DEEDS["cold elsewhere"]
    calls = calls_of(deed)
    for seed in range(60):
        machine = prepared(deed, f"control {seed}")
        machine.storage.power.ignores_sync = forgotten
        machine.run(deed.act, cut_at=calls - seed % 10)
        machine.crash()
        try:
            check(machine.engine(), machine.journal)
        except StorageError:  # damage, or a file is missing
            return
        except AssertionError as error:
            if "lost" in str(error) or "damage" in str(error):
                return
    pytest.fail("no power cut lost anything")
