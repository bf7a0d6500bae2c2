"""The interactive search: reads what is typed, lets `session` decide, does it, draws it. Only /quit and Ctrl-D end it.

One question at a time, in a thread that Ctrl-C gives up; what was asked before stays as it was where one fails.
"""

from __future__ import annotations

import logging
import textwrap
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol

from rich.text import Text

from memstore.errors import MemstoreError, NotFoundError
from memstore.explore.asking import Asking, Walk
from memstore.explore.cancel import GivenUpError, cancellable
from memstore.explore.command_line import command_line
from memstore.explore.completion import Vocabulary
from memstore.explore.facets_view import facet_lines
from memstore.explore.family import family
from memstore.explore.files import About, format_of, write_hits
from memstore.explore.histogram import HEIGHT, bars_fitting, histogram
from memstore.explore.hits_view import Look, hit_lines, summary
from memstore.explore.python_call import python_call
from memstore.explore.record_view import record_lines
from memstore.explore.session import (
    AskPage,
    Effect,
    Groups,
    Open,
    Quit,
    Save,
    Session,
    Show,
    Similar,
    Tell,
    step,
)
from memstore.explore.timeline import Timeline, timeline
from memstore.explore.typed import COMMANDS, parse_typed
from memstore.legible import safe_text
from memstore.search.follow import Follower
from memstore.search.query import FIELDS_HELP
from memstore.search.result import SearchResult
from memstore.store import MemStore

_log = logging.getLogger(__name__)
_TAGS_MAX = 100
_FOLLOW_EVERY_S = 0.5
_HIGH_LINES = 32
"""Lines of a terminal on which a histogram may take four of them and not two."""
_LINES_BESIDE = 8
"""Lines of a terminal that a large histogram leaves to its axis, the prompt and what stands below it."""
_HOW_TO_ASK = """\
words             any of them, the best matches first: market timeout
AND OR NOT ( )    (timeout OR slow) AND market NOT test
"a phrase"        pre* begins so, wrod~1 may have a letter wrong
field:value       type:ERROR agent:bdi_* ms:>1000 importance:>=HIGH
                  after:2025-01-15 before:7d context.user_id:456"""
_HELP_INDENT = 18


