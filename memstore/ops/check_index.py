"""Is the search index what the store is? A part of a check that needs an open store, which the rest of it does not.

The index is derived: nothing is lost with it, but a search that misses what is there is wrong in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from memstore.engine.engine import Engine
from memstore.ops.check_progress import Progress
from memstore.ops.finding import Finding
from memstore.ops.report import CheckReport
from memstore.search.state import CONSUMER


def check_index(
    engine: Engine,
    report: CheckReport,
    *,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Add to a store's report what is wrong with its search index, if it has one.

    Args:
        engine: the store, read-only or not.
        report: of the check of the store; its ``full`` says how much is looked at.
        progress: told how much is done, and how much there is: bytes of the index if ``full``, else months.
        stop: asked between months.
    """
    if engine.consumers.identify(CONSUMER) is None:
        return
    began_s = engine.clock.monotonic_s()
    report.attempt(engine.paths.search, lambda: _look(engine, report, progress, stop))
    report.seconds += engine.clock.monotonic_s() - began_s


def _look(
    engine: Engine, report: CheckReport, progress: Progress | None, stop: Callable[[], bool] | None
) -> Iterator[Finding]:
    from memstore.search.audit import Audit  # noqa: PLC0415 - tantivy costs 40 ms, and only here

    audit = Audit(engine)
    if not audit.is_ready:
        reason = "it was made with other settings of `search`, or by another version: it was not compared"
        yield Finding("search_index", "note", engine.paths.search, reason, repair=_NEXT_SEARCH)
        return
    sizes = audit.sizes()
    total = sum(size for _, size in sizes.values()) if report.full else len(sizes)
    done = 0

    def on_month(month: str) -> None:
        nonlocal done
        files, size = sizes.get(month, (0, 0))
        report.checked.files += files
        report.checked.bytes += size if report.full else 0
        done += size if report.full else 1
        if progress is not None:
            progress(min(done, total), total)

    for each in audit.run(full=report.full, on_month=on_month, stop=stop):
        repair = f"`memstore index rebuild {each.month}` builds it anew; a search does where a file is damaged"
        yield Finding("search_index", "damage", each.path, each.reason, records=each.records, repair=repair)
    report.finished = report.finished and not (stop is not None and stop())


_NEXT_SEARCH = "the next search builds it anew, if that is what its settings ask for"
