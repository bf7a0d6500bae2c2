"""Records of an import into the store: in batches bounded by count and bytes, each atomic and durable.

What is in the store already is recognised by its derived id, so that importing again adds nothing and an interrupted
import goes on where it stopped. A record that the store has under that id with *other* content is kept beside it, its
source id qualified with its path. One that the store refuses is tried once more with its text kept verbatim, and is
then reported as damaged.

A record is encoded as soon as it is taken, and its parsed source let go: a batch of parsed sources costs the garbage
collector and the processor's caches more than the few that are read a second time cost here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import orjson
import xxhash

from memstore.draft import Draft, draft_stored_form
from memstore.errors import InvalidRecordError, MemstoreError, UsageError
from memstore.ids import derived_id, parse_id
from memstore.importers.report import ImportReport
from memstore.importers.sameness import is_same
from memstore.layouts.mapping import map_sources, memory_id_of
from memstore.layouts.source import DamagedError, Hints, Source
from memstore.store import MemStore, start_import
from memstore.writing import StartedAppend

BATCH_BYTES_MAX = 8 * 1024 * 1024
"""Encoded bytes per batch, whatever the number of records: bounds the memory of an import. One commit's worth."""
_LET_GO: dict[str, Any] = {}

Reread = Callable[[Source], Source]


class Entry(msgspec.Struct, gc=False):
    """One record on its way.

    Attributes:
        label: what a report calls its source.
        layout: of its sources.
        sources: what it was made of.
        fields: the record; empty once it is encoded.
        own_id: the id of this very store that it carries, if that is not the one it gets.
    """

    label: str
    layout: str
    sources: tuple[Source, ...]
    fields: dict[str, Any]
    own_id: str | None = None


_Pending = tuple[Entry, Draft]
"""An entry and its record, encoded."""


