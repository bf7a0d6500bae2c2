"""Hits as a terminal shows them: a line that says which record it is, and below it where the words occur."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import set_cell_size
from rich.text import Text

from memstore.legible import safe_text, short_text
from memstore.record import MemoryRecord
from memstore.search.result import Highlight, SearchHit, SearchResult

MARK_STYLE = "bold yellow"
_IMPORTANCE_STYLES = {"CRITICAL": "bold red", "HIGH": "yellow", "LOW": "dim"}
_TYPE_STYLES = {"ERROR": "red"}
_AGENT_CHARS = (8, 28)
_TYPE_CHARS = 12
_IMPORTANCE_CHARS = 10
_TIME_CHARS = 19
_SCORE_CHARS = 6
_INDENT = 4
_PASSAGE_LINES_MAX = 2
_TELLING_CHARS = 40
"""Passages that are shorter are single words: they do not say what the record is about."""
_BETWEEN = " | "


@dataclass(frozen=True, slots=True)
class Look:
    """How something is to be drawn.

    Attributes:
        width_chars: columns there are.
        styled: whether words can be told apart by their look; else highlights get ``**`` around them.
        is_unicode: whether block characters and the like can be shown.
    """

    width_chars: int
    styled: bool = True
    is_unicode: bool = True


def hit_lines(
    hits: Sequence[SearchHit], look: Look, *, first: int | None = 1, header: bool = True, scored: bool | None = None
) -> list[Text]:
    """The hits of a page.

    Args:
        hits: they.
        look: see there.
        first: number of the first; None: without numbers.
        header: whether column names stand above.
        scored: whether there is a column for scores; None: where the first hit has one.
    """
    scored = bool(hits) and hits[0].score is not None if scored is None else scored
    columns = _Columns(
        number=0 if first is None else max(len(str(first + len(hits) - 1)), 2),
        score=_SCORE_CHARS if scored else 0,
        agent=_agent_chars(hits, look, scored=scored, numbered=first is not None),
    )
    found = [columns.header()] if header else []
    for index, hit in enumerate(hits):
        found.append(columns.line(hit.record, None if first is None else first + index, hit.score))
        found += _passages(hit, look)
    return found


def record_line(record: MemoryRecord, label: str, look: Look) -> Text:
    """One record in one line: a label, when, whose, what it is, and how it begins."""
    line = Text(f"{label:>4} {record.timestamp_utc[:_TIME_CHARS].replace('T', ' ')}  ")
    line.append(record.memory_type.value, style=_TYPE_STYLES.get(record.memory_type.value, ""))
    line.append(f"  {safe_text(short_text(record))}")
    line.truncate(look.width_chars, overflow=_overflow(look))
    return line


@dataclass(frozen=True, slots=True)
class _Columns:
    number: int
    score: int
    agent: int

    def header(self) -> Text:
        parts = [f"{'#':>{self.number}}"] if self.number else []
        parts += [f"{'score':>{self.score}}"] if self.score else []
        parts += [
            f"{'time (UTC)':<{_TIME_CHARS}}",
            f"{'agent':<{self.agent}}",
            f"{'type':<{_TYPE_CHARS}}",
            "importance",
        ]
        return Text(" ".join(parts), style="bold")

    def line(self, record: MemoryRecord, number: int | None, score: float | None) -> Text:
        line = Text()
        if number is not None:
            line.append(f"{number:>{self.number}} ", style="bold")
        if self.score:
            line.append(f"{'' if score is None else format(score, '.2f'):>{self.score}} ", style="cyan")
        line.append(f"{record.timestamp_utc[:_TIME_CHARS].replace('T', ' ')} ")
        line.append(f"{set_cell_size(safe_text(record.agent_id), self.agent)} ", style="green")
        kind, importance = record.memory_type.value, record.importance.value
        line.append(f"{kind:<{_TYPE_CHARS}} ", style=_TYPE_STYLES.get(kind, ""))
        line.append(importance, style=_IMPORTANCE_STYLES.get(importance, ""))
        return line


def _agent_chars(hits: Sequence[SearchHit], look: Look, *, scored: bool, numbered: bool) -> int:
    longest = max((len(safe_text(hit.record.agent_id)) for hit in hits), default=0)
    taken = _TIME_CHARS + _TYPE_CHARS + _IMPORTANCE_CHARS + 4 + (_SCORE_CHARS + 1) * scored + 3 * numbered
    return max(_AGENT_CHARS[0], min(longest, _AGENT_CHARS[1], look.width_chars - taken))


def _passages(hit: SearchHit, look: Look) -> Iterable[Text]:
    """Where the words occur; how the record begins where that says little."""
    indent = " " * _INDENT
    room = max(look.width_chars - _INDENT, 20)
    texts = _side_by_side([marked(each, look) for each in hit.highlights], room)
    if not is_telling(hit):
        beginning = Text(safe_text(short_text(hit.record)), style="dim")
        if texts:
            texts[-1].append(_BETWEEN, style="dim").append_text(beginning)
            texts[-1].truncate(room, overflow=_overflow(look))
        else:
            texts.append(beginning)
    for text in texts:
        for line in _folded(text, room, look):
            yield Text(indent).append_text(line)


def is_telling(hit: SearchHit) -> bool:
    """Whether its passages say what the record is about: they are more than single words of it, or all it says."""
    passages = [each.text for each in hit.highlights]
    return sum(map(len, passages)) >= _TELLING_CHARS or (bool(passages) and short_text(hit.record) in passages)


def _overflow(look: Look) -> Literal["ellipsis", "crop"]:
    return "ellipsis" if look.is_unicode else "crop"


def _side_by_side(texts: Sequence[Text], room: int) -> list[Text]:
    """Passages, those that fit into one line in one."""
    found: list[Text] = []
    for text in texts:
        if found and found[-1].cell_len + len(_BETWEEN) + text.cell_len <= room:
            found[-1].append(_BETWEEN, style="dim").append_text(text)
        else:
            found.append(text)
    return found


def _folded(text: Text, room: int, look: Look) -> list[Text]:
    """Lines of a text, at most so wide, the last one cut; broken at blanks where there are any near."""
    lines: list[Text] = []
    while text.cell_len > room and len(lines) < _PASSAGE_LINES_MAX - 1:
        end = len(text[:room].plain)
        while text[:end].cell_len > room:
            end -= 1
        blank = text.plain.rfind(" ", max(end - 30, 1), end)
        end = blank if blank > 0 else end
        lines.append(text[:end])
        text = text[end:]
        if text.plain.startswith(" "):
            text = text[1:]
    text.truncate(room, overflow=_overflow(look))
    return [*lines, text] if text.plain else lines


def marked(highlight: Highlight, look: Look) -> Text:
    """A passage with its words marked, and with nothing that could steer a terminal."""
    text, position = Text(), 0
    for start, end in highlight.spans:
        text.append(safe_text(highlight.text[position:start]))
        word = safe_text(highlight.text[start:end])
        text.append(word if look.styled else f"**{word}**", style=MARK_STYLE)
        position = end
    return text.append(safe_text(highlight.text[position:]))


def summary(result: SearchResult, *, first: int, sort: str) -> str:
    """``1-10 of 4,031 records, by relevance, in 12 ms``."""
    if not result.hits:
        return f"no record matches ({_milliseconds(result.seconds)})" if not result.total else "no more"
    last = first + len(result.hits) - 1
    order = (
        "by relevance" if result.hits[0].score is not None else f"{'oldest' if sort == 'oldest' else 'newest'} first"
    )
    records = f"{result.total:,} record{'' if result.total == 1 else 's'}"
    return f"{first:,}-{last:,} of {records}, {order}, in {_milliseconds(result.seconds)}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"
