"""search_terms, search_filtered: ten hits read and decoded, against tantivy's own bare search of the same query.

Passages of hits are found when they are asked for, so a caller who reads records does not pay for them. That is what is
held against tantivy, which reads nothing; what they cost who takes them stands beside it.

Each search is compared with tantivy's of the same question, and the median of these ratios is judged. The ratio of the
two medians is told beside it: half of the questions take tantivy 0.4 ms at most and half of them 0.8 at least, so which
of them a median is of is chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.library import CACHES_OFF, Library, Searched
from benchmarks.measure import Bench
from benchmarks.report import Headline, Report, Row, judged
from benchmarks.searching import QUESTIONS, WORDS, Asked, bare_query, bare_searchers
from benchmarks.turns import Turns
from memstore import MemStore
from memstore.search.result import SearchResult

_HITS = 10


def bench_search_terms(bench: Bench, library: Library) -> None:
    """One and two words, rare and common, with no filter."""
    search_of(bench, library.searched, "search_terms", WORDS)


def bench_search_filtered(bench: Bench, library: Library) -> None:
    """Words with filters, each of another kind."""
    search_of(bench, library.searched, "search_filtered", QUESTIONS)


def search_of(bench: Bench, searched: Searched, name: str, asked: Sequence[Asked]) -> None:
    """Questions to one store, each in turn with tantivy alone."""
    searchers = bare_searchers(searched.root)
    queries = [bare_query(each) for each in asked]
    with MemStore(searched.root, read_only=True, settings={"storage": {"caching": CACHES_OFF}}) as store:

        def ours(number: int) -> SearchResult:
            return store.search(asked[number].query, **asked[number].filters)

        def with_highlights(number: int) -> int:
            return sum(len(hit.highlights) for hit in ours(number))

        def alone(number: int) -> list[int]:
            found: list[Any] = [searcher.search(queries[number], _HITS) for searcher in searchers]
            return [each.count for each in found]

        for number, each in enumerate(asked):
            assert store.search(each.query, **each.filters).total == sum(alone(number))
        turns = Turns({"memstore": ours, "highlights": with_highlights, "floor": alone})
        numbers = list(range(len(asked))) * max(bench.sizes.lookups // 100, 1)
        turns.take(numbers)
        turns.forget()
        with bench.meter.running():
            bench.run(turns.take, args=(numbers,))
    report = Report(name, bench.scratch, "reads only", searched.records, searched.bytes)
    report.headline = Headline(
        "search, its ten hits read, their highlights not asked for",
        turns.us["memstore"],
        turns.per_second("memstore", each=_HITS),
        "tantivy alone, the same query over the same index, nothing read of its hits",
        turns.over("floor", "memstore"),
        bench.meter.weight(searched.bytes),
    )
    report.rows = [
        Row("with their highlights", turns.us["highlights"], "µs"),
        Row("floor", turns.us["floor"], "µs"),
        *(
            Row(f"{each.query} {sorted(each.filters)}", turns.us["memstore"][number :: len(asked)], "µs")
            for number, each in enumerate(asked)
        ),
    ]
    report.ratios = [
        judged(name, "search / bare tantivy, p50", turns.over_same("memstore", "floor"), at_most=True),
        judged(name, "with highlights / bare tantivy, p50", turns.over_same("highlights", "floor"), at_most=True),
        judged(name, "p50 of searches / p50 of bare tantivy", turns.over("memstore", "floor"), at_most=True),
    ]
    bench.conclude(report)
