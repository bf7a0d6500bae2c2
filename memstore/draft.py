"""A record before it is stamped: validated, normalised, and encoded up to its id.

Everything but ``memory_id`` and ``timestamp_utc`` is encoded here, in the caller's thread; the stamp is spliced in
front when the record's place in time is known, so that no struct is built twice. Free JSON goes through orjson, which
refuses sets, bytes and non-text keys by itself; NaN it writes as ``null``, so a body that holds a ``null`` is walked
for one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from memstore.draft_shape import LABEL_CHARS_MAX, stored_shape
from memstore.errors import InvalidRecordError
from memstore.ids import check_agent_id
from memstore.nearest import nearest_name
from memstore.record import Importance, InputPart, MemoryRecord, MemoryType, Relationships, ResponsePart

RECORD_BYTES_MAX = 16 * 1024 * 1024
_ORJSON_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_DEFAULT_TYPE = b'"memory_type":"INTERACTION",'
_DEFAULT_IMPORTANCE = b'"importance":"MEDIUM",'
_strict_encode = json.JSONEncoder(allow_nan=False).encode
"""The standard library's encoder refuses NaN; it is asked only where orjson wrote a ``null``."""

_TYPES: dict[object, str] = {m: m.value for m in MemoryType}
_IMPORTANCES: dict[object, str] = {i: i.value for i in Importance}
FIELD_NAMES = frozenset(f.name for f in msgspec.structs.fields(MemoryRecord))
_ANY: tuple[type, ...] = (object,)
_NUMBER: tuple[type, ...] = (float, int)
_INPUT_TYPES = {"content": _ANY, "source": (str,), "context_id": (str,)}
_RESPONSE_TYPES = {"content": _ANY, "success": (bool,), "confidence": _NUMBER, "processing_time_ms": _NUMBER}
_RELATIONSHIP_TYPES = {"parent_memory_id": (str,), "related_memories": _ANY}

# Agents are few and append often: a check takes 2 µs, a lookup 0.1. A refused id is not remembered.
_known_agent_id = lru_cache(maxsize=16384)(check_agent_id)


class Draft(msgspec.Struct, frozen=True, gc=False):
    """One validated record, waiting for its stamp. Immutable; a struct, made faster than a tuple.

    Attributes:
        agent_id: whose it is.
        timestamp: what the caller gave as time, not yet parsed, or None for now.
        source_id: the id it had elsewhere, or None.
        body: JSON object bytes of every field but ``memory_id`` and ``timestamp_utc``.
    """

    agent_id: str
    timestamp: Any
    source_id: str | None
    body: bytes


def draft_record(fields: object, *, record_bytes_max: int = RECORD_BYTES_MAX) -> Draft:
    """Validate a record or plain dict with ``agent_id`` and encode it.

    ``input`` and ``response`` may be plain text; ``importance`` and ``memory_type`` are names in upper case;
    ``timestamp_utc`` may be whatever `memstore.timestamps.parse_time` takes.

    Raises:
        InvalidRecordError: says which field is wrong and what it may be.
    """
    # Asked first: looking at a record field by field costs much more.
    draft = _draft_as_given(fields, record_bytes_max) if type(fields) is dict else None
    return _draft_by_fields(fields, record_bytes_max) if draft is None else draft


def _draft_by_fields(fields: object, record_bytes_max: int) -> Draft:
    """The draft of a record that must be brought into shape, or refused by name."""
    get = _known_fields(fields).get
    agent_id = get("agent_id", "")
    agent_id = _known_agent_id(agent_id) if type(agent_id) is str else check_agent_id(agent_id)
    if get("memory_id"):
        raise InvalidRecordError("memory_id is given by the store; to keep an id from elsewhere pass it as source_id")
    body: dict[str, Any] = {
        "agent_id": agent_id,
        "memory_type": _name(get("memory_type"), _TYPES, "memory_type", "INTERACTION"),
        "importance": _name(get("importance"), _IMPORTANCES, "importance", "MEDIUM"),
    }
    for name, normalise in _NORMALISERS:
        value = get(name)
        if value is not None:
            value = normalise(value, name)
            if value is not None:
                body[name] = value
    return Draft(agent_id, _given_time(get("timestamp_utc")), body.get("source_id"), _encode(body, record_bytes_max))


