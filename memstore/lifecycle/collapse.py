"""Collapse repeats on the way into a file, and expand them on the way out (`memstore.format.repeats` has the layout).

Both sides go through a file once, in order, and keep the same window: the records that were seen, or repeated, within
the last `WINDOW_BYTES` of whole lines. So whoever expands a file from its first line needs no more memory than whoever
wrote it, and finds every original in it; whoever begins further on asks for those that came before.

A file is never collapsed twice: what rewrites one expands all of it, leaves out what has to go, and collapses what is
left anew. So no repeat can outlive its original.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Collection

import msgspec
import orjson

from memstore.errors import StorageError
from memstore.format.lines import line_time_us
from memstore.format.manifest import KindCount
from memstore.format.repeats import (
    LOCAL_KEY,
    REPEAT_FIELD,
    SOURCE_KEY,
    LineParts,
    body_start,
    encode_parts,
    expand_parts,
    hash_content,
    is_repeat,
    line_needle,
    looks_like_repeat,
    original_needle,
    take_apart,
)

WINDOW_BYTES = 32 * 1024 * 1024
"""How many bytes of whole lines may lie between an original and the next repeat of it. What repeats does so within
days; an original that has fallen out of the window is simply stored whole once more."""
LINE_OVERHEAD_BYTES = 400
"""What a line in the window takes beside its bytes: objects for its parts, key, entry; so a window of short lines
is no bigger in memory than one of long ones."""
ENTRIES_MAX = 50_000
"""A window of 32 MiB has at most 60,000 originals of any length that is worth a repeat."""
EXPANSION_BURST_BYTES = 16 * 1024 * 1024
EXPANSION_RATIO = 16
"""Any n bytes of a file's lines stand for at most 17 n + 16 MiB of whole lines: a frame of repeats of one record of
200 KB would otherwise be a gigabyte to whoever reads it. Beyond that, records stay whole, for zstd to shrink."""

# The order in which memstore and its importers write fields: there one match says kind and places. A line of any
# other order is looked at as JSON.
_USUAL_ORDER = (
    rb'"timestamp_utc":"[^"\\]{27}","agent_id":%b,"memory_type":"([A-Z_]+)","importance":"([A-Z]+)"'
    rb'(?:,"timestamp_local":"[^"\\]*")?(?:,"shard_id":"[^"\\]*")?(?:,"source_id":"([^"\\]*)")?'
)
_TIME_FIELD_CHARS = len('"timestamp_utc":""') + 27
_OWN_RETENTION = b'"retention_days"'


class OwnRepeatFieldError(StorageError):
    """A record has a field ``repeat_of`` of its own: the file has to be written without collapsing anything."""


class _Kind(msgspec.Struct):
    memory_type: str = "INTERACTION"
    importance: str = "MEDIUM"


class _Count(msgspec.Struct, gc=False):
    records: int
    first: bytes
    last: bytes


class _Held(msgspec.Struct, gc=False):
    """A line in the window, taken apart once it is needed; ``last`` is where in the file it was last used."""

    whole: bytes | LineParts
    last: int

    def parts(self, prefix_bytes: int) -> LineParts | None:
        if isinstance(self.whole, LineParts):
            return self.whole
        parts = take_apart(self.whole, prefix_bytes)
        if parts is not None:
            self.whole = parts
        return parts


class _Window:
    """Lines by key, least recently used first; ``position`` counts the bytes of all lines that went by."""

    __slots__ = ("bytes_max", "held", "position")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held: OrderedDict[bytes, _Held] = OrderedDict()
        self.position = 0

    def use(self, key: bytes, held: _Held) -> None:
        held.last = self.position
        self.held.move_to_end(key)

    def forget(self) -> None:
        """Let go of what has fallen out; it stands in front."""
        while self.held:
            held = next(iter(self.held.values()))
            if self.position - held.last <= self.bytes_max:
                return
            self.held.popitem(last=False)


_decode_kind = msgspec.json.Decoder(_Kind).decode


class Collapser:
    """Puts repeats in the place of records that repeat an earlier one; for one file. Not thread-safe.

    Records of other kinds than the chosen ones pass untouched, and so do those that set ``metadata.retention_days``.

    Args:
        prefix_bytes: length of the agent's prefix.
        agent: whose file it is.
        types: which types are collapsed.
        importances: and which importances.
        entries_max: how many originals are held at most.
        window_bytes: see `WINDOW_BYTES`; whoever expands must not use a smaller one.

    Attributes:
        repeats: how many records became repeats.
        saved: bytes of their lines less bytes of the repeats.
    """

    def __init__(
        self,
        prefix_bytes: int,
        agent: str,
        *,
        types: Collection[str],
        importances: Collection[str],
        entries_max: int = ENTRIES_MAX,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self.repeats = 0
        self.saved = 0
        self._prefix_bytes = prefix_bytes
        self._chosen = {(t.encode(), i.encode()): (t, i) for t in types for i in importances}
        self._entries_max = entries_max
        self._window = _Window(window_bytes)
        self._expansion = 0
        self._counts: dict[tuple[str, str], _Count] = {}
        self._body_start = body_start(prefix_bytes)
        self._any_local = False
        self._match_usual = re.compile(_USUAL_ORDER % re.escape(orjson.dumps(agent))).match

    def feed(self, lines: bytes) -> bytes:
        """The same records, repeats collapsed.

        Args:
            lines: whole sorted lines with their line breaks, that follow on those of the last call.

        Raises:
            OwnRepeatFieldError: a record could be taken for a repeat; what was given out so far is of no use.
        """
        whole = lines.split(b"\n")
        torn = whole.pop()
        assert not torn, torn[:200]
        # Looked for once in all lines: asking each line costs as much as all else that is done for it.
        if REPEAT_FIELD in lines:
            _refuse_own_field(whole)
        any_own_retention = _OWN_RETENTION in lines
        self._any_local = LOCAL_KEY in lines
        window, match_usual, fields_start = self._window, self._match_usual, self._body_start - _TIME_FIELD_CHARS
        stored: list[bytes] = []
        for line in whole:
            match = match_usual(line, fields_start)
            kind = self._decoded_kind(line) if match is None else self._chosen.get((match[1], match[2]))
            kept = line
            if kind is not None and not (any_own_retention and _OWN_RETENTION in line):
                common = self._common(line, match)
                if common is not None:
                    kept = self._collapse(line, hash_content(common), kind)
            stored.append(kept)
            window.position += len(line) + LINE_OVERHEAD_BYTES
            if self._expansion:
                self._expansion = max(self._expansion - EXPANSION_RATIO * len(kept), 0)
        window.forget()
        stored.append(b"")
        return b"\n".join(stored)

    def kinds(self) -> list[KindCount]:
        """The records that became repeats, by type and importance, sorted; their lines do not say it any more."""
        times = self._prefix_bytes
        return [
            KindCount(*kind, count.records, line_time_us(count.first, times), line_time_us(count.last, times))
            for kind, count in sorted(self._counts.items())
        ]

    @property
    def held(self) -> int:
        """How many originals are held."""
        return len(self._window.held)

    def _decoded_kind(self, line: bytes) -> tuple[str, str] | None:
        """Type and importance of a record, or None where it is not to be collapsed."""
        try:
            kind = _decode_kind(line)
        except (msgspec.DecodeError, RecursionError):
            return None
        return self._chosen.get((kind.memory_type.encode(), kind.importance.encode()))

    def _common(self, line: bytes, match: re.Match[bytes] | None) -> bytes | None:
        """`LineParts.common`; None for a line of another layout."""
        if match is not None and not (self._any_local and LOCAL_KEY in line):
            begin, end = match.span(3)
            if begin >= 0:
                return line[self._body_start : begin] + line[end:]
            if SOURCE_KEY not in line:
                return line[self._body_start :]
        parts = take_apart(line, self._prefix_bytes)
        return None if parts is None else parts.common

    def _collapse(self, line: bytes, key: bytes, kind: tuple[str, str]) -> bytes:
        """The repeat of a line, or the line, which may then be an original."""
        window, prefix_bytes = self._window, self._prefix_bytes
        held = window.held.get(key)
        if held is None or window.position - held.last > window.bytes_max:
            window.held[key] = original = _Held(line, 0)
            window.use(key, original)
            if len(window.held) > self._entries_max:
                window.held.popitem(last=False)
            return line
        parts, original_parts = take_apart(line, prefix_bytes), held.parts(prefix_bytes)
        if parts is None or original_parts is None:
            return line
        repeat = encode_parts(line, parts, original_parts, prefix_bytes)
        if repeat is None:
            return line
        saved = len(line) - len(repeat)
        if self._expansion + saved > EXPANSION_BURST_BYTES:
            return line
        self._expansion += saved
        window.use(key, held)
        self._count(kind, repeat, saved)
        return repeat

    def _count(self, kind: tuple[str, str], repeat: bytes, saved: int) -> None:
        self.repeats += 1
        self.saved += saved
        count = self._counts.get(kind)
        if count is None:
            self._counts[kind] = _Count(1, repeat, repeat)
        else:
            count.records += 1
            count.last = repeat


def _refuse_own_field(lines: list[bytes]) -> None:
    for line in lines:
        if looks_like_repeat(line):
            raise OwnRepeatFieldError(
                "a record has a field repeat_of, which means something else in a file with collapsed repeats; "
                f"build the file without collapsing: {line[:200]!r}"
            )


class Expander:
    """Gives the records of a file that has repeats, whole. Not thread-safe; one for each pass through a file.

    Args:
        prefix_bytes: length of the agent's prefix.
        fetch: the whole line, without its line break, that starts with the bytes it is given (`original_needle`);
            it raises CorruptionError, naming the file, where the file has no such line. It is asked only for
            originals that are not in the window: never, where the file is expanded from its first line on.
        window_bytes: see `WINDOW_BYTES`; at least what the file was collapsed with.
    """

    def __init__(self, prefix_bytes: int, fetch: Callable[[bytes], bytes], *, window_bytes: int = WINDOW_BYTES) -> None:
        self._prefix_bytes = prefix_bytes
        self._fetch = fetch
        self._window = _Window(window_bytes)

    def expand(self, lines: list[bytes]) -> list[bytes]:
        """The lines of whole records.

        Args:
            lines: as the file has them, without line breaks, originals before their repeats. They need not follow
                on those of the last call; where they do from the first line on, nothing is fetched.

        Raises:
            CorruptionError: ``fetch`` did not find an original.
            StorageError: a line looks like a repeat and does not fit what it names as its original.
        """
        prefix_bytes, window = self._prefix_bytes, self._window
        expanded: list[bytes] = []
        for line in lines:
            whole = line
            if is_repeat(line, prefix_bytes):
                whole = self._expand(line)
            else:
                needle = line_needle(line, prefix_bytes)
                window.held[needle] = held = _Held(line, 0)
                window.use(needle, held)
            expanded.append(whole)
            window.position += len(whole) + LINE_OVERHEAD_BYTES
        window.forget()
        return expanded

    @property
    def held(self) -> int:
        """How many lines are held."""
        return len(self._window.held)

    def _expand(self, line: bytes) -> bytes:
        window, prefix_bytes = self._window, self._prefix_bytes
        try:
            needle = original_needle(line, prefix_bytes)
            held = window.held.get(needle)
            if held is None:
                held = window.held[needle] = _Held(self._fetch(needle), 0)
            window.use(needle, held)
            original = held.parts(prefix_bytes)
            if original is None:
                raise ValueError("what it names as its original is no whole record")
            return expand_parts(line, original, prefix_bytes)
        except ValueError as error:
            raise StorageError(f"a repeat cannot be expanded ({error}): {line[:400]!r}") from error
