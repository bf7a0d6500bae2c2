"""What people type, to a `Question`.

The grammar is tantivy's own, read leniently: words, "phrases", AND OR NOT, + and -, brackets, field:value, ranges. On
top of its tree: prefix*, word~1, after: and before: with ages, importance:>=HIGH, memstore's field names. Nothing
that is typed raises: what is not understood is searched as words, and a hint says so. Bare words are alternatives,
the best matches first; what filters (a field, a range) must hold.

Text is bounded before it is parsed, for the parser recurses and each clause costs a look into every partition.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import tantivy

from memstore.errors import UsageError
from memstore.ids import parse_id
from memstore.nearest import nearest_name
from memstore.record import Importance, MemoryType
from memstore.search.foreign import IndexFailedError, translated
from memstore.search.pattern import WILDCARDS, glob_pattern, is_searchable
from memstore.search.question import (
    Boosted,
    Everything,
    Exists,
    FieldIs,
    FlagIs,
    Fuzzy,
    Group,
    IdIs,
    Node,
    NumberIn,
    Question,
    TimeIn,
    Words,
)
from memstore.search.schema import (
    AGENT,
    BYTES,
    CONFIDENCE,
    CONTEXT,
    IMPORTANCE,
    MODEL,
    MS,
    SESSION,
    SOURCE_ID,
    SUCCESS,
    TAG,
    TASK,
    TYPE,
    USER,
    context_column,
)
from memstore.timestamps import YEAR_10000_US, parse_time

TEXT_CHARS_MAX = 4096
"""Longer texts are cut: nobody types them."""
CLAUSES_MAX = 128
DEPTH_MAX = 32
SLOP_MAX = 50
FIELD_NAMES = {
    "agent": AGENT,
    "agent_id": AGENT,
    "type": TYPE,
    "memory_type": TYPE,
    "importance": IMPORTANCE,
    "tag": TAG,
    "tags": TAG,
    "session": SESSION,
    "session_id": SESSION,
    "user": USER,
    "user_id": USER,
    "task": TASK,
    "task_id": TASK,
    "model": MODEL,
    "source_id": SOURCE_ID,
    "success": SUCCESS,
    "confidence": CONFIDENCE,
    "ms": MS,
    "processing_time_ms": MS,
    "bytes": BYTES,
}
"""Names that are typed, and the fields they stand for."""
_OTHER_NAMES = ("after", "before", "since", "until", "id", "memory_id", "text", "context.KEY")
FIELDS_HELP = ", ".join((*sorted(set(FIELD_NAMES) - {"agent_id", "memory_type", "tags"}), *_OTHER_NAMES))
_CONTEXT_PREFIX = "context."
_KNOWN_CONTEXT = {"session_id": SESSION, "user_id": USER, "task_id": TASK, "model": MODEL}
_IDENTIFIERS = frozenset({AGENT, TAG, SESSION, USER, TASK, MODEL, SOURCE_ID})
_NUMBERS = frozenset({MS, CONFIDENCE, BYTES})
_FUZZY = re.compile(r"(.+)~([0-9]?)", re.DOTALL)
_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})


def parse_question(text: str, *, now_us: int, context_keys: Iterable[str] = ()) -> Question:
    """What a query text asks. Raises nothing.

    Args:
        text: as it was typed.
        now_us: what ages like ``7d`` count back from.
        context_keys: keys of ``context`` that are indexed beside the usual ones.
    """
    return _Parser(now_us, frozenset(context_keys)).parse(text)


def plain_question(text: str) -> Question:
    """A query text as nothing but words: for what the index refuses to look for, like a prefix of too many words."""
    parser = _Parser(0, frozenset())
    words = parser.plain(text)
    return Question(words, (*parser.hints, "that would be too much to look for; its words are searched"))


class _NotUnderstoodError(Exception):
    """A clause cannot be taken as it was meant; the message is the hint."""


@dataclass
class _Parser:
    now_us: int
    context_keys: frozenset[str]
    hints: list[str] = field(default_factory=list)
    clauses: int = 0

    def parse(self, text: str) -> Question:
        text = self._bounded(text.encode("utf-8", "replace").decode())
        if not text.strip():
            return Question(None, tuple(self.hints))
        try:
            with translated("the query"):
                tree, errors = _parsed(text)
        except IndexFailedError:
            self._hint("the text was not understood and is searched as words")
            return Question(self._plain(text), tuple(self.hints))
        nodes = [self._node(tree, 0)]
        for error in errors:
            message, position = str(error.get("message", "")), int(error.get("pos", 0))
            if message == "unparsed end of query":
                rest = text[position:].strip(" )]}")
                how = " and is searched as words" if rest else ""
                self._hint(f"{text[position:].strip()[:40]!r} was not understood{how}")
                nodes.append(self._plain(rest) if rest else None)
            elif message not in _HARMLESS:
                self._hint(f"near character {position + 1}: {_IN_PLAIN_WORDS.get(message, message)}")
        found = [node for node in nodes if node is not None]
        node = found[0] if len(found) == 1 else _group([(None, each) for each in found])
        return Question(node, tuple(self.hints))

    def plain(self, text: str) -> Node | None:
        """See `plain_question`."""
        return self._plain(self._bounded(text.encode("utf-8", "replace").decode()))

    def _bounded(self, text: str) -> str:
        if len(text) > TEXT_CHARS_MAX:
            self._hint(f"the text is {len(text)} characters long; the first {TEXT_CHARS_MAX} are searched")
            text = text[:TEXT_CHARS_MAX]
        if text.count("(") > DEPTH_MAX or text.count("[") + text.count("{") > DEPTH_MAX:
            self._hint(f"more than {DEPTH_MAX} brackets: they are left out")
            text = re.sub(r"[()\[\]{}]", " ", text)
        return text

    def _hint(self, hint: str) -> None:
        if hint not in self.hints:
            self.hints.append(hint)

    def _counted(self) -> bool:
        self.clauses += 1
        if self.clauses > CLAUSES_MAX:
            self._hint(f"only the first {CLAUSES_MAX} words and filters are searched")
            return False
        return True

    def _node(self, tree: dict[str, Any], depth: int) -> Node | None:
        kind = tree["type"]
        if kind == "bool":
            parts = []
            for occur, below in tree["clauses"]:
                node = self._node(below, depth + 1) if depth < 2 * DEPTH_MAX else None
                if node is not None:
                    parts.append((occur, node))
            return _group(parts)
        if not self._counted():
            return None
        return self._leaf(kind, tree)

    def _leaf(self, kind: str, tree: dict[str, Any]) -> Node | None:  # noqa: PLR0911 - one a kind
        match kind:
            case "literal":
                return self._literal(tree)
            case "range":
                return self._range(tree)
            case "set":
                return self._field(tree["field"], " ".join(tree["elements"]), values=tuple(tree["elements"]))
            case "exists":
                return self._exists(tree["field"])
            case "all":
                return Everything()
            case "boost":
                node = self._node(tree["underlying"], 1)
                factor = float(tree["boost"])
                return Boosted(node, factor) if node is not None and 0 < factor < math.inf else node
            case "regex":
                self._hint("regular expressions are not searched for; the letters are taken as words")
                return self._plain(f"{tree['field'] or ''} {tree['pattern']}")
        self._hint(f"{kind} is not understood")
        return None

    def _plain(self, text: str) -> Node | None:
        """Text as alternatives of its words, whatever it means to the grammar."""
        words = re.findall(r"[^\W_]+", text)[:CLAUSES_MAX]
        return _group([(None, Words(word)) for word in words])

    def _literal(self, tree: dict[str, Any]) -> Node | None:
        phrase: str = tree["phrase"]
        quoted = tree["delimiter"] != "none"
        name = tree["field_name"]
        if name is not None and name != "text":
            return self._field(name, phrase, quoted=quoted)
        if quoted:
            return Words(phrase, slop=min(int(tree["slop"]), SLOP_MAX), prefix=bool(tree["prefix"]), quoted=True)
        fuzzy = _FUZZY.fullmatch(phrase)
        if fuzzy is not None:
            distance = int(fuzzy[2] or 1)
            if distance > 2:
                self._hint(f"{phrase!r}: at most 2 letters may be wrong")
            return Fuzzy(fuzzy[1], max(1, min(distance, 2)))
        if len(phrase) > 1 and phrase.endswith("*"):
            return Words(phrase[:-1], prefix=True)
        return Words(phrase)

    def _field(self, name: str | None, text: str, *, quoted: bool = False, values: tuple[str, ...] = ()) -> Node | None:
        try:
            return self._known_field(name or "", text, values=values or (text,))
        except _NotUnderstoodError as error:
            self._hint(f"{error}; searched as words")
        return Words(f"{name} {text}", quoted=quoted) if name else self._plain(text)

    def _known_field(self, name: str, text: str, *, values: tuple[str, ...]) -> Node:
        lowered = name.lower()
        if lowered in ("after", "since", "before", "until"):
            return self._time(lowered, text)
        if lowered in ("id", "memory_id"):
            try:
                parse_id(text)
            except UsageError as error:
                raise _NotUnderstoodError(f"{text!r} is no memory id") from error
            return IdIs(text)
        target = self._target(name)
        if target in (TYPE, IMPORTANCE):
            return FieldIs(target, tuple(_member(target, value) for value in values), exact=True)
        if target == SUCCESS:
            value = text.lower()
            if value not in _TRUE | _FALSE:
                raise _NotUnderstoodError(f"success is true or false, not {text!r}")
            return FlagIs(SUCCESS, value in _TRUE)
        if target in _NUMBERS:
            number = _number(name, text)
            return NumberIn(target, number, number)
        if any(WILDCARDS.search(value) and not is_searchable(glob_pattern(value)) for value in values):
            raise _NotUnderstoodError(f"{name}: too many wildcards, or too long a text with one")
        return FieldIs(target, values)

    def _target(self, name: str) -> str:
        """The field that a typed name stands for."""
        if name.startswith(_CONTEXT_PREFIX):
            key = name.removeprefix(_CONTEXT_PREFIX)
            known = _KNOWN_CONTEXT.get(key)
            if known is not None:
                return known
            if key in self.context_keys:
                return context_column(key)
            raise _NotUnderstoodError(f"context.{key} is not indexed (name it in search.context_keys)")
        target = FIELD_NAMES.get(name.lower())
        if target is None:
            near = nearest_name(name.lower(), [*FIELD_NAMES, *_OTHER_NAMES])
            raise _NotUnderstoodError(f"there is no field {name!r}" + (f", did you mean {near}:?" if near else ""))
        return target

    def _time(self, name: str, text: str) -> TimeIn:
        try:
            time_us = min(max(parse_time(text, now_us=self.now_us), 0), YEAR_10000_US)
        except (UsageError, OverflowError) as error:
            raise _NotUnderstoodError(
                f"{name}: {text!r} is no time (2025-01-15, 2025-01-15T14:30:00Z, 7d, 12h)"
            ) from error
        return TimeIn(time_us, YEAR_10000_US) if name in ("after", "since") else TimeIn(0, time_us)

    def _exists(self, name: str) -> Node | None:
        try:
            return Exists(self._target(name))
        except _NotUnderstoodError as error:
            self._hint(str(error))
            return Words(name)

    def _range(self, tree: dict[str, Any]) -> Node | None:
        name, low, high = tree["field"], tree["lower"], tree["upper"]
        try:
            return self._known_range(name, low, high)
        except _NotUnderstoodError as error:
            self._hint(f"{error}; searched as words")
        return self._plain(" ".join((name or "", low.get("value", ""), high.get("value", ""))))

    def _known_range(self, name: str | None, low: dict[str, Any], high: dict[str, Any]) -> Node:
        if name is None:
            raise _NotUnderstoodError("a range needs a field, like ms:[100 TO 200]")
        low_text, high_text = low.get("value"), high.get("value")
        if low_text is None and high_text is None:
            raise _NotUnderstoodError(f"{name}: a range without a bound")
        if name.lower() in ("time", "timestamp", "timestamp_utc", "date"):
            since = self._time("after", low_text).since_us if low_text else 0
            until = self._time("before", high_text).until_us if high_text else YEAR_10000_US
            return TimeIn(since + (low["type"] == "exclusive"), until + (high["type"] == "inclusive"))
        target = self._target(name)
        if target == IMPORTANCE:
            return _importances(low, high)
        if target in _NUMBERS or target.startswith(f"{CONTEXT}."):
            return NumberIn(
                target,
                None if low_text is None else _number(name, low_text),
                None if high_text is None else _number(name, high_text),
                include_low=low["type"] == "inclusive",
                include_high=high["type"] == "inclusive",
            )
        raise _NotUnderstoodError(f"{name} has no order; a range needs ms, confidence, bytes, importance or a number")


@lru_cache(maxsize=64)
def _parsed(text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The grammar's tree of a text, and what it did not understand; not to be changed.

    Remembered, for pages and dashboards ask the same again; texts are bounded (`TEXT_CHARS_MAX`).
    """
    tree, errors = tantivy.parse_query_lenient(text)
    return tree, errors


