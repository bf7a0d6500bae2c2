"""``recent(50)`` of an agent whose past is a hot week only, and of one with thousands of cold frames before it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.library import CACHES_OFF
from benchmarks.measure import Bench
from benchmarks.report import Ratio, Report, Row
from benchmarks.tiers import END_US, LINE_BYTES_MEAN, fill, tier_all
from benchmarks.turns import Turns
from memstore import MemStore
from memstore.store import engine_of
from memstore.timestamps import US_PER_DAY, iso_text

pytestmark = pytest.mark.extra
_RECENT = 1000
_SMALL_FRAMES = {"cold_frame_bytes": 65_536}
"""So that there are thousands."""


def bench_recent_over_cold(bench: Bench) -> None:
    """How much there is before what is asked for does not matter."""
    size = bench.sizes.tier_bytes
    roots = {"none": os.path.join(bench.scratch, "none"), "cold": os.path.join(bench.scratch, "cold")}
    fill(roots["cold"], size_bytes=size, days=10)
    tier_all(roots["cold"], "cold", settings=_SMALL_FRAMES)
    now_us = END_US + 120 * US_PER_DAY
    for root in roots.values():
        with MemStore(root, durability="os") as store:
            agent = store.agents()[0] if root == roots["cold"] else "analyst_agent_001"
            for second in range(_RECENT):
                time_us = now_us - 3_600_000_000 + 1_000_000 * second
                store.append(agent_id=agent, timestamp=iso_text(time_us), content={"text": "x" * 500})
            store.drain()
    stores = {
        name: MemStore(root, read_only=True, settings={"storage": {"caching": CACHES_OFF}})
        for name, root in roots.items()
    }
    manifest = engine_of(stores["cold"]).builder.manifest(agent)
    assert manifest is not None
    frames = sum(len(packed.frames) for packed in manifest.packed.values())

    def recent_of(store: MemStore) -> Callable[[Any], object]:
        return lambda _: store.agent(agent).recent(50)

    turns = Turns({name: recent_of(store) for name, store in stores.items()})
    turns.take(range(20))
    turns.forget()
    bench.run(lambda: turns.take(range(200)))
    for store in stores.values():
        store.close()
    report = Report("recent_over_cold", bench.scratch, "reads only", size // LINE_BYTES_MEAN, size)
    report.rows = [Row(f"recent(50), {name} before", values, "µs") for name, values in turns.us.items()]
    report.rows.append(Row("cold frames", [frames], ""))
    report.ratios = [Ratio("recent(50) over cold / over nothing", turns.over("cold", "none"), 1.25, at_most=True)]
    bench.conclude(report)
