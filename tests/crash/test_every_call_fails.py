"""Each thing a store does, with each of its calls refused once: it says so or goes on, and nothing is lost (P5, P7).

Unlike the tests beside this one, which refuse what changes the disk, this one refuses every call of the storage
protocol in turn: opening, listing and reading, too. A write is also cut short on a full disk, and a sync loses what it
was for and is believed the next time. After each, everything is compared; then the process is gone or the power, and
the next one finishes the work and leaves nothing behind.

``CALL_ROUNDS`` multiplies the number of cases; 1 tries some of each deed, a large number all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from lifecycle_support import LIVELY, iso
from machine import Machine
from oracle import EVERYTHING, check
from support import put, put_many
from tally import FAULTS, tally
from test_lifecycle_crashes import DEEDS, ELSEWHERE, Deed, all_tiers, finish, records, write_back

from memstore.errors import MemstoreError, StorageError
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.testing.crashing import CrashingStorage
from memstore.testing.faulty import Fault, FaultyStorage, disk_full
from memstore.testing.power import SYNC_KINDS

ROUNDS = float(os.environ.get("CALL_ROUNDS", "1"))
CASES = 14
"""Of each deed, where ``CALL_ROUNDS`` is 1."""
FILLING = frozenset({"write", "create", "make_directory", "allocate", "open_write"})


# -- what is done


def act_append(machine: Machine) -> None:
    engine = machine.engine()
    put(engine, "a", "one")
    put_many(engine, records(-1, 1))
    engine.close()


def act_import(machine: Machine) -> None:
    engine = machine.engine()
    for _ in range(2):
        put_many(
            engine, [{"agent_id": "a", "source_id": f"s{n}", "content": n, "timestamp_utc": iso(-n)} for n in range(3)]
        )


def act_merge(machine: Machine) -> None:
    engine = machine.engine()
    put_many(engine, records(-3, 1))
    engine.drain(timeout_s=0)


def act_bury(machine: Machine) -> None:
    dead = machine.engine()
    put_many(dead, records(-3, 1))
    machine.kill(dead)
    machine.engine().drain(timeout_s=0)


def act_move(machine: Machine) -> None:
    engine = machine.engine()
    engine.rebalancer.add_shard(None)
    engine.rebalancer.pin("a", "shard_000")
    engine.rebalancer.pin("a", "shard_001")


def act_read(machine: Machine) -> None:
    """In every way to ask; what is answered is right."""
    engine = machine.engine()
    for agent in machine.journal.agents():
        there = [line for line, _ in engine.reader.lines(agent, EVERYTHING, newest_first=False, on_damage="raise")]
        assert [line.split(b'"')[3].decode() for line in there] == sorted(machine.journal.ids(agent))
        assert engine.reader.count(agent, EVERYTHING, on_damage="raise") == len(there)
        assert len(engine.reader.recent(agent, 5, EVERYTHING, on_damage="raise")) == min(5, len(there))
        for memory_id in machine.journal.ids(agent)[::9]:
            line = engine.reader.get_line(memory_id)
            assert line is not None, f"{memory_id} is there, and was not found"


def act_hold(machine: Machine) -> None:
    from memstore.format.holds_file import Hold

    holds = Lifecycle(machine.engine()).holds
    holds.add(Hold(name="one", at=0, agent="nobody"))
    holds.remove("one")


EVERY_DEED = {
    "begin a store": Deed(lambda _: None, act_append, settings=LIVELY),
    "append": Deed(all_tiers, act_append, settings=ELSEWHERE),
    "import": Deed(all_tiers, act_import, settings=ELSEWHERE),
    "merge": Deed(all_tiers, act_merge, settings=ELSEWHERE),
    "bury": Deed(all_tiers, act_bury, settings=ELSEWHERE),
    "move": Deed(all_tiers, act_move, settings=ELSEWHERE),
    "read": Deed(all_tiers, act_read, settings=ELSEWHERE),
    "hold": Deed(all_tiers, act_hold, settings=ELSEWHERE),
    **DEEDS,
}


# -- how it goes wrong


@dataclass(frozen=True)
class Case:
    """One call that goes wrong in one way."""

    number: int
    kind: str
    path: str
    way: str

    def arm(self, storage: FaultyStorage, disk: CrashingStorage) -> None:
        """Let it happen."""
        if self.way == "lies":

            def fail(kind: str, path: str) -> None:
                if sum(storage.counts[each] for each in ALL_KINDS) == self.number:
                    disk.power.fail_sync()
                    storage.before_call = None

            storage.before_call = fail
            return
        full = self.way in ("full", "cut short")
        error: Callable[[str], StorageError] = disk_full if full else refused
        written = 200 if self.way == "cut short" else 0
        storage.arm(Fault(ALL_KINDS, after=self.number, error=error, written_bytes=written))


def refused(path: str) -> StorageError:
    return StorageError(f"{path}: input/output error (injected)")


ALL_KINDS = frozenset(  # but for those that answer without the disk
    {
        "open_read",
        "open_write",
        "open_update",
        "create",
        "open_directory",
        "identify",
        "list_directory",
        "make_directory",
        "rename",
        "unlink",
        "remove_directory",
        "sync_directory",
        "allocate",
        "free_bytes",
        "read",
        "write",
        "truncate",
        "sync_data",
        "sync_file_system",
    }
)


def ways(kind: str) -> tuple[str, ...]:
    if kind == "write":
        return ("refused", "full", "cut short")
    if kind in SYNC_KINDS:
        return ("refused", "lies")
    return ("refused", "full") if kind in FILLING else ("refused",)


def watched(machine: Machine) -> FaultyStorage:
    """What stands between a machine's engines and its disk from now on."""
    storage = FaultyStorage(machine.storage)
    machine.wrap = lambda _: storage
    return storage