def draft_records(records: Iterable[object], *, record_bytes_max: int = RECORD_BYTES_MAX) -> list[Draft]:
    """Validate a batch of records; drafts in it are valid already.

    Raises:
        InvalidRecordError: says which record is wrong, and how.
    """
    drafts: list[Draft] = []
    for index, record in enumerate(records):
        try:
            draft = _draft_as_given(record, record_bytes_max) if type(record) is dict else None
            if draft is None:
                draft = record if isinstance(record, Draft) else _draft_by_fields(record, record_bytes_max)
        except InvalidRecordError as error:
            raise InvalidRecordError(error.reason, index=index) from error
        drafts.append(draft)
    return drafts


def _known_fields(fields: object) -> Mapping[str, Any]:
    """A record's fields by name, all of them known."""
    if isinstance(fields, MemoryRecord):
        return {n: v for n in FIELD_NAMES if (v := getattr(fields, n)) is not None and v != ""}
    if not isinstance(fields, Mapping):
        raise InvalidRecordError(f"a record is a MemoryRecord or a dict, not {type(fields).__name__}")
    if not fields.keys() <= FIELD_NAMES:
        _refuse_unknown(fields.keys(), FIELD_NAMES, "record")
    return fields


def _draft_as_given(fields: dict[str, Any], record_bytes_max: int) -> Draft | None:
    """The draft of a dict that needs no normalising; None where it must be looked at field by field."""
    shape = stored_shape(fields)
    if shape is None or "retention_days" in shape.metadata:
        return None
    timestamp = shape.timestamp_utc
    asked_in_text, answered_in_text = type(shape.input) is str, type(shape.response) is str
    if timestamp is not None or asked_in_text or answered_in_text:
        if timestamp == "":
            return None
        fields = fields.copy()
        fields.pop("timestamp_utc", None)
        if asked_in_text:
            fields["input"] = {"content": shape.input}
        if answered_in_text:
            fields["response"] = {"content": shape.response}
    try:
        encoded = orjson.dumps(fields, option=_ORJSON_OPTIONS)
    except (TypeError, ValueError, RecursionError):
        return None
    # A null may be a NaN or a field that is None; a line break comes from a raw fragment.
    if b"null" in encoded or b"\n" in encoded or len(encoded) > record_bytes_max:
        return None
    if shape.memory_type is None or shape.importance is None:
        missing = (_DEFAULT_TYPE if shape.memory_type is None else b"") + (
            _DEFAULT_IMPORTANCE if shape.importance is None else b""
        )
        encoded = b"{%b%b" % (missing, encoded[1:])
    return Draft(_known_agent_id(shape.agent_id), timestamp, shape.source_id or None, encoded)


def draft_stored_form(fields: Mapping[str, Any], *, record_bytes_max: int = RECORD_BYTES_MAX) -> Draft:
    """Encode a record that is known to be valid and normalised: as `memstore.layouts` maps parsed JSON.

    It does what `draft_record` does in a quarter of the time.

    Args:
        fields: ``agent_id``, ``timestamp_utc`` in microseconds, and then every other field as the line has it: in its
            order, none of them None or (but for ``input``, ``response`` and ``content``) empty, and no float NaN or
            infinite.
        record_bytes_max: the limit.

    Raises:
        InvalidRecordError: too long, or with an integer, text or depth that JSON lines cannot have.
    """
    body = dict(fields)
    time_us = body.pop("timestamp_utc")
    return Draft(body["agent_id"], time_us, body.get("source_id"), _encode(body, record_bytes_max, may_hold_nan=False))


def _given_time(value: object) -> object:
    return None if value is None or value == "" else value


