"""What a round leaves is emptied and keeps its inodes, so that the next round is not charged for their removal."""

import os

from benchmarks.aside import put_aside


def test_a_tree_put_aside_takes_no_space_and_keeps_its_inodes(tmp_path):
    store = tmp_path / "store"
    (store / "below").mkdir(parents=True)
    (store / "below" / "file").write_bytes(b"x" * 10_000)
    inode = os.stat(store / "below" / "file").st_ino

    put_aside(str(store))

    assert not store.exists()
    [left] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left.stat().st_ino == inode
    assert left.stat().st_size == 0


def test_its_name_can_be_taken_again_and_put_aside_again(tmp_path):
    for _ in range(2):
        (tmp_path / "store").mkdir()
        put_aside(str(tmp_path / "store"))
    assert len(list(tmp_path.iterdir())) == 2


def test_files_with_another_name_elsewhere_keep_their_content(tmp_path):
    (tmp_path / "backup").mkdir()
    (tmp_path / "live").write_bytes(b"needed")
    os.link(tmp_path / "live", tmp_path / "backup" / "linked")

    put_aside(str(tmp_path / "backup"))

    assert (tmp_path / "live").read_bytes() == b"needed"


def test_what_is_not_there_is_nothing_to_put_aside(tmp_path):
    put_aside(str(tmp_path / "store"))
    assert not list(tmp_path.iterdir())
