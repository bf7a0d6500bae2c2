"""The partitions that one run of the indexer has open for writing: few at a time, for each holds memory and threads."""

from __future__ import annotations

import logging

import msgspec

from memstore.errors import MemstoreError
from memstore.fs.storage import Storage
from memstore.search.compile import Compiler
from memstore.search.foreign import IndexFailedError
from memstore.search.ledger import Ledger
from memstore.search.partition import verify_partition
from memstore.search.partition_writer import PartitionWriter
from memstore.search.schema import Analyzer
from memstore.search.state import IndexState, PartitionEntry, state_of

_log = logging.getLogger(__name__)


class DamagedPartitionError(Exception):
    """A partition cannot be written on; its month has to be built anew."""

    def __init__(self, month: str, error: IndexFailedError) -> None:
        super().__init__(str(error))
        self.month = month


class WriterPool:
    """Used by one thread, under the index lock.

    Args:
        storage: where the index lies.
        root: the directory of all partitions.
        analyzer: the index's.
        compiler: makes queries.
        ledger: what counts.
        verified: names of files (``directory/file``) that have been verified or written; added to.
    """

    def __init__(
        self,
        storage: Storage,
        root: str,
        *,
        analyzer: Analyzer,
        compiler: Compiler,
        ledger: Ledger,
        verified: set[str],
    ) -> None:
        self._storage = storage
        self._root = root
        self._analyzer = analyzer
        self._compiler = compiler
        self._ledger = ledger
        self._verified = verified
        self._writers: dict[str, PartitionWriter] = {}

    def writer(self, month: str, state: IndexState) -> PartitionWriter:
        """The month's partition, opened or made.

        Raises:
            DamagedPartitionError: it cannot be written on.
        """
        writer = self._writers.get(month)
        if writer is None:
            entry = state.partitions.get(month)
            directory = self._ledger.new_directory(month) if entry is None else entry.directory
            try:
                writer = self._writers[month] = self._opened(directory, entry)
            except IndexFailedError as error:
                if entry is None or error.is_disks:
                    raise
                raise DamagedPartitionError(month, error) from error
        return writer

    def make(self, month: str) -> PartitionWriter:
        """A new partition for a month, beside the one that there may be. The others are closed."""
        self.close()
        writer = self._writers[month] = self._opened(self._ledger.new_directory(month))
        return writer

    def finish(self, month: str) -> PartitionEntry:
        """Commit a partition and close it; what there is then."""
        writer = self._writers[month]
        writer.commit()
        entry = writer.close()
        assert entry is not None
        del self._writers[month]
        return entry

    def commit(self, month: str) -> PartitionEntry:
        """Commit what was written to a month's partition. Raises as `writer`."""
        try:
            return self._writers[month].commit()
        except IndexFailedError as error:
            if error.is_disks or month not in state_of(self._ledger.content()).partitions:
                raise
            raise DamagedPartitionError(month, error) from error

    def keep_few(self) -> None:
        """Close all writers but the newest month's: each holds memory and threads."""
        for month in sorted(self._writers)[:-1]:
            self._close_writer(month)

    def close(self) -> None:
        """Close them all, and say what they have come to."""
        for month in sorted(self._writers):
            try:
                self._close_writer(month)
            except (MemstoreError, FileNotFoundError) as error:
                # An erasure may have taken the files away; what counts is what the state says.
                _log.info("a partition of the search index was left: %s", error)

    def discard(self) -> None:
        """Let go of them all without a commit."""
        for writer in self._writers.values():
            try:
                writer.discard()
            except IndexFailedError as error:
                _log.debug("%s", error)
        self._writers.clear()

    def _close_writer(self, month: str) -> None:
        writer = self._writers.pop(month)
        entry = writer.close()
        if entry is None:
            return

        def change(state: IndexState) -> IndexState:
            known = state.partitions.get(month)
            if known is None or known.directory != entry.directory:
                return state
            # Another commit than the one that counts: what was added with it has not been published.
            ahead = known.ahead or known.opstamp != entry.opstamp
            changed = msgspec.structs.replace(entry, ahead=ahead)
            return msgspec.structs.replace(state, partitions={**state.partitions, month: changed})

        self._ledger.update(change)

    def _opened(self, directory: str, entry: PartitionEntry | None = None) -> PartitionWriter:
        """A partition for writing; one that is there already is verified first, or damage would be merged and kept."""
        if entry is not None:
            verify_partition(self._storage, self._root, entry, self._verified)
        writer = PartitionWriter(self._storage, self._root, directory, analyzer=self._analyzer, compiler=self._compiler)
        if entry is not None:
            writer.resume(entry)
        return writer
