"""Lines of bytes: each with its line break, and nothing else ends a line."""

from hypothesis import given
from hypothesis import strategies as st

from memstore.format.lines import split_lines


@given(st.binary())
def test_lines_joined_are_the_bytes_and_only_line_breaks_end_them(data):
    lines = split_lines(data)
    assert b"".join(lines) == data
    assert len(lines) == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    assert all(line.find(b"\n") in (-1, len(line) - 1) for line in lines)
    assert split_lines(b"a\rb\x0bc\x85\xe2\x80\xa8\n") == [b"a\rb\x0bc\x85\xe2\x80\xa8\n"]
