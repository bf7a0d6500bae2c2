"""One month's partition, opened for searching: verified, then tantivy's.

tantivy checks its files' form and not their bytes, so a flipped bit would be a wrong answer. Every file of a
partition is compared with the checksum in the index's state once per process; segment files never change. Files that
the state does not know belong to a merge, or to a commit that is just being made and does not count yet. tantivy opens
the newest commit only, so such a partition is *ahead*: it has records that the tail has too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import tantivy

from memstore.errors import StorageError
from memstore.format.forgotten import text_hash
from memstore.fs.parts import checksum_of
from memstore.fs.storage import Storage
from memstore.ids import number_suffix
from memstore.search.compile import Compiler
from memstore.search.foreign import IndexFailedError, QueryRefusedError, translated
from memstore.search.schema import AGENT, AGENT_HASH, SUFFIX, TIME, WORD, Analyzer, agent_hash, key_of_hash
from memstore.search.state import PartitionEntry
from memstore.timestamps import iso_and_id_stamp

META = "meta.json"


def file_checksum(storage: Storage, path: str) -> tuple[int, str]:
    """Size and xxh3 of a file; raises FileNotFoundError."""
    file = storage.open_read(path)
    try:
        return checksum_of(file)
    finally:
        file.close()


class Place(NamedTuple):
    """Time (microseconds), suffix and hash of the agent of a record: its memory id, but for the agent's name."""

    time_us: int
    suffix: int
    agent_hash: int


WORDS_MAX = 16_384
"""Words that a prefix at the end of a phrase may stand for; tantivy's own bound."""
_ID_COLUMNS = (TIME, SUFFIX, AGENT_HASH)
_LOOKS_MAX = 5
_SAME_KEY_MAX = 16
"""Documents of one key that are looked at; there is one."""


class Partition:
    """An opened index, on disk or in memory. Thread-safe once opened.

    Attributes:
        searcher: as of the last commit when this was made; it stays as it is.
        ahead: whether there may be records in it that lie behind the watermark.
    """

    def __init__(self, index: tantivy.Index, *, ahead: bool = False) -> None:
        self.index = index
        self.ahead = ahead
        self.searcher = index.searcher()
        self._agents: dict[int, list[str]] | None = None

    @classmethod
    def open(
        cls,
        storage: Storage,
        root: str,
        entry: PartitionEntry,
        *,
        analyzer: Analyzer,
        verified: set[str],
        is_written: Callable[[], bool],
    ) -> Partition:
        """Open a partition on disk.

        Args:
            storage: where it lies.
            root: the directory of all partitions.
            entry: what the state says of it.
            analyzer: the index's.
            verified: names of files (``directory/file``) that this process has verified; added to.
            is_written: whether somebody is indexing now, so that the partition may be ahead of the state.

        Raises:
            IndexFailedError: it is damaged or missing.
        """
        directory = os.path.join(root, entry.directory)
        _verify(storage, directory, entry, verified, is_written)
        opstamp = None
        for _ in range(_LOOKS_MAX):
            before = opstamp_of(storage, directory)
            with translated(directory):
                index = tantivy.Index.open(directory)
                index.config_reader("manual", 0)
                analyzer.register(index)
                partition = cls(index)
            if before == opstamp_of(storage, directory):
                opstamp = before
                break
        partition.ahead = entry.ahead or opstamp != entry.opstamp
        return partition

    def newest(self) -> Partition:
        """The same index as of the newest commit."""
        with translated("the search index"):
            self.index.reload()
            return Partition(self.index)

    @property
    def records(self) -> int:
        """Documents that are not deleted."""
        return self.searcher.num_docs

    def places(self, addresses: list[tantivy.DocAddress]) -> list[Place]:
        """What each document's memory id is made of."""
        return list(map(Place._make, self.bare_places(addresses)))

    def bare_places(self, addresses: list[tantivy.DocAddress]) -> Iterator[tuple[int, int, int]]:
        """`places` as plain tuples, in a third of the time."""
        columns: list[list[Any]] = [self.searcher.fast_field_values(name, addresses) for name in _ID_COLUMNS]
        return zip(*columns, strict=True)

    def suffixes(self, addresses: list[tantivy.DocAddress]) -> list[int]:
        """Those of each document's memory id."""
        found: list[Any] = self.searcher.fast_field_values(SUFFIX, addresses)
        return found

    def agents(self) -> list[str]:
        """Every agent that has, or had, a document."""
        with translated("the search index"):
            return [agent for agent, _ in self.searcher.terms_with_prefix(AGENT, "")]

    def agents_of(self, number: int) -> list[str]:
        """The agents that have this hash; one, but for a collision."""
        if self._agents is None:
            found: dict[int, list[str]] = {}
            for agent in self.agents():
                found.setdefault(agent_hash(agent), []).append(agent)
            self._agents = found
        return self._agents.get(number, [])

    def words(self, prefix: str) -> list[str]:
        """Words that begin so, of any document that is or was here.

        Raises:
            QueryRefusedError: there are too many to look for.
        """
        with translated("the search index"):
            found = [word for word, _ in self.searcher.terms_with_prefix(WORD, prefix, limit=WORDS_MAX + 1)]
        if len(found) > WORDS_MAX:
            raise QueryRefusedError(f"more than {WORDS_MAX} words begin like {prefix!r:.60}")
        return found

    def held(self, keys: Mapping[Place, int], compiler: Compiler) -> list[int]:
        """Those of some records' keys whose records are here."""
        with translated("the search index"):
            hits = self.searcher.search(compiler.keys(list(keys.values())), len(keys) + _SAME_KEY_MAX).hits
            places = self.places([address for _, address in hits])
        return [keys[place] for place in places if place in keys]

    def ids_of_hash(self, wanted: str, compiler: Compiler) -> list[str]:
        """Memory ids of the documents whose id has this hash in FORGOTTEN; at most one."""
        with translated("the search index"):
            hits = self.searcher.search(compiler.keys([key_of_hash(wanted)]), _SAME_KEY_MAX).hits
            places = self.places([address for _, address in hits])
        ids = (memory_id for place in places for memory_id in self.memory_ids(place))
        return [memory_id for memory_id in ids if text_hash(memory_id) == wanted]

    def memory_ids(self, place: Place) -> list[str]:
        """The id of a document; several where hashes of agents collide, of which one has a record."""
        stamp = iso_and_id_stamp(place.time_us)[1]
        return [f"{agent}_{stamp}{number_suffix(place.suffix)}" for agent in self.agents_of(place.agent_hash)]