_HARMLESS = frozenset(
    {
        "parsed possible invalid field as term",
        "expected whitespace, closing parenthesis, boost, or end of input",
        "missing space",
    }
)
"""What the parser says of something that is said better here, or not at all."""
_IN_PLAIN_WORDS = {'missing delimiter \\"': "a quote is not closed"}


def _group(parts: list[tuple[str | None, Node]]) -> Node | None:
    """One node of several with what the grammar says of each: bare text may match, bare filters must."""
    must: list[Node] = []
    should: list[Node] = []
    must_not: list[Node] = []
    for occur, node in parts:
        if occur == "must":
            must.append(node)
        elif occur == "must_not":
            must_not.append(node)
        elif occur == "should" or _is_text(node):
            should.append(node)
        else:
            must.append(node)
    if not must and not must_not and len(should) <= 1:
        return should[0] if should else None
    if len(must) == 1 and not should and not must_not:
        return must[0]
    return Group(tuple(must), tuple(should), tuple(must_not))


def _is_text(node: Node) -> bool:
    match node:
        case Words() | Fuzzy():
            return True
        case Boosted(below, _):
            return _is_text(below)
        case Group(must, should, _):
            return all(map(_is_text, (*must, *should))) and bool(must or should)
        case _:
            return False


def _member(field_name: str, text: str) -> str:
    kind: type[MemoryType | Importance] = MemoryType if field_name == TYPE else Importance
    try:
        return kind(text.upper()).value
    except ValueError as error:
        raise _NotUnderstoodError(f"{field_name} is one of {', '.join(kind)}, not {text!r}") from error


def _importances(low: dict[str, Any], high: dict[str, Any]) -> FieldIs:
    def passes(importance: Importance, bound: dict[str, Any], above: Callable[[int, int], bool]) -> bool:
        if bound.get("value") is None:
            return True
        limit = Importance(_member(IMPORTANCE, bound["value"])).rank
        return above(importance.rank, limit) or (bound["type"] == "inclusive" and importance.rank == limit)

    chosen = [i for i in Importance if passes(i, low, int.__gt__) and passes(i, high, int.__lt__)]
    return FieldIs(IMPORTANCE, tuple(i.value for i in chosen), exact=True)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise _NotUnderstoodError(f"{name} is a number, not {text!r}") from error
    if not math.isfinite(number):
        raise _NotUnderstoodError(f"{name}: {text!r} is not a finite number")
    return number
