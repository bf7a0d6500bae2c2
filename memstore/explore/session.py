"""A conversation about a store: state and command to state and effect. Pure; the effects are carried out elsewhere.

What is asked is always one `Asking`; each change of it can be undone. A page is where a cursor says, so going back is
asking with the cursor of the page before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from memstore.errors import UsageError
from memstore.explore.asking import Asking
from memstore.explore.facets_view import Choice
from memstore.explore.record_view import Related
from memstore.explore.typed import ASK, NOTHING, UNCLEAR, Typed
from memstore.ids import parse_id
from memstore.search.result import SearchResult

UNDO_MAX = 100
SIZE_MAX = 200
"""Hits on a page of a screen."""
FACETS = ("type", "importance", "agent", "tag")
_FILTERS = {
    "agent": "agent",
    "type": "memory_type",
    "importance": "importance",
    "min-importance": "min_importance",
    "tag": "tags",
    "session": "session",
    "since": "since",
    "until": "until",
}
_SEVERAL = frozenset({"agent", "type", "importance", "tag"})
_UPPER = frozenset({"type", "importance", "min-importance"})
_INTERVALS = frozenset({"minute", "hour", "day", "week"})


@dataclass(frozen=True, slots=True)
class Tell:
    """Say something."""

    text: str


@dataclass(frozen=True, slots=True)
class AskPage:
    """Ask for the page that the state says, and show it."""

    is_new: bool = True
    """Whether the question is another one, so that its counts are worth showing."""


@dataclass(frozen=True, slots=True)
class Open:
    """Show a record in full."""

    memory_id: str


@dataclass(frozen=True, slots=True)
class Similar:
    """Show records like this one."""

    memory_id: str


@dataclass(frozen=True, slots=True)
class Groups:
    """Count in groups."""

    by: tuple[str, ...]
    metrics: tuple[str, ...]
    interval: str | None


@dataclass(frozen=True, slots=True)
class Save:
    """Write the hits to a file; None: all of them."""

    path: str
    limit: int | None


@dataclass(frozen=True, slots=True)
class Show:
    """Show ``histogram``, ``python``, ``command`` or ``help``, or ``follow``."""

    what: str


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave."""


Effect = Tell | AskPage | Open | Similar | Groups | Save | Show | Quit


@dataclass(frozen=True, slots=True)
class Session:
    """The state. Immutable.

    Attributes:
        asking: what is asked now.
        past: what was asked before, the last one last.
        begins: the cursor at which each page begins, up to the one that is shown.
        following: the cursor of the next page; None: this is the last.
        shown: memory ids of the hits so far, in order: number N is the N-th.
        page_first: number of the first hit on this page.
        total: how many records match; None before the first answer.
        choices: values of facets that are shown, in order.
        related: labels of other records that are shown, and their ids.
    """

    asking: Asking = field(default_factory=lambda: Asking(facets=FACETS))
    past: tuple[Asking, ...] = ()
    begins: tuple[str | None, ...] = (None,)
    following: str | None = None
    shown: tuple[str, ...] = ()
    page_first: int = 1
    total: int | None = None
    choices: tuple[Choice, ...] = ()
    related: tuple[Related, ...] = ()

    def asked(self, result: SearchResult) -> Session:
        """After an answer to the page that `begins` says."""
        size = self.asking.limit
        first = (len(self.begins) - 1) * size + 1
        ids = tuple(hit.record.memory_id for hit in result.hits)
        return replace(
            self,
            following=result.cursor,
            shown=(*self.shown[: first - 1], *ids),
            page_first=first,
            total=result.total,
        )

    def with_choices(self, choices: Sequence[Choice]) -> Session:
        """After facets were shown."""
        return replace(self, choices=tuple(choices))

    def with_related(self, related: Sequence[Related]) -> Session:
        """After a record, or similar ones, were shown."""
        return replace(self, related=tuple(related))


def step(session: Session, typed: Typed) -> tuple[Session, Effect]:
    """What a command makes of the state, and what is to be done then."""
    name, argument = typed.name, typed.argument
    if name == ASK:
        return _changed(session, replace(session.asking, query=argument))
    if name == UNCLEAR:
        return session, Tell(argument)
    if name in ("success", *_FILTERS):
        return _filtered(session, name, argument)
    if name in ("histogram", "python", "command", "help", "follow"):
        return session, Show(name)
    if name == "quit":
        return session, Quit()
    return _STEPS[name](session, argument)


def _changed(session: Session, asking: Asking) -> tuple[Session, Effect]:
    """The question becomes another one."""
    if asking == session.asking and session.total is not None:
        return _at(session, (None,), is_new=True)
    past = session.past if session.total is None else (*session.past, session.asking)[-UNDO_MAX:]
    return Session(asking=asking, past=past), AskPage()


def _at(session: Session, begins: tuple[str | None, ...], *, is_new: bool = False) -> tuple[Session, Effect]:
    return replace(session, begins=begins), AskPage(is_new=is_new)


def _nothing(session: Session, _: str) -> tuple[Session, Effect]:
    """Enter alone goes on, as in a pager."""
    if session.total is None:
        return session, Tell("type words to search for, or /help")
    return _next(session, "")