def prepared(deed: Deed) -> Machine:
    """A machine without power on whose disk the deed is due; `Machine.found` gives copies of it."""
    machine = Machine("every call", settings=deed.settings)
    machine.erases = False
    deed.prepare(machine)
    machine.goes = deed.goes(machine)
    for engine in list(machine._engines):
        engine.close()
        machine._engines.remove(engine)
    write_back(machine.storage)
    machine.die()
    return machine


def copy_of(machine: Machine) -> Machine:
    made = machine.found(0)
    made.goes, made.erases, made.kinds = list(machine.goes), False, set()
    return made


def cases_of(machine: Machine, deed: Deed) -> list[Case]:
    """Every call of the deed, in every way in which it can go wrong."""
    sample = copy_of(machine)
    storage = watched(sample)
    storage.recording = True
    deed.act(sample)
    made = [call for call in storage.calls if call[0] in ALL_KINDS]
    assert len(made) > 3
    return [Case(number, kind, path, way) for number, (kind, path) in enumerate(made) for way in ways(kind)]


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("memstore.lifecycle.policy.COMPACT_BYTES_MIN", 4000)
    monkeypatch.setattr("memstore.lifecycle.manager.DRAIN_WAIT_S", 0.0)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", EVERY_DEED)
def test_a_call_that_fails_loses_nothing_and_the_next_run_finishes(name: str) -> None:
    deed = EVERY_DEED[name]
    base = prepared(deed)
    cases = cases_of(base, deed)
    count = min(int(CASES * ROUNDS), len(cases))
    for case in (cases[index * len(cases) // count] for index in range(count)):
        machine = copy_of(base)
        try:
            fail_once(machine, deed, case)
        except BaseException as error:
            error.add_note(
                f"call {case.number} ({case.kind} {case.path}) {case.way}; to replay: CALL_ROUNDS=1000000 "
                f"{sys.executable} -m pytest tests/crash/test_every_call_fails.py -k '{name}'"
            )
            raise
        tally(FAULTS)


def fail_once(machine: Machine, deed: Deed, case: Case) -> None:
    storage = watched(machine)
    case.arm(storage, machine.storage)
    with contextlib.suppress(MemstoreError):
        deed.act(machine)
    storage.disarm()
    storage.before_call = None
    machine.storage.power.heal()
    machine.wrap = None
    check(machine.engine(), machine.journal, settle=False)
    if case.number % 2:
        machine.crash()
    else:  # the process is gone, and what it wrote is there
        for engine in list(machine._engines):
            machine.kill(engine)
    finish(machine)
    machine.crash()
    check(machine.engine(), machine.journal)
