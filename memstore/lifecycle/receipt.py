"""What an erasure did, for whoever has to answer for it: what, where, when, how it was verified, what is pending.

A receipt names no record and repeats no line. What it proves it proves of the store; of backups it names those that the
store knows of, and exports are outside of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from memstore.timestamps import iso_text


@dataclass(frozen=True, slots=True)
class Pending:
    """A place that could not be cleaned, or not be looked at, and why."""

    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """A file in which the scan found lines of erased records: by their ids, and by the hash of the whole line."""

    where: str
    by_id: int
    by_hash: int


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the scan looked at.

    Attributes:
        files: every file below the root, the shards and the archive.
        bytes: of them on disk.
        unpacked_bytes: of those that are packed, unpacked.
        lines: how many were compared.
        newer_files: files that hold only what was written after the erasure, and were left out.
        how: by what lines were known, for people.
    """

    files: int
    bytes: int
    unpacked_bytes: int
    lines: int
    newer_files: int
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What an erasure did.

    Attributes:
        agent: whose records; None where they were given by id.
        ids: how many ids were given; 0 where an agent was.
        at: when it began, microseconds: what was written later is not of it.
        finished: when the scan ended.
        records: how many records were removed, as far as files could be read.
        files_removed: relative to the root; absolute where they lay on another volume.
        files_rewritten: the same; their names are gone too, for no file is changed under its name.
        scan: what was looked at.
        found: lines that are there all the same.
        pending: what could not be cleaned, or not be looked at, and why; holds an entry for everything that was found.
        not_found: ids that no record had.
        backups: places of backups that were taken before and are, or may be, there: what was erased is pending there.
    """

    agent: str | None
    ids: int
    at: int
    finished: int
    records: int
    files_removed: tuple[str, ...]
    files_rewritten: tuple[str, ...]
    scan: Scanned
    found: tuple[Found, ...]
    pending: tuple[Pending, ...]
    not_found: tuple[str, ...]
    backups: tuple[Pending, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether everything of the store was looked at and nothing is left in it."""
        return not self.found and not self.pending

    def as_dict(self) -> dict[str, Any]:
        """The same for machines and for the file that is kept of it."""
        return {
            "agent": self.agent,
            "ids": self.ids,
            "at": iso_text(self.at),
            "finished": iso_text(self.finished),
            "records": self.records,
            "verified": self.verified,
            "scan": dataclasses.asdict(self.scan),
            "found": [dataclasses.asdict(each) for each in self.found],
            "pending": [dataclasses.asdict(each) for each in self.pending],
            "not_found": list(self.not_found),
            "backups": [dataclasses.asdict(each) for each in self.backups],
            "files_removed": list(self.files_removed),
            "files_rewritten": list(self.files_rewritten),
        }