def _encode(body: dict[str, Any], record_bytes_max: int, *, may_hold_nan: bool = True) -> bytes:
    try:
        encoded = orjson.dumps(body, option=_ORJSON_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRecordError(
            f"content is not JSON: {error}. Use text, numbers, booleans, None, lists and dicts with text keys"
        ) from error
    if may_hold_nan and b"null" in encoded:
        try:
            _strict_encode(body)
        except (TypeError, ValueError):
            place = _find_nan(body, "record")
            if place:
                raise InvalidRecordError(f"{place} is NaN or infinite, which JSON cannot hold") from None
    if b"\n" in encoded:
        raise InvalidRecordError("content holds a raw JSON fragment with a line break")
    if len(encoded) > record_bytes_max:
        raise InvalidRecordError(
            f"the record is {len(encoded)} bytes; the limit is {record_bytes_max} (record_bytes_max)"
        )
    return encoded


def _find_nan(value: object, place: str) -> str | None:
    """Where in free JSON a float stands that is no number."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    if isinstance(value, dict):
        items: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return None
    for key, item in items:
        found = _find_nan(item, f"{place}.{key}")
        if found:
            return found
    return None


def _refuse_unknown(given: Iterable[object], known: frozenset[str], what: str) -> None:
    for name in given:
        if name not in known:
            near = nearest_name(name, known)
            hint = f"; did you mean {near!r}" if near else f"; known are {', '.join(sorted(known))}"
            raise InvalidRecordError(f"{what} has no field {name!r}{hint}. Free data goes into content or context")


def _name(value: object, names: dict[object, str], field: str, default: str) -> str:
    if value is None:
        return default
    try:
        return names[value]
    except (KeyError, TypeError):
        raise InvalidRecordError(
            f"{field} {value!r:.80} is unknown; it is one of {', '.join(names.values())}"
        ) from None


def _label(value: object, name: str) -> str:
    if not isinstance(value, str) or not value or len(value) > LABEL_CHARS_MAX:
        raise InvalidRecordError(f"{name} must be text of 1 to {LABEL_CHARS_MAX} characters, not {value!r:.80}")
    return value


def _input(value: object, name: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"content": value}
    return _part(value, InputPart, _INPUT_TYPES, name)


def _response(value: object, name: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"content": value}
    return _part(value, ResponsePart, _RESPONSE_TYPES, name)


def _free(value: object, name: str) -> object:  # noqa: ARG001 - one of the normalisers; orjson says what is no JSON
    return value


def _object(value: object, name: str) -> dict[str, Any] | None:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise InvalidRecordError(f"{name} must be a JSON object, not {type(value).__name__}")
    return dict(value) or None


def _metadata(value: object, name: str) -> dict[str, Any] | None:
    metadata = _object(value, name)
    days = None if metadata is None else metadata.get("retention_days")
    if days is not None and (isinstance(days, bool) or not isinstance(days, (int, float)) or days < 0):
        raise InvalidRecordError(f"metadata.retention_days must be a number of days of at least 0, not {days!r:.40}")
    return metadata


def _texts(value: object, name: str) -> list[str] | None:
    if not isinstance(value, (list, tuple)):
        raise InvalidRecordError(f"{name} must be a list of text, not {value!r:.80}")
    texts = list(value)
    for text in texts:
        if not isinstance(text, str):
            raise InvalidRecordError(f"{name} must be a list of text, not {value!r:.80}")
    return texts or None


def _relationships(value: object, name: str) -> dict[str, Any] | None:
    part = _part(value, Relationships, _RELATIONSHIP_TYPES, name)
    related = _texts(part.pop("related_memories", []), f"{name}.related_memories")
    if related is not None:
        part["related_memories"] = related
    return part or None


def _part(value: object, struct: type[msgspec.Struct], types: dict[str, tuple[type, ...]], name: str) -> dict[str, Any]:
    """A nested part as a dict without what is None."""
    if isinstance(value, struct):
        value = msgspec.structs.asdict(value)
    if type(value) is not dict and not isinstance(value, Mapping):
        raise InvalidRecordError(
            f"{name} must be text or an object of {', '.join(sorted(types))}, not {type(value).__name__}"
        )
    part: dict[str, Any] = {}
    for field, item in value.items():
        kinds = types.get(field)
        if kinds is None:
            _refuse_unknown(value.keys(), frozenset(types), name)
            continue
        if item is None:
            continue
        if kinds is not _ANY and type(item) not in kinds and (isinstance(item, bool) or not isinstance(item, kinds)):
            _refuse_unknown(value.keys(), frozenset(types), name)
            raise InvalidRecordError(f"{name}.{field} {item!r:.60} has the wrong type {type(item).__name__}")
        part[field] = item
    return part


_NORMALISERS: tuple[tuple[str, Callable[[Any, str], Any]], ...] = (
    ("timestamp_local", _label),
    ("shard_id", _label),
    ("source_id", _label),
    ("input", _input),
    ("response", _response),
    ("content", _free),
    ("context", _object),
    ("tags", _texts),
    ("relationships", _relationships),
    ("metadata", _metadata),
)
"""How each field's value is checked and put into its stored form, in the order of the line; None leaves it out."""
