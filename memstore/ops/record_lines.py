"""What every stored line of an agent has to be: in order, none twice, true to its own id, and a record that decodes."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Iterable, Sequence

import msgspec
import orjson

from memstore.errors import StorageError
from memstore.format.forgotten import text_hash
from memstore.format.lines import ID_STAMP_CHARS, agent_prefix, line_time_us, lines_span_us
from memstore.ids import SUFFIX_CHARS
from memstore.record import MemoryRecord, decode_record, decode_records

_head = re.compile(
    rb"(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)_(\d{6})[0-9a-f]{16}"
    rb'","timestamp_utc":"\1-\2-\3T\4:\5:\6\.\7Z",'
).match
"""What follows the agent's prefix: the id's time, digit for digit, is that of ``timestamp_utc``. One expression for all
agents: compiling one costs as much as checking three hundred lines."""
_ID_AT = len(b'{"memory_id":"')
_agent_id = operator.attrgetter("agent_id")


class RecordLines:
    """Judges lines of one agent. Thread-safe, unless it watches for some.

    Attributes:
        prefix_bytes: length of what every line of the agent starts with.
        needle_bytes: length of what no two of its lines share: up to the end of the id.
        seen: ids of lines that were judged and whose hashes are watched.

    Args:
        agent: whose.
        watched: hashes of ids, as FORGOTTEN has them.
    """

    def __init__(self, agent: str, watched: frozenset[str] = frozenset()) -> None:
        prefix = agent_prefix(agent)
        self._watched = watched
        self.seen: set[str] = set()
        self._agents = {agent}
        self.prefix_bytes = len(prefix)
        self.needle_bytes = self.prefix_bytes + ID_STAMP_CHARS + SUFFIX_CHARS
        self._prefix = prefix

    def fault(self, lines: Sequence[bytes], *, records: int, t_min: int, t_max: int) -> str | None:
        """What does not agree between lines and what an index says of them; None where all does.

        Args:
            lines: each with its line break.
            records: how many there should be.
            t_min: of the first of them.
            t_max: of the last of them.
        """
        if len(lines) != records or not lines:
            return f"it holds {len(lines)} lines, not {records}"
        if not lines[-1].endswith(b"\n"):
            return "its last line has no end"
        needles = [line[: self.needle_bytes] for line in lines]
        if not all(map(operator.lt, needles, needles[1:])):
            return "its lines are not sorted, or one id stands in it twice"
        if self._watched:
            self.watch(needles)
        # In order, so what stands between two lines of the agent is one of its lines too.
        is_own = lines[0].startswith(self._prefix) and lines[-1].startswith(self._prefix)
        if not is_own or not all(map(_head, lines, itertools.repeat(self.prefix_bytes))):
            return (
                f"a line is not laid out as this agent's records, or its time is not that of its id: {self._odd(lines)}"
            )
        span = lines_span_us(lines, self.prefix_bytes)
        if span != (t_min, t_max):
            return f"its lines are from {span[0]} to {span[1]}, not from {t_min} to {t_max}"
        return None

    def watch(self, lines: Iterable[bytes]) -> None:
        """Note which of some lines have an id that is watched for."""
        for line in lines:
            try:
                memory_id = orjson.loads(b'"%b"' % line[_ID_AT : self.needle_bytes])
            except orjson.JSONDecodeError:  # of a piece that is damaged, which is told elsewhere
                continue
            if text_hash(memory_id) in self._watched:
                self.seen.add(memory_id)

    def decoded(self, lines: Sequence[bytes]) -> list[MemoryRecord] | str:
        """The records of whole lines, or what is wrong with the first that is none."""
        try:
            records = decode_records(lines)
        except (StorageError, UnicodeDecodeError, RecursionError):
            return next(filter(None, map(_undecodable, lines)), "a line is no record")
        if set(map(_agent_id, records)) != self._agents:
            return "a record of it names another agent"
        return records

    def is_record(self, line: bytes) -> bool:
        """Whether one line, with its line break, is a whole record of the agent."""
        return self._is_laid_out(line) and line.endswith(b"\n") and not isinstance(self.decoded([line]), str)

    def time_us(self, line: bytes) -> int:
        """Time of such a line."""
        return line_time_us(line, self.prefix_bytes)

    def needle(self, line: bytes) -> bytes:
        """What no other line of the agent begins with."""
        return line[: self.needle_bytes]

    def _is_laid_out(self, line: bytes) -> bool:
        return line.startswith(self._prefix) and _head(line, self.prefix_bytes) is not None

    def _odd(self, lines: Sequence[bytes]) -> str:
        line = next(line for line in lines if not self._is_laid_out(line))
        return repr(line[: self.needle_bytes + 48])


def _undecodable(line: bytes) -> str | None:
    try:
        decode_record(line)
    except StorageError as error:
        return str(error)
    except (UnicodeDecodeError, RecursionError, msgspec.MsgspecError) as error:
        return f"a stored line is no record ({error}): {line[:120]!r}"
    return None
