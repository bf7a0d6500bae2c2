"""Build a month anew from the store, and let it take the place of what there was.

What is read from the store is ahead of the watermark, and is marked so until the lanes have been consumed up to where
they were then. A sound month that is built on request is searched in its old partition meanwhile.
"""

from __future__ import annotations

import logging
import os
from itertools import islice

import msgspec

from memstore.engine.engine import Engine
from memstore.format.consumer_file import ConsumerFile
from memstore.search.course import Course
from memstore.search.document import Documents
from memstore.search.ledger import Ledger
from memstore.search.omissions import Omissions, pieces
from memstore.search.state import stale_months, state_of, with_state
from memstore.search.survey import agents_of, month_lines
from memstore.search.sweep import remove_tree
from memstore.search.writer_pool import WriterPool

_log = logging.getLogger(__name__)
_STEP_RECORDS = 10_000


class Building:
    """Used by one thread, under the index lock."""

    def __init__(
        self, engine: Engine, *, ledger: Ledger, writers: WriterPool, documents: Documents, course: Course
    ) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._root = engine.paths.search
        self._ledger = ledger
        self._writers = writers
        self._documents = documents
        self._course = course

    def build(self, month: str, left: int) -> bool:
        """Build a month, of ``left`` that are to be built; False where the run is to stop before that is done."""

        def claim(content: ConsumerFile) -> ConsumerFile:
            # From here on lanes that are let go unread count as missed anew, while this reads.
            state = state_of(content)
            if month in state.partitions and month not in stale_months(content, state):
                return content
            missed = [each for each in content.missed if each != month]
            changed = msgspec.structs.replace(state, stale=sorted({*state.stale, month}))
            return with_state(content, changed, missed=missed)

        self._ledger.replace(claim)
        _, before = self._ledger.look()
        writer = self._writers.make(month)
        left_out = Omissions()
        agents = agents_of(self._engine, left_out)
        documents = self._documents.of(month_lines(self._engine, agents, month, left_out))
        while True:
            added = writer.add(islice(documents, _STEP_RECORDS))
            self._course.added(added)
            if added < _STEP_RECORDS:
                break
            if self._course.is_to_stop:
                self._writers.discard()
                remove_tree(self._storage, os.path.join(self._root, writer.directory))
                return False
        if left_out:
            _log.warning("%s", pieces(len(left_out), month))
        writer.left_out(len(left_out))
        entry = self._writers.finish(month)
        old = before.partitions.get(month)
        self._ledger.publish({month: msgspec.structs.replace(entry, ahead=True)}, built=month)
        if old is not None:
            remove_tree(self._storage, os.path.join(self._root, old.directory))
        self._course.report.built.append(month)
        _log.info(
            "Built the search index of %s.",
            month,
            extra={"event": "indexed", "fields": {"month": month, "records": entry.records, "months_left": left - 1}},
        )
        return True
