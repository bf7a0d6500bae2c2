"""One stored line to what the index takes of it. Pure.

Indexed as text is what a person said or a machine reported: every string and whole number in input, response, content
and context, and the tags; not the keys, not flags and fractions, which are fields of their own or mean nothing alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from memstore.ids import ID_TAIL_CHARS, SUFFIX_CHARS
from memstore.search.schema import (
    AGENT,
    AGENT_HASH,
    BYTES,
    CONFIDENCE,
    CONTEXT,
    CONTEXT_FIELDS,
    FOLDED,
    IMPORTANCE,
    KEY,
    MODEL,
    MS,
    SESSION,
    SKETCH,
    SOURCE_ID,
    SUCCESS,
    SUFFIX,
    TAG,
    TASK,
    TEXT,
    TIME,
    TYPE,
    USER,
    WORD,
    agent_hash,
    context_segment,
    marked,
    record_key,
)
from memstore.search.sketch import bucket_of
from memstore.timestamps import id_stamp_to_us

_log = logging.getLogger(__name__)
FIELD_CHARS_MAX = 256
"""Longer values of identifiers are found as text only."""
_FOLDED_FIELDS = (AGENT, SESSION, USER, TASK, MODEL, SOURCE_ID)


def texts_of(record: dict[str, Any]) -> list[str]:
    """The texts of a decoded line that are indexed, in order."""
    found: list[str] = []
    for part in ("input", "response"):
        said = record.get(part)
        if type(said) is dict:
            for name, value in said.items():
                if name not in _NUMBERS_OF_RESPONSE:
                    if type(value) is str and value:
                        found.append(value)
                    else:
                        _collect((value,), found)
        else:
            _collect((said,), found)
    _collect((record.get("content"), record.get("context"), record.get("tags")), found)
    return found


_NUMBERS_OF_RESPONSE = frozenset({"success", "confidence", "processing_time_ms"})


def _collect(values: Iterable[Any], found: list[str]) -> None:
    for value in values:  # of a decoded line, so of just these types: comparing them takes half as long as isinstance
        kind = type(value)
        if kind is str:
            if value:
                found.append(value)
        elif kind is dict:
            _collect(value.values(), found)
        elif kind is list:
            _collect(value, found)
        elif kind is int:
            found.append(str(value))


class Documents:
    """Makes documents of lines. Used by one thread at a time.

    Args:
        context_keys: keys of ``context`` that are fields.
    """

    def __init__(self, context_keys: Iterable[str]) -> None:
        self._context_keys = tuple((key, context_segment(key)) for key in context_keys)
        self._agent_hashes: dict[str, int] = {}

    def of(self, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        """Documents of many lines; a line that is no record is left out and logged."""
        for line in lines:
            try:
                yield self.document(line)
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("a stored line is no record and is not indexed: %s: %r", error, line[:120])

    def document(self, line: bytes) -> dict[str, Any]:
        """What the index takes of a stored line (with or without its line break).

        Raises:
            ValueError: the line is no record.
        """
        record = orjson.loads(line)
        memory_id: str = record["memory_id"]
        agent = memory_id[:-ID_TAIL_CHARS]
        number = self._agent_hashes.get(agent)
        if number is None:
            if len(self._agent_hashes) >= _AGENTS_MAX:
                self._agent_hashes.clear()
            number = self._agent_hashes[agent] = agent_hash(agent)
        stamp = memory_id[-ID_TAIL_CHARS + 1 : -SUFFIX_CHARS]
        size = len(line) - line.endswith(b"\n")
        texts = texts_of(record)
        found: dict[str, Any] = {
            TEXT: texts,
            WORD: texts,
            AGENT: agent,
            TYPE: record.get("memory_type", "INTERACTION"),
            IMPORTANCE: record.get("importance", "MEDIUM"),
            TIME: id_stamp_to_us(stamp),
            SUFFIX: int(memory_id[-SUFFIX_CHARS:], 16),
            AGENT_HASH: number,
            KEY: record_key(memory_id),
            BYTES: size,
        }
        sketch: dict[str, Any] = {BYTES: bucket_of(size)}
        tags = record.get("tags")
        if tags:
            found[TAG] = [tag for tag in tags if isinstance(tag, str) and len(tag) <= FIELD_CHARS_MAX]
        source_id = record.get("source_id")
        if isinstance(source_id, str) and len(source_id) <= FIELD_CHARS_MAX:
            found[SOURCE_ID] = source_id
        context = record.get("context")
        if context:
            self._add_context(found, sketch, context)
        _add_response(found, sketch, record.get("response"))
        found[SKETCH] = sketch
        _add_folded(found)
        return found

    def _add_context(self, found: dict[str, Any], sketch: dict[str, Any], context: dict[str, Any]) -> None:
        for field, name in CONTEXT_FIELDS.items():
            value = context.get(name)
            if value is not None:
                text = identifier(value)
                if text is not None:
                    found[field] = text
        if not self._context_keys:
            return
        named = {
            segment: value
            for key, segment in self._context_keys
            if (value := _context_value(context.get(key))) is not None
        }
        buckets = {
            segment: bucket_of(value)
            for segment, value in named.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        if named:
            found[CONTEXT] = named
        if buckets:
            sketch[CONTEXT] = buckets


def _context_value(value: object) -> str | bool | float | None:
    """What is indexed of a value of a key that is a field; None: nothing."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return marked(value) if len(value) <= FIELD_CHARS_MAX else None
    return _number(value)


def _add_response(found: dict[str, Any], sketch: dict[str, Any], response: object) -> None:
    if not isinstance(response, dict):
        return
    success = response.get("success")
    if success is True or success is False:
        found[SUCCESS] = success
    for field, name in _RESPONSE_NUMBERS:
        value = response.get(name)
        if value is not None and _number(value) is not None:
            found[field] = float(value)
            sketch[field] = bucket_of(value)


_AGENTS_MAX = 16_384
_RESPONSE_NUMBERS = ((MS, "processing_time_ms"), (CONFIDENCE, "confidence"))


def identifier(value: object) -> str | None:
    """The text by which an identifier is found, whether it was given as text or as a number."""
    if not isinstance(value, str) and (not isinstance(value, int) or isinstance(value, bool)):
        return None
    text = str(value)
    return text if len(text) <= FIELD_CHARS_MAX else None


def folded_term(field: str, value: str) -> str:
    """The term under which a value that is not all lower case is found in lower case."""
    return f"{field}:{value.lower()}"


def _add_folded(found: dict[str, Any]) -> None:
    """Terms for identifiers that are not all lower case; those that are, are found as they are."""
    terms = [folded_term(TAG, tag) for tag in found.get(TAG, ()) if tag != tag.lower()]
    for field in _FOLDED_FIELDS:
        value = found.get(field)
        if value is not None and value != value.lower():
            terms.append(folded_term(field, value))
    if terms:
        found[FOLDED] = terms


def _number(value: object) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if -_NUMBER_MAX < value < _NUMBER_MAX else None  # NaN neither


_NUMBER_MAX = 2**63
