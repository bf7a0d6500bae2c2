"""range_day, range_month: every record of a time, decoded, against copying its bytes out of the page cache."""

from __future__ import annotations

import os

import pytest

from benchmarks.floors import OpenFiles
from benchmarks.library import CACHES_OFF, Library
from benchmarks.measure import Bench
from benchmarks.report import Headline, Report, Row
from benchmarks.turns import Turns
from benchmarks.workloads import LINE_BYTES
from memstore import MemStore
from memstore.timestamps import US_PER_DAY, day_start_us, iso_text

_MONTH = "2025-01-01", "2025-02-01"


def bench_range_day(bench: Bench, library: Library) -> None:
    """One day of one agent, day after day, from day files."""
    with MemStore(library.hot, read_only=True, settings={"storage": {"caching": CACHES_OFF}}) as store:
        days = [(agent, day) for agent in store.agents() for day in _days(library)]

        def read(number: int) -> int:
            agent, day = days[number]
            since = iso_text(day_start_us(day))
            until = iso_text(day_start_us(day) + US_PER_DAY)
            return sum(1 for _ in store.agent(agent).range(since=since, until=until))

        with OpenFiles(library.paths) as files:
            turns = Turns({"memstore": read, "floor": files.read_whole})
            numbers = range(min(len(days), len(library.paths)))
            records = sum(map(read, numbers))
            with bench.meter.running():
                bench.run(turns.take, args=(numbers,))
    each = records / len(numbers)
    _conclude(bench, library, turns, name="range_day", operation="range over one day of one agent", each=each)


@pytest.mark.parametrize("tier", ["hot", "cold"])
def bench_range_month(bench: Bench, library: Library, tier: str) -> None:
    """A whole month of one agent, from day files and from one cold file."""
    root = library.hot if tier == "hot" else library.cold
    with MemStore(root, read_only=True, settings={"storage": {"caching": CACHES_OFF}}) as store:
        agents = store.agents()
        of_agent = len(library.paths) // len(agents)

        def read(number: int) -> int:
            since, until = _MONTH
            return sum(1 for _ in store.agent(agents[number]).range(since=since, until=until))

        with OpenFiles(library.paths) as files:

            def copy(number: int) -> None:
                for day in range(of_agent):
                    files.read_whole(number * of_agent + day)

            turns = Turns({"memstore": read, "floor": copy})
            assert sum(map(read, range(len(agents)))) == len(library.lines)
            with bench.meter.running():
                bench.run(turns.take, args=(range(len(agents)),))
    each = len(library.lines) / len(agents)
    _conclude(
        bench, library, turns, name=f"range_month[{tier}]", operation="range over a month of one agent", each=each
    )


def _conclude(bench: Bench, library: Library, turns: Turns, *, name: str, operation: str, each: float) -> None:
    records = len(library.lines)
    report = Report(name, bench.scratch, "reads only", records, records * LINE_BYTES)
    report.headline = Headline(
        operation,
        turns.us["memstore"],
        turns.per_second("memstore", each=each),
        "the bytes of these lines, file by file, copied out of the page cache",
        turns.over("floor", "memstore"),
        bench.meter.weight(records * LINE_BYTES),
    )
    report.rows = [
        Row("of lines", [rate * LINE_BYTES / 1e6 for rate in turns.per_second("memstore", each=each)], "MB/s"),
        Row("floor", [rate * LINE_BYTES / 1e6 for rate in turns.per_second("floor", each=each)], "MB/s"),
    ]
    bench.conclude(report)


def _days(library: Library) -> list[str]:
    """The days of which there are files."""
    return sorted({os.path.basename(path)[:8] for path in library.paths})
