"""What a crash leaves is no damage, at whatever call the power goes: a check says nothing worse than a note."""

from __future__ import annotations

import os

import pytest
from machine import ROOT, Machine, explore
from support import put, put_many
from test_lifecycle_crashes import DEEDS, calls_of, prepared, spread, told, write_back

from memstore import NotFoundError
from memstore.format.names import StorePaths
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.ops.check import check_store
from memstore.ops.report import CheckReport


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memstore.lifecycle.policy.COMPACT_BYTES_MIN", 4000)
    monkeypatch.setattr("memstore.lifecycle.manager.DRAIN_WAIT_S", 0.0)


CASES = int(os.environ.get("CHECK_CRASH_CASES", "4"))


def look(machine: Machine, *, full: bool) -> CheckReport:
    return check_store(machine.storage, StorePaths(ROOT), clock=machine.clock, full=full)


def assert_no_damage(machine: Machine) -> None:
    for full in (False, True):
        report = look(machine, full=full)
        assert report.is_clean, [finding.sentence for finding in report.findings if finding.severity != "note"]


def crash_and_check(machine: Machine) -> None:
    """Right after the crash, and after the store has put itself right: then not even a note is left."""
    machine.crash()
    if machine.storage.identify(f"{ROOT}/STORE.json") is None:  # it was not made yet
        with pytest.raises(NotFoundError):
            look(machine, full=True)
        return
    assert_no_damage(machine)
    engine = machine.engine()
    engine.drain(timeout_s=0)
    assert_no_damage(machine)
    Lifecycle(engine).manager.maintain(trust_clock=True)
    # An empty lane may be about to be locked by somebody who has just made it, so nobody removes it.
    left = [each.sentence for each in look(machine, full=True).findings if "/lanes/.tmp-" not in each.path]
    assert not left, left


def merges(machine: Machine) -> None:
    engine = machine.engine()
    for number in range(3):
        put_many(
            engine,
            [{"agent_id": agent, "content": f"{number} {n}"} for agent in ("a", "b", "Über/..") for n in range(4)],
        )
        if number == 1:
            engine.drain(timeout_s=0)
    put(engine, "a", "later")
    machine.kill(engine)
    engine = machine.engine()
    engine.drain(timeout_s=0)
    put(engine, "b", "last")
    engine.close()


def test_a_merge_that_lost_its_power_leaves_no_damage() -> None:
    explore(merges, cases=15 * CASES, after=crash_and_check)


@pytest.mark.parametrize("name", DEEDS)
def test_what_the_lifecycle_leaves_when_the_power_goes_is_no_damage(name: str) -> None:
    deed = DEEDS[name]
    for number, call in enumerate(spread(calls_of(deed), CASES)):
        with told(f"power cut at call {call}, seed {number}"):
            machine = prepared(deed, f"{call}:{number}")
            machine.run(deed.act, cut_at=call)
            if number % 2:
                write_back(machine.storage)  # as if the process alone had died
            machine.crash()
            assert_no_damage(machine)
            engine = machine.engine()
            engine.drain(timeout_s=0)
            for _ in range(2):
                Lifecycle(engine).manager.maintain(trust_clock=True)
            assert_no_damage(machine)
