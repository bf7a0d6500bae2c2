"""recent: an agent's fifty newest records, against reading and decoding fifty lines of one open file."""

from __future__ import annotations

from typing import Any

from benchmarks.floors import OpenFiles
from benchmarks.library import AGENTS, CACHES_OFF, Library
from benchmarks.measure import Bench
from benchmarks.report import Headline, Report, Row, judged
from benchmarks.turns import Turns
from benchmarks.workloads import LINE_BYTES, agent_names
from memstore import MemStore
from memstore.record import decode_records

_NEWEST = 50


def bench_recent(bench: Bench, library: Library) -> None:
    """Caches off; and as it answers when it was asked before and nothing is new."""
    names = agent_names(AGENTS)
    newest: dict[str, tuple[int, int, int]] = {}
    with (
        MemStore(library.hot, read_only=True) as cached,
        MemStore(library.hot, read_only=True, settings={"storage": {"caching": CACHES_OFF}}) as store,
        OpenFiles(library.paths) as files,
    ):
        for name in names:
            places = [library.lines[record.memory_id] for record in store.agent(name).recent(_NEWEST)]
            number, offset, length = places[0]
            first = min(start for file, start, _ in places if file == number)
            newest[name] = number, first, offset + length - first

        def read_and_decode(name: str) -> list[Any]:
            return decode_records(bytes(files.read(newest[name])).split(b"\n")[:-1])

        turns = Turns(
            {
                "memstore": lambda name: store.agent(name).recent(_NEWEST),
                "cached": lambda name: cached.agent(name).recent(_NEWEST),
                "decode": read_and_decode,
                "floor": lambda name: files.read(newest[name]),
            }
        )
        asked = names * max(bench.sizes.lookups // 100, 1)
        turns.take(asked)
        turns.forget()
        with bench.meter.running():
            bench.run(turns.take, args=(asked,))
    records = len(library.lines)
    report = Report("recent", bench.scratch, "reads only", records, records * LINE_BYTES)
    report.headline = Headline(
        f"recent({_NEWEST})",
        turns.us["memstore"],
        turns.per_second("memstore", each=_NEWEST),
        "one read of the bytes of fifty lines from an open file in the page cache",
        turns.over("floor", "memstore"),
        bench.meter.weight(records * LINE_BYTES),
    )
    report.rows = [
        Row("repeated, nothing new", turns.us["cached"], "µs"),
        Row("fifty lines of one open file, decoded", turns.us["decode"], "µs"),
        Row("floor", turns.us["floor"], "µs"),
    ]
    what = "recent(50) / 50 lines of one open file, decoded"
    report.ratios = [judged("recent", what, turns.over("memstore", "decode"))]
    bench.conclude(report)
