"""Anything in any order, by several processes, until the power goes; and again: acknowledged ⊆ visible ⊆ attempted.

Hypothesis chooses what is done: appends, batches, imports, seals, merges, moves to warm and cold, late records folded
in, retention, forget, undelete, erase, moves of agents, backups, clocks that are set, kills, disks that refuse, cut
writes short, lose what they were to sync, or are full; and, in a third of the kinds of stores, indexing and searching
(`tantivy_disk`). The power goes between two steps or at any call within one.
Then many disks are made up that a machine may find (`CrashingStorage.crash`): every one is opened and compared with the
journal (`oracle.check`), and some are worked on: the store recovers, with a second power cut on the way now and then,
merges, maintains, goes on, and its backups are verified. Each such disk counts as one crash state. The machine goes on
with one of them.

``CRASH_STATES`` says how many states are wanted (``make crash N=100000``); a failure names the command that replays it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from random import Random, SystemRandom
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
import zstandard
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from lifecycle_support import DAY_S, LIVELY, iso
from machine import BACKUP_VOLUME, ROOT, SECOND_VOLUME, Machine
from oracle import check, traces
from search_oracle import check_search
from support import TINY, put_many
from tally import CRASH_STATES, tally
from tantivy_disk import TantivyDisks, tantivy_on_simulated_disks
from test_power_cut import lanes_data, merged_data

from memstore.backup.create import create_backup
from memstore.backup.repository import open_repository
from memstore.backup.verify import verify_backup
from memstore.engine.engine import Engine
from memstore.errors import HeldError, LockedError, MemstoreError, NotFoundError, StorageError, StorageFullError
from memstore.finder import Finder, drop_index
from memstore.format.backup_names import RepositoryPaths
from memstore.format.names import INCOMING_DIRECTORY, StorePaths
from memstore.ids import parse_id
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.lifecycle.receipt import Receipt
from memstore.ops.check import check_store
from memstore.ops.check_index import check_index
from memstore.timestamps import US_PER_DAY, iso_text

STATES = int(os.environ.get("CRASH_STATES", "1000"))
"""How many crash states are wanted."""
SEED = os.environ.get("CRASH_SEED")
EXAMPLES = {"lively": 4, "tiny lanes": 4, "indexed": 1}
"""Stories from one seed: so many are to be replayed when one fails."""
STEPS = 40
DISKS = 10
"""How many disks are made up at each power cut."""
DEPTH = 4
"""One disk in so many is not only looked at, but worked on."""
DAYS_MAX = 200
"""Clocks go no further, so that nothing expires by the general rule, which is 12 months."""

AGENTS = ("a", "b.B", "short", "Über/..")
REPOSITORY = f"{BACKUP_VOLUME}/points"
SHARDS = ("shard_000", "shard_001", "shard_002", None)
RULES: list[dict[str, Any]] = [{"agent": "short", "keep_days": 20}, {"memory_type": "PERFORMANCE", "keep_days": 20}]
KINDS: dict[str, dict[str, Any]] = {
    "lively": {
        **LIVELY,
        "storage.retention.rules": RULES,
        "storage.lifecycle.archive_volume": SECOND_VOLUME,
        "storage.lifecycle.deduplication_enabled": True,
    },
    "tiny lanes": {
        **LIVELY,
        "storage.retention.rules": RULES,
        "storage.record_bytes_max": 65536,
        **{f"writing.{key}": value for key, value in TINY["writing"].items()},
        **{f"merging.{key}": value for key, value in TINY["merging"].items()},
        "merging.file_syncs_max": 0,
    },
    "indexed": {**LIVELY, "storage.retention.rules": RULES, "search.background": False},
}
SHARES = {"lively": 0.45, "tiny lanes": 0.45, "indexed": 0.1}
"""Which part of the states each kind has: one with an index takes ten times as long."""
FAULTS = ("refuse", "full", "cut short", "lose a sync")

ages_days = st.sampled_from([None, None, None, 0.5, 3.0, 9.0, 20.0, 45.0, 70.0])
sizes = st.sampled_from([5, 300, -60, 5000, 20_000])
"""Bytes of content; a negative one is that of many records, to be collapsed."""
records = st.tuples(st.sampled_from(AGENTS), sizes, st.sampled_from(["GOAL", "PERFORMANCE"]), ages_days)
batches = st.lists(records, min_size=1, max_size=12)
moments = st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 0, 1, 2, 3]), st.integers(1, 30))
"""Which process does it; and the power goes at which of its calls, if at all: (process, scale, call)."""
choices = st.integers(0, 2**16)
"""What a step draws from."""
Deed = Callable[[Engine], object]
Drawn = tuple[str, int, str, float | None]
Moment = tuple[int, int, int]
BY_THE_FIRST = (0, 0, 0)


class CrashMachine(RuleBasedStateMachine):
    """Several processes of one machine; see the module."""

    settings_of_stores: ClassVar[dict[str, Any]] = KINDS["lively"]
    forgets: ClassVar[tuple[Callable[[str, str], bool], ...]] = ()
    """Syncs that do nothing in the first life of the machine, as a control."""
    indexes: ClassVar[bool] = False
    """Whether its stores are indexed and searched."""
    states: ClassVar[int] = 0
    """Crash states so far, of all stories."""

    def __init__(self) -> None:
        super().__init__()
        forgets = self.forgets[0] if self.forgets else None
        self.machine = Machine(0, settings=self.settings_of_stores, ignores_sync=forgets)
        if self.indexes:
            self.machine.wrap = tantivy_disks()
        self.processes = [self.machine.engine()]
        self.finders: dict[Engine, Finder] = {}
        self.days = 0.0
        self.hours_off = 0.0
        self.shards = 2
        self.cuts = 0
        self.failing = False

    # -- steps

    def attempt(self, by: Moment, deed: Deed) -> None:
        """Let one of the processes do something, until it is done, refused, or the power goes."""
        index, scale, call = by
        engine = self.processes[index % len(self.processes)]
        self.machine.clock.advance(0.001)

        def scenario(_: Machine) -> None:
            try:
                deed(engine)
            except (HeldError, LockedError, NotFoundError):
                pass
            except MemstoreError:
                if not self.failing:  # nothing was wrong with the disk
                    raise
                if engine in self.processes:  # its lane may be broken, its memory of the disk wrong
                    self.leave(engine, self.machine.kill)

        if self.machine.run(scenario, cut_at=scale * scale * call):
            self.power_is_gone()

    def leave(self, engine: Engine, how: Callable[[Engine], object]) -> None:
        self.processes.remove(engine)
        self.finders.pop(engine, None)
        how(engine)
        if not self.processes:
            self.processes.append(self.machine.engine())

    def seal_all(self) -> None:
        """Every process's background thread has looked for the mark, and sealed its lane."""
        for engine in self.processes:
            committer = engine._committer
            lane = None if committer is None else committer.release_lane()
            if lane is not None:
                engine.maintenance.retire(lane)
            engine.maintenance._seal_own()

    @initialize(batch=st.lists(records, min_size=20, max_size=60))
    def begin(self, batch: list[Drawn]) -> None:
        self.append(BY_THE_FIRST, batch)

    @rule(by=moments, batch=batches)
    def append(self, by: Moment, batch: list[Drawn]) -> None:
        self.attempt(by, lambda engine: put_many(engine, self.given(batch)))

    @rule(by=moments, sources=st.lists(st.tuples(st.sampled_from(AGENTS), st.integers(0, 9)), min_size=1, max_size=6))
    def import_again_and_again(self, by: Moment, sources: list[tuple[str, int]]) -> None:
        going = {e.memory_id for e in self.machine.journal.entries.values() if e.doomed or e.erased}
        if going:  # what is being erased may be handed in again, and whether it stays is for nobody to say
            return
        given = [
            {"agent_id": agent, "source_id": f"s{number}", "timestamp_utc": iso(-2 - number * 5), "content": "i" * 200}
            for agent, number in sources
        ]
        self.attempt(by, lambda engine: put_many(engine, given))

    @rule()
    def seal(self) -> None:
        self.attempt(BY_THE_FIRST, lambda _: self.seal_all())

    @rule(by=moments, all_sealed=st.booleans())
    def merge(self, by: Moment, all_sealed: bool) -> None:
        def deed(engine: Engine) -> None:
            if all_sealed:
                self.seal_all()
            engine.drain(timeout_s=0)

        self.attempt(by, deed)

    @rule(by=moments)
    def maintain(self, by: Moment) -> None:
        """Merge, warm, cold, fold in, expire, purge, compact, clean up: whatever is due."""

        def deed(engine: Engine) -> None:
            self.seal_all()
            maintain(self.machine, engine)

        self.attempt(by, deed)

    @rule(hours=st.sampled_from([-30.0, -2.0, -0.01, 0.0, 2.0]))
    def clock_is_set(self, hours: float) -> None:
        """By an operator or NTP: the wall clock jumps, so that it is so many hours off, and nothing else moves."""
        self.machine.clock.step((hours - self.hours_off) * 3600)
        self.hours_off = hours

    @precondition(lambda self: self.days < DAYS_MAX)
    @rule(days=st.sampled_from([0.2, 2.0, 8.0, 31.0]))
    def time_passes(self, days: float) -> None:
        self.days += days
        self.machine.clock.advance(days * DAY_S)

    @rule(by=moments, choose=choices)
    def forget(self, by: Moment, choose: int) -> None:
        ids = self.some(choose)

        def deed(engine: Engine) -> None:
            self.machine.journal.may_go(ids)
            report = Lifecycle(engine).forgetter.forget(ids)
            for memory_id in report.hidden:
                self.machine.journal.entries[memory_id].there = False

        self.attempt(by, deed)

    @rule(by=moments, choose=choices)
    def undelete(self, by: Moment, choose: int) -> None:
        ids = self.some(choose, there=False)

        def deed(engine: Engine) -> None:
            for memory_id in ids:
                self.machine.journal.entries[memory_id].there = None
            unknown = Lifecycle(engine).forgetter.undelete_ids(ids).unknown
            for memory_id in set(ids).difference(unknown):
                self.machine.journal.entries[memory_id].there = True

        self.attempt(by, deed)

    @rule(by=moments, choose=choices)
    def erase(self, by: Moment, choose: int) -> None:
        ids = self.some(choose)
        if ids:
            self.attempt(by, lambda engine: self.erasing(ids, lambda: lifecycle(engine).eraser.erase_ids(ids)))

    @rule(by=moments, agent=st.sampled_from(AGENTS))
    def erase_an_agent(self, by: Moment, agent: str) -> None:
        ids = [e.memory_id for e in self.machine.journal.entries.values() if e.agent == agent]

        def deed(engine: Engine) -> None:
            self.seal_all()  # or what is appended with an old time while the erasure is interrupted may go with it
            self.erasing(ids, lambda: lifecycle(engine).eraser.erase_agent(agent))

        self.attempt(by, deed)

    def erasing(self, ids: list[str], erase: Callable[[], Receipt]) -> None:
        journal = self.machine.journal
        try:
            receipt = erase()
        except (HeldError, LockedError, NotFoundError):
            raise  # before anything was changed
        except BaseException:
            journal.begun_to_erase(ids)
            raise
        journal.begun_to_erase(ids)
        if receipt.verified:
            for memory_id in ids:
                entry = journal.entries[memory_id]
                entry.there, entry.doomed, entry.erased = False, False, True
            assert_no_traces(self.machine)

    @rule(
        by=moments, agent=st.sampled_from(AGENTS), shard=st.sampled_from(["shard_000", "shard_001", "shard_002", None])
    )
    def move_an_agent(self, by: Moment, agent: str, shard: str | None) -> None:
        def deed(engine: Engine) -> None:
            self.seal_all()
            engine.drain(timeout_s=0)  # which a MANIFEST whose first line did not reach the disk needs before it moves
            with contextlib.suppress(MemstoreError if shard == "shard_002" and self.shards < 3 else LockedError):
                engine.rebalancer.pin(agent, shard)

        self.attempt(by, deed)

    @precondition(lambda self: self.shards < 4)
    @rule(by=moments, volume=st.sampled_from([None, SECOND_VOLUME]))
    def add_a_shard(self, by: Moment, volume: str | None) -> None:
        self.shards += 1

        def deed(engine: Engine) -> None:
            self.seal_all()
            engine.drain(timeout_s=0)
            engine.rebalancer.add_shard(volume)

        self.attempt(by, deed)

    @rule(by=moments)
    def back_up(self, by: Moment) -> None:
        """A point that was named holds all that was acknowledged before it was begun, after any power cut."""

        def deed(engine: Engine) -> None:
            ids = self.machine.journal.ids()
            report = create_backup(engine, REPOSITORY)
            assert not report.damage
            self.machine.points[report.name] = frozenset(ids)

        self.attempt(by, deed)

    @precondition(lambda self: self.indexes)
    @rule(by=moments, anew=st.sampled_from([False, False, True]))
    def index(self, by: Moment, anew: bool) -> None:
        self.attempt(by, lambda engine: self.finder(engine).index(rebuild=[] if anew else None))

    @precondition(lambda self: self.indexes)
    @rule(by=moments)
    def search(self, by: Moment) -> None:
        self.attempt(by, lambda engine: check_search(engine, self.finder(engine)))

    def finder(self, engine: Engine) -> Finder:
        """A process's search."""
        if engine not in self.finders:
            self.finders[engine] = Finder(engine)
        return self.finders[engine]

    # -- processes

    @precondition(lambda self: len(self.processes) < 4)
    @rule()
    def start_a_process(self) -> None:
        self.attempt(BY_THE_FIRST, lambda _: self.processes.append(self.machine.engine()))

    @rule(by=moments)
    def close_a_process(self, by: Moment) -> None:
        self.attempt(by, lambda engine: self.leave(engine, Engine.close))

    @rule(by=moments)
    def kill_a_process(self, by: Moment) -> None:
        self.attempt(by, lambda engine: self.leave(engine, self.machine.kill))

    @rule(by=moments)
    def look(self, by: Moment) -> None:
        """What one process is told by now, every other one answers."""
        self.attempt(by, lambda engine: check(engine, self.machine.journal, settle=False))

    # -- the disk

    @rule(fault=st.sampled_from(FAULTS), call=st.integers(1, 25), written=st.integers(0, 3000))
    def disk_will_fail(self, fault: str, call: int, written: int) -> None:
        power = self.machine.storage.power
        self.failing = True
        if fault == "lose a sync":
            power.fail_sync(call=call)
        elif fault == "refuse":
            power.fail(call=call)
        elif fault == "full":
            power.fail(call=call, error=full)
        else:
            power.fail("write", call=call, error=full, written_bytes=written)

    @rule(by=moments, batch=batches, room=st.integers(0, 30_000))
    def disk_is_full_for_a_while(self, by: Moment, batch: list[Drawn], room: int) -> None:
        storage = self.machine.storage
        storage.capacity_bytes = sum(map(len, storage.files().values())) + room
        failing, self.failing = self.failing, True
        self.attempt(by, lambda engine: put_many(engine, self.given(batch)))
        self.machine.storage.capacity_bytes = None
        self.failing = failing

    @rule()
    def power_goes(self) -> None:
        self.power_is_gone()

    def teardown(self) -> None:
        if self.machine.storage.power.on:
            self.power_is_gone()

    # -- what is found

    def power_is_gone(self) -> None:
        """Compare what may be found with the journal, and go on with one of the disks."""
        self.cuts += 1
        self.machine.die()
        for disk in range(DISKS):
            found = self.machine.found(self.cuts * 1000 + disk)
            if self.indexes:
                found.wrap = tantivy_disks()
            compare(found)
            states = 1 + (work_on(found) if disk % DEPTH == 0 else 0)
            type(self).states += states
            if not self.forgets:
                tally(CRASH_STATES, states)
        self.machine.come_back(self.cuts * 1000)
        check(self.machine.engine(), self.machine.journal)
        self.processes = [self.machine.engine()]
        self.finders.clear()
        self.failing = False

    def given(self, batch: list[Drawn]) -> list[dict[str, Any]]:
        """Records as they are handed in."""
        now_us = self.machine.clock.now_us()
        return [
            {
                "agent_id": agent,
                "content": "s" * -size if size < 0 else f"{number} {'w' * size}",
                "memory_type": memory_type,
                **({} if age is None else {"timestamp_utc": iso_text(now_us - int(age * US_PER_DAY))}),
            }
            for number, (agent, size, memory_type, age) in enumerate(batch)
        ]

    def some(self, choose: int, *, there: bool = True) -> list[str]:
        """Up to four records of one agent that may be there, or are said not to be."""
        entries = self.machine.journal.entries
        fits = [e.memory_id for e in entries.values() if not e.doomed and (e.there is not False) == there]
        agent = {parse_id(i).agent_id for i in fits[choose % len(fits) :][:1]} if fits else set()
        chosen = [i for i in fits if parse_id(i).agent_id in agent]
        return Random(choose).sample(chosen, min(len(chosen), 1 + choose % 4))


