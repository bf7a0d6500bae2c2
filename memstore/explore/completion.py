"""What could be meant by what is typed so far. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from memstore.explore.typed import COMMANDS
from memstore.record import Importance, MemoryType

FIELDS = (
    "agent", "type", "importance", "tag", "session", "user", "task", "model", "source_id", "success", "confidence",
    "ms", "bytes", "after", "before", "id",
)  # fmt: skip
"""Names that are offered; others of the same meaning are understood too."""
FACET_FIELDS = ("type", "importance", "agent", "tag", "session", "user", "task", "model", "success")
CANDIDATES_MAX = 200
_WORD = re.compile(r"[^\s()]*\Z")
_PLAIN = re.compile(r"[\w.*?-]+")
_TIMES = ("1h", "24h", "7d", "30d", "90d")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Names that the store knows.

    Attributes:
        agents: ids.
        tags: the most frequent.
        context_keys: keys of context that are indexed beside the usual ones.
    """

    agents: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    context_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to go on: what takes the place of the last so many characters, and what to say of it."""

    text: str
    replaces_chars: int
    meaning: str = field(default="", compare=False)


def candidates(text: str, known: Vocabulary) -> list[Candidate]:
    """Ways to go on from the text before the cursor."""
    if text.startswith("/"):
        name, space, rest = text[1:].partition(" ")
        if not space:
            return [
                Candidate(f"/{each}", len(text), told.meaning)
                for each, told in COMMANDS.items()
                if each.startswith(name)
            ]
        return _listed(_last_word(rest), _argument_values(name, known))
    word = _last_word(text)
    field_name, colon, begun = word.partition(":")
    if colon:
        return _listed(begun.removeprefix('"'), map(quoted, _field_values(field_name.lstrip("+-"), known)), len(begun))
    if not word.lstrip("+-"):
        return []
    bare = word.lstrip("+-")
    names = (*FIELDS, *(f"context.{key}" for key in known.context_keys))
    return [Candidate(f"{each}:", len(bare)) for each in names if each.startswith(bare.lower())]


def quoted(value: str) -> str:
    """A value as it stands behind a colon."""
    return value if _PLAIN.fullmatch(value) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _last_word(text: str) -> str:
    match = _WORD.search(text)
    return match[0] if match else ""


def _listed(begun: str, values: Iterable[str], replaces_chars: int | None = None) -> list[Candidate]:
    """Values that begin so, then those that have it inside, whatever the case."""
    lowered = begun.lower()
    count = len(begun) if replaces_chars is None else replaces_chars
    scored = [(value.lower().strip('"').find(lowered), value) for value in values]
    found = sorted(((place > 0, index, value) for index, (place, value) in enumerate(scored) if place >= 0))
    return [Candidate(value, count) for _, _, value in found[:CANDIDATES_MAX]]


def _field_values(name: str, known: Vocabulary) -> tuple[str, ...]:
    return {
        "agent": known.agents,
        "agent_id": known.agents,
        "type": tuple(MemoryType),
        "memory_type": tuple(MemoryType),
        "importance": tuple(Importance),
        "tag": known.tags,
        "tags": known.tags,
        "success": ("true", "false"),
        "after": _TIMES,
        "before": _TIMES,
        "since": _TIMES,
        "until": _TIMES,
    }.get(name.lower(), ())


def _argument_values(command: str, known: Vocabulary) -> tuple[str, ...]:
    facets = (*FACET_FIELDS, *(f"context.{key}" for key in known.context_keys))
    return {
        "sort": ("relevance", "newest", "oldest"),
        "success": ("yes", "no"),
        "min-importance": tuple(Importance),
        "facets": facets,
        "by": (*facets, "avg(ms)", "p50(ms)", "p99(ms)", "sum(bytes)", "hour", "day", "week"),
        "save": ("hits.csv", "hits.ndjson", "hits.json", "hits.parquet", "hits.html"),
    }.get(command, ()) or _field_values(command, known)
