"""What every stored line of an agent has to be: in order, none twice, true to its own id, and a record that decodes."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence

import msgspec

from memstore.errors import StorageError
from memstore.format.lines import ID_STAMP_CHARS, agent_prefix, lines_span_us
from memstore.ids import SUFFIX_CHARS
from memstore.record import MemoryRecord, decode_record, decode_records

_HEAD = (
    rb"(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)_(\d{6})[0-9a-f]{16}"
    rb'","timestamp_utc":"\1-\2-\3T\4:\5:\6\.\7Z",'
)
"""Behind the agent's prefix: the id's time, digit for digit, is that of ``timestamp_utc``."""
_agent_id = operator.attrgetter("agent_id")


class RecordLines:
    """Judges lines of one agent. Thread-safe.

    Attributes:
        prefix_bytes: length of what every line of the agent starts with.
        needle_bytes: length of what no two of its lines share: up to the end of the id.
    """

    def __init__(self, agent: str) -> None:
        prefix = agent_prefix(agent)
        self._agents = {agent}
        self.prefix_bytes = len(prefix)
        self.needle_bytes = self.prefix_bytes + ID_STAMP_CHARS + SUFFIX_CHARS
        self._head = re.compile(re.escape(prefix) + _HEAD).match

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
        if not all(map(self._head, lines)):
            return (
                f"a line is not laid out as this agent's records, or its time is not that of its id: {self._odd(lines)}"
            )
        span = lines_span_us(lines, self.prefix_bytes)
        if span != (t_min, t_max):
            return f"its lines are from {span[0]} to {span[1]}, not from {t_min} to {t_max}"
        return None

    def decoded(self, lines: Sequence[bytes]) -> list[MemoryRecord] | str:
        """The records of whole lines, or what is wrong with the first that is none."""
        try:
            records = decode_records(lines)
        except (StorageError, UnicodeDecodeError, RecursionError):
            return next(filter(None, map(_undecodable, lines)), "a line is no record")
        if set(map(_agent_id, records)) != self._agents:
            return "a record of it names another agent"
        return records

    def _odd(self, lines: Sequence[bytes]) -> str:
        line = next(line for line in lines if not self._head(line))
        return repr(line[: self.needle_bytes + 48])


def _undecodable(line: bytes) -> str | None:
    try:
        decode_record(line)
    except StorageError as error:
        return str(error)
    except (UnicodeDecodeError, RecursionError, msgspec.MsgspecError) as error:
        return f"a stored line is no record ({error}): {line[:120]!r}"
    return None
