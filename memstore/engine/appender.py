"""From what callers give to batches: validate everything, then stamp, then encode; one bad record refuses all.

Records that come from elsewhere (``source_id``) are stored once: their id is derived, and looked for before it is
written, under a lock that all processes share, so that two imports of the same tree at once add each record once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from memstore.draft import Draft, draft_record, draft_records
from memstore.engine.batch import Batch, Ticket, encode_draft
from memstore.engine.stamper import Stamp, Stamper
from memstore.errors import UsageError
from memstore.record import MemoryRecord

RecordLike = MemoryRecord | Mapping[str, Any] | Draft
FORGOTTEN_LINE = b""
"""Stands for the line of a record that was imported and then forgotten: it is not imported again."""
R = TypeVar("R")
"""What a batch is made of."""


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """What became of records from elsewhere, in their order.

    Attributes:
        ids: of each, its memory id.
        added: of each, whether it was not there before.
        equal: of each, whether it is stored byte for byte as it was given; of one that was there before, False may
            also mean that it differs in nothing but spelling.
    """

    ids: list[str]
    added: list[bool]
    equal: list[bool]


def record_list(records: Iterable[R]) -> list[R]:
    """What was given as a batch, as a list.

    Raises:
        UsageError: one record, text, or nothing that can be gone through.
    """
    if isinstance(records, (Mapping, MemoryRecord, Draft, str, bytes)) or not isinstance(records, Iterable):
        raise UsageError(f"a batch is a list of records, not one {type(records).__name__}")
    return list(records)


class Appender:
    """Builds batches. Thread-safe.

    Args:
        stamper: mints ids.
        existing: the stored lines of an agent's memory ids (given with their times in microseconds), by id; an empty
            one (`FORGOTTEN_LINE`) where the record was forgotten.
        record_bytes_max: limit of one record's line.
        batch_bytes_max: limit of one batch.
    """

    def __init__(
        self,
        *,
        stamper: Stamper,
        existing: Callable[[str, Mapping[str, int]], dict[str, bytes]],
        record_bytes_max: int,
        batch_bytes_max: int,
    ) -> None:
        self._stamper = stamper
        self._existing = existing
        self._record_bytes_max = record_bytes_max
        self._batch_bytes_max = batch_bytes_max

    def draft(self, fields: Mapping[str, Any]) -> Draft:
        """Validate one record.

        Raises:
            InvalidRecordError: what is wrong with it.
        """
        return draft_record(fields, record_bytes_max=self._record_bytes_max)

    def draft_many(self, records: Iterable[RecordLike]) -> list[Draft]:
        """Validate a batch; drafts in it are valid already.

        Raises:
            InvalidRecordError: says which record is wrong, and how.
        """
        return draft_records(record_list(records), record_bytes_max=self._record_bytes_max)

    def batch_one(self, draft: Draft, ticket: Ticket) -> tuple[Batch, str]:
        """A batch of one new record, and its id.

        Raises:
            InvalidRecordError: its time is refused.
        """
        batch = Batch(ticket)
        stamp = self._stamper.stamp(agent_id=draft.agent_id, timestamp=draft.timestamp, source_id=None)
        batch.add(draft.agent_id, stamp.id_stamp[:8], encode_draft(draft, stamp))
        return batch, f"{draft.agent_id}_{stamp.id_stamp}{stamp.suffix}"

    def batch_many(self, drafts: list[Draft], ticket: Ticket) -> tuple[Batch, ImportOutcome]:
        """A batch of those drafts that are not stored yet; the caller holds the import lock if any has a source id.

        Raises:
            InvalidRecordError: says which record's time is refused.
            UsageError: the batch is over its limit.
        """
        if not any(draft.timestamp is not None or draft.source_id is not None for draft in drafts):
            batch = Batch(ticket)
            ids = batch.add_run(drafts, self._stamper.stamp_run(len(drafts)))
            return self._within_limit(batch), ImportOutcome(ids, [True] * len(ids), [True] * len(ids))
        stamps = self._stamper.stamp_many(drafts)
        ids = [f"{draft.agent_id}_{stamp.id_stamp}{stamp.suffix}" for draft, stamp in zip(drafts, stamps, strict=True)]
        stored = self._stored(drafts, stamps, ids)
        batch = Batch(ticket)
        added: list[bool] = []
        equal: list[bool] = []
        for draft, stamp, memory_id in zip(drafts, stamps, ids, strict=True):
            line = encode_draft(draft, stamp)
            if draft.source_id is not None:
                known = stored.get(memory_id)
                if known is not None:
                    added.append(False)
                    equal.append(known in (line[:-1], line, FORGOTTEN_LINE))
                    continue
                stored[memory_id] = line
            batch.add(draft.agent_id, stamp.id_stamp[:8], line)
            added.append(True)
            equal.append(True)
        return self._within_limit(batch), ImportOutcome(ids, added, equal)

    def _within_limit(self, batch: Batch) -> Batch:
        if batch.bytes > self._batch_bytes_max:
            raise UsageError(
                f"the batch is {batch.bytes} bytes; the limit is {self._batch_bytes_max} (batch_bytes_max). "
                "Append it in parts: each part is then durable by itself"
            )
        return batch

    def _stored(self, drafts: list[Draft], stamps: list[Stamp], ids: list[str]) -> dict[str, bytes]:
        """Lines of those drafts from elsewhere that are stored already, by memory id."""
        wanted: dict[str, dict[str, int]] = {}
        for draft, stamp, memory_id in zip(drafts, stamps, ids, strict=True):
            if draft.source_id is not None:
                wanted.setdefault(draft.agent_id, {})[memory_id] = stamp.time_us
        stored: dict[str, bytes] = {}
        for agent, times in wanted.items():
            stored.update(self._existing(agent, times))
        return stored
