"""Files of an agent as one sorted stream: in order, whole, in a window, whatever overlaps."""

import random

import pytest

from memstore.format.lines import agent_prefix, encode_line
from memstore.fs.storage import FileIdentity
from memstore.lifecycle import sources
from memstore.lifecycle.sources import sorted_lines
from memstore.manifest.index import SETTLED, BlockRef, Manifest
from memstore.timestamps import iso_and_id_stamp

T0_US = 1_736_899_200_000_000
FILE = "20250115.1.jsonl"


def line_at(time_us, number):
    iso, stamp = iso_and_id_stamp(T0_US + time_us)
    return encode_line("a", iso, stamp, f"{number:016x}", b'{"text":"%b"}' % (b"x" * (number % 90)))


class Day:
    """A day file of some blocks, as a manifest and as the reader of it."""

    def __init__(self, blocks, ingested=None):
        self.blocks, self.reads, self.most_lines = {}, [], 0
        refs, offset = [], 0
        for lines in blocks:
            times = [
                int(line[len(agent_prefix("a")) + 9 : len(agent_prefix("a")) + 22].replace(b"_", b"")) for line in lines
            ]
            data = b"".join(lines)
            t_min, t_max = (self._us(time) for time in (times[0], times[-1]))
            refs.append(BlockRef(t_min, t_max, offset, len(data), len(lines), FILE, "", SETTLED))
            self.blocks[offset] = data
            offset += len(data)
        self.manifest = Manifest(
            "/s/a/MANIFEST",
            "/s/a",
            "a",
            b"",
            0,
            FileIdentity(1, 1, 1),
            0,
            days={"20250115": tuple(refs)},
            ingested={FILE: 7},
        )

    @staticmethod
    def _us(stamp):
        second, micro = divmod(stamp, 1_000_000)
        minute, second = divmod(second, 100)
        hour, minute = divmod(minute, 100)
        return T0_US + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micro

    def data(self, manifest, piece):
        self.reads.append((piece.offset,))
        return self.blocks[piece.offset]

    def adjoining(self, manifest, pieces):
        self.reads.append(tuple(piece.offset for piece in pieces))
        return b"".join(self.blocks[piece.offset] for piece in pieces)

    def all_lines(self, manifest, piece):
        return self.data(manifest, piece).split(b"\n")[:-1]

    def stream(self, **options):
        return list(sorted_lines(self, self.manifest, [FILE], **options))


def runs_of(rng, *, runs, blocks, spread_us):
    """Blocks of sorted runs that begin at random."""
    number, out = 0, []
    for _ in range(runs):
        start = rng.randrange(spread_us)
        times = sorted(start + rng.randrange(spread_us) for _ in range(blocks * 6))
        lines = []
        for time in times:
            number += 1
            lines.append(line_at(time, number))
        out += [lines[first : first + 6] for first in range(0, len(lines), 6)]
    return out


@pytest.mark.parametrize("window_bytes_max", [1, 300, 3000, 1 << 20])
@pytest.mark.parametrize("spread_us", [30, 10_000, 3_000_000_000])
def test_lines_come_in_order_and_whole_however_small_the_window(monkeypatch, window_bytes_max, spread_us):
    monkeypatch.setattr(sources, "PART_BYTES_MAX", 500)
    for seed in range(20):
        rng = random.Random(seed)
        blocks = runs_of(rng, runs=rng.randrange(1, 7), blocks=rng.randrange(1, 6), spread_us=spread_us)
        parts = Day(blocks).stream(window_bytes_max=window_bytes_max)
        assert b"".join(part.data for part in parts) == b"".join(sorted(line for block in blocks for line in block))
        assert all(part.data.endswith(b"\n") and part.ingested == 7 for part in parts)
        assert all(len(part.data) < 500 + 6 * 250 for part in parts)


def test_what_does_not_fit_the_window_is_picked_in_passes_that_hold_no_more():
    rng = random.Random(1)
    everywhere = [
        [line_at(time, rng.randrange(1 << 60)) for time in sorted(rng.sample(range(10**9), 5))] for _ in range(400)
    ]
    size = sum(len(line) for block in everywhere for line in block)
    day = Day(everywhere)
    parts = day.stream(window_bytes_max=size // 10)
    assert b"".join(part.data for part in parts) == b"".join(sorted(line for block in everywhere for line in block))
    assert max(len(part.data) for part in parts) <= size // 10 + 2000
    assert 400 * 10 <= len(day.reads) <= 400 * 21


def test_lines_of_one_moment_and_one_line_that_is_larger_than_the_window_go_through():
    blocks = [[line_at(5, number)] for number in range(60, 90)]
    parts = Day(blocks).stream(window_bytes_max=10)
    assert b"".join(part.data for part in parts) == b"".join(sorted(line for block in blocks for line in block))


def test_blocks_that_lie_one_behind_the_other_are_read_at_once(monkeypatch):
    blocks = [[line_at(1000 * number + k, number) for k in range(5)] for number in range(40)]
    size = sum(map(len, blocks[0]))
    monkeypatch.setattr(sources, "PART_BYTES_MAX", 10 * size)
    day = Day(blocks)
    parts = day.stream()
    assert len(day.reads) == len(parts) < 10
    assert b"".join(part.data for part in parts) == b"".join(line for block in blocks for line in block)
