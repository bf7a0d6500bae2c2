"""The error tree: catch broadly, recover narrowly.

::

    MemstoreError
      UsageError            the caller asked for something that cannot be
        ConfigError           a setting is unknown, mistyped or contradictory
        InvalidRecordError    a record (or one record of a batch) is refused; nothing was written
        NotFoundError         no record, agent or shard of that name
        StoreClosedError      the store or handle was closed
        ReadOnlyError         the store was opened, or has become, read-only
        HeldError             a legal hold forbids it; nothing was removed
      StorageError          the disk or the files said no
        CorruptionError       damage, with its place: path, offset_bytes, length_bytes, records
        LockedError           another process holds what is needed
        VersionError          written by a newer format
        UnsupportedError      this platform or file system cannot keep the promises
        StorageFullError      no space; nothing that was acknowledged is lost
        WriterBrokenError     a sync failed; whether the group is on disk is unknown

Every error says what happened, where, and what to do. Foreign exceptions are translated where they enter,
``from`` the original.
"""

from __future__ import annotations


class MemstoreError(Exception):
    """Base of everything memstore raises on purpose."""


class UsageError(MemstoreError):
    """The call cannot be carried out as asked; nothing changed."""


class ConfigError(UsageError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class InvalidRecordError(UsageError):
    """A record is refused; nothing of its batch was written.

    Attributes:
        index: position of the refused record in its batch, or None for a single append.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message if index is None else f"record {index} of the batch: {message}")
        self.reason = message
        self.index = index


class NotFoundError(UsageError):
    """No record, agent or shard has that name."""


class StoreClosedError(UsageError):
    """The store was closed; open it again."""


class ReadOnlyError(UsageError):
    """The store was opened read-only, or became so after repeated failures of the disk."""


class HeldError(UsageError):
    """A legal hold forbids it; nothing was removed. Remove the hold first, if you may."""


class StorageError(MemstoreError):
    """The disk, the file system or a file of the store refused."""


class CorruptionError(StorageError):
    """Bytes on disk are not what was written.

    Attributes:
        path: the damaged file.
        offset_bytes: where the damaged range starts.
        length_bytes: how long it is.
        records: how many records lie in it, or None where that cannot be known.
        reason: what did not agree.
        place: all of that in one sentence, without advice.
    """

    def __init__(
        self, path: str, *, offset_bytes: int, length_bytes: int, reason: str, records: int | None = None
    ) -> None:
        count = "an unknown number of records" if records is None else f"{records} record{'' if records == 1 else 's'}"
        end_bytes = offset_bytes + length_bytes
        what = f"bytes {offset_bytes} to {end_bytes} are damaged ({reason})" if length_bytes else reason
        place = f"{path}: {what}; {count} affected"
        super().__init__(
            f"{place}. `memstore repair --plan` says what can be done; on_damage='skip' reads around damaged records."
        )
        self.place = place
        self.path = path
        self.offset_bytes = offset_bytes
        self.length_bytes = length_bytes
        self.records = records
        self.reason = reason


class LockedError(StorageError):
    """Another process holds a lock that is needed, longer than the caller would wait."""


class VersionError(StorageError):
    """The store was written by a newer format; a newer memstore reads it."""


class UnsupportedError(StorageError):
    """Locks and syncs cannot be trusted here (network file systems, unknown platforms)."""


class StorageFullError(StorageError):
    """No space left: the append was not stored. It works again by itself when space returns."""


class WriterBrokenError(StorageError):
    """A sync failed: whether these records reached the disk is unknown. Read them back before writing again."""
