"""How lines of erased records are known again: by the id that each begins with, and by a hash of the whole line.

The two are found independently of each other. Ids are searched for anywhere in the bytes, so that they are found in
what a crash tore, too; hashes are compared line by line, so that they do not rest on how ids are searched for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import orjson
import xxhash

from memstore.format.forgotten import text_hash
from memstore.format.lines import agent_prefix, id_needle
from memstore.ids import ID_TAIL_CHARS, parse_id

HASHES_MAX = 1_000_000
"""Line hashes held in memory: some 100 MB. Of further lines only the ids are searched for."""
NEEDLE_BYTES_MAX = 4096
"""No line's beginning up to the end of its id is longer: 200 bytes of agent id, each escaped, and the tail."""

_ID_KEY = b'{"memory_id":"'
_TAIL = rb'\d{8}_\d{6}_\d{6}[0-9a-f]{16}"'
_ANY_ID = re.compile(rb'\{"memory_id":"((?:[^"\\\n]|\\.){40,1300})"')
_ALTERNATIVES_MAX = 16
_AGENTS_REMEMBERED_MAX = 65_536


class Needles(Protocol):
    """Finds lines of erased records by their ids."""

    @property
    def how(self) -> str:
        """By what they are known, for people."""
        ...

    def find(self, data: bytes) -> Iterator[int]:
        """Where a line of one of them begins."""
        ...


class AgentLines:
    """Every line of one agent, and of none whose id merely begins alike."""

    def __init__(self, agent: str) -> None:
        self._prefix = agent_prefix(agent)
        self._tail = re.compile(_TAIL)

    @property
    def how(self) -> str:
        """By what they are known."""
        return "the form of the agent's ids"

    def find(self, data: bytes) -> Iterator[int]:
        """Where a line of the agent begins."""
        prefix, tail = self._prefix, self._tail
        position = data.find(prefix)
        while position >= 0:
            if tail.match(data, position + len(prefix)):
                yield position
            position = data.find(prefix, position + 1)


class IdLines:
    """The lines of these ids, of whatever agents."""

    def __init__(self, ids: Iterable[str]) -> None:
        listed = set(ids)
        self._needles = frozenset(map(id_needle, listed))
        prefixes = {agent_prefix(parse_id(memory_id).agent_id) for memory_id in listed}
        self._pattern = _ANY_ID
        if len(prefixes) <= _ALTERNATIVES_MAX:
            self._pattern = re.compile(rb"(?:%b)%b" % (b"|".join(map(re.escape, sorted(prefixes))), _TAIL))

    @property
    def how(self) -> str:
        """By what they are known."""
        return "the ids"

    def find(self, data: bytes) -> Iterator[int]:
        """Where a line of one of them begins."""
        needles = self._needles
        for match in self._pattern.finditer(data):
            if match[0] in needles:
                yield match.start()


class HashedLines:
    """Lines of which only hashes are known.

    Args:
        erased: by the hash of each agent, the hashes of single ids; none where all of the agent is erased.
    """

    def __init__(self, erased: Mapping[str, Iterable[str]]) -> None:
        self._erased = {agent: frozenset(ids) for agent, ids in erased.items()}
        self._known: dict[bytes, frozenset[str] | None] = {}

    @property
    def how(self) -> str:
        """By what they are known."""
        return "hashes of the ids" if any(self._erased.values()) else "a hash of the agent's id"

    def find(self, data: bytes) -> Iterator[int]:
        """Where a line of one of them begins."""
        for match in _ANY_ID.finditer(data):
            ids = self._ids_of(match[1][:-ID_TAIL_CHARS])
            if ids is not None and (not ids or _hash_of(match[1]) in ids):
                yield match.start()

    def _ids_of(self, escaped: bytes) -> frozenset[str] | None:
        """Hashes of what is erased of an agent, empty for all of it; None where nothing is."""
        try:
            return self._known[escaped]
        except KeyError:
            if len(self._known) >= _AGENTS_REMEMBERED_MAX:
                self._known.clear()
            ids = self._known[escaped] = self._erased.get(_hash_of(escaped) or "")
            return ids


def _hash_of(escaped: bytes) -> str | None:
    text = _unescaped(escaped)
    return None if text is None else text_hash(text)


def _unescaped(text: bytes) -> str | None:
    try:
        return str(orjson.loads(b'"%b"' % text))
    except orjson.JSONDecodeError:
        return None


def line_id(line: bytes) -> str:
    """The memory id of a record's line.

    Raises:
        ValueError: the line does not begin with one.
    """
    match = _ANY_ID.match(line)
    text = None if match is None else _unescaped(match[1])
    if text is None:
        raise ValueError(f"no line of a record: {line[:80]!r}")
    return text


class LineHashes:
    """Hashes (xxh3-128) of erased lines without their line breaks; at most `HASHES_MAX`.

    Attributes:
        complete: whether every line that was added is held.
    """

    def __init__(self, hashes_max: int = HASHES_MAX) -> None:
        self._hashes_max = hashes_max
        self._digests: set[int] = set()
        self._lengths: set[int] = set()
        self.complete = True

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, line: bytes) -> None:
        """A line that is erased."""
        if len(self._digests) >= self._hashes_max:
            self.complete = False
            return
        self._digests.add(xxhash.xxh3_128_intdigest(line))
        self._lengths.add(len(line))

    def count(self, lines: Iterable[bytes]) -> int:
        """How many of these lines are erased ones."""
        lengths, digests = self._lengths, self._digests
        return sum(
            len(line) in lengths and xxhash.xxh3_128_intdigest(line) in digests  # most lines fall by their length
            for line in lines
        )

    @property
    def how(self) -> str:
        """What was compared, for people."""
        if not self._digests:
            return ""
        part = "" if self.complete else f", of the first {len(self._digests):,} of them"
        return f" and the xxh3-128 of each erased line{part}"