def opstamp_of(storage: Storage, directory: str) -> int:
    """Tantivy's number of a partition's last commit.

    Raises:
        IndexFailedError: it cannot be told.
    """
    return _meta(storage, directory).opstamp


def segments_of(storage: Storage, directory: str) -> dict[str, int | None]:
    """How the files of each segment of a partition's last commit begin, and the opstamp of what is deleted of it.

    Raises: as `opstamp_of`.
    """
    return {
        _stem(segment): None if segment.deletes is None else segment.deletes.opstamp
        for segment in _meta(storage, directory).segments
    }


class _Deletes(msgspec.Struct):
    opstamp: int


class _Segment(msgspec.Struct):
    segment_id: str
    deletes: _Deletes | None = None


class _Meta(msgspec.Struct):
    opstamp: int
    segments: list[_Segment]


def _stem(segment: _Segment) -> str:
    """How the names of its files begin."""
    return segment.segment_id.replace("-", "")


def _meta(storage: Storage, directory: str) -> _Meta:
    path = os.path.join(directory, META)
    try:
        file = storage.open_read(path)
        try:
            return msgspec.json.decode(file.read(0, file.size_bytes()), type=_Meta)
        finally:
            file.close()
    except (FileNotFoundError, StorageError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IndexFailedError(f"{path}: {error}") from error


def verify_partition(
    storage: Storage, root: str, entry: PartitionEntry, verified: set[str], *, checksums: bool = True
) -> None:
    """Compare a partition's files with what the state says, but for those that are ``verified``.

    Args:
        storage: where it lies.
        root: the directory of all partitions.
        entry: what the state says of it.
        verified: names of files (``directory/file``); added to.
        checksums: read them; otherwise their sizes are compared.

    Raises:
        IndexFailedError: it is damaged or missing.
    """
    _verify(storage, os.path.join(root, entry.directory), entry, verified, lambda: False, checksums=checksums)


def has_merged(storage: Storage, root: str, entry: PartitionEntry) -> bool:
    """Whether tantivy has merged segments of a partition and nobody has told the state, for the indexer was killed.

    Raises: as `opstamp_of`.
    """
    return _has_merged(_meta(storage, os.path.join(root, entry.directory)), entry)


def _has_merged(meta: _Meta, entry: PartitionEntry) -> bool:
    """A merge changes no records, so the number of the commit stays; a segment is new to the state."""
    known = {name.partition(".")[0] for name in entry.files}
    return meta.opstamp == entry.opstamp and any(_stem(segment) not in known for segment in meta.segments)


def _verify(
    storage: Storage,
    directory: str,
    entry: PartitionEntry,
    verified: set[str],
    is_written: Callable[[], bool],
    *,
    checksums: bool = True,
) -> None:
    missing: list[str] = []
    for name, (size, xxh3) in entry.files.items():
        known, path = f"{entry.directory}/{name}", os.path.join(directory, name)
        if known in verified:
            continue
        try:
            is_right = file_checksum(storage, path) == (size, xxh3) if checksums else _size_of(storage, path) == size
        except FileNotFoundError:
            missing.append(name)
            continue
        except StorageError as error:
            raise IndexFailedError(f"{directory}: {error}") from error
        if not is_right:
            # Replaced by each commit and each merge; the state follows, unless the indexer was killed before.
            if name == META and (_is_ahead(_meta(storage, directory), entry) or is_written()):
                continue
            raise IndexFailedError(f"{path} is damaged")
        if name != META and checksums:
            verified.add(known)
    if missing:
        # Merged away by what came after the state was read, if tantivy does not need them any more.
        meta = _meta(storage, directory)
        segments = {_stem(segment) for segment in meta.segments}
        lost = [name for name in missing if name.partition(".")[0] in segments and not name.endswith(".del")]
        if lost or not _is_ahead(meta, entry):
            raise IndexFailedError(f"{os.path.join(directory, missing[0])} is missing")


def _is_ahead(meta: _Meta, entry: PartitionEntry) -> bool:
    """Whether the list is of a commit or a merge that the state does not know yet."""
    return meta.opstamp > entry.opstamp or _has_merged(meta, entry)


def _size_of(storage: Storage, path: str) -> int:
    identity = storage.identify(path)
    if identity is None:
        raise FileNotFoundError(path)
    return identity.size_bytes
