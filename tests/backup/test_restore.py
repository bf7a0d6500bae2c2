"""What is restored is what was there: at a point, at any moment between two, less what must not come back."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from lifecycle_support import DAY_S, LIVELY, Lines, assert_holds, at, iso, remember
from looking import content, in_one_piece, inodes, lines_at
from rich_store import SETTINGS, clock_of_rich_store
from support import QUIET, flip, lane_files, make_engine, put

from memstore import CorruptionError, LockedError, MemStore, NotFoundError, StorageError, UsageError, restore
from memstore.backup.create import create_backup
from memstore.backup.restore import WRITER_JUMP, restore_store
from memstore.clock import ManualClock, WallClock
from memstore.format.forgotten import Erasure, text_hash
from memstore.format.names import StorePaths
from memstore.format.store_file import decode_store_file
from memstore.fs.local import LocalStorage
from memstore.ops.check import check_store
from memstore.testing.faulty import FaultyStorage


@pytest.fixture
def target(tmp_path):
    return str(tmp_path / "restored")


def store_file(root: str) -> Any:
    path = StorePaths(root).store_file
    with open(path, "rb") as file:
        return decode_store_file(file.read(), path)


def test_every_tier_comes_back_byte_for_byte(rich_open, dest, target, lines):
    rich_open.backup(dest)
    report = restore(dest, target, clock=clock_of_rich_store())
    assert report.is_complete
    with MemStore(target, settings=SETTINGS, clock=clock_of_rich_store()) as restored:
        assert_holds(restored, lines)
        assert [hold.name for hold in restored.holds()] == ["case"]
        memory_id = restored.append(agent_id="a", content="it goes on")
        restored.drain()
        assert not restored.maintain().failed
        assert restored.get(memory_id) is not None
        rich_open.drain()
        rich_open.maintain()
        assert list(restored.agent("b.B").lines()) == list(rich_open.agent("b.B").lines()), "both age alike"


def test_what_was_hidden_can_be_brought_back_after_a_restore(rich_open, dest, target, lines):
    rich_open.backup(dest)
    restore(dest, target)
    with MemStore(target, settings=SETTINGS, clock=clock_of_rich_store()) as restored:
        there = rich_open.undelete(agent="a").records
        assert restored.undelete(agent="a").records == there > 0


def test_a_full_check_of_what_was_restored_finds_nothing(rich_open, dest, target):
    rich_open.backup(dest)
    restore(dest, target)
    checked = check_store(LocalStorage(), StorePaths(target), clock=WallClock(), full=True)
    assert checked.is_clean, [finding.sentence for finding in checked.findings]


def test_a_restore_changes_nothing_in_the_backup(rich_open, dest, target):
    point = rich_open.backup(dest).path
    before = content(dest)
    restore(dest, target)
    with MemStore(target, settings=SETTINGS, clock=clock_of_rich_store()) as restored:
        restored.append_many({"agent_id": "a", "content": "x", "timestamp_utc": iso(18)} for _ in range(10))
        restored.drain()
        restored.erase(agent="b.B")
    assert content(dest) == before
    assert not set(inodes(target).values()) & set(inodes(point).values())


def test_a_writer_number_is_never_given_out_twice(rich, rich_open, dest, target):
    rich_open.backup(dest)
    given = store_file(rich).next_writer
    restore(dest, target)
    assert store_file(target).next_writer >= given + WRITER_JUMP
    assert store_file(target).id == store_file(rich).id


def test_in_the_place_of_the_old_store_which_is_kept(tmp_path, dest):
    root = str(tmp_path / "store")
    with MemStore(root, settings=QUIET) as store:
        kept = store.append(agent_id="a", content="kept")
        store.backup(dest)
        lost = store.append(agent_id="a", content="later")
    number = store_file(root).next_writer
    with pytest.raises(UsageError, match="ask for it to be replaced"):
        restore(dest, root)
    report = restore(dest, root, replace=True)
    assert report.kept is not None
    assert set(lines_at(root)["a"]) == {kept}
    assert set(lines_at(report.kept)["a"]) == {kept, lost}
    assert store_file(root).next_writer == number, "the old store knows them all"
    again = restore(dest, root, replace=True, discard_old=True)
    assert again.kept is None
    assert sorted(os.listdir(tmp_path)) == sorted(["backups", "store", os.path.basename(report.kept)])


def test_a_store_that_is_still_written_to_is_not_replaced(tmp_path, dest):
    root = str(tmp_path / "store")
    with MemStore(root, settings=QUIET) as store:
        store.append(agent_id="a", content="x")
        store.backup(dest)
        with pytest.raises(LockedError, match="stop it first"):
            restore(dest, root, replace=True)
        assert store.agent("a").count() == 1
    assert sorted(os.listdir(tmp_path)) == ["backups", "store"]
    assert restore(dest, root, replace=True).kept is not None


def test_something_else_at_the_target_is_left_alone(rich_open, dest, tmp_path):
    rich_open.backup(dest)
    other = tmp_path / "other"
    other.mkdir()
    (other / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="holds no store"):
        restore(dest, other, replace=True)
    with MemStore(tmp_path / "foreign", settings=QUIET):
        pass
    with pytest.raises(UsageError, match="another store"):
        restore(dest, tmp_path / "foreign", replace=True)
    assert os.listdir(other) == ["holiday.jpg"]


def test_damage_in_the_backup_is_named_and_the_target_untouched(rich_open, dest, target, tmp_path):
    point = rich_open.backup(dest).path
    for path in sorted(inodes(point))[:8]:
        whole = os.path.join(point, path)
        flip(whole, os.path.getsize(whole) // 2)
        with pytest.raises(CorruptionError, match=os.path.basename(path).replace(".", r"\.")):
            restore(dest, target)
        flip(whole, os.path.getsize(whole) // 2)
        assert sorted(os.listdir(tmp_path)) == ["backups", "store"]
    assert restore(dest, target).is_complete


# -- any moment


def test_every_moment_of_a_journal_can_be_restored(tmp_path, dest):
    """Appends, merges, moves, forgetting and backups in any order; then each moment again, against the journal."""
    rng = random.Random(7)
    clock = ManualClock(at(0))
    root = str(tmp_path / "store")
    expected: Lines = {}
    journal: list[tuple[int, Lines]] = []
    with MemStore(root, settings=LIVELY, clock=clock) as store:
        forgotten = 0
        for step in range(60):
            clock.advance(rng.randrange(1, 5000))
            what = rng.random()
            if what < 0.55 or not expected:
                records = [
                    {"agent_id": rng.choice("abC"), "content": f"{step}.{n}", "timestamp_utc": iso(-rng.random() * 80)}
                    for n in range(rng.randrange(1, 6))
                ]
                for agent, lines in remember(store, records).items():
                    expected.setdefault(agent, {}).update(lines)
            elif what < 0.7:
                store.drain()
            elif what < 0.8:
                assert not store.maintain().failed
            elif what < 0.88:
                agent = rng.choice(sorted(agent for agent in expected if expected[agent]))
                memory_id = rng.choice(sorted(expected[agent]))
                store.forget(memory_id)
                del expected[agent][memory_id]
                forgotten += 1
            if rng.random() < 0.15 or step == 0:
                store.backup(dest)
            journal.append((clock.now_us(), {agent: dict(lines) for agent, lines in expected.items()}))
        clock.advance(1)
        store.backup(dest)
        assert len(store.backups(dest)) >= 5
        assert forgotten >= 2
    for number, (moment, lines) in enumerate(journal):
        target = str(tmp_path / f"at{number}")
        report = restore(dest, target, at=moment, clock=clock)
        assert report.is_complete
        with MemStore(target, settings=LIVELY, clock=clock) as restored:
            assert_holds(restored, lines, told=f"at step {number} from {report.point}")


def test_a_moment_is_exact_to_the_commit(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        store.backup(dest)
        moments = []
        for number in range(5):
            clock.advance(10)
            store.append_many({"agent_id": agent, "content": number} for agent in "ab")
            moments.append(clock.now_us())
        clock.advance(10)
        store.backup(dest)
    for number, moment in enumerate(moments):
        for before, there in ((1, number), (0, number + 1)):
            target = tmp_path / f"{number}.{before}"
            restore(dest, target, at=moment - before, clock=clock)
            with MemStore(target, read_only=True) as restored:
                assert [restored.agent(agent).count() for agent in "ab"] == [there, there]


def test_what_the_archive_lacks_is_told(tmp_path, dest):
    clock = ManualClock(at(0))
    settings = {**QUIET, "merging": {"background": False, "consumer_lag_bytes": 0}}
    with MemStore(tmp_path / "store", settings=settings, clock=clock) as store:
        store.append(agent_id="a", content=1)
        store.backup(dest)
        clock.advance(10)
        store.append(agent_id="a", content=2)
        store.drain()
        moment = clock.now_us()
        clock.advance(10)
        store.backup(dest)
    report = restore(dest, tmp_path / "restored", at=moment, clock=clock)
    assert not report.is_complete
    assert [gap.months for gap in report.gaps] == [["202501"]]
    assert report.gaps[0].until >= moment


def test_a_moment_behind_the_newest_backup_is_told(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        store.append(agent_id="a", content=1)
        newest = store.backup(dest).at
    clock.advance(100)
    report = restore(dest, tmp_path / "restored", at=clock.now_us(), clock=clock)
    assert not report.is_complete
    assert report.reached == newest


def test_moments_that_no_backup_knows_are_refused(rich_open, dest, target):
    rich_open.backup(dest)
    with pytest.raises(NotFoundError, match="the oldest backup"):
        restore(dest, target, at="2020-01-01")
    with pytest.raises(UsageError, match="still to come"):
        restore(dest, target, at=iso(100), clock=clock_of_rich_store())


def test_a_point_that_is_named_is_where_the_restore_begins(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        first = store.backup(dest)
        clock.advance(10)
        store.append(agent_id="a", content=1)
        clock.advance(10)
        second = store.backup(dest)
    assert restore(dest, tmp_path / "1", point=first.name, clock=clock).replayed == 0
    assert restore(dest, tmp_path / "2", point=first.name, at=second.at, clock=clock).replayed == 1
    with pytest.raises(UsageError, match="was taken after"):
        restore(dest, tmp_path / "3", point=second.name, at=first.at, clock=clock)


def test_a_damaged_archived_lane_is_named(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        store.backup(dest)
        clock.advance(10)
        store.append(agent_id="a", content=1)
        clock.advance(10)
        name = store.backup(dest).name
    (lane,) = [
        os.path.join(dest, "lanes", name, each)
        for each in os.listdir(os.path.join(dest, "lanes", name))
        if each.endswith(".lane")
    ]
    flip(lane, 200)
    with pytest.raises(CorruptionError, match=r"\.lane"):
        restore(dest, tmp_path / "restored", at=at(0) + 15_000_000, clock=clock)


# -- what must not come back


def test_what_was_erased_after_the_backup_does_not_come_back(rich, rich_open, dest, target, lines):
    point = rich_open.backup(dest)
    rich_open._engine.clock.advance(DAY_S)
    gone = sorted(lines["a"])[-2:]
    rich_open.erase(ids=gone)
    rich_open.erase(agent="b.B")
    report = restore(dest, target, beside=rich, clock=rich_open._engine.clock)
    assert report.erased >= len(lines["b.B"]) + 2
    expected = {"a": {i: line for i, line in lines["a"].items() if i not in gone}, "new": lines["new"], "b.B": {}}
    with MemStore(target, settings=SETTINGS, clock=rich_open._engine.clock) as restored:
        assert_holds(restored, expected)
    for path, data in content(target).items():
        assert not any(each.encode() in data for each in gone), path
    assert point.name == report.point


def test_a_later_backup_knows_of_the_erasure_when_the_store_is_lost(rich_open, dest, target, lines):
    first = rich_open.backup(dest)
    rich_open._engine.clock.advance(DAY_S)
    rich_open.erase(agent="b.B")
    rich_open.backup(dest)
    restore(dest, target, point=first.name, clock=rich_open._engine.clock)
    assert "b.B" not in lines_at(target)
    assert lines_at(target)["a"] == lines["a"]


def test_erased_records_do_not_come_back_from_archived_lanes(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        store.backup(dest)
        clock.advance(10)
        ids = store.append_many({"agent_id": "a", "content": n, "timestamp_utc": iso(-n)} for n in range(4))
        store.append(agent_id="b", content="whole agent")
        clock.advance(10)
        store.backup(dest)
        moment = clock.now_us() - 1
        clock.advance(10)
        store.erase(ids=ids[1:3])
        store.erase(agent="b")
        clock.advance(10)
        after = store.append(agent_id="b", content="after")
        clock.advance(10)
        store.backup(dest)
    restore(dest, tmp_path / "then", at=moment, clock=clock)
    assert {agent: set(lines) for agent, lines in lines_at(str(tmp_path / "then")).items()} == {"a": {ids[0], ids[3]}}
    restore(dest, tmp_path / "now", clock=clock)
    assert set(lines_at(str(tmp_path / "now"))["b"]) == {after}
    checked = check_store(LocalStorage(), StorePaths(str(tmp_path / "then")), clock=clock, full=True)
    assert checked.is_clean, [finding.sentence for finding in checked.findings]


def test_undeletes_between_two_backups_are_told(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        memory_id = store.append(agent_id="a", content=1)
        store.drain()
        store.backup(dest)
        clock.advance(10)
        store.forget(memory_id)
        clock.advance(10)
        store.undelete(ids=memory_id)
        moment = clock.now_us()
        clock.advance(10)
        store.backup(dest)
    assert restore(dest, tmp_path / "restored", at=moment, clock=clock).undeletes_left_out == 1


# -- a part


def test_a_part_is_appended_under_its_old_ids_and_twice_adds_nothing(rich_open, dest, tmp_path, lines):
    rich_open.backup(dest)
    with MemStore(tmp_path / "other", settings=QUIET, clock=clock_of_rich_store()) as other:
        report = other.restore_part(dest, agent="a")
        assert report.imported == len(lines["a"])
        assert_holds(other, {"a": lines["a"], "b.B": {}})
        again = other.restore_part(dest, agent=["a", "new"])
        assert (again.imported, again.already) == (len(lines["new"]), len(lines["a"]))
        fresh = other.append(agent_id="a", content="fresh")
        assert fresh not in lines["a"]
    assert sorted(os.listdir(tmp_path)) == ["backups", "other", "store"]


def test_a_part_by_type_and_time(rich_open, dest, tmp_path, lines):
    rich_open.backup(dest)
    with MemStore(tmp_path / "other", settings=QUIET, clock=clock_of_rich_store()) as other:
        other.restore_part(dest, memory_type="PERFORMANCE", until=iso(-17))
        expected = {r.memory_id for r in rich_open.agent("a").range(memory_type="PERFORMANCE", until=iso(-17))}
        assert {record.memory_id for record in other.agent("a").range()} == expected
        other.restore_part(dest, since=iso(20))
        assert other.agent("a").count(since=iso(20)) == rich_open.agent("a").count(since=iso(20)) > 0


def test_lost_records_come_back_into_the_store_they_were_lost_from(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        ids = store.append_many({"agent_id": "a", "content": n} for n in range(10))
        store.append(agent_id="b", content="b")
        store.drain()
        store.backup(dest)
        clock.advance(10)
        forgotten = ids.pop()
        store.forget(forgotten)
        erased = ids.pop()
        store.erase(ids=[erased])
        report = store.restore_part(dest)
        assert (report.imported, report.already) == (0, 9)
        assert report.refused == 1, "the forgotten one; the erased one is not even looked at"
        assert store.get(forgotten) is None
        assert store.get(erased) is None


def test_a_part_as_of_a_moment(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        store.append(agent_id="a", content=1)
        store.backup(dest)
        clock.advance(10)
        store.append_many({"agent_id": agent, "content": 2} for agent in "ab")
        moment = clock.now_us()
        clock.advance(10)
        store.append(agent_id="a", content=3)
        clock.advance(10)
        store.backup(dest)
    with MemStore(tmp_path / "other", settings=QUIET, clock=clock) as other:
        assert other.restore_part(dest, agent="a", at=moment).imported == 2
        assert [record.content for record in other.agent("a").range()] == [1, 2]
        assert other.agents() == ["a"]


def test_an_agent_that_the_backup_does_not_have_is_told(rich_open, dest):
    rich_open.backup(dest)
    with pytest.raises(NotFoundError, match="no agent nobody"):
        rich_open.restore_part(dest, agent="nobody")


# -- faults


def test_every_call_of_a_restore_may_fail_and_what_was_there_stays(tmp_path, dest):
    storage = FaultyStorage(LocalStorage())
    clock = ManualClock(at(0))
    root = str(tmp_path / "store")
    engine = make_engine(root, storage, clock=clock)
    for number in range(3):
        put(engine, "a", number)
    engine.drain(timeout_s=5)
    create_backup(engine, dest)
    clock.advance(10)
    put(engine, "a", "later")
    moment = clock.now_us()
    clock.advance(10)
    create_backup(engine, dest)
    engine.close()
    there = lines_at(root)
    storage.counts.clear()
    restore_store(storage, dest, str(tmp_path / "counted"), clock=clock, at_us=moment)
    kinds = sorted(storage.counts)
    calls = sum(storage.counts.values())
    failed = 0
    for number in range(0, calls, 3):
        storage.fail(*kinds, after=number)
        try:
            restore_store(storage, dest, root, clock=clock, at_us=moment, replace=True)
        except (StorageError, FileNotFoundError):
            failed += 1
        storage.disarm()
        olds = [name for name in os.listdir(tmp_path) if name.startswith("store.before")]
        if not os.path.exists(root):  # stopped between the two renames: the old one is beside its place
            os.rename(tmp_path / olds[-1], root)
        assert lines_at(root)["a"].items() <= there["a"].items()
        assert len(lines_at(root)["a"]) == 4
    assert failed > 10


def test_what_a_killed_restore_left_is_removed_by_the_next(rich_open, dest, tmp_path, target):
    rich_open.backup(dest)
    left = tmp_path / "restored.restoring-0123456789abcdef"
    (left / "locks").mkdir(parents=True)
    (left / "STORE.json").write_bytes(b"half")
    restore(dest, target)
    assert sorted(os.listdir(tmp_path)) == ["backups", "restored", "store"]
    assert in_one_piece(lines_at(target))
    assert not lane_files(target, ".merged")


def test_an_erasure_that_was_interrupted_when_the_backup_was_taken_is_carried_out(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        ids = store.append_many({"agent_id": "a", "content": n} for n in range(3))
        store.append(agent_id="b", content="whole agent")
        store.drain()  # as an erasure does before it begins
        clock.advance(10)
        forgotten = store._engine.forgotten
        forgotten.note(Erasure(id="1", at=clock.now_us(), agent=text_hash("a"), ids=[text_hash(ids[1])]))
        forgotten.note(Erasure(id="2", at=clock.now_us(), agent=text_hash("b")))
        store.backup(dest)
    report = restore(dest, tmp_path / "restored", clock=clock)
    assert report.erased == 2
    assert {agent: set(lines) for agent, lines in lines_at(str(tmp_path / "restored")).items()} == {
        "a": {ids[0], ids[2]}
    }
