"""What grows with the store, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.figures import written
from benchmarks.page.chart import Line, Plots
from benchmarks.page.document import Block, Heading, Items, Table, Text
from benchmarks.page.slopes import FLAT, GROWS_WITH, Slope, slopes
from benchmarks.results import Run

_HELD = {"records": "agents", "agents": "records"}
_WHY = {
    ("records", "get, µs"): "a fresh process reads the whole MANIFEST of each agent it asks",
    ("records", "search, µs"): "each word is in ten times as many records, and tantivy alone looks through more too",
    ("records", "resident while appending, MiB"): (
        "the slices of an open lane are kept until it is full, and MANIFESTs until their budget is"
    ),
    ("agents", "append, records/s"): "a merge opens two files for each agent, whatever is written to them",
}
"""Slopes that are not flat, as far as they are explained; the others are still to be."""


def growth_blocks(run: Run) -> Iterator[Block]:
    """A table of the points, the plots and the slopes, over records and over agents."""
    points = [result["point"] for result in run.results if result.get("point")]
    found = slopes(points)
    if not found:
        return
    yield Heading("Growth")
    yield Text(
        "One process appends durable batches of 1,000 until all is merged; fresh processes then open the store, read "
        "by id without caches, and search. A slope is the change at each tenfold, by least squares on logarithmic "
        f"axes; within {100 * FLAT:.0f} % it is called flat."
    )
    for over in GROWS_WITH:
        along = sorted((point for point in points if point["over"] == over), key=lambda point: float(point[over]))
        of_these = [slope for slope in found if slope.over == over]
        if not of_these:
            continue
        held = _HELD[over]
        yield Heading(f"Over {over}, with {along[0][held]:,} {held}", 3)
        yield _table(over, along, of_these)
        lines = tuple(Line(slope.figure, over, slope.points, bad=not slope.is_flat) for slope in of_these)
        losses = [slope for slope in of_these if slope.is_loss]
        if losses:
            yield Items(
                tuple(f"{slope.figure}: {_WHY.get((over, slope.figure), 'not explained yet')}." for slope in losses)
            )
        yield Plots(f"Orange: not flat over {over}", lines)


def _table(over: str, along: list[dict[str, Any]], of_these: list[Slope]) -> Table:
    header = ("figure", *(f"{point[over]:,} {over}" for point in along), "at each tenfold", "")
    rows = tuple(
        (
            slope.figure,
            *(written(value) for _, value in slope.points),
            f"{100 * slope.per_tenfold:+.0f} %",
            "" if slope.is_flat else "not flat" if slope.is_loss else "not flat, for the better",
        )
        for slope in of_these
    )
    return Table(header, rows, last_words=True)