def full(path: str) -> StorageFullError:
    return StorageFullError(f"{path}: no space left (injected)")


def lifecycle(engine: Engine) -> Lifecycle:
    """One that does not wait for processes that only move when they are told to."""
    made = Lifecycle(engine, drop_derived=functools.partial(drop_index, engine))
    made.eraser._drain_wait_s = 0.0
    return made


def maintain(machine: Machine, engine: Engine) -> None:
    """One run, in which what is short-lived may go, and what is being erased."""
    short_lived = [
        entry.memory_id
        for entry in machine.journal.entries.values()
        if entry.agent == "short" or any(b'"PERFORMANCE"' in line for line in entry.lines)
    ]
    machine.journal.may_go(short_lived)
    report = lifecycle(engine).manager.maintain()
    for action, error in report.failed:
        if not isinstance(error, LockedError):
            error.add_note(action.sentence)
            raise error


def compare(machine: Machine) -> None:
    """What is there right after the machine has come on."""
    engine = machine.engine()
    check(engine, machine.journal, settle=False)
    if machine.wrap is not None:
        check_search(engine, Finder(engine))
    if machine.points:
        there = open_repository(machine.storage, REPOSITORY).points()
        assert machine.points.keys() <= set(there), "a point that was named has gone"


def tantivy_disks() -> TantivyDisks:
    return TantivyDisks(StorePaths(ROOT).search)


