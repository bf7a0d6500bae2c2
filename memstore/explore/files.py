"""Hits as files and streams of a format. ndjson and csv stream; memory is bounded by a page.

A line of ndjson is the record, so that what reads records reads it too, with ``_score`` and ``_highlights`` behind it.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from memstore.errors import UsageError
from memstore.explore.asking import Asking, Pages
from memstore.explore.timeline import Timeline, timeline
from memstore.exporters.csv import COLUMNS, csv_row
from memstore.search.result import SearchHit, SearchResult
from memstore.store import MemStore

FORMATS = ("ndjson", "json", "csv", "parquet", "html")
_FORMAT_OF_ENDING = {
    ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".html": "html",
    ".htm": "html",
}  # fmt: skip
CSV_COLUMNS = ("score", "highlights", *COLUMNS)
HTML_HITS_MAX = 1000
"""Hits on one page of HTML; a browser takes more, nobody reads them."""
Write = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class About:
    """What a page for people says beside the hits.

    Attributes:
        title: what was asked.
        filters: what must hold beside it.
        over_time: gives the hits over time; None where nobody can say.
    """

    title: str
    filters: Mapping[str, Any]
    over_time: Callable[[int], Timeline | None]

    @classmethod
    def of(cls, store: MemStore, asking: Asking) -> About:
        """Of a search."""
        return cls(
            asking.query.strip() or "all records",
            asking.filters,
            lambda bars_max: timeline(store, asking, bars_max=bars_max),
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        hits: how many.
        total: how many records match.
        cursor: where the next page would begin.
    """

    hits: int
    total: int
    cursor: str | None


def format_of(path: str) -> str:
    """The format that a file's ending asks for.

    Raises:
        UsageError: none that is known.
    """
    ending = os.path.splitext(path)[1].lower()
    if ending not in _FORMAT_OF_ENDING:
        known = ", ".join(ending for ending in _FORMAT_OF_ENDING if ending != ".htm")
        raise UsageError(f"{path}: the ending says the format: {known}")
    return _FORMAT_OF_ENDING[ending]


def write_hits(write: Write, form: str, pages: Pages, about: About) -> Written:
    """Write an answer.

    Raises:
        UsageError: what the format needs is not installed.
    """
    writer = {"ndjson": _ndjson, "json": _json, "csv": _csv, "parquet": _parquet, "html": _html}[form]
    count = writer(write, pages, about)
    first = pages.first
    return Written(count, 0 if first is None else first.total, pages.cursor)


def hit_object(hit: SearchHit) -> dict[str, Any]:
    """A hit as one flat object."""
    found: dict[str, Any] = msgspec.to_builtins(hit.record)
    if hit.score is not None:
        found["_score"] = hit.score
    if hit.highlights:
        found["_highlights"] = [each.marked() for each in hit.highlights]
    return found


def hit_line(hit: SearchHit) -> bytes:
    """A line of ndjson, with its line break."""
    return orjson.dumps(hit_object(hit), option=orjson.OPT_APPEND_NEWLINE)


def csv_text(rows: list[list[str]]) -> bytes:
    """Lines of csv as RFC 4180 wants them."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def hit_row(hit: SearchHit) -> list[str]:
    """The cells of a hit, one for each of `CSV_COLUMNS`."""
    score = "" if hit.score is None else repr(hit.score)
    marked = " ".join(each.marked() for each in hit.highlights)
    return [score, marked, *csv_row(msgspec.json.encode(hit.record))]


def _ndjson(write: Write, pages: Pages, _about: About) -> int:
    count = 0
    for hit in hits_of(pages):
        write(hit_line(hit))
        count += 1
    return count


def _csv(write: Write, pages: Pages, _about: About) -> int:
    write(csv_text([list(CSV_COLUMNS)]))
    count = 0
    for hit in hits_of(pages):
        write(csv_text([hit_row(hit)]))
        count += 1
    return count


def _json(write: Write, pages: Pages, _about: About) -> int:
    """One object: what `SearchResult.as_dict` gives for the whole."""
    whole = joined(list(pages.pages()))
    write(orjson.dumps(whole.as_dict(), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2))
    return len(whole)


def hits_of(pages: Pages) -> Iterator[SearchHit]:
    """Each hit of every page."""
    for page in pages.pages():
        yield from page


def joined(pages: list[SearchResult]) -> SearchResult:
    """Pages of one question as one result."""
    first, last = pages[0], pages[-1]
    return SearchResult(
        tuple(hit for page in pages for hit in page),
        first.total,
        first.facets,
        last.cursor,
        first.hints,
        tuple(dict.fromkeys(note for page in pages for note in page.notes)),
        first.scanned,
        sum(page.seconds for page in pages),
    )


def _parquet(write: Write, pages: Pages, _about: About) -> int:
    from memstore.explore.parquet import write_parquet  # noqa: PLC0415 - DuckDB is heavy, and optional

    return write_parquet(write, hits_of(pages))


def _html(write: Write, pages: Pages, about: About) -> int:
    from memstore.explore.html_page import BARS_MAX, html_page  # noqa: PLC0415 - for this format only

    found = []
    for page in pages.pages():
        found.append(page)
        if sum(map(len, found)) >= HTML_HITS_MAX:
            break
    whole = joined(found)
    write(html_page(about.title, about.filters, whole, about.over_time(BARS_MAX)).encode())
    return len(whole)