class Screen(Protocol):
    """What the conversation is shown on."""

    def show(self, *drawn: Any) -> None:
        """Draw lines of text, rich ones too."""

    def look(self) -> Look:
        """How to draw, as the terminal is now."""

    def height(self) -> int:
        """Lines of the terminal."""

    def rows(self, columns: list[str], rows: list[dict[str, Any]]) -> None:
        """Draw a table."""

    def file(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A new file that takes its name when it is whole."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it happens, for calls and commands that give the same.

    Attributes:
        root: the store's directory.
        config: the settings file that was named.
    """

    root: str
    config: str | None = None


ReadLine = Callable[[], str]
"""One typed line; EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C."""


class Conversation:
    """One sitting. Used by the main thread."""

    def __init__(self, store: MemStore, screen: Screen, place: Place, asking: Asking | None = None) -> None:
        self._store = store
        self._screen = screen
        self._place = place
        self.session = Session() if asking is None else Session(asking=asking)
        self.vocabulary = Vocabulary(context_keys=tuple(store.settings.search.context_keys))

    def run(self, read_line: ReadLine, *, ask_first: bool = False) -> None:
        """Talk until /quit or Ctrl-D.

        Args:
            read_line: the prompt.
            ask_first: whether the question that it was made with is asked before anything is typed.
        """
        threading.Thread(target=self._learn_names, name="memstore-names", daemon=True).start()
        if ask_first:
            self._carefully(AskPage(), self.session)
        while True:
            try:
                text = read_line()
            except EOFError:
                return
            except KeyboardInterrupt:
                continue  # the line that was begun is dropped
            if not self.answer(text):
                return

    def answer(self, text: str) -> bool:
        """Do what is typed; False: leave."""
        before = self.session
        self.session, effect = step(before, parse_typed(text, choices=len(before.choices)))
        if isinstance(effect, Quit):
            return False
        self._carefully(effect, before)
        return True

    def toolbar(self) -> str:
        """What is asked now, in one line."""
        asking = self.session.asking
        if self.session.total is None:
            return "type words to search for, or /help"
        filters = "".join(f" | {name} {_short(value)}" for name, value in asking.filters.items())
        order = "" if asking.sort == "relevance" else f" | {asking.sort} first"
        return safe_text(f"{asking.query or 'everything'}{filters}{order} | {self.session.total:,} records | /help")

    def _carefully(self, effect: Effect, before: Session) -> None:
        """Carry an effect out; where that fails, say why and go on from what was before."""
        try:
            self._do(effect)
        except GivenUpError:
            self.session = before
            self._say("given up")
        except KeyboardInterrupt:
            self.session = before
            self._say("interrupted")
        except MemstoreError as error:
            self.session = before
            self._say(" ".join(str(error).split()))
        except OSError as error:
            self._say(f"{error.filename or 'the terminal'}: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - told; a conversation does not end for a bug of ours
            _log.debug("the command failed", exc_info=True)
            self.session = before
            self._say(f"a bug of memstore: {type(error).__name__}: {error}; please report it with what you typed")

    def _do(self, effect: Effect) -> None:
        match effect:
            case Tell(text):
                self._say(text)
            case AskPage(is_new):
                self._ask(is_new=is_new)
            case Open(memory_id):
                self._open(memory_id)
            case Similar(memory_id):
                self._similar(memory_id)
            case Groups():
                self._groups(effect)
            case Save(path, limit):
                self._save(path, limit)
            case Show(what):
                self._show(what)
            case Quit():
                pass

    # -- questions

    def _ask(self, *, is_new: bool) -> None:
        asking, cursor = self.session.asking, self.session.begins[-1]
        look = self._screen.look()
        bars_max = bars_fitting(look.width_chars)

        def ask() -> tuple[SearchResult, Timeline | None]:
            found = (asking if is_new else replace(asking, facets=())).page(self._store, cursor)
            return found, timeline(self._store, asking, bars_max=bars_max) if is_new and found.total > 1 else None

        result, line = cancellable(ask)
        self.session = self.session.asked(result)
        for said in (*result.hints, *result.notes):
            self._say(said)
        if line is not None:
            height = HEIGHT if self._screen.height() >= _HIGH_LINES else HEIGHT // 2
            self._draw(line, look, height)
        if is_new:
            lines, choices = facet_lines(result.facets, look, numbered=True)
            self.session = self.session.with_choices(choices)
            self._screen.show(*lines)
        first = self.session.page_first
        if result.hits:
            self._screen.show(*hit_lines(result.hits, look, first=first))
        self._say(summary(result, first=first, sort=asking.sort) + self._ways_on(result))

    def _ways_on(self, result: SearchResult) -> str:
        ways = ["Enter next"] if result.cursor is not None else []
        ways += ["#N open"] if result.hits else []
        ways += ["N narrow"] if self.session.choices else []
        return f"  ({', '.join(ways)})" if ways else ""

    def _open(self, memory_id: str) -> None:
        found = cancellable(lambda: family(self._store, memory_id))
        if found is None:
            raise NotFoundError(f"there is no record {memory_id} any more")
        lines, related = record_lines(found, self._screen.look())
        self.session = self.session.with_related(related)
        self._screen.show(*lines)

    def _similar(self, memory_id: str) -> None:
        result = cancellable(lambda: self._store.similar(memory_id, limit=self.session.asking.limit))
        related = [(f"s{number}", hit.record.memory_id) for number, hit in enumerate(result, 1)]
        self.session = self.session.with_related(related)
        if not result.hits:
            self._say("no record is like it")
            return
        self._screen.show(*hit_lines(result.hits, self._screen.look()))
        self._say(f"{len(result)} of {result.total:,} records like it   (#s1 opens the first)")

    def _groups(self, wanted: Groups) -> None:
        asking = self.session.asking
        found = cancellable(
            lambda: self._store.aggregate(
                asking.query, by=wanted.by, metrics=wanted.metrics, interval=wanted.interval, **asking.filters
            )
        )
        for said in (*found.hints, *found.notes):
            self._say(said)
        rows = [row.as_dict() for row in found]
        room = max(self._screen.height() * 2, 40)
        if rows:
            self._screen.rows(list(rows[0]), rows[:room])
        more = f"; the first {room} are shown: `memstore search --by` writes them all" if len(rows) > room else ""
        self._say(f"{len(rows):,} groups of {found.total:,} records{more}")

    def _save(self, path: str, limit: int | None) -> None:
        form, asking = format_of(path), self.session.asking
        stopped = threading.Event()

        def save() -> str:
            walk = Walk(self._store, asking, limit)
            with self._screen.file(path) as out:

                def write(data: bytes) -> None:
                    if stopped.is_set():
                        raise GivenUpError  # so that no file appears after all
                    out.write(data)

                written = write_hits(write, form, walk, About.of(self._store, asking))
            why = "; /sort newest, and all can be saved" if walk.ended_early else ""
            return f"{written.hits:,} of {written.total:,} records are in {path}{why}"

        try:
            self._say(cancellable(save))
        except GivenUpError:
            stopped.set()
            raise

    def _show(self, what: str) -> None:
        asking, place = self.session.asking, self._place
        if what == "python":
            self._screen.show(
                python_call(place.root, "search", asking.query, asking.arguments(), settings=place.config)
            )
        elif what == "command":
            self._screen.show(command_line(place.root, asking, config=place.config))
        elif what == "histogram":
            self._histogram()
        elif what == "follow":
            self._follow()
        else:
            self._screen.show(*_help_lines(self._screen.look()))

    def _histogram(self) -> None:
        look, asking = self._screen.look(), self.session.asking
        line = cancellable(lambda: timeline(self._store, asking, bars_max=bars_fitting(look.width_chars)))
        if line is None:
            self._say("no record matches")
            return
        self._draw(line, look, max(self._screen.height() - _LINES_BESIDE, HEIGHT))

    def _draw(self, line: Timeline, look: Look, height: int) -> None:
        drawn = histogram(line, width_chars=look.width_chars, height=height, is_unicode=look.is_unicode)
        self._screen.show(*map(Text, drawn))

    def _follow(self) -> None:
        """Until Ctrl-C; the main thread sleeps between looks, so that it is heard at once."""
        asking = self.session.asking
        with self._store.follow(asking.query, **asking.filters) as follower:
            self._say("new matches appear as they are appended; Ctrl-C ends it")
            try:
                self._look_again_and_again(follower)
            except KeyboardInterrupt:
                self._say("no longer followed")

    def _look_again_and_again(self, follower: Follower) -> None:
        while True:
            hits = follower.poll()
            if hits:
                self._screen.show(*hit_lines(hits, self._screen.look(), first=None, header=False))
            for said in follower.take_notes():
                self._say(said)
            if not follower.has_more:
                time.sleep(_FOLLOW_EVERY_S)

    # -- the rest

    def _say(self, text: str) -> None:
        self._screen.show(Text(safe_text(text), style="dim"))

    def _learn_names(self) -> None:
        """Names for completion, while the first line is typed."""
        try:
            agents = tuple(self._store.agents())
            self.vocabulary = replace(self.vocabulary, agents=agents)
            counts = self._store.search("", limit=1, facets="tag", highlight=False).facets.get("tag", [])
            tags = tuple(str(each.value) for each in counts[:_TAGS_MAX])
            self.vocabulary = replace(self.vocabulary, tags=tags)
        except MemstoreError as error:
            _log.debug("names for completion: %s", error)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _help_lines(look: Look) -> Iterable[Text]:
    yield Text("How to ask", style="bold")
    yield Text(_HOW_TO_ASK)
    yield from _told("fields", FIELDS_HELP, look)
    yield Text("Commands", style="bold")
    for name, told in COMMANDS.items():
        yield from _told(f"/{name} {told.argument}", told.meaning, look)
    yield from _told("Ctrl-C, Ctrl-D", "give a running question up; leave. Commands may be cut short: /n, /o 3", look)


def _told(what: str, meaning: str, look: Look) -> Iterable[Text]:
    """What something means beside it, folded to the width."""
    indent = " " * _HELP_INDENT
    room = max(look.width_chars - 1, 2 * _HELP_INDENT)
    begun = f"{what:<{_HELP_INDENT - 1}} " if len(what) < _HELP_INDENT else f"{what}  "
    yield from map(Text, textwrap.wrap(begun + meaning, room, subsequent_indent=indent, break_long_words=False))
