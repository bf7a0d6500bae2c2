"""The FORGOTTEN file as caches see it: whoever forgets, everybody knows at once."""

import os

from memstore.engine.forgotten import Forgotten
from memstore.format.forgotten import ForgottenRecords
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage


def forgotten_in(root):
    paths = StorePaths(str(root))
    os.makedirs(paths.locks, exist_ok=True)
    return Forgotten(LocalStorage(), paths)


def note_of(number):
    return ForgottenRecords(at=number, act="forget", agent="0" * 16, records=number)


def test_the_epoch_grows_with_each_note_of_another_from_the_first_on(tmp_path):
    mine, other = forgotten_in(tmp_path), forgotten_in(tmp_path)
    seen = [mine.epoch()]
    for number in range(1, 4):
        other.note(note_of(number))
        seen.append(mine.epoch())
        assert mine.epoch() == seen[-1] == other.epoch()
    assert seen[0] == 0
    assert seen == sorted(set(seen))
    assert [entry.forgotten.records for entry in mine.entries() if entry.forgotten] == [1, 2, 3]


def test_a_closed_one_holds_no_descriptor_and_opens_the_file_again(tmp_path):
    mine = forgotten_in(tmp_path)
    mine.note(note_of(1))
    before = os.listdir("/proc/self/fd")
    assert mine.epoch() > 0
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    mine.close()
    assert os.listdir("/proc/self/fd") == before
    assert mine.epoch() > 0
