"""A compacted MANIFEST says the same in fewer lines, and forgets no lane that a reader may still be reading."""

import dataclasses
import os
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_manifests import append, merge_line

from memstore.errors import CorruptionError, StorageFullError
from memstore.format.checked import encode_checked
from memstore.format.manifest import (
    Block,
    Frame,
    KindCount,
    Move,
    PackedFile,
    TrashedFile,
    encode_hide,
    encode_merge,
    encode_move,
    encode_show,
)
from memstore.format.names import cold_file_name, day_file_name, warm_file_name
from memstore.fs.local import LocalStorage
from memstore.ids import derived_id
from memstore.manifest.cache import ManifestCache
from memstore.manifest.compaction import TOKEN_KEPT_US, compact_manifest
from memstore.manifest.index import SETTLED, BlockRef
from memstore.manifest.reader import load_manifest
from memstore.timestamps import US_PER_DAY, day_text, iso_and_id_stamp

STORAGE = LocalStorage()
T0_US = 1_736_899_200_000_000  # 2025-01-15T00:00:00Z
SECOND_US = 1_000_000
NO_TOKENS = frozenset()


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path)


def compacted(directory, *, at_us=0, standing=NO_TOKENS, there=(), **more):
    """The MANIFEST before and after."""
    before = load_manifest(STORAGE, directory)
    compact_manifest(STORAGE, before, at_us=at_us, standing=standing, there=there, **more)
    return before, load_manifest(STORAGE, directory)


def said(manifest):
    """All that a reader, a mover or a planner asks a MANIFEST for."""
    return {
        "agent": manifest.agent,
        "days": {day: sorted(map(place, refs)) for day, refs in manifest.days.items()},
        "sorted_days": manifest.sorted_days,
        "day_files": dict(manifest.day_files),
        "newest": {day: manifest.day_file(day) for day in manifest.days},
        "ingested": dict(manifest.ingested),
        "packed": dict(manifest.packed),
        "trash": dict(manifest.trash),
        "hidden": manifest.hidden,
        "purged": manifest.purged,
        "next_version": manifest.next_version,
        "tokens": set(manifest.merged),
        "records": manifest.records(),
        "damaged": manifest.damaged,
        "refs": {name: list(map(place, manifest.file_refs(name))) for name in (*manifest.day_files, *manifest.packed)},
    }


def read_lines(directory):
    with open(os.path.join(directory, "MANIFEST"), "rb") as file:
        return file.readlines()


def place(ref):
    """A block or frame without the number of its merge, which no compaction keeps."""
    return tuple(ref[:7]) if isinstance(ref, BlockRef) else tuple(ref)


def packed_file(name, first_us, frames=1):
    listed = [
        Frame(40 + n, 400, 3, first_us + n * US_PER_DAY, first_us + n * US_PER_DAY + 9, T0_US, f"{n:016x}")
        for n in range(frames)
    ]
    kinds = [KindCount("GOAL", "LOW", 3 * frames, listed[0].t_min, listed[-1].t_max)]
    return PackedFile(file=name, size=999, xxh3="f" * 16, frames=listed, kinds=kinds, repeats=1, saved=5)


def memory_id(number, *, imported=False):
    if imported:
        return derived_id("bot", f"s{number}", T0_US + number)
    return f"bot_{iso_and_id_stamp(T0_US + number)[1]}{number:016x}"


