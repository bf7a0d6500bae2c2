"""What FORGOTTEN has put in doubt, carried out: documents go whose records are gone, and come whose records are back.

Only what was said before the lanes were consumed is settled, and only once it has been done: the lines are written
under the merge lock, which a run passes through first. Every step is right by itself, so a run that is stopped begins
again.
"""

from __future__ import annotations

from itertools import chain, islice

import msgspec

from memstore.engine.engine import Engine
from memstore.errors import LockedError
from memstore.format.forgotten import text_hash
from memstore.fs.lock import locked
from memstore.search.compile import Compiler
from memstore.search.course import Course
from memstore.search.document import Documents
from memstore.search.doubts import Doubts, Span, doubts_of
from memstore.search.ledger import Ledger
from memstore.search.months import month_span_us
from memstore.search.omissions import Omissions
from memstore.search.schema import key_of_hash
from memstore.search.state import IndexState, stale_months
from memstore.search.survey import agent_by_hash, agent_months, is_gone, stored_lines
from memstore.search.writer_pool import WriterPool

_MERGE_WAIT_S = 5.0
"""How long a run waits for a merge before it leaves in doubt what may just be disappearing."""


class Settling:
    """Used by one thread, under the index lock."""

    def __init__(
        self,
        engine: Engine,
        *,
        compiler: Compiler,
        ledger: Ledger,
        writers: WriterPool,
        documents: Documents,
        course: Course,
    ) -> None:
        self._engine = engine
        self._compiler = compiler
        self._ledger = ledger
        self._writers = writers
        self._documents = documents
        self._course = course

    def settle(self, epoch: int) -> None:
        """Carry out what FORGOTTEN said before the lanes were consumed."""
        _, state = self._ledger.look()
        if epoch == state.forgotten or not self._is_done():
            return
        doubts = doubts_of(self._engine.forgotten.entries(state.forgotten, epoch))
        names = {span.agent: agent_by_hash(self._engine, span.agent) for span in doubts.spans}
        spans = [(span, names[span.agent]) for span in doubts.spans]
        months = set(state.partitions)
        for _, agent in spans:
            if agent is not None:
                months |= agent_months(self._engine, agent, Omissions())  # told where they are read
        for month in sorted(months - stale_months(self._ledger.content(), state)):
            changed = [self._reindex(month, span, agent, state) for span, agent in spans]
            if self._delete_gone(month, doubts, state) or any(changed):
                ahead = any(changed) or (month in state.partitions and state.partitions[month].ahead)
                entry = self._writers.commit(month)
                self._ledger.publish({month: msgspec.structs.replace(entry, ahead=ahead)})  # in doubt still
            self._writers.keep_few()
        self._ledger.publish({}, forgotten=epoch)

    def _is_done(self) -> bool:
        """Whether what FORGOTTEN says has been done, or never will be, for its lines are written under the merge lock.

        Where the lock is not to be had soon, everything stays in doubt until the next run.
        """
        try:
            with locked(self._engine.storage, self._engine.paths.lock("merge"), timeout_s=_MERGE_WAIT_S):
                return True
        except LockedError:
            self._course.report.finished = False
            return False

    def _reindex(self, month: str, span: Span, agent: str | None, state: IndexState) -> bool:
        """Put in the place of an agent's documents in a month those that its records give now."""
        first, end = month_span_us(month)
        since_us, until_us = max(first, span.since_us), min(end, span.until_us)
        if since_us >= until_us:
            return False
        left_out = Omissions()
        lines = iter(()) if agent is None else stored_lines(self._engine, [agent], since_us, until_us, left_out)
        documents = self._documents.of(lines)
        head = list(islice(documents, 1))
        if month not in state.partitions and not head and not left_out:
            return False
        writer = self._writers.writer(month, state)
        indexed = writer.partition.agents()
        whose = [each for each in ([agent] if agent is not None else indexed) if text_hash(each) == span.agent]
        for each in whose:
            writer.delete(self._compiler.agent_within(each, since_us, until_us))
        self._course.added(writer.add(chain(head, documents)))
        writer.left_out(len(left_out))
        return bool(whose or head or left_out)

    def _delete_gone(self, month: str, doubts: Doubts, state: IndexState) -> bool:
        """Delete documents of single records that are not there any more."""
        first, end = month_span_us(month)
        hashes = [each for each, span in doubts.ids if span.since_us < end and span.until_us > first]
        if not hashes or month not in state.partitions:
            return False
        writer = self._writers.writer(month, state)
        changed = False
        for each in hashes:
            for memory_id in writer.partition.ids_of_hash(each, self._compiler):
                if is_gone(self._engine, memory_id):
                    writer.delete(self._compiler.keys([key_of_hash(each)]))
                    changed = True
        return changed
