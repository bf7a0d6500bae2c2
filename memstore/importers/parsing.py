"""Bytes of a file or line to its JSON object, or the reason why there is none. Pure.

msgspec decodes as fast as orjson and keeps integers over 64 bits, which orjson turns into floats. What it refuses
gets a second chance with the standard library, which also reads NaN, lone surrogates and UTF-16: such text becomes a
storable object with the odd values as text, and is kept verbatim beside it.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from memstore.layouts.source import DamagedError, Source

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_DEPTH_MAX = 200
"""orjson writes at most 254 levels; a record's own take some."""
_decode = msgspec.json.Decoder().decode


def parse_source(path: str, data: bytes) -> Source:
    """A source of its bytes.

    Raises:
        DamagedError: empty, cut off, no text, no JSON, or no object.
    """
    try:
        value = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return verbatim_source(path, data)
    if type(value) is not dict:
        raise _no_object(value)
    return Source(path, value, None, len(data))


def verbatim_source(path: str, data: bytes) -> Source:
    """A source whose text may hold what a stored line cannot; kept as text where it does.

    Raises:
        DamagedError: as `parse_source`.
    """
    if not data.strip():
        raise DamagedError("it is empty" if not data else "it holds only white space")
    if not data.strip(b"\0"):
        raise DamagedError("it holds only NUL bytes")
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise DamagedError(f"it is not valid text: {error.reason} at byte {error.start}") from error
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise DamagedError(f"it is cut off: its JSON does not end within its {len(data)} bytes") from error
        raise DamagedError(f"it is not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise DamagedError("its JSON is nested too deeply") from error
    except ValueError as error:  # integers of more digits than Python reads
        raise DamagedError(f"its JSON cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise _no_object(value)
    storable = _storable(value, 0)
    return Source(path, storable, None if storable == value else text, len(data))


def verbatim_line(source: Source) -> Source:
    """A source that is a line, once more with its text kept where it must be.

    Raises:
        DamagedError: as `parse_source`.
    """
    line = source.line or b""
    again = verbatim_source(source.path, line)
    again.line = line
    return again


def _no_object(value: object) -> DamagedError:
    return DamagedError(f"it is no JSON object but {'null' if value is None else type(value).__name__}")


def _storable(value: Any, depth: int) -> Any:
    """The value with everything a line cannot hold written out as text."""
    if isinstance(value, str):
        storable: Any = value.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
    elif isinstance(value, float):
        storable = value if math.isfinite(value) else json.dumps(value)
    elif isinstance(value, int):  # True and False as well
        storable = value if _INT_MIN <= value <= _INT_MAX else json.dumps(value)
    elif value is None:
        storable = None
    elif depth >= _DEPTH_MAX:
        storable = json.dumps(value)
    elif isinstance(value, list):
        storable = [_storable(item, depth + 1) for item in value]
    else:
        storable = {_storable(key, depth): _storable(item, depth + 1) for key, item in value.items()}
    return storable
