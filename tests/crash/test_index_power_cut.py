"""The power goes while an index is made and added to: a search finds what reading finds, then and after the next run.

`test_state_machine` does the same among everything else; here each call of a story has its turn, or a share of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from machine import ROOT, ROUNDS, Machine
from oracle import check
from search_oracle import check_search
from support import QUIET, put_many
from tantivy_disk import TantivyDisk, TantivyDisks, tantivy_on_simulated_disks

from memstore.finder import Finder
from memstore.format.names import StorePaths
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.ops.check_index import check_index
from memstore.ops.report import CheckReport
from memstore.testing.crashing import CrashingStorage

SEARCH = StorePaths(ROOT).search
SEEDS = 4


@pytest.fixture(autouse=True)
def _on_simulated_disks() -> Iterator[None]:
    with tantivy_on_simulated_disks():
        yield


def machine_of(seed: str, storage: CrashingStorage | None = None) -> Machine:
    machine = Machine(seed, settings={**QUIET, "search": {"background": False}}, storage=storage)
    machine.wrap = TantivyDisks(SEARCH)
    return machine


def records(first: int, count: int) -> list[dict[str, object]]:
    """Of two months, and of two agents."""
    return [
        {
            "agent_id": "ab"[number % 2],
            "content": f"word {number}",
            "timestamp_utc": f"2025-01-{number % 2 + 1:02}T{number % 24:02}:00:00Z" if number % 3 else "2024-12-30",
        }
        for number in range(first, first + count)
    ]


def indexed_again_and_again(machine: Machine) -> None:
    """A build, and then as many commits on what was built as make tantivy merge, of what was appended and forgotten."""
    engine = machine.engine()
    finder = Finder(engine)
    put_many(engine, records(0, 30))
    engine.drain(timeout_s=0)
    finder.index()
    for number in range(9):
        ids = put_many(engine, records(30 + 5 * number, 5))
        if number % 3 == 0:
            engine.drain(timeout_s=0)
        if number % 4 == 3:
            with machine.journal.forgetting(ids[:1]):
                Lifecycle(engine).forgetter.forget(ids[:1])
        finder.index()
    check_search(engine, finder)


def search_again(machine: Machine) -> bool:
    """See that all is found; whether the index was as its last commit had it, and a check says so."""
    engine = machine.engine()
    finder = Finder(engine)
    check(engine, machine.journal, settle=False)
    quick, full = CheckReport(ROOT, full=False), CheckReport(ROOT, full=True)
    for report in (quick, full):
        check_index(engine, report)
    notes = check_search(engine, finder)
    assert engine.drain(timeout_s=0).pending == []
    finder.index()
    check_search(engine, finder)
    assert finder.status()["ready"]
    assert not finder.status()["stale"]
    return quick.is_clean and full.is_clean and not any("is damaged" in note for note in notes)


def found_after(machine: Machine, seed: int) -> Machine:
    found = machine.found(seed)
    found.wrap = TantivyDisks(SEARCH)
    return found


def test_the_power_goes_at_any_call_of_an_indexer() -> None:
    sample = machine_of("sample")
    assert not sample.run(indexed_again_and_again)
    calls = sample.storage.power.calls
    cases = min(int(12 * ROUNDS), calls)
    for call in (1 + number * calls // cases for number in range(cases)):
        machine = machine_of(str(call))
        machine.run(indexed_again_and_again, cut_at=call)
        machine.die()
        assert all(search_again(found_after(machine, seed)) for seed in range(SEEDS))


def test_an_index_whose_commits_are_not_synced_and_that_nobody_verifies_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control. One of the two is harmless: what does not verify is scanned, and built anew."""
    sync = TantivyDisk.sync_directory

    def sync_others(disk: TantivyDisk, path: str) -> None:
        if os.path.dirname(path) != SEARCH:
            sync(disk, path)

    monkeypatch.setattr(TantivyDisk, "sync_directory", sync_others)
    # A file that got the inode of an old list would make its replacement durable with itself.
    machine = machine_of("control", CrashingStorage(reuse_inodes=False))
    machine.run(indexed_again_and_again)
    machine.die()
    assert not all(search_again(found_after(machine, seed)) for seed in range(10 * SEEDS))
    monkeypatch.setattr("memstore.search.partition._verify", lambda *_, **__: None)
    with pytest.raises(AssertionError, match="a search does not find"):
        for seed in range(10 * SEEDS):
            search_again(found_after(machine, seed))
