"""Write one month's partition: add what is missing, delete, commit, and say what its files are.

Adding is idempotent: a record that is there is not added again, so that whatever is fed twice (after a crash, or
after a partition was built while its records waited in lanes) is there once. One thread, one writer a partition,
under the index lock; tantivy's own threads do the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import orjson
import tantivy

from memstore.fs.atomic import make_directories, try_unlink
from memstore.fs.storage import Storage
from memstore.search.compile import Compiler
from memstore.search.foreign import IndexFailedError, translated
from memstore.search.orphans import remove_orphans
from memstore.search.partition import META, Partition, Place, file_checksum, opstamp_of
from memstore.search.schema import AGENT_HASH, KEY, SUFFIX, TIME, Analyzer
from memstore.search.state import PartitionEntry

WRITER_BYTES = 64_000_000
"""What a writer collects in memory before it writes a segment of its own accord; tantivy asks for 15 MB at least."""


class PartitionWriter:
    """Used by one thread. Whatever it raises, it is to be closed, and the partition opened anew.

    Args:
        storage: where the partition lies; tantivy writes its files itself, what is synced and read goes through this.
        root: the directory of all partitions.
        directory: the partition's name; made if it is not there.
        analyzer: the index's.
        compiler: makes queries.
    """

    def __init__(self, storage: Storage, root: str, directory: str, *, analyzer: Analyzer, compiler: Compiler) -> None:
        self.directory = directory
        self._storage = storage
        self._path = os.path.join(root, directory)
        self._compiler = compiler
        make_directories(storage, self._path)
        # The caller holds the index lock, so nobody writes; but a process that was forked while this one did holds
        # tantivy's own lock for as long as it lives.
        try_unlink(storage, os.path.join(self._path, _WRITER_LOCK))
        remove_orphans(storage, self._path)
        with translated(self._path):
            index = tantivy.Index(compiler.schema, path=self._path)
            index.config_reader("manual", 0)
            analyzer.register(index)
            self._partition = Partition(index)
            self._writer: tantivy.IndexWriter | None = index.writer(WRITER_BYTES, 1)
        self._files: dict[str, tuple[int, str]] = {}
        self._deleted = False
        self._lacks = 0

    def resume(self, entry: PartitionEntry) -> None:
        """Take over what is known of a partition that was there."""
        self._files = dict(entry.files)
        self._deleted = entry.deleted
        self._lacks = entry.lacks

    def add_missing(self, documents: Iterable[dict[str, Any]]) -> int:
        """Add those that are not there yet; how many. What was added since the last commit is not looked for."""
        searcher = self._partition.searcher
        return self.add(each for each in documents if not (searcher.doc_freq(KEY, each[KEY]) and self._has(each)))

    def add(self, documents: Iterable[dict[str, Any]]) -> int:
        """Add documents that are known not to be there; how many."""
        writer = self._open_writer()
        added = 0
        with translated(self._path):
            for document in documents:
                writer.add_json(orjson.dumps(document).decode())
                added += 1
        return added

    def delete(self, query: tantivy.Query) -> None:
        """Delete what matches, of what was committed."""
        with translated(self._path):
            self._open_writer().delete_documents_by_query(query)
        self._deleted = True

    def left_out(self, count: int) -> None:
        """Note that so many damaged pieces of the store could not be added; they may be some that are known already."""
        self._lacks = max(self._lacks, count)

    def commit(self) -> PartitionEntry:
        """Make it durable, and say what there is now."""
        with translated(self._path):
            self._open_writer().commit()
        return self.entry()

    def entry(self) -> PartitionEntry:
        """What there is as of the last commit or merge."""
        # tantivy syncs its files, but not the name of the one that lists them.
        try:
            self._storage.sync_directory(self._path)
            self._partition = self._partition.newest()
            self._files = self._proved_files()
        except FileNotFoundError as error:
            raise IndexFailedError(f"{self._path} has gone while it was written: {error}") from error
        return PartitionEntry(
            directory=self.directory,
            files=self._files,
            records=self._partition.records,
            deleted=self._deleted,
            opstamp=opstamp_of(self._storage, self._path),
            lacks=self._lacks,
        )

    def close(self) -> PartitionEntry | None:
        """Wait for tantivy's merges; what there is then, or None where it was closed before."""
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        with translated(self._path):
            writer.wait_merging_threads()
        return self.entry()

    def discard(self) -> None:
        """Let go without a commit."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with translated(self._path):
                writer.rollback()
                writer.wait_merging_threads()

    @property
    def partition(self) -> Partition:
        """As of the last commit."""
        return self._partition

    def _open_writer(self) -> tantivy.IndexWriter:
        if self._writer is None:
            raise IndexFailedError(f"{self._path}: the writer is closed")
        return self._writer

    def _has(self, document: dict[str, Any]) -> bool:
        """Whether a record is there whose key is: the key is a hash, and deleted documents count for its frequency."""
        with translated(self._path):
            hits = self._partition.searcher.search(self._compiler.keys([document[KEY]]), _SAME_KEY_MAX).hits
            wanted = Place(document[TIME], document[SUFFIX], document[AGENT_HASH])
            return wanted in self._partition.places([address for _, address in hits])

    def _proved_files(self) -> dict[str, tuple[int, str]]:
        """Size and checksum of every file that the last commit names."""
        found: dict[str, tuple[int, str]] = {}
        meta = os.path.join(self._path, META)
        for _ in range(_LOOKS_MAX):
            file = self._storage.open_read(meta)
            content = file.read(0, file.identity().size_bytes)
            file.close()
            stems = {segment["segment_id"].replace("-", "") for segment in orjson.loads(content)["segments"]}
            names = [entry.name for entry in self._storage.list_directory(self._path)]
            try:
                found = {
                    name: self._files.get(name) or file_checksum(self._storage, os.path.join(self._path, name))
                    for name in names
                    if name.partition(".")[0] in stems
                }
                found[META] = file_checksum(self._storage, meta)
            except FileNotFoundError:
                continue  # a merge has just ended
            return found
        return found


_WRITER_LOCK = ".tantivy-writer.lock"
_SAME_KEY_MAX = 16
_LOOKS_MAX = 5