def check_points(machine: Machine) -> None:
    """Every point that is there is whole, and one that was acknowledged holds what it was to hold."""
    begun = machine.storage.exists(RepositoryPaths(REPOSITORY).repository_file)
    points = open_repository(machine.storage, REPOSITORY).points() if begun else []
    for name in points:
        report = verify_backup(machine.storage, REPOSITORY, clock=machine.clock, point=name)
        assert report.is_good, f"{name}: {report.as_dict()}"
        at = machine.engine_of(f"{REPOSITORY}/{name}")
        wanted = machine.points.get(name, frozenset())
        found = dict(zip(wanted, at.reader.get_lines(list(wanted)), strict=True))
        entries = machine.journal.entries
        lost = [memory_id for memory_id, line in found.items() if line is None and not entries[memory_id].hidden]
        assert not lost, f"{name} lacks {lost[:5]}"
        for memory_id, line in found.items():
            assert line is None or line in entries[memory_id].lines, f"{name}: {memory_id} is not what was handed in"


def work_on(machine: Machine) -> int:
    """The store recovers and goes on; now and then the power goes once more. How many disks more were looked at."""
    states = 0
    if machine.chance.random() < 0.5 and machine.run(recover, cut_at=machine.chance.randint(1, 120)):
        machine.die()
        compare(machine.found(1))
        machine.come_back(2)
        states += 2
    machine.run(recover)
    return states


