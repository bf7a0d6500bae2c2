"""Files from one end to the other, in parts."""

import os

from memstore.codec.checksum import checksum
from memstore.fs.local import LocalStorage
from memstore.fs.parts import PART_BYTES, checksum_of, copy_content, parts_of

STORAGE = LocalStorage()


def written(path, content):
    path.write_bytes(content)
    return STORAGE.open_read(str(path))


def test_the_parts_of_a_file_are_all_of_it_from_an_offset_on(tmp_path):
    file = written(tmp_path / "f", b"0123456789")
    assert list(parts_of(file, part_bytes=4)) == [b"0123", b"4567", b"89"]
    assert list(parts_of(file, start=5, part_bytes=5)) == [b"56789"]
    assert list(parts_of(file, start=10)) == []


def test_what_is_behind_the_first_part_is_copied_and_summed_up_too(tmp_path):
    for content in (b"", b"x", os.urandom(PART_BYTES), os.urandom(2 * PART_BYTES + 7)):
        source = written(tmp_path / "source", content)
        target = STORAGE.create(str(tmp_path / f"target-{len(content)}"))
        copy_content(source, target)
        assert (tmp_path / f"target-{len(content)}").read_bytes() == content
        assert checksum_of(source) == checksum_of(target) == (len(content), checksum(content))
