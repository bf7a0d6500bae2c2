"""Keep the index up to date: one indexer at a time, whoever holds ``locks/index``.

A run, in this order: what was appended since the watermark goes into the partitions of its months (`intake`); then what
FORGOTTEN put in doubt before that is carried out (`settling`); then stale months are built anew, the newest first
(`building`), until nothing is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from memstore.engine.engine import Engine
from memstore.fs.lock import try_lock_file
from memstore.search.building import Building
from memstore.search.compile import Compiler
from memstore.search.course import Course, IndexReport, Progress
from memstore.search.document import Documents
from memstore.search.foreign import IndexFailedError
from memstore.search.intake import Intake
from memstore.search.ledger import ErasedMeanwhileError, Ledger
from memstore.search.partition import has_merged
from memstore.search.schema import Analyzer, IndexShape
from memstore.search.settling import Settling
from memstore.search.state import stale_months, state_of
from memstore.search.survey import agents_of
from memstore.search.writer_pool import DamagedPartitionError, WriterPool

_log = logging.getLogger(__name__)
LOCK = "index"


class Indexer:
    """Thread-safe: the index lock excludes threads too.

    Attributes:
        verified: names of files (``directory/file``) that a run has verified or written.

    Args:
        engine: the store, open for writing.
        shape: of the index.
        analyzer: of the shape's language.
        compiler: makes queries.
    """

    def __init__(self, engine: Engine, *, shape: IndexShape, analyzer: Analyzer, compiler: Compiler) -> None:
        self._engine = engine
        self._shape = shape
        self._analyzer = analyzer
        self._compiler = compiler
        self.verified: set[str] = set()

    def run(
        self,
        *,
        stop: Callable[[], bool] | None = None,
        progress: Progress | None = None,
        rebuild: Iterable[str] | None = None,
        build: bool = True,
    ) -> IndexReport | None:
        """Bring the index up to date; None where somebody else is at it.

        Args:
            stop: asked between batches; the next run goes on.
            progress: see `Progress`.
            rebuild: months to build anew whether or not they are stale; an empty one means all.
            build: whether to build stale months; False: only what is appended is looked at.

        Raises:
            IndexFailedError: tantivy refused; what counts stands.
            StorageError: the disk refused.
        """
        lock = try_lock_file(self._engine.storage, self._engine.paths.lock(LOCK))
        if lock is None:
            return None
        course = Course(stop=stop, progress=progress, count=self._records)
        try:
            return self._run(course).go(rebuild, build=build)
        finally:
            lock.close()

    def _run(self, course: Course) -> _Run:
        engine = self._engine
        ledger = Ledger(engine, self._shape)
        writers = WriterPool(
            engine.storage,
            engine.paths.search,
            analyzer=self._analyzer,
            compiler=self._compiler,
            ledger=ledger,
            verified=self.verified,
        )
        documents = Documents(self._shape.context_keys)
        return _Run(
            engine,
            course=course,
            ledger=ledger,
            writers=writers,
            intake=Intake(engine.feed, ledger=ledger, writers=writers, documents=documents, course=course),
            settling=Settling(
                engine,
                compiler=self._compiler,
                ledger=ledger,
                writers=writers,
                documents=documents,
                course=course,
            ),
            building=Building(engine, ledger=ledger, writers=writers, documents=documents, course=course),
        )

    def _records(self) -> int:
        return self._engine.inventory.records(agents_of(self._engine))


class _Run:
    """One run, under the index lock."""

    def __init__(
        self,
        engine: Engine,
        *,
        course: Course,
        ledger: Ledger,
        writers: WriterPool,
        intake: Intake,
        settling: Settling,
        building: Building,
    ) -> None:
        self._engine = engine
        self._course = course
        self._ledger = ledger
        self._writers = writers
        self._intake = intake
        self._settling = settling
        self._building = building
        self._asked: set[str] = set()

    def go(self, rebuild: Iterable[str] | None, *, build: bool) -> IndexReport:
        """See `Indexer.run`."""
        report = self._course.report
        self._ledger.begin()
        if rebuild is not None:
            # Not stale: searches go on with what there is until something else takes its place.
            self._asked = set(rebuild) or self._ledger.months_anew()
        try:
            self._ledger.sweep()
            self._take_over()
            while self._advance(build=build):
                pass
        except ErasedMeanwhileError as erased:
            self._writers.discard()
            self._ledger.throw_away(erased.entries)
            report.finished = False
        finally:
            self._writers.close()
        self._engine.consumers.release()
        content = self._ledger.content()
        left = self._asked | stale_months(content, state_of(content))
        report.finished = report.finished and not left
        return report

    def _take_over(self) -> None:
        """Note the checksums of what tantivy has merged for an indexer that was killed before it could."""
        content = self._ledger.content()
        state = state_of(content)
        for month in sorted(state.partitions.keys() - stale_months(content, state)):
            try:
                if has_merged(self._engine.storage, self._engine.paths.search, state.partitions[month]):
                    self._writers.writer(month, state)  # which says what it has when it is closed
                    self._writers.close()
            except IndexFailedError as error:
                if error.is_disks:
                    raise
                self._give_up(DamagedPartitionError(month, error))
            except DamagedPartitionError as damaged:
                self._give_up(damaged)

    def _give_up(self, damaged: DamagedPartitionError) -> None:
        # As text: a record that somebody keeps must not keep the writer, and its files, open with the error.
        _log.error("%s; the search index of %s is built again", str(damaged), damaged.month)
        self._writers.discard()
        self._ledger.mark_stale({damaged.month})

    def _advance(self, *, build: bool) -> bool:
        """One round; whether another is due."""
        try:
            doubtful = self._engine.forgotten.epoch()  # before the lanes: what is consumed then is older or newer
            if not self._intake.consume():
                return False
            self._settling.settle(doubtful)
            content = self._ledger.content()
            state = state_of(content)
            stale = sorted(self._asked | stale_months(content, state), reverse=True)
            if self._course.is_to_stop:
                return False
            if stale and build:
                if self._building.build(stale[0], len(stale)):
                    self._asked.discard(stale[0])
                return True
            return any(entry.ahead for entry in state.partitions.values())
        except DamagedPartitionError as damaged:
            self._give_up(damaged)
            return True
