"""Old points go as the policy says, and nothing that is kept loses anything."""

from __future__ import annotations

import os
import threading

import pytest
from lifecycle_support import DAY_S, HOUR_S, at, iso
from looking import lines_at, names_in
from support import QUIET, T0_US, flip

from memstore import LockedError, MemStore, NotFoundError, UsageError, restore
from memstore.backup.job import BackupJob
from memstore.backup.keeping import KeepPolicy, KeptPoint, choose_points
from memstore.clock import ManualClock
from memstore.errors import CorruptionError
from memstore.format.backup_names import point_name, point_time
from memstore.fs.local import LocalStorage
from memstore.fs.lock import locked
from memstore.timestamps import US_PER_DAY


def point(days: float, *, sound: bool = True) -> KeptPoint:
    """A point so many days after 2025-01-15 (a Wednesday); its name is the number."""
    return KeptPoint(f"{days:+06.2f}", T0_US + int(days * US_PER_DAY), sound)


def kept(points: list[KeptPoint], daily: int, weekly: int, monthly: int) -> list[float]:
    found = choose_points(points, KeepPolicy(daily=daily, weekly=weekly, monthly=monthly))
    return sorted(float(name) for name in found.points)


DAILY = [point(day) for day in range(-60, 1)]
SIX_HOURLY = [point(quarter / 4) for quarter in range(-20, 1)]


@pytest.mark.parametrize(
    ("points", "policy", "expected"),
    [
        ([], (7, 4, 12), []),
        ([point(0)], (0, 0, 0), [0]),
        (DAILY, (0, 0, 0), [0]),
        (DAILY, (3, 0, 0), [-2, -1, 0]),
        (DAILY, (100, 0, 0), [float(day) for day in range(-60, 1)]),
        # the last days of ISO weeks are Sundays: 2025-01-12, 2025-01-05, 2024-12-29
        (DAILY, (0, 4, 0), [-17, -10, -3, 0]),
        # the last days of months: 2024-12-31, 2024-11-30
        (DAILY, (0, 0, 12), [-46, -15, 0]),
        (DAILY, (2, 2, 2), [-15, -3, -1, 0]),
        # of a day its youngest; the day of the newest has one point only
        (SIX_HOURLY, (3, 0, 0), [-1.25, -0.25, 0]),
        # days without a point do not count
        ([point(-50), point(-20), point(0)], (3, 0, 0), [-50, -20, 0]),
        # a good one is not pushed out by backups of a damaged store
        ([point(-30), *(point(day, sound=False) for day in range(-3, 1))], (2, 0, 0), [-30, -1, 0]),
        # the order in which they come does not matter
        (DAILY[::-1], (3, 1, 0), [-2, -1, 0]),
    ],
)
def test_the_policy_keeps(points, policy, expected):
    assert kept(points, *policy) == expected


@pytest.mark.parametrize(("policy", "oldest"), [((3, 4, 12), -2), ((0, 4, 12), 0), ((1, 0, 0), 0)])
def test_lanes_are_kept_from_the_oldest_daily_point_on(policy, oldest):
    daily, weekly, monthly = policy
    found = choose_points(DAILY, KeepPolicy(daily=daily, weekly=weekly, monthly=monthly))
    assert found.lanes_after == point(oldest).name


def test_a_negative_number_is_refused():
    with pytest.raises(UsageError):
        KeepPolicy(daily=-1)


def test_names_say_when():
    assert point_name(T0_US) == "20250115T000000.000000Z"
    assert point_time(point_name(T0_US + 1)) == T0_US + 1
    for name in ("lanes", "20250115T000000Z", "20251315T000000.000000Z", ".incoming-00"):
        assert point_time(name) is None


def test_what_stays_is_whole_and_any_moment_since_the_oldest_daily_point_can_be_restored(tmp_path, dest):
    clock = ManualClock(at(0))
    moments = []
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        ids = []
        for _ in range(12):
            ids.append(store.append(agent_id="a", content="x"))
            store.drain()
            clock.advance(3 * HOUR_S)
            moments.append((clock.now_us(), set(ids)))
            clock.advance(9 * HOUR_S)
            store.backup(dest)
        planned = store.prune_backups(dest, keep_daily=3, keep_weekly=0, keep_monthly=0, dry_run=True)
        assert not planned.done
        assert len(store.backups(dest)) == 12
        report = store.prune_backups(dest, keep_daily=3, keep_weekly=0, keep_monthly=0)
        assert (report.kept, report.removed) == (planned.kept, planned.removed)
        assert len(report.kept) == 3
        assert [each.name for each in store.backups(dest)] == report.kept
        for name in report.kept:
            assert store.verify_backup(dest, name).is_good
        assert not [name for name in os.listdir(dest) if name.startswith(".going")]
        oldest = point_time(report.moments_from or "") or 0
        restorable = [(moment, expected) for moment, expected in moments if moment >= oldest]
        assert len(restorable) >= 3
    for number, (moment, expected) in enumerate(restorable):
        restored = restore(dest, tmp_path / f"r{number}", at=moment, clock=clock)
        assert restored.is_complete
        assert set(lines_at(str(tmp_path / f"r{number}"))["a"]) == expected


