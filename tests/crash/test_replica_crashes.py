"""The power goes at any call, then the store's volume is lost: what was acknowledged is in the second copy (P1, P5).

Where the store had noted that the copy lacks something, the store itself must have it all; there is no third case.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import zstandard
from lifecycle_support import DAY_S, LIVELY, iso
from machine import ROOT, ROUNDS, SECOND_VOLUME, Machine, explore, explore_at_random
from oracle import check, traces
from replica_support import InlineExecutor, give_copy
from support import make_engine, put, put_many

from memstore.engine.second_copy import read_store_file
from memstore.errors import MemstoreError
from memstore.format.names import StorePaths, replica_root
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.replica.replicator import Replicator
from memstore.replica.setup import promote
from memstore.replica.tombstones import CopyTombstones
from memstore.testing.crashing import CrashingStorage, PowerCut
from memstore.wal import mirror


@pytest.fixture(autouse=True)
def _calls_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "one_thread", InlineExecutor)


def copy_root(storage: CrashingStorage) -> tuple[str, str] | None:
    """Root of the copy and what the store notes of it; None where the store has none yet."""
    store = read_store_file(storage, StorePaths(ROOT))
    if store is None or store.replica is None:
        return None
    return replica_root(SECOND_VOLUME, store.id), store.replica.state


def the_store_is_lost(machine: Machine) -> bool:
    """What follows the power cut: only the copy is left, if the store had said that it is whole; whether it had."""
    machine.crash()
    found = copy_root(machine.storage)
    if found is None or found[1] != "ok":
        machine.recover(crashes_max=1)
        return False
    root, _ = found
    assert traces(machine.storage.files(root), machine.journal, unpack=unpacked) == []
    alone = make_engine(root, machine.storage, settings=machine.settings, clock=machine.clock, create=False)
    assert alone.alone is not None
    check(alone, machine.journal)
    machine.storage.power.at_call(machine.chance.randint(1, 40))
    try:
        promote(machine.storage, root)
    except PowerCut:
        machine.crash()
        if make_engine(root, machine.storage, settings=machine.settings, create=False).alone is not None:
            promote(machine.storage, root)
    machine.storage.power.at_call(1 << 40)  # never
    _go_on_with(machine, root)
    machine.crash()
    check(make_engine(root, machine.storage, settings=machine.settings, clock=machine.clock), machine.journal)
    return True


def _go_on_with(machine: Machine, root: str) -> None:
    engine = machine.journal.watch(
        make_engine(root, machine.storage, settings=machine.settings, clock=machine.clock, create=False)
    )
    engine.maintenance._run = lambda _: None  # type: ignore[method-assign]
    assert engine.alone is None
    check(engine, machine.journal)
    assert engine.drain(timeout_s=0).pending == []
    check(engine, machine.journal)
    put_many(engine, [{"agent_id": agent, "content": "goes on"} for agent in ("a", "new")])
    assert engine.drain(timeout_s=0).pending == []
    check(engine, machine.journal)
    engine.close()


def a_copy_is_made_and_kept(machine: Machine) -> None:
    engine = machine.engine()
    for number in range(3):
        put(engine, "a", f"before {number}")
    give_copy(engine, SECOND_VOLUME)
    put(engine, "a", "both")
    put_many(engine, [{"agent_id": agent, "content": "both"} for agent in ("a", "b")])
    other = machine.engine()
    put(other, "b", "another process")
    assert engine.drain(timeout_s=0).pending != []
    machine.kill(other)
    engine.drain(timeout_s=0)
    put(engine, "c", "between")
    Replicator(engine).run()
    put(engine, "a", "after")
    engine.drain(timeout_s=0)
    Replicator(engine).run()
    put(engine, "b", "the last")


def a_copy_that_forgets(machine: Machine) -> None:
    """Whatever is forgotten lies in files of both, in lanes of both, or in a file here and a lane there."""
    engine = machine.engine()
    for number in range(3):
        put(engine, "a", f"before {number}")
    engine.drain(timeout_s=0)
    give_copy(engine, SECOND_VOLUME)
    put_many(engine, [{"agent_id": agent, "content": n} for agent in ("a", "b") for n in range(4)])
    life = Lifecycle(engine)

    def forget(*which: int, agent: str) -> None:
        ids = [machine.journal.ids(agent)[number] for number in which]
        with machine.journal.forgetting(ids):
            life.forgetter.forget(ids)

    forget(0, 4, agent="a")
    forget(1, agent="b")
    engine.drain(timeout_s=0)
    forget(2, agent="b")
    Replicator(engine).run()
    forget(1, agent="a")
    put(engine, "b", "and on")
    forget(-1, agent="b")
    ids = machine.journal.ids("b")
    with machine.journal.forgetting(ids):
        life.forgetter.forget(ids)
    with machine.journal.restoring(ids):
        life.forgetter.undelete_ids(ids)
    Replicator(engine).run()


def a_life_with_a_copy(machine: Machine) -> None:
    """Tiers, tombstones and erasures, in any order, each followed by the copy or not."""
    engine = machine.engine()
    put_many(engine, [record(day, agent) for day in range(-40, -2, 3) for agent in ("a", "b.B")])
    engine.drain(timeout_s=0)
    give_copy(engine, SECOND_VOLUME)
    replicator = Replicator(engine)
    life = Lifecycle(engine, settle_copy=replicator.settle)
    for _ in range(10):
        match machine.chance.choice(("put", "late", "drain", "copy", "maintain", "forget", "erase", "erase all")):
            case "put":
                put(engine, machine.chance.choice("abc"), "now")
            case "late":
                put_many(engine, [record(machine.chance.randint(-40, -1), "a") for _ in range(3)])
            case "drain":
                engine.drain(timeout_s=0)
            case "copy":
                assert replicator.run() is not None
            case "maintain":
                life.manager.maintain()
                machine.clock.advance(machine.chance.choice((1, 5)) * DAY_S)
            case "forget":
                ids = machine.journal.ids("a")[::5]
                with machine.journal.forgetting(ids):
                    life.forgetter.forget(ids)
            case "erase":
                ids = machine.journal.ids("b.B")[::4]
                if ids:
                    with machine.journal.erasing(ids):
                        assert life.eraser.erase_ids(ids).verified
            case _:
                ids = machine.journal.ids("c")
                if ids:
                    with machine.journal.erasing(ids):
                        assert life.eraser.erase_agent("c").verified


def record(day: int, agent: str) -> dict[str, Any]:
    return {"agent_id": agent, "content": f"{agent} {day} " + "w" * 300, "timestamp_utc": iso(day)}


def unpacked(path: str, data: bytes) -> bytes:
    if not path.endswith(".zst"):
        return data
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.read()


class Counting:
    """`the_store_is_lost`, counting how often it had to do with the copy alone."""

    def __init__(self) -> None:
        self.alone = 0

    def __call__(self, machine: Machine) -> None:
        self.alone += the_store_is_lost(machine)


def test_acknowledged_records_are_in_the_copy_at_whatever_call_the_power_goes() -> None:
    after = Counting()
    explore(a_copy_is_made_and_kept, cases=150, after=after)
    assert after.alone > 30 * min(ROUNDS, 1)


def test_what_was_forgotten_is_hidden_in_the_copy_at_whatever_call_the_power_goes() -> None:
    after = Counting()
    explore(a_copy_that_forgets, cases=150, after=after)
    assert after.alone > 30 * min(ROUNDS, 1)


def test_a_copy_that_hears_of_it_with_its_next_pass_only_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    monkeypatch.setattr(CopyTombstones, "append", lambda *_, **__: None)
    with pytest.raises(AssertionError):
        explore(a_copy_that_forgets, cases=150, after=the_store_is_lost)


def test_the_copy_follows_tiers_tombstones_and_erasures_at_whatever_call_the_power_goes() -> None:
    after = Counting()
    explore_at_random(a_life_with_a_copy, cases=100, calls_max=900, after=after, settings=LIVELY)
    assert after.alone > 20 * min(ROUNDS, 1)


def test_a_copy_that_is_not_synced_is_found_to_lose_records() -> None:
    """The negative control: a drive under the copy that says it has synced and has not."""

    def ignores(_kind: str, path: str) -> bool:
        return path.startswith(SECOND_VOLUME) and "/lanes/" in path

    with pytest.raises((AssertionError, MemstoreError)):
        explore(a_copy_is_made_and_kept, cases=150, after=the_store_is_lost_blindly, ignores_sync=ignores)


def the_store_is_lost_blindly(machine: Machine) -> None:
    with contextlib.suppress(FileNotFoundError):
        the_store_is_lost(machine)
