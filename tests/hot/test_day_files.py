"""Day files: sorted lines cut into blocks that describe themselves."""

from hypothesis import given
from hypothesis import strategies as st

from memstore.codec.checksum import checksum
from memstore.format.lines import agent_prefix, encode_line
from memstore.format.manifest import BLOCK_BYTES_MAX
from memstore.fs.local import LocalStorage
from memstore.hot.writer import append_parts, cut_blocks, part_of_lines
from memstore.timestamps import iso_and_id_stamp

WIDTH = len(agent_prefix("a"))


def lines_of(sizes, start_us=0):
    made = []
    for number, size in enumerate(sizes):
        iso, stamp = iso_and_id_stamp(start_us + number)
        made.append(encode_line("a", iso, stamp, "0" * 16, b'{"content":"%b"}' % (b"x" * size))[:-1])
    return made


@given(
    st.lists(
        st.lists(st.sampled_from([1, 100, 5_000, 40_000, 70_000, 200_000]), min_size=1, max_size=8),
        min_size=1,
        max_size=6,
    )
)
def test_blocks_hold_every_line_once_in_order_and_say_what_is_in_them(groups):
    parts, lines, start = [], [], 0
    for sizes in groups:
        made = lines_of(sizes, start)
        start += len(made)
        lines += made
        parts.append(part_of_lines(made, WIDTH))
    blocks = list(cut_blocks(parts, WIDTH))
    assert b"".join(data for _, data in blocks) == b"".join(line + b"\n" for line in lines)
    number = 0
    for block, data in blocks:
        assert (block.length, block.records, block.xxh3) == (len(data), data.count(b"\n"), checksum(data))
        assert (block.t_min, block.t_max) == (number, number + block.records - 1)
        assert block.length <= BLOCK_BYTES_MAX or block.records == 1
        number += block.records
    assert list(cut_blocks(parts, WIDTH)) == blocks


def test_parts_are_written_at_their_offset(tmp_path):
    file = LocalStorage().create(str(tmp_path / "20250115.1.jsonl"))
    file.write(b"before\n", 0)
    lines = lines_of([10, 20])
    (block,) = append_parts(file, offset=7, parts=[part_of_lines(lines, WIDTH)], prefix_bytes=WIDTH)
    assert file.read(7, block.length) == b"\n".join(lines) + b"\n"
