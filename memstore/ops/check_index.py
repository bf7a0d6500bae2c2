"""Is the search index what the store is? A part of a check that needs an open store, which the rest of it does not.

The index is derived: nothing is lost with it, but a search that misses what is there is wrong in silence.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from memstore.engine.engine import Engine
from memstore.errors import MemstoreError
from memstore.ops.check_progress import Progress
from memstore.ops.finding import Finding
from memstore.ops.report import CheckReport
from memstore.search.state import CONSUMER


def check_index(engine: Engine, report: CheckReport, *, progress: Progress | None = None) -> None:
    """Add to a store's report what is wrong with its search index, if it has one.

    Changes nothing but for the lock that tantivy makes and takes in a month's directory while it opens it.

    Args:
        engine: the store, read-only or not.
        report: of the check of the store; its ``full`` says how much is looked at.
        progress: told how much is done, and how much there is: bytes of the index if ``full``, else months.
    """
    if engine.consumers.identify(CONSUMER) is None:
        return
    began_s = engine.clock.monotonic_s()
    path = engine.paths.search
    try:
        for finding in _look(engine, report, progress):
            report.add(finding)
    except (MemstoreError, FileNotFoundError, msgspec.MsgspecError) as error:
        report.add(Finding("search_index", "unread", path, f"it could not be looked at: {error}"))
    report.seconds += engine.clock.monotonic_s() - began_s


def _look(engine: Engine, report: CheckReport, progress: Progress | None) -> Iterator[Finding]:
    from memstore.search.audit import Audit  # noqa: PLC0415 - tantivy costs 40 ms, and only here

    audit = Audit(engine)
    sizes = audit.sizes()
    total = sum(size for _, size in sizes.values()) if report.full else len(sizes)
    done = 0

    def on_month(month: str) -> None:
        nonlocal done
        files, size = sizes.get(month, (0, 0))
        report.checked.files += files
        report.checked.bytes += size if report.full else 0
        done += size if report.full else month in sizes
        if progress is not None:
            progress(min(done, total), total)

    for each in audit.run(full=report.full, on_month=on_month):
        repair = f"`memstore index rebuild {each.month}` builds it anew" if each.severity == "damage" else ""
        yield Finding("search_index", each.severity, each.path, each.reason, repair=repair)
