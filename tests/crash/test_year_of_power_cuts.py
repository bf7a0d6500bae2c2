"""A year of a store on a machine that loses its power: at the boundary of every action of the lifecycle, and anywhere.

Every few days agents write, some of it late; records are forgotten and erased, holds come and go, the disk fills up,
the clock jumps. The journal says of each record whether it must be there, must not be, or may be either because its
period has ended or because the power went before the answer. ``YEAR_ROUNDS`` runs more years with other seeds.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lifecycle_support import DAY_S, compare_files, iso
from machine import ROOT, Machine
from oracle import check, traces
from support import T0_US, put_many
from test_lifecycle_crashes import files_of, unpacked
from year_model import BUSY, HELD, MACHINE, QUIET_ONES, SETTINGS, make_record, make_state, period_days

from memstore import HeldError, StorageFullError
from memstore.engine.engine import Engine
from memstore.engine.forgotten import Forgotten
from memstore.format.holds_file import Hold
from memstore.format.names import StorePaths
from memstore.ids import parse_id
from memstore.lifecycle.action import Withheld
from memstore.lifecycle.commit import MergeUnfinishedError
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.lifecycle.maintain_report import MaintainReport
from memstore.testing.crashing import PowerCut
from memstore.timestamps import US_PER_DAY

pytestmark = pytest.mark.first

ROUNDS = int(os.environ.get("YEAR_ROUNDS", "1"))
STEP_DAYS = 5
SLACK_DAYS = 40.0
"""A period may end so long before its record must be gone: late arrivals of the same frame count, and short outages."""
HELD_FROM, HELD_UNTIL = 20, 150


class Year:
    """A machine, what its agents wrote, and when."""

    def __init__(self, seed: str) -> None:
        self.machine = Machine(seed, settings=SETTINGS)
        self.chance = self.machine.chance
        self.journal = self.machine.journal
        self.fields: dict[str, dict[str, Any]] = {}
        self.arrived: dict[str, int] = {}
        self.last_arrival = 0
        self.erasing: set[str] = set()
        self.is_held = False
        self.boundaries = self.cuts = 0
        self.kinds: set[str] = set()

    @property
    def now_us(self) -> int:
        return self.machine.clock.now_us()

    @property
    def day(self) -> float:
        return (self.now_us - T0_US) / US_PER_DAY

    # -- on and off

    def does(self, act: Callable[[Engine], object], *, cut_at: int = 0) -> bool:
        """Something a process does, in the middle of which the power may go; whether it did. Then it is on again."""

        def scenario(machine: Machine) -> None:
            engine = machine.engine()
            act(engine)
            engine.close()
            machine._engines.remove(engine)

        known = set(self.journal.entries)
        was_cut = self.machine.run(scenario, cut_at=cut_at)
        for memory_id in self.journal.entries.keys() - known:
            self.arrived[memory_id] = self.last_arrival = self.now_us
        if was_cut:
            self.cuts += 1
            self.machine.crash()
        else:
            self.machine.storage.power.at_call(0)  # it made fewer calls than that; what comes next is not meant
        self.compare()
        return was_cut

    def now_and_then(self) -> int:
        """A call at which the power goes; mostly none."""
        return self.chance.randint(1, 40) if self.chance.random() < 0.3 else 0

    def compare(self) -> None:
        engine = self.machine.engine()
        check(engine, self.journal, every_way=self.chance.random() < 0.2)
        self.machine.kill(engine)

    # -- what agents and operators do

    def write(self) -> None:
        chance = self.chance
        records = [make_record(chance, BUSY) for _ in range(chance.randrange(2, 8))]
        records += [make_state(chance, int(self.day), importance) for importance in ("LOW", "MEDIUM", "MEDIUM")]
        records += [make_record(chance, quiet) for quiet in QUIET_ONES if chance.random() < 0.4]
        records.append(make_record(chance, HELD, importance="MEDIUM", memory_type="INTERACTION"))
        if chance.random() < 0.4:
            late = max(self.day - chance.choice([1, 2, 9, 20, 40, 100]), 0.0)
            agent = chance.choice([BUSY, MACHINE, *QUIET_ONES])
            records += [make_record(chance, agent, timestamp_utc=iso(late + hour / 24)) for hour in range(3)]
        for record in records:
            record["context"] = {"key": f"{len(self.fields)}"}
            self.fields[record["context"]["key"]] = record
        self.does(lambda engine: put_many(engine, records), cut_at=self.now_and_then())

    def fields_of(self, memory_id: str) -> dict[str, Any]:
        line = min(self.journal.entries[memory_id].lines)
        return self.fields[line.partition(b'"key":"')[2].partition(b'"')[0].decode()]

    def some(self, agent: str) -> list[str]:
        ids = self.journal.ids(agent)
        return self.chance.sample(ids, min(2, len(ids)))

    def forget(self) -> None:
        ids = self.some(self.chance.choice([BUSY, MACHINE, *QUIET_ONES]))

        def act(engine: Engine) -> None:
            with self.journal.forgetting(ids):
                Lifecycle(engine).forgetter.forget(ids)

        if ids:
            self.does(act, cut_at=self.now_and_then())

    def erase(self) -> None:
        """Some records, or once in a while a quiet agent; what is held refuses."""
        agent = self.chance.choice([BUSY, MACHINE, HELD, *QUIET_ONES])
        whole = agent in QUIET_ONES and self.chance.random() < 0.3
        ids = self.journal.ids(agent) if whole else self.some(agent)
        if not ids:
            return

        def act(engine: Engine) -> None:
            eraser = Lifecycle(engine).eraser
            if agent == HELD and self.is_held:
                with pytest.raises(HeldError):
                    eraser.erase_ids(ids)
                return
            with self.journal.erasing(ids):
                receipt = eraser.erase_agent(agent) if whole else eraser.erase_ids(ids)
            assert receipt.verified, receipt.as_dict()
            assert not receipt.pending

        before = self.erasures()
        was_cut = self.does(act, cut_at=self.chance.randint(1, 80) if self.chance.random() < 0.6 else 0)
        if was_cut and self.erasures() != before:  # or it was cut off before it was begun
            self.erasing.update(ids)

    def erasures(self) -> set[str]:
        """Those that the disk knows of."""
        forgotten = Forgotten(self.machine.storage, StorePaths(ROOT))
        return {entry.erasure.id for entry in forgotten.entries() if entry.erasure is not None}

    def hold(self) -> None:
        self.does(lambda engine: Lifecycle(engine).holds.add(Hold(name="court", at=self.now_us, agent=HELD)))
        self.is_held = True

    def release(self) -> None:
        self.does(lambda engine: Lifecycle(engine).holds.remove("court"))
        self.is_held = False

    # -- the lifecycle

    def may_go(self) -> None:
        """The journal learns whose period has ended, and whose erasure was begun."""
        for memory_id, entry in self.journal.entries.items():
            period = period_days(entry.agent, self.fields_of(memory_id))
            held = entry.agent == HELD and self.is_held
            begun_us = max(parse_id(memory_id).time_us, self.arrived[memory_id])
            ended = period is not None and not held and begun_us + period[0] * US_PER_DAY <= self.now_us
            if ended or memory_id in self.erasing:
                entry.hidden = True
                entry.there = None if entry.there else entry.there

    def maintain(self, engine: Engine, on_done: Callable[[Any], None] | None = None) -> MaintainReport:
        report = Lifecycle(engine).manager.maintain(on_done=on_done)
        self.kinds |= {result.action.kind for result in report.done}
        return report

    def maintain_and_finish(self) -> None:
        def act(engine: Engine) -> None:
            report = self.maintain(engine)
            assert report.failed == [], [f"{action.sentence}: {error}" for action, error in report.failed]
            left = [a.sentence for a in Lifecycle(engine).manager.plan() if not isinstance(a, Withheld)]
            assert left == [], left

        self.may_go()
        assert not self.does(act)
        for memory_id in self.erasing:
            entry = self.journal.entries[memory_id]
            entry.erased |= entry.there is False
        self.erasing.clear()

    def maintain_with_the_power_cut_behind_each_action(self) -> None:
        """Each run gets one action done; the next goes on from what the machine finds."""

        def cut(result: Any) -> None:
            self.kinds.add(result.action.kind)
            self.machine.storage.power.cut()
            raise PowerCut(f"behind {result.action.sentence}")

        self.may_go()
        while self.does(lambda engine: self.maintain(engine, cut)):
            self.boundaries += 1
            self.may_go()

    def maintain_with_the_power_cut_anywhere(self) -> None:
        self.may_go()
        self.does(self.maintain, cut_at=self.chance.randint(1, 120))

    def maintain_with_a_full_disk(self) -> None:
        """What needs space fails or is skipped and says why; afterwards nothing is missing."""
        storage = self.machine.storage
        storage.capacity_bytes = sum(map(len, storage.files("/").values())) + self.chance.randrange(2000)

        def act(engine: Engine) -> None:
            with contextlib.suppress(StorageFullError):
                put_many(engine, self.keyed([make_record(self.chance, BUSY, content="x" * 3000)]))
            report = self.maintain(engine)
            for _, error in report.failed:  # where a merge found no room, its agents' files have to wait for it
                assert isinstance(error, (StorageFullError, MergeUnfinishedError)), error

        self.may_go()
        with contextlib.suppress(StorageFullError):  # of the close
            self.does(act)
        self.machine.storage.capacity_bytes = None
        self.machine.crash()
        self.compare()

    def keyed(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for record in records:
            record["context"] = {"key": f"{len(self.fields)}"}
            self.fields[record["context"]["key"]] = record
        return records

    def maintain_with_a_wrong_clock(self) -> None:
        """Set forward and back again: nothing is removed by it."""
        withheld = 0

        def act(engine: Engine) -> None:
            nonlocal withheld
            report = self.maintain(engine)
            assert not {"expire", "purge"} & {result.action.kind for result in report.done}
            withheld += sum("clock is not trusted" in why for _, why in report.skipped)

        self.maintain_and_finish()
        for step in (40, -40):
            self.machine.clock.step(step * DAY_S)
            self.does(act)
        assert withheld
        self.machine.clock.advance(3600)

    # -- what must be

    def check_disk(self) -> None:
        """All files are somebody's, no byte of the erased is left, and nothing outstays its time."""
        engine = self.machine.engine()
        compare_files(engine, files_of(self.machine))
        self.machine.kill(engine)
        files = self.machine.storage.files("/")
        assert traces(files, self.journal, unpack=unpacked) == []
        for memory_id in self.journal.ids():
            agent = self.journal.entries[memory_id].agent
            period = period_days(agent, self.fields_of(memory_id))
            if period is None or (agent == HELD and self.day < HELD_UNTIL + STEP_DAYS):
                continue
            begun_us = max(parse_id(memory_id).time_us, self.arrived[memory_id], self.last_late(memory_id))
            assert begun_us + (period[1] + SLACK_DAYS) * US_PER_DAY > self.now_us, f"{memory_id} outstays its time"

    def last_late(self, memory_id: str) -> int:
        """When the last record came that may share a frame with this one."""
        agent, month = self.journal.entries[memory_id].agent, memory_id.rsplit("_", 3)[1][:6]
        return max(
            at_us
            for other, at_us in self.arrived.items()
            if self.journal.entries[other].agent == agent and other.rsplit("_", 3)[1][:6] == month
        )


