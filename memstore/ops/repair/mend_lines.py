"""Checked lines that do not verify, put right where it can be proved: one flipped bit, or a good copy of them.

A bit may turn in a line, in its checksum, in the line break between two lines, or make a line break where there was
none. Each way out is tried, and taken only if every line that comes of it verifies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from memstore.format.checked import verified_body
from memstore.ops.repair.bit_search import find_flip_in_line
from memstore.ops.repair.good_copies import Taken

_LINE_BREAK = 0x0A
_END = b'"}'


@dataclass(frozen=True, slots=True)
class MendedLine:
    """A place where a line stands, or stood.

    Attributes:
        offset: where it begins in the file.
        length: bytes that it takes there, line break included.
        line: the line without its line break; None where it is lost.
        mended: how it was put right; empty where it was whole.
        source: what people call the source that it was taken from; empty where it was not.
    """

    offset: int
    length: int
    line: bytes | None
    mended: str = ""
    source: str = ""


CopyOf = Callable[[int, int], Iterable[Taken]]
"""Bytes at an offset, of a length, as each good copy has them."""


def mended_lines(data: bytes, copy_of: CopyOf = lambda _offset, _length: ()) -> list[MendedLine]:
    """Every line of a file of checked lines. Blank lines, and what stands behind the last line break, are left out.

    Args:
        data: all of the file.
        copy_of: where a good copy may be had.
    """
    places: list[MendedLine] = []
    bad: list[tuple[int, bytes]] = []
    offset = 0
    for raw in data.split(b"\n"):
        end = offset + len(raw)
        if end == len(data) and raw and verified_body(raw[:-1]) is not None:  # its line break was turned
            raw = raw[:-1]  # noqa: PLW2901 - from here on it is the line as it was
        elif end == len(data) or not raw:
            places += _mend_run(bad, copy_of)
            bad = []
            offset = end + 1
            continue
        if verified_body(raw) is None:
            bad.append((offset, raw))
        else:
            places += _mend_run(bad, copy_of)
            bad = []
            places.append(MendedLine(offset, end + 1 - offset, raw))
        offset = end + 1
    places += _mend_run(bad, copy_of)
    return places


def _mend_run(bad: list[tuple[int, bytes]], copy_of: CopyOf) -> list[MendedLine]:
    """Lines one behind the other that do not verify."""
    if not bad:
        return []
    offset = bad[0][0]
    length = bad[-1][0] + len(bad[-1][1]) + 1 - offset
    for taken in copy_of(offset, length):
        copied = _lines_of(taken.data)
        if copied and len(taken.data) == length:
            return _placed(copied, offset, f"taken from {taken.source}", taken.source)
    if len(bad) == 2:
        joined = _joined(bad[0][1], bad[1][1])
        if joined is not None:
            return [MendedLine(offset, length, joined, "a flipped bit had made a line break in it")]
    found: list[MendedLine] = []
    for at, raw in bad:
        parted = _parted(raw)
        if parted is not None:
            found += _placed(parted, at, "a flipped bit had taken the line break")
            continue
        whole = find_flip_in_line(raw)
        found.append(MendedLine(at, len(raw) + 1, whole, "" if whole is None else "one bit had flipped"))
    return found


def _lines_of(data: bytes) -> list[bytes]:
    """The lines of a copy, if all of it is whole lines that verify."""
    if not data.endswith(b"\n"):
        return []
    lines = data[:-1].split(b"\n")
    return lines if all(verified_body(line) is not None for line in lines) else []


def _placed(lines: list[bytes], offset: int, how: str, source: str = "") -> list[MendedLine]:
    found = []
    for line in lines:
        found.append(MendedLine(offset, len(line) + 1, line, how, source))
        offset += len(line) + 1
    return found


def _joined(first: bytes, second: bytes) -> bytes | None:
    for bit in range(8):
        line = b"%b%c%b" % (first, _LINE_BREAK ^ 1 << bit, second)
        if verified_body(line) is not None:
            return line
    return None


def _parted(line: bytes) -> list[bytes] | None:
    at = line.find(_END)
    while at >= 0:
        cut = at + len(_END)
        if cut < len(line) and verified_body(line[:cut]) is not None:
            rest = line[cut + 1 :]
            if not rest:
                return [line[:cut]]
            if verified_body(rest) is not None:
                return [line[:cut], rest]
        at = line.find(_END, at + 1)
    return None