class BatchLoader:
    """Collects entries and stores them. Not thread-safe; ``flush`` at the end, ``close`` in every case.

    Args:
        store: where to.
        report: counted into.
        hints: for mapping an entry again.
        reread: a source once more with its text kept verbatim; raises DamagedError.
        dry_run: look up, write nothing.
        ahead: take entries while a batch is on its way to the disk. Other imports into the store wait meanwhile, so
            it is not for sources that may keep this one waiting.
    """

    def __init__(
        self, store: MemStore, report: ImportReport, hints: Hints, *, reread: Reread, dry_run: bool, ahead: bool
    ) -> None:
        self._store = store
        self._report = report
        self._hints = hints
        self._reread = reread
        self._dry_run = dry_run
        self._ahead = ahead
        self._pending: list[_Pending] = []
        self._pending_bytes = 0
        self._own_ids = False
        self._on_the_way: tuple[StartedAppend | None, list[_Pending]] = (None, [])
        self._records_max = store.settings.performance.batch_size
        self._record_bytes_max = store.settings.storage.record_bytes_max

    def add(self, entry: Entry) -> None:
        """Take one; may store a batch."""
        try:
            draft = draft_stored_form(entry.fields, record_bytes_max=self._record_bytes_max)
        except InvalidRecordError as error:
            verbatim = self._verbatim(entry, error.reason)
            if verbatim is None:
                return
            entry, draft = verbatim
        if entry.layout == "line" or "timestamp_utc" in entry.sources[0].value:
            entry.own_id = _own_id(entry)
            self._own_ids = self._own_ids or entry.own_id is not None
        entry.fields = _LET_GO
        for source in entry.sources:
            source.value, source.raw = _LET_GO, None
        self._pending.append((entry, draft))
        self._pending_bytes += len(draft.body)
        if len(self._pending) >= self._records_max or self._pending_bytes >= BATCH_BYTES_MAX:
            self._start()

    def flush(self) -> None:
        """Store what is pending, and return when it is durable."""
        self._start()
        self.settle()

    def settle(self) -> None:
        """Return when what is on its way to the disk is durable."""
        (started, pending), self._on_the_way = self._on_the_way, (None, [])
        if started is not None:
            outcome = started.wait()
            doubtful = self._counted(pending, outcome.added, outcome.equal)
            if doubtful:
                self._load_others(doubtful)

    def close(self) -> None:
        """Wait for what is on its way to the disk, whatever befell it: after an error of the reading."""
        (started, _), self._on_the_way = self._on_the_way, (None, [])
        if started is not None:
            with suppress(MemstoreError):
                started.wait()

    def _start(self) -> None:
        """Begin to store what is pending, once the batch before is durable; the next one can be read meanwhile."""
        self.settle()
        pending = self._without_known_ids() if self._own_ids else self._pending
        self._pending, self._pending_bytes, self._own_ids = [], 0, False
        if self._ahead and not self._dry_run and pending:
            try:
                self._on_the_way = start_import(self._store, [draft for _, draft in pending]), pending
            except InvalidRecordError:
                pass  # found and left out below; nothing of the batch was written
            else:
                return
        doubtful = self._load(pending)
        if doubtful:
            self._load_others(doubtful)

    def _without_known_ids(self) -> list[_Pending]:
        """Leave out records that carry an id of this very store."""
        own = [entry.own_id for entry, _ in self._pending if entry.own_id is not None]
        known = {own_id for own_id, record in zip(own, self._store.get_many(own), strict=True) if record is not None}
        rest = [item for item in self._pending if item[0].own_id not in known]
        self._count(len(self._pending) - len(rest), added=False)
        return rest

    def _load(self, pending: Sequence[_Pending]) -> list[_Pending]:
        """Store records; those whose id was there already in other words are returned, uncounted."""
        doubtful: list[_Pending] = []
        start = 0
        while start < len(pending):
            rest = pending[start:] if start else pending
            try:
                added, equal = self._import([draft for _, draft in rest])
            except InvalidRecordError as error:
                if error.index is None:
                    raise
                # Its time is refused. What stands before it is fine and goes in by itself: no stamp is tried thrice.
                doubtful += self._load(rest[: error.index])
                self._report.add_damaged(rest[error.index][0].label, f"it cannot be stored: {error.reason}")
                start += error.index + 1
                continue
            doubtful += self._counted(rest, added, equal)
            break
        return doubtful

    def _counted(self, pending: Sequence[_Pending], added: list[bool], equal: list[bool]) -> list[_Pending]:
        new = sum(added)
        self._count(new, added=True)
        self._count(sum(equal) - new, added=False)
        return [item for item, is_equal in zip(pending, equal, strict=True) if not is_equal]

    def _import(self, drafts: list[Draft]) -> tuple[list[bool], list[bool]]:
        """Of each, whether it is new, and whether it is stored now just as it is here."""
        if not self._dry_run:
            outcome = self._store.import_many(drafts)
            return outcome.added, outcome.equal
        new = [record is None for record in self._store.get_many(map(_memory_id, drafts))]
        return new, new

    def _verbatim(self, entry: Entry, reason: str) -> tuple[Entry, Draft] | None:
        """A refused entry with its text kept; None where that does not help, which is reported."""
        sources = entry.sources
        if all(source.raw is None for source in sources):
            try:
                sources = tuple(self._reread(source) for source in sources)
                if any(source.raw is not None for source in sources):
                    fields = map_sources(entry.layout, sources, self._hints)
                    draft = draft_stored_form(fields, record_bytes_max=self._record_bytes_max)
                    return Entry(entry.label, entry.layout, sources, fields), draft
            except DamagedError as error:
                reason = str(error)
            except InvalidRecordError as error:
                reason = error.reason
        self._report.add_damaged(entry.label, f"it cannot be stored: {reason}")
        return None

    def _load_others(self, doubtful: list[_Pending]) -> None:
        """Count records that are stored already; keep those that differ from what is stored under their id."""
        for qualify in (_path_of, _path_and_hash_of):
            entries = [again for entry, _ in doubtful if (again := self._again(entry)) is not None]
            stored = self._store.get_many([memory_id_of(entry.fields) for entry in entries])
            same = [
                record is not None and is_same(entry.fields, record)
                for entry, record in zip(entries, stored, strict=True)
            ]
            self._count(sum(same), added=False)
            others = [entry for entry, is_known in zip(entries, same, strict=True) if not is_known]
            doubtful = self._load([item for entry in others if (item := self._qualified(entry, qualify)) is not None])
            if not doubtful:
                return
        self._count(len(doubtful), added=False)  # the very same content, by its hash

    def _again(self, entry: Entry) -> Entry | None:
        """An entry with its sources and fields; None where a source has gone meanwhile, which is reported."""
        if entry.fields:
            return entry
        try:
            sources = tuple(self._reread(source) for source in entry.sources)
            return Entry(entry.label, entry.layout, sources, map_sources(entry.layout, sources, self._hints))
        except DamagedError as error:
            self._report.add_damaged(entry.label, str(error))
            return None

    def _qualified(self, entry: Entry, qualify: Callable[[Entry], str]) -> _Pending | None:
        fields = map_sources(entry.layout, entry.sources, self._hints, qualify(entry))
        try:
            draft = draft_stored_form(fields, record_bytes_max=self._record_bytes_max)
        except InvalidRecordError as error:
            self._report.add_damaged(entry.label, f"it cannot be stored: {error.reason}")
            return None
        return Entry(entry.label, entry.layout, entry.sources, fields), draft

    def _count(self, records: int, *, added: bool) -> None:
        self._report.records += records
        if added:
            self._report.imported += records
        else:
            self._report.already_present += records


def _own_id(entry: Entry) -> str | None:
    """The memory id that a source carries, if it is one of memstore's and not the one the record gets here anyway.

    One that it gets anyway has its content compared like any other's.
    """
    memory_id = entry.sources[0].value.get("memory_id")
    if not isinstance(memory_id, str):
        return None
    try:
        parse_id(memory_id)
    except UsageError:
        return None
    return memory_id if memory_id != memory_id_of(entry.fields) else None


def _memory_id(draft: Draft) -> str:
    return derived_id(draft.agent_id, draft.source_id or "", draft.timestamp)


def _path_of(entry: Entry) -> str:
    return entry.sources[0].path


def _path_and_hash_of(entry: Entry) -> str:
    text = orjson.dumps([source.raw or source.value for source in entry.sources], option=orjson.OPT_SORT_KEYS)
    return f"{_path_of(entry)}#{xxhash.xxh3_64_hexdigest(text)}"
