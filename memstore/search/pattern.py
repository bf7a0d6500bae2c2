"""Patterns with ``*`` and ``?`` as regular expressions; linear to match, being automata, and bounded in size."""

from __future__ import annotations

import re

import tantivy

from memstore.search.schema import AGENT, build_schema

WILDCARDS = re.compile(r"[*?]")
_ANY = "(?s:.)"
"""Any character; a dot alone leaves out the line break."""


def escaped(text: str) -> str:
    """Text as a regular expression that matches just it."""
    return re.sub(r"([^\w])", r"\\\1", text)


def glob_pattern(text: str) -> str:
    """A pattern with ``*`` and ``?`` as a regular expression for a whole term."""
    parts = re.split(r"([*?])", text)
    return "".join({"*": f"{_ANY}*", "?": _ANY}.get(part) or escaped(part) for part in parts)


def starts_with(text: str) -> str:
    """A regular expression for terms that begin so."""
    return f"{escaped(text)}{_ANY}*"


def is_searchable(pattern: str) -> bool:
    """Whether tantivy takes a regular expression: an automaton of more than 1,000 states it refuses."""
    try:
        tantivy.Query.regex_query(_schema, AGENT, pattern)
    except ValueError:
        return False
    return True


_schema = build_schema()
