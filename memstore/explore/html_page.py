"""A result as one page of HTML that needs nothing else: no script, no font, no picture from anywhere. Pure.

Whatever records hold is text here: everything is escaped, and the page's own policy forbids scripts and loads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import msgspec

from memstore.explore.chart import chart
from memstore.explore.hits_view import is_telling
from memstore.explore.timeline import Timeline
from memstore.legible import short_text
from memstore.record import MemoryRecord
from memstore.search.result import FacetCount, Highlight, SearchHit, SearchResult

BARS_MAX = 90
_FACET_VALUES_MAX = 12
_BEGINNING_CHARS = 400
_STYLE = """
:root { color-scheme: light dark; --soft: #8882; --mark: #ffe066; --bar: #4a7fd4; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin-bottom: .2rem; } .soft { opacity: .7; } code { font-size: .9em; }
svg { width: 100%; height: auto; } svg .bar { fill: var(--bar); } svg text { fill: currentColor; font-size: 11px; }
.facets { display: flex; flex-wrap: wrap; gap: 2rem; margin: 1rem 0; }
.facets h2 { font-size: .95rem; margin: 0 0 .3rem; }
.facets td { padding: 0 .8rem 0 0; } .facets td + td { text-align: right; }
article { border-top: 1px solid var(--soft); padding: .7rem 0; } .meta span { margin-right: .9rem; }
.CRITICAL { color: #d22; font-weight: bold; } .HIGH { color: #c70; } .ERROR { color: #d22; } .LOW { opacity: .6; }
mark { background: var(--mark); color: #000; padding: 0 .1em; } p { margin: .25rem 0; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .6rem; overflow: auto; max-height: 30rem; }
summary { cursor: pointer; opacity: .7; }
"""


def html_page(title: str, filters: Mapping[str, Any], result: SearchResult, line: Timeline | None) -> str:
    """The whole page."""
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_summary(filters, result))}</p>',
        *(f'<p class="soft">{escape(said)}</p>' for said in (*result.hints, *result.notes)),
        *([] if line is None else [chart(line)]),
        *_facets(result.facets),
        *(_article(number, hit) for number, hit in enumerate(result, 1)),
    ]
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)} - memstore</title><style>{_STYLE}</style></head><body>",
            *body,
            "</body></html>\n",
        )
    )


def _summary(filters: Mapping[str, Any], result: SearchResult) -> str:
    said = "".join(f", {name} {_value(value)}" for name, value in filters.items())
    return f"{len(result):,} of {result.total:,} records{said}"


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " or ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _facets(facets: dict[str, list[FacetCount]]) -> Iterable[str]:
    if not any(facets.values()):
        return
    yield '<div class="facets">'
    for name, counts in facets.items():
        if counts:
            rows = "".join(
                f"<tr><td>{escape(str(each.value))}</td><td>{each.count:,}</td></tr>"
                for each in counts[:_FACET_VALUES_MAX]
            )
            more = len(counts) - _FACET_VALUES_MAX
            rows += f'<tr class="soft"><td>{more:,} more</td><td></td></tr>' if more > 0 else ""
            yield f"<section><h2>{escape(name)}</h2><table>{rows}</table></section>"
    yield "</div>"


def _article(number: int, hit: SearchHit) -> str:
    record = hit.record
    kind, importance = record.memory_type.value, record.importance.value
    score = "" if hit.score is None else f"<span>{hit.score:.2f}</span>"
    passages = "".join(f"<p>{_marked(each)}</p>" for each in hit.highlights)
    if not is_telling(hit):
        passages += f'<p class="soft">{escape(short_text(record)[:_BEGINNING_CHARS])}</p>'
    return (
        f'<article id="hit-{number}"><div class="meta soft"><span>{number}</span>{score}'
        f"<span>{escape(record.timestamp_utc)}</span><span>{escape(record.agent_id)}</span>"
        f'<span class="{kind}">{kind}</span><span class="{importance}">{importance}</span>'
        f"<span>{escape(', '.join(record.tags))}</span></div>{passages}"
        f"<details><summary>{escape(record.memory_id)}</summary><pre>{escape(_whole(record))}</pre></details></article>"
    )


def _whole(record: MemoryRecord) -> str:
    return json.dumps(msgspec.to_builtins(record), indent=2, ensure_ascii=False)


def _marked(passage: Highlight) -> str:
    parts, position = [], 0
    for start, end in passage.spans:
        parts += [escape(passage.text[position:start]), f"<mark>{escape(passage.text[start:end])}</mark>"]
        position = end
    return "".join((*parts, escape(passage.text[position:])))
