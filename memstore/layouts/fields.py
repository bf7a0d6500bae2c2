"""Single values of a source record, read leniently: times, types, importances, parts, agents. Pure.

Nothing here raises: a value that cannot be read gives None, and the caller decides what stands in for it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from memstore.errors import InvalidRecordError
from memstore.ids import check_agent_id
from memstore.record import Importance, InputPart, MemoryType, ResponsePart
from memstore.timestamps import YEAR_10000_US, datetime_to_us

SOURCE_ID_CHARS_MAX = 4096
"""As `memstore.draft` allows."""
TIERS = frozenset({"stm", "ltm", "archive", "short_term", "long_term", "hot", "warm", "cold"})
"""Directory names that say how old memories are, not whose they are."""

_NAIVE_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - subtracted from datetimes without a zone, which are UTC by then
_MICROSECOND = dt.timedelta(microseconds=1)
_STAMP = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)[T_ -]?(\d\d)[-:]?(\d\d)[-:]?(\d\d)(?:[._](\d{1,6})(?!\d))?")
_DAY = re.compile(r"\d{8}")
_TYPES = {spelling: m.value for m in MemoryType for spelling in (m.value, m.value.lower())}
_IMPORTANCES: dict[object, str] = {spelling: i.value for i in Importance for spelling in (i.value, i.value.lower())}
IMPORTANCE_NAMES = dict(enumerate((i.value for i in Importance), start=1))
"""The platform's numbers: 1 CRITICAL to 4 LOW."""
IMPORTANCE_NUMBERS = {name: number for number, name in IMPORTANCE_NAMES.items()}
_ONLY_TEXT = frozenset((str,))
_INPUT_FIELDS = frozenset(f.name for f in msgspec.structs.fields(InputPart))
_RESPONSE_FIELDS = frozenset(f.name for f in msgspec.structs.fields(ResponsePart))
_PART_TYPES: dict[str, tuple[type, ...]] = {
    "source": (str,),
    "context_id": (str,),
    "success": (bool,),
    "confidence": (int, float),
    "processing_time_ms": (int, float),
}
# Epoch numbers below the first are seconds, below the second milliseconds, else microseconds (all until the year 5138).
_EPOCH_SECONDS_BELOW = 1e11
_EPOCH_MILLISECONDS_BELOW = 1e14


def time_us(value: object, tz: dt.tzinfo) -> int | None:
    """Microseconds of ISO 8601 text (without a zone: ``tz``) or of an epoch number (s, ms or µs, by its size)."""
    if isinstance(value, str):
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
        if moment.tzinfo is None and tz is dt.UTC:
            time = (moment - _NAIVE_EPOCH) // _MICROSECOND
        else:
            try:
                time = datetime_to_us(moment, assume_tz=tz)
            except OverflowError:
                return None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 <= value < YEAR_10000_US:  # NaN is not either
            return None
        unit = 1_000_000 if value < _EPOCH_SECONDS_BELOW else 1000 if value < _EPOCH_MILLISECONDS_BELOW else 1
        time = round(value * unit)
    else:
        return None
    return time if 0 <= time < YEAR_10000_US else None


def name_time_us(name: str, tz: dt.tzinfo) -> int | None:
    """The time in a file name such as ``2025-01-15T14-30-00.123456...`` or ``20250115143000_123456...``."""
    match = _STAMP.search(name)
    if match is None:
        return None
    *parts, fraction = match.groups()
    text = "{}-{}-{}T{}:{}:{}".format(*parts)
    return time_us(f"{text}.{fraction.ljust(6, '0')}" if fraction else text, tz)


def type_name(value: object) -> str | None:
    """Upper-case name of a memory type in either case."""
    return _TYPES.get(value) if isinstance(value, str) else None


def importance_name(value: object) -> str | None:
    """Upper-case name of an importance given as 1 to 4 or by name in either case."""
    if type(value) is int:
        return IMPORTANCE_NAMES.get(value)
    return _IMPORTANCES.get(value) if isinstance(value, str) else None


@lru_cache(maxsize=4096)
def _agent_or_none(value: str) -> str | None:
    try:
        return check_agent_id(value)
    except InvalidRecordError:
        return None


def agent_or_none(value: object) -> str | None:
    """The value if it can be an agent id."""
    return _agent_or_none(value) if isinstance(value, str) else None


def source_id_or_none(value: object) -> str | None:
    """The value if it can be a source id; a whole number becomes its digits."""
    if type(value) is int:
        return str(value)
    return value if isinstance(value, str) and 0 < len(value) <= SOURCE_ID_CHARS_MAX else None


def text_list_or_none(value: object) -> list[str] | None:
    """The value if it is a list of text."""
    return value if isinstance(value, list) and _ONLY_TEXT.issuperset(map(type, value)) else None


def fits_part(value: object, kind: str) -> bool:
    """Whether a value is an ``input`` or ``response`` object as the record format has it."""
    known = _INPUT_FIELDS if kind == "input" else _RESPONSE_FIELDS
    return (
        isinstance(value, dict)
        and value.keys() <= known
        and all(
            item is not None
            and (
                name not in _PART_TYPES
                or (isinstance(item, _PART_TYPES[name]) and (bool in _PART_TYPES[name] or not isinstance(item, bool)))
            )
            for name, item in value.items()
        )
    )


def part(value: object, kind: str) -> dict[str, Any]:
    """The value as an ``input`` or ``response`` object: as it is where it fits, else as its content."""
    return value if isinstance(value, dict) and fits_part(value, kind) else {"content": value}


def is_day(directory: str) -> bool:
    """Whether a directory is named for a day, ``YYYYMMDD``."""
    return _DAY.fullmatch(directory) is not None


def directory_agent_id(directories: Sequence[str], *, root_is_tier: bool, category: object = None) -> str | None:
    """Whose a file is by the directories it lies in.

    The directory above the day's; where there is no day, the first one under the tier. A first directory counts as
    a tier where others follow, unless the tree's root is a tier itself or the directories are just the file's own
    ``category``.
    """
    for index in range(len(directories) - 1, 0, -1):
        if is_day(directories[index]):
            return agent_or_none(directories[index - 1])
    if not directories:
        return None
    no_tier = root_is_tier or len(directories) == 1 or (isinstance(category, str) and category == "/".join(directories))
    if directories[0].lower() in TIERS and len(directories) > 1 and not root_is_tier:
        no_tier = False
    return agent_or_none(directories[0] if no_tier else directories[1])