def recover(machine: Machine) -> None:
    """All that a store does by itself after a power cut, and more records; nothing of what was found is damage."""
    report = check_store(machine.storage, StorePaths(ROOT), clock=machine.clock, full=True)
    assert report.is_clean, [finding.sentence for finding in report.findings]
    engine = machine.engine()
    check(engine, machine.journal)
    pending = engine.drain(timeout_s=0).pending
    assert pending == [], f"lanes that cannot be merged: {pending}"
    check(engine, machine.journal)
    finder = None if machine.wrap is None else Finder(engine)
    for _ in range(2):
        maintain(machine, engine)
        check(engine, machine.journal, settle=False)
        if finder is not None:
            finder.index()
            check_search(engine, finder)
            check_index(engine, report)
            assert report.is_clean, [finding.sentence for finding in report.findings]
    put_many(engine, [{"agent_id": agent, "content": "goes on"} for agent in (*AGENTS, "new")])
    if finder is not None:
        check_search(engine, finder)
    engine.close()
    other = machine.engine()
    check(other, machine.journal, settle=False)
    assert other.drain(timeout_s=0).pending == []
    check(other, machine.journal, settle=False)
    if finder is not None:
        check_search(other, Finder(other))
    assert_no_traces(machine)
    check_points(machine)


def assert_no_traces(machine: Machine) -> None:
    files = {
        path: data
        for path, data in machine.storage.files("/").items()
        if not path.endswith("/FORGOTTEN") and not path.startswith(BACKUP_VOLUME)  # receipts name what backups hold
    }
    left = traces(files, machine.journal, unpack=unpacked)
    assert left == [], f"erased, and to be read: {left[:5]}"


