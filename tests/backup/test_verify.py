"""A verification finds whatever is not as it was backed up, and names it."""

from __future__ import annotations

import os

import pytest
from looking import inodes, names_in
from support import QUIET, flip

from memstore import CorruptionError, LockedError, MemStore, NotFoundError, VersionError
from memstore.backup.verify import verify_backup
from memstore.clock import WallClock
from memstore.format.checked import encode_checked
from memstore.fs.local import LocalStorage
from memstore.fs.lock import locked


def test_a_good_backup_is_good_and_equal_to_the_store(rich_open, dest, lines):
    point = rich_open.backup(dest)
    report = rich_open.verify_backup(dest, compare=True)
    assert report.is_good
    assert report.compared == sum(map(len, lines.values()))
    assert report.differing == 0
    assert (report.files, report.bytes) == (point.files, point.bytes)


def test_nothing_is_left_of_the_scratch_directory(rich_open, dest, tmp_path):
    point = rich_open.backup(dest)
    scratch = tmp_path / "room"
    scratch.mkdir()
    rich_open.verify_backup(dest)
    rich_open.verify_backup(dest, scratch=scratch)
    assert not os.listdir(scratch)
    assert names_in(dest) == [point.name, "REPOSITORY.json", "lanes"]
    assert not [name for name in os.listdir(dest) if "scratch" in name]


def test_it_needs_no_store(rich_open, dest):
    rich_open.backup(dest)
    assert verify_backup(LocalStorage(), dest, clock=WallClock()).is_good


def test_damage_in_any_file_of_a_backup_is_named(rich_open, dest):
    point = rich_open.backup(dest)
    looked = 0
    for path in inodes(point.path):
        whole = os.path.join(point.path, path)
        if path == "BACKUP.json":
            continue
        flip(whole, os.path.getsize(whole) // 2)
        report = rich_open.verify_backup(dest)
        assert not report.is_good, path
        assert whole in [error.path for error in report.damage]
        flip(whole, os.path.getsize(whole) // 2)
        looked += 1
    assert looked > 20
    assert rich_open.verify_backup(dest).is_good


def test_a_missing_file_and_a_cut_one_are_named(rich_open, dest):
    point = rich_open.backup(dest)
    day_files = sorted(path for path in inodes(point.path) if path.endswith(".jsonl"))
    gone, cut = (os.path.join(point.path, path) for path in day_files[:2])
    os.unlink(gone)
    os.truncate(cut, os.path.getsize(cut) - 1)
    report = rich_open.verify_backup(dest)
    assert {error.path: error.reason.split()[1] for error in report.damage} == {gone: "is", cut: "has"}


@pytest.mark.parametrize("offset", [0, 40, -2])
def test_a_damaged_list_is_refused_by_name(rich_open, dest, offset):
    point = rich_open.backup(dest)
    path = os.path.join(point.path, "BACKUP.json")
    flip(path, offset)
    with pytest.raises(CorruptionError, match=r"BACKUP\.json"):
        rich_open.verify_backup(dest)
    (info,) = rich_open.backups(dest)
    assert "BACKUP.json" in (info.error or "")
    assert rich_open.backup(dest).copied_bytes > 0, "the next one copies everything anew"
    assert rich_open.verify_backup(dest).is_good


def test_a_list_without_its_end_is_refused(rich_open, dest):
    point = rich_open.backup(dest)
    path = os.path.join(point.path, "BACKUP.json")
    with open(path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    with open(path, "wb") as file:
        file.writelines(lines[:-1])
    with pytest.raises(CorruptionError, match="its end is missing"):
        rich_open.verify_backup(dest)


def test_a_list_of_a_newer_version_is_refused(rich_open, dest):
    point = rich_open.backup(dest)
    with open(os.path.join(point.path, "BACKUP.json"), "wb") as file:
        file.write(encode_checked("backup", {"version": 2, "new": "fields"}))
    with pytest.raises(VersionError, match="upgrade memstore"):
        rich_open.verify_backup(dest)


def test_after_damage_a_backup_made_anew_shares_nothing_with_it(rich_open, dest):
    rich_open.drain()
    first = rich_open.backup(dest)
    second = rich_open.backup(dest, anew=True)
    assert not set(inodes(first.path).values()) & set(inodes(second.path).values())


def test_records_that_were_forgotten_since_are_counted_as_differing(rich_open, dest, lines):
    rich_open.backup(dest)
    rich_open.forget(sorted(lines["a"])[-3:])
    report = rich_open.verify_backup(dest, compare=True)
    assert report.is_good
    assert report.differing == 3


def test_what_is_not_there_is_said(rich_open, dest, tmp_path):
    with pytest.raises(NotFoundError, match="holds no backups"):
        rich_open.backups(tmp_path)
    rich_open.backup(dest)
    with pytest.raises(NotFoundError, match="backup list"):
        rich_open.verify_backup(dest, "20250101T000000.000000Z")


def test_two_verifications_at_once_are_refused(rich_open, dest):
    rich_open.backup(dest)
    with locked(LocalStorage(), os.path.join(dest, ".lock-verify")), pytest.raises(LockedError):
        rich_open.verify_backup(dest)


def test_an_empty_store_is_backed_up_and_verified(tmp_path, dest):
    with MemStore(tmp_path / "store", settings=QUIET) as store:
        assert store.backup(dest).records == 0
        assert store.verify_backup(dest).is_good