def test_a_moment_whose_lanes_were_pruned_is_told(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        for _ in range(20):
            store.append(agent_id="a", content="x")
            clock.advance(DAY_S)
            store.backup(dest)
        store.prune_backups(dest, keep_daily=2, keep_weekly=3, keep_monthly=0)
        names = [each.name for each in store.backups(dest)]
    report = restore(dest, tmp_path / "r", at=(point_time(names[0]) or 0) + 1, clock=clock)
    assert not report.is_complete


def test_a_damaged_list_is_left_alone_and_told(tmp_path, dest):
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=QUIET, clock=clock) as store:
        store.append(agent_id="a", content="x")
        names = []
        for _ in range(3):
            clock.advance(DAY_S)
            names.append(store.backup(dest).name)
        flip(os.path.join(dest, names[1], "BACKUP.json"), 20)
        report = store.prune_backups(dest, keep_daily=1, keep_weekly=0, keep_monthly=0)
        assert (report.kept, report.removed, report.unreadable) == ([names[2]], [names[0]], [names[1]])
        assert os.path.exists(os.path.join(dest, names[1]))


def test_a_prune_beside_a_backup_is_refused(rich_open, dest):
    rich_open.backup(dest)
    with locked(LocalStorage(), os.path.join(dest, ".lock")), pytest.raises(LockedError):
        rich_open.prune_backups(dest)


def test_without_backups_there_is_nothing_to_prune(rich_open, tmp_path):
    with pytest.raises(NotFoundError):
        rich_open.prune_backups(tmp_path)


# -- erasing


def test_an_erasure_names_the_backups_in_which_it_is_pending(rich_open, dest, lines):
    clock = rich_open._engine.clock
    rich_open.backup(dest)
    clock.advance(DAY_S)
    receipt = rich_open.erase(ids=sorted(lines["a"])[-1:])
    assert receipt.verified, "nothing is left in the store"
    assert [each.where for each in receipt.backups] == [dest]
    assert "1 backup(s)" in receipt.backups[0].why
    assert receipt.as_dict()["backups"][0]["where"] == dest
    clock.advance(DAY_S)
    rich_open.backup(dest)
    rich_open.prune_backups(dest, keep_daily=1, keep_weekly=0, keep_monthly=0)
    assert len(names_in(dest)) == 3


def test_backups_that_were_pruned_or_were_never_there_are_not_named(rich_open, dest, lines):
    clock = rich_open._engine.clock
    ids = sorted(lines["a"])[-2:]
    assert rich_open.erase(ids=ids[:1]).backups == ()
    rich_open.backup(dest)
    clock.advance(DAY_S)
    moved = dest + ".moved"
    os.rename(dest, moved)
    receipt = rich_open.erase(ids=ids[1:])
    assert "not here" in receipt.backups[0].why
    assert rich_open.detach_backups(dest)
    assert not rich_open.detach_backups(dest)
    assert rich_open.erase(agent="b.B").backups == ()


def test_a_store_that_lets_go_of_its_backups_keeps_no_lanes_for_them(tmp_path, dest):
    with MemStore(tmp_path / "store", settings=QUIET) as store:
        store.backup(dest)
        store.append(agent_id="a", content="x")
        store.drain()
        assert store._engine.consumers.merged_names()
        store.detach_backups(dest)
        assert not store._engine.consumers.merged_names()
        report = store.backup(dest)
        assert report.gap is not None, "nobody knows what was let go meanwhile"
        assert report.gap.until == 0


# -- by itself


def test_the_job_takes_a_backup_and_prunes(tmp_path, dest):
    clock = ManualClock(at(0))
    settings = {**QUIET, "backup": {"destination": dest, "keep_daily": 2, "keep_weekly": 0, "keep_monthly": 0}}
    with MemStore(tmp_path / "store", settings=settings, clock=clock) as store:
        job = BackupJob(store._engine)
        for _ in range(4):
            store.append(agent_id="a", content="x", timestamp=iso(0))
            clock.advance(DAY_S)
            job.run(threading.Event())
        assert len(store.backups(dest)) == 2
        stopped = threading.Event()
        stopped.set()
        job.run(stopped)
        assert len(store.backups(dest)) == 2


def test_a_store_that_maintains_itself_backs_up_where_it_is_told_to(tmp_path, dest):
    from memstore.store import lifecycle_jobs

    with MemStore(tmp_path / "store", settings=QUIET) as store:
        assert "backup" not in [job.name for job in lifecycle_jobs(store).jobs()]
    with MemStore(tmp_path / "store", settings={**QUIET, "backup": {"destination": dest}}) as store:
        (job,) = [job for job in lifecycle_jobs(store).jobs() if job.name == "backup"]
        assert job.every_s == 21_600
        assert job.costly
        job.work(threading.Event())
        assert len(store.backups(dest)) == 1


def test_the_job_of_a_damaged_store_takes_its_backup_and_fails(rich, dest):
    path = os.path.join(rich, "memory", "archive", "a", "202411.7.jsonl.zst")
    flip(path, 100)
    with MemStore(rich, settings={**QUIET, "backup": {"destination": dest}}, clock=ManualClock(at(23))) as store:
        with pytest.raises(CorruptionError, match="202411"):
            BackupJob(store._engine).run(threading.Event())
        assert store.backups(dest)[0].damaged == 1
