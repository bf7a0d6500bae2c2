"""A store to search, and what searching is measured against: tantivy alone on the same documents and queries."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any, NamedTuple

import orjson
import tantivy

from benchmarks.aside import put_aside
from benchmarks.workloads import SEED, memories
from memstore import MemStore
from memstore.filters import build_filter
from memstore.format.names import StorePaths
from memstore.search.compile import Compiler
from memstore.search.document import Documents
from memstore.search.filters import search_filters
from memstore.search.partition_writer import WRITER_BYTES
from memstore.search.query import parse_question
from memstore.search.schema import Analyzer
from memstore.timestamps import US_PER_DAY, day_start_us, iso_text

DAYS = 40
"""Over so many days the records spread: two months, so two partitions."""
START_US = day_start_us("20250110")
_POOL = 50_000
_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: a query text and typed filters."""

    query: str
    filters: dict[str, Any]


QUESTIONS = (
    Asked("timeout", {"memory_type": "ERROR"}),
    Asked("latency AND memory", {"agent": "bdi_agent_0007"}),
    Asked("customer invoice", {"min_importance": "HIGH", "since": "2025-01-20", "until": "2025-02-05"}),
    Asked('"retry succeeded"', {"memory_type": ["ERROR", "LEARNING"]}),
    Asked("belief revised", {"tags": ["market"], "memory_type": "GOAL"}),
    Asked("clusters -season", {"success": True, "importance": "CRITICAL"}),
    Asked("failed plan", {"since": "2025-02-01", "until": "2025-02-03"}),
    Asked("region", {"session": "s00123"}),
)
"""With filters, each of another kind; all of them have more than ten hits in a million records but the last."""

WORDS = (
    Asked("timeout", {}),
    Asked("season", {}),
    Asked("belief revised", {}),
    Asked("latency AND memory", {}),
    Asked('"retry succeeded"', {}),
)
"""No filters; every word is in most records, for the workload has few words."""


def fill_for_search(root: str, records: int, *, agents: int) -> int:
    """A store of the seeded workload's records over 40 days, merged into day files; bytes of its lines."""
    pool = [memory.fields for memory in memories(min(_POOL, records), agents=agents)]
    choose = random.Random(SEED)
    step_us = DAYS * US_PER_DAY // records
    with MemStore(root, durability="os") as store:
        for start in range(0, records, _BATCH):
            batch = []
            for index in range(start, min(start + _BATCH, records)):
                fields = pool[index % len(pool)]
                response = {**fields["response"], "processing_time_ms": round(40 + 4000 * choose.random() ** 3, 1)}
                time_us = START_US + index * step_us
                batch.append({**fields, "response": response, "timestamp_utc": iso_text(time_us)})
            store.append_many(batch)
        assert not store.drain(timeout_s=600).pending
        return sum(each["raw_bytes"] for each in store.tiers()["tiers"])


def all_lines(root: str) -> Iterator[bytes]:
    """Every line of a store, agent by agent."""
    with MemStore(root, read_only=True) as store:
        for agent in store.agents():
            yield from store.agent(agent).lines()


class Took(NamedTuple):
    """Seconds by the clock, and of all processors."""

    wall_s: float
    processor_s: float


class BareIndex:
    """tantivy alone: one index with the store's schema (words for prefixes too) and analyzers, and its documents."""

    def __init__(self, path: str) -> None:
        put_aside(path)
        os.makedirs(path)
        self.compiler = Compiler(Analyzer("english"))
        self._index = tantivy.Index(self.compiler.schema, path=path)
        Analyzer("english").register(self._index)

    def fill(self, lines: Sequence[bytes]) -> Took:
        """Index lines, as one partition of a store is: one thread, as much memory, one commit, the last merge.

        Returns:
            What it took from the first document on; making them, and their JSON, is not in it.
        """
        documents = Documents(())
        ready = [orjson.dumps(documents.document(line)).decode() for line in lines]
        began, processor_began = perf_counter(), process_time()
        writer = self._index.writer(WRITER_BYTES, 1)
        for document in ready:
            writer.add_json(document)
        writer.commit()
        writer.wait_merging_threads()
        return Took(perf_counter() - began, process_time() - processor_began)


def bare_searchers(root: str) -> list[tantivy.Searcher]:
    """Every partition of a store's index, as tantivy alone would open it."""
    found = []
    for path in sorted(entry.path for entry in os.scandir(StorePaths(root).search)):
        index = tantivy.Index.open(path)
        Analyzer("english").register(index)
        found.append(index.searcher())
    return found


def bare_query(asked: Asked) -> tantivy.Query:
    """The query that a question comes to, made once: what tantivy alone is asked."""
    compiler = Compiler(Analyzer("english"))
    filters = dict(asked.filters)
    agent, success = filters.pop("agent", None), filters.pop("success", None)
    record = build_filter(now_us=0, **filters)
    wanted = search_filters(record, agents=agent, own=None, success=success)
    must = compiler.filters(wanted)
    must += [compiler.context_is("session", value) for _, value in record.context]
    node = parse_question(asked.query, now_us=0).node
    return compiler.all_of(must, scored=compiler.question(node))