def unpacked(path: str, data: bytes) -> bytes:
    if not path.endswith(".zst"):
        return data
    if f"/{INCOMING_DIRECTORY}/" in path:  # half of a copy that counts for nothing, and may be torn
        with contextlib.suppress(zstandard.ZstdError):
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        return data
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()


# -- running it

STORIES = settings(
    max_examples=EXAMPLES["lively"],
    stateful_step_count=STEPS,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MANIFESTs are compacted soon, nobody waits for processes that stand still, thousands of torn tails are silent."""
    monkeypatch.setattr("memstore.lifecycle.policy.COMPACT_BYTES_MIN", 4000)
    monkeypatch.setattr("memstore.lifecycle.manager.DRAIN_WAIT_S", 0.0)
    logging.disable(logging.NOTSET if SEED else logging.CRITICAL)
    with tantivy_on_simulated_disks():
        yield
    logging.disable(logging.NOTSET)


def seeds() -> Iterator[int]:
    """The one that is to be replayed; always new ones in a long run, and always the same ones in ``make test``."""
    if SEED:
        return iter([int(SEED)])
    if "CRASH_STATES" in os.environ:
        return iter(lambda: SystemRandom().randrange(2**32), -1)
    return count(1)


def of_kind(kind: str) -> dict[str, Any]:
    return {"settings_of_stores": KINDS[kind], "indexes": kind == "indexed"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_acknowledged_is_there_after_any_power_cut_and_nothing_else_is(kind: str) -> None:
    states, wanted = 0, STATES * SHARES[kind]
    stories = settings(STORIES, max_examples=EXAMPLES[kind])
    for number in seeds():
        machine = type("CrashMachine", (CrashMachine,), of_kind(kind))
        try:
            run_state_machine_as_test(seed(number)(machine), settings=stories)
        except BaseException as error:
            order = os.environ.get("PYTHONHASHSEED", "random")
            error.add_note(
                f"to replay: PYTHONHASHSEED={order} CRASH_SEED={number} {sys.executable} -m pytest "
                f"'tests/crash/test_state_machine.py' -k '{kind}'"
            )
            raise
        states += machine.states
        if SEED or states >= wanted:
            return


@pytest.mark.parametrize("forgotten", [lanes_data, merged_data], ids=lambda value: value.__name__)
def test_a_store_that_forgets_one_kind_of_sync_is_caught(forgotten: Callable[[str, str], bool]) -> None:
    machine = type("CrashMachine", (CrashMachine,), {"forgets": (forgotten,)})
    with pytest.raises((AssertionError, StorageError)):
        run_state_machine_as_test(seed(1)(machine), settings=settings(STORIES, phases=[Phase.generate]))