class History:
    """Lines that memstore could have written, from numbers that hypothesis draws."""

    def __init__(self):
        self.lines = []
        self.now_us = T0_US
        self.version = 1
        self.day_files = {}
        self.packed = {}
        self.trash = {}
        self.hidden = set()
        self.merges = 0

    def step(self, kind, number):
        self.now_us += SECOND_US
        getattr(self, kind)(number)

    def merge(self, number):
        """Into the newest file of one or two days, or new ones."""
        chunks = []
        for day in sorted({number % 5, number % 3}):
            name = self.day_files.get(day, (day_file_name(day_text(T0_US + day * US_PER_DAY), self.version), 0))
            start = T0_US + day * US_PER_DAY + number % 1000
            blocks = [Block(100 + n, 5, start + n, start + n + 9, f"{number + n:016x}") for n in range(1 + number % 3)]
            chunks.append((name[0], name[1], blocks))
            self.day_files[day] = (name[0], name[1] + sum(block.length for block in blocks))
        self.version += 1
        self.merges += 1
        line = encode_merge(
            merge_id=f"m{self.merges}", at=self.now_us, lanes=[f"{self.merges:032x}", f"{number:032x}"], chunks=chunks
        )
        self.lines += [line, line] if number % 7 == 0 else [line]  # one that was repeated counts once

    def pack(self, number):
        """All day files, and some packed files, become one."""
        sources = [name for name, _ in self.day_files.values()] + list(self.packed)[: number % 3]
        if not sources:
            return
        for name in sources:
            self.packed.pop(name, None)
        self.day_files = {}
        day = day_text(T0_US)
        cold = number % 2
        name = cold_file_name(day[:6], self.version) if cold else warm_file_name(day, day, self.version)
        self.packed[name] = packed_file(name, T0_US, frames=1 + number % 3)
        self.version += 1
        done = sorted(self.hidden)[: number % 4]
        self.hidden.difference_update(done)
        move = Move(at=self.now_us, reason="warm", sources=sources, to=[self.packed[name]], purged=done)
        self.lines.append(encode_move(move))

    def expire(self, number):
        if self.packed:
            name = list(self.packed)[number % len(self.packed)]
            self.trash[name] = TrashedFile(packed=self.packed.pop(name), at=self.now_us, purge_at=number, reason="rule")
            move = Move(at=self.now_us, reason="retention", sources=[name], trash=[self.trash[name]])
            self.lines.append(encode_move(move))

    def leave_trash(self, number):
        """Back, or gone for good."""
        if self.trash:
            name = list(self.trash)[number % len(self.trash)]
            packed = self.trash.pop(name).packed
            if number % 2:
                self.packed[name] = packed
            to = [packed] if number % 2 else []
            self.lines.append(encode_move(Move(at=self.now_us, reason="undelete", sources=[name], to=to)))

    def hide(self, number):
        ids = [memory_id(number % 20, imported=bool(number % 2)), memory_id(number % 30)]
        self.hidden.update(ids)
        self.lines.append(encode_hide(at=self.now_us, ids=ids))

    def show(self, number):
        ids = sorted(self.hidden)[: number % 3]
        self.hidden.difference_update(ids)
        self.lines.append(encode_show(at=self.now_us, ids=ids))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["merge", "merge", "pack", "expire", "leave_trash", "hide", "show"]), st.integers(0, 10_000)
    ),
    max_size=25,
)


@settings(deadline=None)
@given(before=STEPS, after=STEPS)
def test_a_compacted_manifest_says_the_same_and_goes_on_the_same(before, after):
    history = History()
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as untouched:
        append(directory)
        append(untouched)
        for kind, number in before:
            history.step(kind, number)
        append(directory, *history.lines)
        append(untouched, *history.lines)
        whole, short = compacted(directory, at_us=history.now_us, there=load_manifest(STORAGE, directory).dropped)
        assert said(short) == said(whole)
        assert dict(short.dropped) == dict(whole.dropped)
        assert len(read_lines(directory)) == 2
        mark = len(history.lines)
        for kind, number in after:
            history.step(kind, number)
        append(directory, *history.lines[mark:])
        append(untouched, *history.lines[mark:])
        followed = load_manifest(STORAGE, directory, short)
        assert said(followed) == said(load_manifest(STORAGE, untouched)) == said(load_manifest(STORAGE, directory))
        assert said(compacted(directory, at_us=history.now_us)[1]) == said(followed)


def test_blocks_of_a_compacted_manifest_are_settled(directory):
    append(directory, merge_line(1), merge_line(2, offset=100))
    _, after = compacted(directory)
    assert [ref.merge for ref in after.days["20250115"]] == [SETTLED, SETTLED]
    assert after.merges == ()


def test_tokens_of_the_last_hour_stay(directory):
    append(directory, merge_line(1), merge_line(TOKEN_KEPT_US, offset=100))  # the number of each is its time
    _, after = compacted(directory, at_us=TOKEN_KEPT_US + 1)
    assert set(after.merged) == {f"lane{TOKEN_KEPT_US}"}


def test_tokens_that_a_compaction_kept_stay_for_an_hour_after_it(directory):
    append(directory, merge_line(1))
    compacted(directory, at_us=2)
    _, again = compacted(directory, at_us=1 + TOKEN_KEPT_US)
    assert set(again.merged) == {"lane1"}
    _, later = compacted(directory, at_us=1 + 2 * TOKEN_KEPT_US)
    assert set(later.merged) == set()


def test_tokens_stay_where_the_clock_was_set_back(directory):
    append(directory, merge_line(9 * TOKEN_KEPT_US))
    _, after = compacted(directory, at_us=0)
    assert set(after.merged) == {f"lane{9 * TOKEN_KEPT_US}"}


def test_the_token_of_a_kept_lane_stays_however_old(directory):
    append(directory, merge_line(1), merge_line(2, offset=100))
    for hours in (10, 20, 30):
        _, after = compacted(directory, at_us=hours * TOKEN_KEPT_US, standing=frozenset({"lane2"}))
        assert set(after.merged) == {"lane2"}


