"""The search against a naive look at every record, while the store ages, is indexed, damaged, merged and erased.

What must be found is worked out from the records that reads give and from nothing else: their words by the analyzer,
their fields by hand. After every step two openings and a read-only one answer many questions, all of them exactly.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from lifecycle_support import DAY_S, LIVELY, at, iso
from search_support import all_ids, index_files
from support import NO_CACHES, T0_US, flip

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.record import Importance
from memstore.search.document import texts_of
from memstore.search.schema import Analyzer
from memstore.timestamps import US_PER_DAY, iso_text, parse_time

SEEDS = int(os.environ.get("SEARCH_WALKS", "2"))
STEPS = int(os.environ.get("SEARCH_WALK_STEPS", "24"))
AGENTS = ["plain", "Über.Agent/..", "bdi_1"]
WORDS = ["market", "timeout", "timeouts", "Running", "ran", "café", "naïve", "東京", "x1", "the", "error", "deal_42"]
TAGS = ["alpha", "Beta", "two words"]
TYPES = ["INTERACTION", "ERROR", "GOAL"]
SETTINGS: dict[str, Any] = {
    **LIVELY,
    "storage.retention.rules": [{"memory_type": "GOAL", "keep_days": 40}],
    "storage.lifecycle.cold_retention_months": 12,
    "storage.lifecycle.hot_storage_days": 3,
    "storage.lifecycle.warm_storage_days": 10,
    "search.background": False,
    "search.context_keys": ["cost", "a.b"],
}
UNCACHED = {**{f"storage.caching.{key}": value for key, value in NO_CACHES.items()}, "reading.frame_cache_bytes_max": 0}
analyzer = Analyzer("english")


@dataclass
class Seen:
    """A record as reads give it, its terms and its words text by text."""

    record: Any
    runs: list[list[str]]
    words: list[str]
    time_us: int

    def has(self, word: str) -> bool:
        return self.phrase(word)

    def phrase(self, text: str) -> bool:
        wanted = analyzer.terms(text)
        return any(
            run[at : at + len(wanted)] == wanted for run in self.runs for at in range(len(run) - len(wanted) + 1)
        )

    def starts(self, prefix: str) -> bool:
        (typed,) = analyzer.folded(prefix)
        return any(word.startswith(typed) for word in self.words)

    def phrase_starts(self, text: str, prefix: str) -> bool:
        """Behind the words of a text stands a word, told by its stem, that begins so."""
        (typed,) = analyzer.folded(prefix)
        stems = {stem for word in self.words if word.startswith(typed) for stem in analyzer.terms(word)}
        before = analyzer.terms(text)
        width = len(before)
        return bool(stems) and any(
            run[at : at + width] == before and (run[at + width] in stems or run[at + width].startswith(typed))
            for run in self.runs
            for at in range(len(run) - width)
        )

    def near(self, word: str) -> bool:
        (wanted,) = analyzer.terms(word)
        return any(edits(term, wanted) <= 1 for run in self.runs for term in run)

    @property
    def ms(self) -> float | None:
        return None if self.record.response is None else self.record.response.processing_time_ms

    @property
    def cost(self) -> float:
        value = self.record.context.get("cost")
        return value if isinstance(value, int | float) and not isinstance(value, bool) else 0

    @property
    def success(self) -> bool | None:
        return None if self.record.response is None else self.record.response.success


def edits(one: str, other: str) -> int:
    """Letters added, left out, changed or swapped with the next."""
    table = {(i, 0): i for i in range(len(one) + 1)} | {(0, j): j for j in range(len(other) + 1)}
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return table[len(one), len(other)]


def seen_of(store: MemStore) -> list[Seen]:
    found = []
    for agent in store.agents():
        for record in store.agent(agent).range():
            texts = texts_of(msgspec.to_builtins(record))
            runs = [analyzer.terms(text) for text in texts]
            words = [word for text in texts for word in analyzer.folded(text)]
            found.append(Seen(record, runs, words, parse_time(record.timestamp_utc, now_us=0)))
    return found


Question = tuple[str, dict[str, Any], Callable[[Seen], bool]]
QUESTIONS: list[Question] = [
    ("", {}, lambda s: True),
    ("market", {}, lambda s: s.has("market")),
    ("timeout café", {}, lambda s: s.has("timeout") or s.has("café")),
    ("timeout AND cafe", {}, lambda s: s.has("timeout") and s.has("café")),
    ("running NOT market", {}, lambda s: s.has("run") and not s.has("market")),
    ("NOT market", {}, lambda s: not s.has("market")),
    (
        "(market OR 東京) AND NOT (error x1)",
        {},
        lambda s: (s.has("market") or s.has("東京")) and not (s.has("error") or s.has("x1")),
    ),
    ("+market error", {}, lambda s: s.has("market")),
    ('"market timeout"', {}, lambda s: s.phrase("market timeout")),
    ("deal_42", {}, lambda s: s.phrase("deal 42")),
    ("nai*", {}, lambda s: s.starts("naï")),
    ("runnin*", {}, lambda s: s.starts("runnin")),
    ("TIMEOUTS*", {}, lambda s: s.starts("timeouts")),
    ("x1 NOT timeouts*", {}, lambda s: s.has("x1") and not s.starts("timeouts")),
    ('"market timeouts"*', {}, lambda s: s.phrase_starts("market", "timeouts")),
    ('"the runni"*', {}, lambda s: s.phrase_starts("the", "runni")),
    ('"error r"*', {}, lambda s: s.phrase_starts("error", "r")),
    ("timeou~1", {}, lambda s: s.near("timeou")),
    ("the", {}, lambda s: s.has("the")),
    ("ms:>=50", {}, lambda s: s.ms is not None and s.ms >= 50),
    ("market ms:[10 TO 60}", {}, lambda s: s.has("market") and s.ms is not None and 10 <= s.ms < 60),
    ("importance:>=HIGH", {}, lambda s: s.record.importance in ("HIGH", "CRITICAL")),
    ("success:false tags:beta", {}, lambda s: s.success is False and "Beta" in s.record.tags),
    ("agent:über*", {}, lambda s: s.record.agent_id.startswith("Über")),
    (
        "context.cost:>2",
        {},
        lambda s: isinstance(s.record.context.get("cost"), int | float) and s.record.context["cost"] > 2,
    ),
    (f"after:{iso(-20)} before:{iso(-2)}", {}, lambda s: at(-20) <= s.time_us < at(-2)),
    ("source_id:S*", {}, lambda s: s.record.source_id is not None),
    ("", {"memory_type": ["ERROR", "GOAL"]}, lambda s: s.record.memory_type in ("ERROR", "GOAL")),
    ("", {"importance": "LOW"}, lambda s: s.record.importance == "LOW"),
    ("market", {"min_importance": "MEDIUM"}, lambda s: s.has("market") and s.record.importance != "LOW"),
    ("", {"tags": ["alpha", "Beta"]}, lambda s: bool({"alpha", "Beta"} & set(s.record.tags))),
    ("", {"tags_all": ["alpha", "two words"]}, lambda s: {"alpha", "two words"} <= set(s.record.tags)),
    ("", {"session": "s1"}, lambda s: s.record.context.get("session_id") == "s1"),
    ("", {"context": {"a.b": "v"}}, lambda s: s.record.context.get("a.b") == "v"),
    ("", {"success": True}, lambda s: s.success is True),
    ("", {"agent": "*"}, lambda s: True),
    ("error", {"agent": ["plain", "bdi_?"]}, lambda s: s.has("error") and s.record.agent_id != AGENTS[1]),
    (
        "",
        {"since": iso(-9), "until": iso(0.25)},
        lambda s: T0_US - 9 * US_PER_DAY <= s.time_us < T0_US + US_PER_DAY // 4,
    ),
]


class Walk:
    """A random walk through everything that can happen to a store."""

    def __init__(self, root: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = ManualClock(T0_US)
        self.root = root
        self.stores = [self.open({}), self.open(UNCACHED)]
        self.reader = MemStore(root, read_only=True, settings=SETTINGS, clock=self.clock)
        self.sources = 0
        self.gone: list[str] = []
        self.told: list[str] = []

    def open(self, extra: dict[str, Any]) -> MemStore:
        return MemStore(self.root, settings={**SETTINGS, **extra}, durability="os", clock=self.clock)

    @property
    def store(self) -> MemStore:
        return self.chance.choice(self.stores)

    def some(self, many: int) -> list[str]:
        ids = [record.memory_id for agent in self.stores[1].agents() for record in self.stores[1].agent(agent).range()]
        return self.chance.sample(ids, min(many, len(ids)))

    # -- steps

    def record(self) -> dict[str, Any]:
        chance = self.chance
        text = " ".join(chance.choices(WORDS, k=chance.randrange(0, 7)))
        late_us = chance.choice([0, 0, 0, 1, 5, 12, 33, 70]) * US_PER_DAY
        return {
            "agent_id": chance.choice(AGENTS),
            "content": chance.choice([text, {"note": text, "list": [text, 42, None, True]}, None]),
            "memory_type": chance.choice(TYPES),
            "importance": chance.choice(list(Importance)).value,
            "tags": chance.sample(TAGS, chance.randrange(3)),
            "context": chance.choice(
                [{}, {"session_id": "s1", "cost": chance.choice([1, 2.5, 7, "7", True])}, {"a.b": "v"}]
            ),
            "response": chance.choice(
                [None, {"content": text, "success": chance.random() < 0.5, "processing_time_ms": chance.randrange(100)}]
            ),
            **({"timestamp_utc": iso_text(self.clock.now_us() - late_us)} if late_us or chance.random() < 0.3 else {}),
        }

    def append(self) -> None:
        self.store.append_many([self.record() for _ in range(self.chance.randrange(1, 12))])

    def imports(self) -> None:
        records = [
            {**self.record(), "source_id": f"S{self.chance.randrange(12)}", "timestamp_utc": iso(-3)} for _ in range(3)
        ]
        self.store.import_many(records)

    def index(self) -> None:
        report = self.store.index()
        assert report["finished"]

    def rebuild(self) -> None:
        self.store.index(rebuild=True)

    def forget(self) -> None:
        ids = self.some(3)
        self.store.forget(ids)
        self.gone += ids

    def undelete(self) -> None:
        ids = [self.gone.pop() for _ in range(min(2, len(self.gone)))]
        if ids:
            self.store.undelete(ids=ids)

    def undelete_agent(self) -> None:
        agent = self.chance.choice(AGENTS)
        manifest = self.stores[0]._engine.builder.manifest(agent)
        if manifest is not None and (manifest.trash or manifest.hidden.ids):
            report = self.store.undelete(agent=agent)
            for hold in report.holds:
                self.store.remove_hold(hold)

    def erase_ids(self) -> None:
        ids = self.some(2)
        if ids:
            self.store.erase(ids=ids)

    def erase_agent(self) -> None:
        agents = self.stores[0].agents()
        if agents and self.chance.random() < 0.5:
            self.store.erase(agent=self.chance.choice(agents))

    def drain(self) -> None:
        self.store.drain()

    def maintain(self) -> None:
        self.store.maintain(trust_clock=True)

    def time(self) -> None:
        self.clock.advance(self.chance.choice([0.1, 1, 4, 15]) * DAY_S)

    def reopen(self, which: int | None = None) -> None:
        which = self.chance.randrange(2) if which is None else which
        self.stores[which].close()
        self.stores[which] = self.open(UNCACHED if which else {})

    def damage(self) -> None:
        files = [path for path in index_files(self.root) if not os.path.basename(path).startswith(".")]
        if not files:
            return
        path = self.chance.choice(files)
        kind = self.chance.randrange(4)
        size = os.path.getsize(path)
        if kind == 0 and size:
            flip(path, self.chance.randrange(size))
        elif kind == 1:
            os.truncate(path, size // 2)
        elif kind == 2:
            os.unlink(path)
        else:
            shutil.rmtree(os.path.dirname(path))
        # Not while it is open, where a change in place would show through the memory maps, as no disk's damage does.
        for which in (0, 1):
            self.reopen(which)

    # -- what must be

    def check(self, store: MemStore, seen: list[Seen], *, everything: bool) -> None:
        questions = QUESTIONS if everything else self.chance.sample(QUESTIONS, 2)
        for text, filters, matches in questions:
            wanted = [each for each in seen if matches(each)]
            found = store.search(text, facets=["agent", "type", "tags", "success"], limit=1000, **filters)
            told = f"{text!r} {filters}"
            ids = sorted(each.record.memory_id for each in wanted)
            assert sorted(record.memory_id for record in found.records) == ids, told
            assert found.total == len(wanted), told
            facets = {name: {each.value: each.count for each in counts} for name, counts in found.facets.items()}
            assert facets["agent"] == Counter(each.record.agent_id for each in wanted), told
            assert facets["type"] == Counter(each.record.memory_type for each in wanted), told
            assert facets["tags"] == Counter(tag for each in wanted for tag in set(each.record.tags)), told
            assert facets["success"] == Counter(each.success for each in wanted if each.success is not None), told
            if not everything:
                self.check_sums(store, text, filters, wanted)
        text, filters, matches = self.chance.choice(QUESTIONS)
        wanted = sorted(
            (each for each in seen if matches(each)), key=lambda s: (s.time_us, int(s.record.memory_id[-16:], 16))
        )
        ids = [each.record.memory_id for each in wanted]
        assert all_ids(store, text, sort="oldest", limit=self.chance.choice([5, 50]), **filters) == ids
        assert all_ids(store, text, sort="newest", limit=17, **filters) == ids[::-1]
        assert sorted(all_ids(store, text, sort="relevance", limit=30, **filters)) == sorted(ids)
        agent = self.chance.choice(AGENTS)
        own = [each.record.memory_id for each in wanted if each.record.agent_id == agent]
        own_filters = {name: value for name, value in filters.items() if name != "agent"}
        if own_filters == filters:
            assert all_ids(store.agent(agent), text, sort="oldest", limit=50, **own_filters) == own

    def check_sums(self, store: MemStore, text: str, filters: dict[str, Any], wanted: list[Seen]) -> None:
        found = store.aggregate(text, by=["agent", "type"], metrics=["sum(ms)", "count(ms)", "p50(ms)"], **filters)
        assert found.total == len(wanted)
        groups: dict[tuple[str, str], list[Seen]] = {}
        for each in wanted:
            groups.setdefault((each.record.agent_id, each.record.memory_type), []).append(each)
        assert {(row.key["agent"], row.key["type"]): row.count for row in found.rows} == {
            key: len(group) for key, group in groups.items()
        }
        for row in found.rows:
            numbers = [s.ms for s in groups[row.key["agent"], row.key["type"]] if s.ms is not None]
            assert row.metrics["count(ms)"] == len(numbers)
            if numbers:
                assert row.metrics["sum(ms)"] == sum(numbers)
                median = statistics.median_low(numbers)
                assert row.metrics["p50(ms)"] == pytest.approx(median, rel=0.0101)
        days = store.aggregate(text, interval="day", **filters)
        assert {row.key["time"][:10]: row.count for row in days.rows} == Counter(
            each.record.timestamp_utc[:10] for each in wanted
        )

    def step(self) -> None:
        steps = [
            self.append, self.append, self.append, self.append, self.imports, self.imports, self.index, self.index,
            self.forget, self.undelete, self.undelete_agent, self.erase_ids, self.erase_agent, self.drain, self.drain,
            self.maintain, self.maintain, self.time, self.time, self.reopen, self.damage, self.rebuild,
        ]  # fmt: skip
        step = self.chance.choice(steps)
        self.told.append(step.__name__)
        step()

    def look(self, *, everything: bool = False) -> None:
        seen = seen_of(self.stores[1])
        for store in (*self.stores, self.reader) if everything else [self.chance.choice([*self.stores, self.reader])]:
            self.check(store, seen, everything=everything)

    def close(self) -> None:
        for store in (*self.stores, self.reader):
            store.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is cut, and a drain waits for the other opening only as long as it must."""
    monkeypatch.setattr("memstore.engine.maintenance.TICK_S", 0.005)
    for sync in ("fsync", "fdatasync"):
        monkeypatch.setattr(f"os.{sync}", lambda _: None)


@pytest.mark.parametrize("number", range(SEEDS))
def test_search_finds_what_a_look_at_every_record_finds(tmp_path: Any, number: int) -> None:
    seed = int(os.environ.get("SEARCH_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"SEARCH_SEED={seed}")
    walk = Walk(str(tmp_path / "store"), seed)
    try:
        for count in range(STEPS):
            walk.step()
            if count % 2:
                walk.look()
        walk.look()
        walk.index()
        walk.look(everything=True)  # which may be the first to come upon what was damaged
        walk.index()
        status = walk.stores[0].index_status()
        assert status["records"] == len(seen_of(walk.stores[0]))
        assert status["stale"] == []
        assert not status["in_doubt"]
        assert status["behind_bytes"] == 0
    except BaseException:
        print(" ".join(walk.told))
        raise
    finally:
        walk.close()


def test_the_model_knows_words_as_the_index_does() -> None:
    """Else the walk would prove little: every question finds something, and leaves something out."""
    assert re.findall(r"\w+", "東京 café") == ["東京", "café"]
    assert analyzer.terms("Running ran timeouts café deal_42") == ["run", "ran", "timeout", "cafe", "deal", "42"]
