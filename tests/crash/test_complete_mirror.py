"""A dead writer's lane may have one commit more than its mirror: before the lane is merged the mirror has it too."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
from machine import ROOT, SECOND_VOLUME, Machine
from oracle import EVERYTHING, check
from replica_support import InlineExecutor, copied, copy_state, give_copy
from support import make_engine, put, put_many

from memstore.engine.engine import Engine
from memstore.fs.storage import StorageFile
from memstore.replica.replicator import Replicator
from memstore.wal import mirror
from memstore.wal.scan import ScannedCommit, scan_lane
from memstore.wal.seal import header_end

BATCH = [{"agent_id": agent, "content": f"{agent} {n}"} for n in range(3) for agent in ("a", "b", "c")]


@pytest.fixture(autouse=True)
def _calls_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "one_thread", InlineExecutor)


@dataclass
class Dead:
    """A machine on which the writer of two commits has died, and a process that lives."""

    machine: Machine
    lives: Engine
    copy: str
    lane: str
    mirror: str

    def open(self, path: str) -> StorageFile:
        return self.machine.storage.open_update(path)

    def last_commit(self) -> ScannedCommit:
        file = self.open(self.lane)
        size = file.identity().size_bytes
        scanned = scan_lane(file, start=header_end(file), size=size)
        return [item for item in scanned if isinstance(item, ScannedCommit)][-1]

    def cut(self, path: str, *, torn_bytes: int = 0) -> None:
        """The last commit did not reach this one, or only so much of it."""
        self.open(path).truncate(self.last_commit().offset + torn_bytes)

    def seal(self) -> None:
        sealed = self.lives.maintenance._look_at(os.path.basename(self.lane))
        assert sealed is not None
        files = self.machine.storage.files("/")
        assert files[self.mirror] == files[self.lane][: sealed[0].footer], "they differ"


@pytest.fixture
def dead() -> Dead:
    machine = Machine(0)
    writer = machine.engine()
    copy = give_copy(writer, SECOND_VOLUME)
    put(writer, "a", "acknowledged")
    put_many(writer, BATCH)
    lives = machine.engine()
    (lane,) = [path for path in machine.storage.files(ROOT) if path.endswith(".lane")]
    machine.kill(writer)
    return Dead(machine, lives, copy, lane, os.path.join(copy, "lanes", os.path.basename(lane)))


def records_of(engine: Engine) -> int:
    return sum(engine.reader.count(agent, EVERYTHING, on_damage="raise") for agent in ("a", "b", "c"))


@pytest.mark.parametrize("torn_bytes", [0, 1, 200])
def test_what_only_the_lane_has_goes_to_the_mirror(dead: Dead, torn_bytes: int) -> None:
    dead.cut(dead.mirror, torn_bytes=torn_bytes)
    dead.seal()
    assert copy_state(dead.lives) == "ok"


@pytest.mark.parametrize("torn_bytes", [0, 1, 200])
def test_what_only_the_mirror_has_stays_there_and_does_not_come_back_to_the_store(dead: Dead, torn_bytes: int) -> None:
    whole = dead.machine.storage.files("/")[dead.mirror]
    before = dead.last_commit()
    dead.cut(dead.lane, torn_bytes=torn_bytes)
    assert records_of(dead.lives) == 1
    sealed = dead.lives.maintenance._look_at(os.path.basename(dead.lane))
    assert sealed is not None
    assert sealed[0].footer == before.offset
    assert records_of(dead.lives) == 1
    assert dead.machine.storage.files("/")[dead.mirror] == whole


def test_what_has_gone_bad_in_the_middle_of_the_lane_does_not_go_over_what_the_mirror_has(dead: Dead) -> None:
    lane = dead.open(dead.lane)
    whole = dead.machine.storage.files("/")[dead.mirror]
    first = header_end(lane) + 20
    lane.write(b"\0\0\0\0", first)
    dead.cut(dead.mirror)
    with pytest.raises(AssertionError, match="they differ"):
        dead.seal()
    assert dead.machine.storage.files("/")[dead.mirror] == whole


def test_a_lane_that_never_got_a_mirror_gets_one(dead: Dead) -> None:
    dead.machine.storage.unlink(dead.mirror)
    dead.seal()
    alone = make_engine(dead.copy, dead.machine.storage, clock=dead.machine.clock, create=False)
    check(alone, dead.machine.journal)


def test_a_batch_is_whole_or_absent_in_the_copy_in_the_middle_of_a_pass(dead: Dead) -> None:
    dead.cut(dead.mirror)
    dead.lives.drain(timeout_s=0)
    left = 0

    def stop() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    for agents in range(6):
        left = agents
        Replicator(dead.lives).run(stop)
        alone = make_engine(dead.copy, dead.machine.storage, clock=dead.machine.clock, create=False)
        check(alone, dead.machine.journal)
    copied(dead.lives)


def test_a_copy_that_refuses_is_behind_and_the_lane_is_sealed(dead: Dead) -> None:
    dead.cut(dead.mirror)
    dead.machine.storage.power.fail("write", path=f"{SECOND_VOLUME}/*/lanes/*")
    assert dead.lives.maintenance._look_at(os.path.basename(dead.lane)) is not None
    assert copy_state(dead.lives) == "behind"
    check(dead.lives, dead.machine.journal)
    copied(dead.lives)