def test_dropped_files_are_remembered_while_they_are_there(directory):
    warm = packed_file("20250115-20250115.2.jsonl.zst", T0_US)
    append(directory, merge_line(1), encode_move(Move(at=7, reason="warm", sources=["20250115.1.jsonl"], to=[warm])))
    _, still = compacted(directory, there=["20250115.1.jsonl"])
    assert dict(still.dropped) == {"20250115.1.jsonl": 7}
    _, gone = compacted(directory, there=[])
    assert dict(gone.dropped) == {}
    assert gone.next_version == 3  # its number does not come back


def test_what_an_erasure_took_is_not_written_again(directory):
    ids = [memory_id(1), memory_id(2), memory_id(3, imported=True), memory_id(4, imported=True)]
    warm = packed_file("20250115-20250115.2.jsonl.zst", T0_US)
    move = Move(at=7, reason="warm", sources=["20250115.1.jsonl"], to=[warm], purged=ids[2:])
    append(directory, merge_line(1), encode_hide(at=1, ids=ids), encode_move(move))
    _, after = compacted(directory, forget_ids=frozenset({ids[0], ids[2]}))
    assert after.hidden.ids == {ids[1]}
    assert after.purged == {ids[3]}
    data = b"".join(read_lines(directory))
    assert ids[0].encode() not in data
    assert ids[2].encode() not in data


def test_a_reader_that_knew_the_old_one_reads_the_new_one(directory):
    append(directory, merge_line(1))
    cache = ManifestCache(STORAGE, bytes_max=1 << 20)
    known = cache.get(directory)
    _, after = compacted(directory)
    assert cache.get(directory).header == after.header != known.header
    assert said(load_manifest(STORAGE, directory, known)) == said(after)


def test_a_new_manifest_with_the_inode_and_the_size_of_the_old_one_is_told_from_it(directory):
    append(directory, merge_line(1), merge_line(2, offset=100))
    compacted(directory, at_us=2)
    known = load_manifest(STORAGE, directory)
    compacted(directory, at_us=3)
    new = read_lines(directory)
    now = STORAGE.identify(known.path)
    assert now.size_bytes == known.end
    # As if the old one, read a moment ago, had had the inode that the new one got.
    stale = dataclasses.replace(known, identity=dataclasses.replace(now, changed_ns=now.changed_ns - 1))
    assert stale.identity == now
    assert not stale.stands_at(now)
    assert load_manifest(STORAGE, directory, stale).header == new[0] != known.header
    append(directory, merge_line(3, offset=200))
    assert said(load_manifest(STORAGE, directory, stale)) == said(load_manifest(STORAGE, directory))


@pytest.mark.parametrize("failing", ["create", "rename"])
def test_a_compaction_that_is_stopped_leaves_the_old_one(directory, failing):
    append(directory, merge_line(1))
    before = load_manifest(STORAGE, directory)

    class Full(LocalStorage):
        pass

    def refuse(*_):
        raise StorageFullError("no space")

    full = Full()
    setattr(full, failing, refuse)
    with pytest.raises(StorageFullError):
        compact_manifest(full, before, at_us=5, standing=NO_TOKENS, there=())
    assert load_manifest(STORAGE, directory) == before
    assert os.listdir(directory) == ["MANIFEST"]


def test_a_half_written_compaction_is_nobodys(directory):
    append(directory, merge_line(1))
    before = load_manifest(STORAGE, directory)
    with open(os.path.join(directory, ".tmp-0123456789abcdef"), "wb") as file:
        file.write(before.header + b'{"state":{"at":5,"next_ver')
    assert load_manifest(STORAGE, directory) == before


def test_a_damaged_manifest_is_not_compacted(directory):
    append(directory, merge_line(1), merge_line(2, offset=100))
    path = os.path.join(directory, "MANIFEST")
    with open(path, "r+b") as file:
        file.seek(len(load_manifest(STORAGE, directory).header) + 30)
        file.write(b"X")
    damaged = load_manifest(STORAGE, directory)
    with pytest.raises(CorruptionError):
        compact_manifest(STORAGE, damaged, at_us=5, standing=NO_TOKENS, there=())
    assert load_manifest(STORAGE, directory) == damaged


def test_a_manifest_of_version_1_is_read_written_on_and_compacted(directory):
    header = encode_checked("manifest", {"version": 1, "agent": "bot", "at": 0})
    with open(os.path.join(directory, "MANIFEST"), "wb") as file:
        file.write(header + merge_line(1))
    assert load_manifest(STORAGE, directory).header == header
    append(directory, merge_line(2, offset=100), encode_hide(at=3, ids=[memory_id(1)]))
    assert load_manifest(STORAGE, directory).header == header  # it says who began it, not who went on
    before, after = compacted(directory, at_us=5)
    assert said(after) == said(before)
    assert b'{"manifest":{"version":2,' in after.header
