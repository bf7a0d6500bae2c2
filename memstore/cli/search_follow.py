"""``memstore search --follow``: matches as they are appended, like ``tail -f``."""

from __future__ import annotations

import argparse
import select
from collections.abc import Sequence
from dataclasses import replace

from memstore.cli.exit_codes import OK, PIPE_CLOSED
from memstore.cli.opening import note, open_for_searching
from memstore.cli.output import Output
from memstore.cli.signals import StopSignals
from memstore.errors import UsageError
from memstore.explore.asking import Asking
from memstore.explore.files import CSV_COLUMNS, csv_text, hit_line, hit_row
from memstore.search.result import SearchHit

_EVERY_S = 0.25
"""Seconds between looks: a person does not notice, and a look costs less than a millisecond."""
_FORMATS = ("table", "ndjson", "csv")


def follow(args: argparse.Namespace, asking: Asking) -> int:
    """Show the newest matches, then new ones until SIGINT, SIGTERM or until nobody reads them any more."""
    out = Output.of(args)
    if out.format not in _FORMATS or args.to is not None:
        raise UsageError("what is followed has no end: it is printed as table, ndjson or csv, not into a file")
    printer = _Printer(out)
    with (
        StopSignals() as signals,
        open_for_searching(args) as store,
        store.follow(asking.query, highlight=asking.highlight, **asking.filters) as follower,
    ):
        if not follower.is_sure:
            note("without the right to write, what is merged between two looks can be missed")
        for hint in follower.hints:
            note(hint)
        seen = set()
        if args.limit != 0:
            newest = replace(asking, sort="newest").page(store).hits[::-1]
            seen = {hit.record.memory_id for hit in newest}
            printer.show(newest)
        while signals.reason is None:
            hits = follower.poll()
            printer.show([hit for hit in hits if hit.record.memory_id not in seen])
            seen.difference_update(hit.record.memory_id for hit in hits)
            for said in follower.take_notes():
                note(said)
            if _nobody_reads(out):
                return PIPE_CLOSED
            if not follower.has_more:
                signals.pause(_EVERY_S)
    return OK


class _Printer:
    """Writes hits as they come, each flushed."""

    def __init__(self, out: Output) -> None:
        self._out = out
        if out.format == "csv":
            out.write_bytes(csv_text([list(CSV_COLUMNS)]))
            out.flush()

    def show(self, hits: Sequence[SearchHit]) -> None:
        """Print them."""
        if not hits:
            return
        if self._out.format == "table":
            from memstore.cli.render import print_rich
            from memstore.cli.search_screen import look_of
            from memstore.explore.hits_view import hit_lines

            print_rich(self._out, *hit_lines(hits, look_of(self._out), first=None, header=False))
        for hit in hits:
            if self._out.format == "ndjson":
                self._out.write_bytes(hit_line(hit))
            elif self._out.format == "csv":
                self._out.write_bytes(csv_text([hit_row(hit)]))
        self._out.flush()


def _nobody_reads(out: Output) -> bool:
    """Whether the pipe behind standard output is closed: told although there is nothing to write."""
    number = out.descriptor()
    if number is None:
        return False
    poll = select.poll()
    poll.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