def _next(session: Session, _: str) -> tuple[Session, Effect]:
    if session.total is None:
        return session, Tell("nothing has been asked yet: type words to search for")
    if session.following is None:
        return session, Tell("this is the last page")
    return _at(session, (*session.begins, session.following))


def _previous(session: Session, _: str) -> tuple[Session, Effect]:
    if len(session.begins) == 1:
        return session, Tell("this is the first page")
    return _at(session, session.begins[:-1])


def _list(session: Session, _: str) -> tuple[Session, Effect]:
    return _at(session, session.begins, is_new=True)


def _undo(session: Session, _: str) -> tuple[Session, Effect]:
    if not session.past:
        return session, Tell("there is nothing to undo")
    return Session(asking=session.past[-1], past=session.past[:-1]), AskPage()


def _clear(session: Session, _: str) -> tuple[Session, Effect]:
    return _changed(session, replace(session.asking, query="", filters={}, sort="relevance"))


def _narrow(session: Session, argument: str) -> tuple[Session, Effect]:
    number = int(argument) if argument.isascii() and argument.isdigit() else 0
    if not session.choices:
        return session, Tell("no facets are shown; /facets type agent counts their values")
    if not 1 <= number <= len(session.choices):
        return session, Tell(f"/narrow takes a number from 1 to {len(session.choices)}, as shown beside the values")
    facet, value = session.choices[number - 1]
    return _changed(session, session.asking.narrowed(facet, value))


def _open(session: Session, argument: str) -> tuple[Session, Effect]:
    found = _record_named(session, argument)
    return session, found if isinstance(found, Tell) else Open(found)


def _similar(session: Session, argument: str) -> tuple[Session, Effect]:
    found = _record_named(session, argument)
    return session, found if isinstance(found, Tell) else Similar(found)


def _record_named(session: Session, name: str) -> str | Tell:
    """The memory id that a number, a label or an id stands for."""
    name = name.removeprefix("#")
    related = dict(session.related)
    if name in related:
        return related[name]
    if name.isascii() and name.isdigit() and 1 <= int(name[:9]) <= len(session.shown):
        return session.shown[int(name) - 1]
    try:
        parse_id(name)
    except UsageError:
        labels = f", or {', '.join(related)}" if related else ""
        if not session.shown:
            return Tell("no hits are shown yet: search first, or give a whole memory id")
        return Tell(f"which record? a number from 1 to {len(session.shown)}{labels}, or a whole memory id")
    return name


def _filtered(session: Session, name: str, argument: str) -> tuple[Session, Effect]:
    if not argument:
        return _changed(session, session.asking.with_filter(_FILTERS.get(name, name), None))
    if name == "success":
        said = {"yes": True, "true": True, "no": False, "false": False}.get(argument.lower())
        if said is None:
            return session, Tell("/success takes yes or no; nothing takes the filter away")
        return _changed(session, session.asking.with_filter("success", said))
    text = argument.upper() if name in _UPPER else argument
    value = _words(text) if name in _SEVERAL else text
    return _changed(session, session.asking.with_filter(_FILTERS[name], value))


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") for word in part.split()]


def _sort(session: Session, argument: str) -> tuple[Session, Effect]:
    orders = ("relevance", "newest", "oldest")
    chosen = next((each for each in orders if argument and each.startswith(argument.lower())), None)
    if chosen is None:
        return session, Tell("/sort takes relevance, newest or oldest")
    return _changed(session, replace(session.asking, sort=chosen))  # type: ignore[arg-type] # one of the three


def _size(session: Session, argument: str) -> tuple[Session, Effect]:
    if not (argument.isascii() and argument.isdigit() and 1 <= int(argument[:9]) <= SIZE_MAX):
        return session, Tell(f"/size takes a number from 1 to {SIZE_MAX}")
    return _changed(session, replace(session.asking, limit=int(argument)))


def _facets(session: Session, argument: str) -> tuple[Session, Effect]:
    return _changed(session, replace(session.asking, facets=tuple(_words(argument))))


def _by(session: Session, argument: str) -> tuple[Session, Effect]:
    words = _words(argument)
    interval = next((word for word in words if word in _INTERVALS or (word[0].isdigit() and "(" not in word)), None)
    metrics = tuple(word for word in words if "(" in word)
    by = tuple(word for word in words if word != interval and word not in metrics)
    if not words:
        return session, Tell("/by takes fields, figures and a width of time: /by type p99(ms) day")
    return session, Groups(by, metrics, interval)


def _save(session: Session, argument: str) -> tuple[Session, Effect]:
    path, _, count = argument.rpartition(" ")
    if not path or not (count.isascii() and count.isdigit() and int(count[:9]) >= 1):
        path, count = argument, ""
    if not path:
        return session, Tell(
            "/save takes a file whose ending says the format: hits.csv, .ndjson, .json, .parquet, .html"
        )
    return session, Save(path.strip(), int(count[:9]) if count else None)


_STEPS: dict[str, Callable[[Session, str], tuple[Session, Effect]]] = {
    NOTHING: _nothing,
    "next": _next,
    "previous": _previous,
    "list": _list,
    "open": _open,
    "narrow": _narrow,
    "undo": _undo,
    "clear": _clear,
    "sort": _sort,
    "size": _size,
    "facets": _facets,
    "by": _by,
    "similar": _similar,
    "save": _save,
}