def live_through(year: Year) -> None:
    chance = year.chance
    for step in range(365 // STEP_DAYS):
        year.write()
        if step * STEP_DAYS == HELD_FROM:
            year.hold()
        if step * STEP_DAYS == HELD_UNTIL:
            year.release()
        if chance.random() < 0.5:
            year.forget()
        if chance.random() < 0.25:
            year.erase()
        if step in (18, 54):
            year.maintain_with_a_wrong_clock()
        elif step in (40, 41):
            year.maintain_with_a_full_disk()
        else:
            chance.choices(
                (
                    year.maintain_and_finish,
                    year.maintain_with_the_power_cut_behind_each_action,
                    year.maintain_with_the_power_cut_anywhere,
                ),
                (1, 3, 2),
            )[0]()
        year.machine.clock.advance((STEP_DAYS - chance.random() / 24) * DAY_S)
        if step % 12 == 11:
            year.maintain_and_finish()
            year.maintain_and_finish()  # the first one resumes erasures, and carries out what it hides
            year.check_disk()


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memstore.lifecycle.policy.COMPACT_BYTES_MIN", 4000)
    monkeypatch.setattr("memstore.lifecycle.manager.DRAIN_WAIT_S", 0.0)


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_year_of_power_cuts_loses_nothing_keeps_nothing_and_leaves_nothing(number: int) -> None:
    year = Year(f"year {number}")
    live_through(year)
    year.maintain_and_finish()
    year.check_disk()
    assert {"pack", "expire", "purge", "drop_tombstones"} <= year.kinds
    assert year.boundaries > 50
    assert year.cuts > year.boundaries + 20
    assert sum(entry.erased for entry in year.journal.entries.values()) > 2
