"""Backups of stores that a power cut left in the middle of a merge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from machine import BACKUP_VOLUME, ROOT, Machine
from support import put_many

from memstore.backup.create import create_backup
from memstore.backup.verify import verify_backup
from memstore.errors import StorageError

REPOSITORY = f"{BACKUP_VOLUME}/points"
RECORDS = [{"agent_id": agent, "content": "x" * 300} for agent in ("a", "b")]
DAY_FILE = f"{ROOT}/memory/shards/shard_000/b/20250115.1.jsonl"


def lose(machine: Machine) -> None:
    machine.storage.unlink(DAY_FILE)


def cut_short(machine: Machine) -> None:
    machine.storage.open_update(DAY_FILE).truncate(10)


@pytest.mark.parametrize("left", [lose, cut_short], ids=lambda value: value.__name__)
def test_a_merge_that_left_its_line_without_its_day_file_is_backed_up_with_its_lanes(
    left: Callable[[Machine], None],
) -> None:
    machine = Machine(0)
    engine = machine.engine()
    ids = put_many(engine, RECORDS)
    machine.storage.power.fail("sync_data", path="*/memory/*")
    with pytest.raises(StorageError):
        engine.drain(timeout_s=0)
    machine.kill(engine)
    left(machine)
    engine = machine.engine()
    before = create_backup(engine, REPOSITORY)
    assert engine.drain(timeout_s=0).pending == []
    after = create_backup(engine, REPOSITORY)
    for report in (before, after):
        assert report.damage == []
        assert verify_backup(machine.storage, REPOSITORY, clock=machine.clock, point=report.name).is_good
        there = machine.engine_of(report.path)
        assert [line is not None for line in there.reader.get_lines(ids)] == [True, True]
