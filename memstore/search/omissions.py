"""What a scan, or the building of a month, had to leave out because it is damaged; each damaged range once."""

from __future__ import annotations

from memstore.errors import CorruptionError, MemstoreError

NAMED_MAX = 100
"""Damaged ranges that one answer names; of more it says how many."""


class Omissions:
    """Told of damage, like any `DamageHandler`. Used by one thread."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], MemstoreError] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, error: MemstoreError) -> None:
        """Note what could not be read; again is no more."""
        self._found.setdefault(_place(error), error)

    def notes(self) -> list[str]:
        """A sentence of each: file, bytes and records."""
        told = [f"left out: {_said(error)}" for error in list(self._found.values())[:NAMED_MAX]]
        if len(self._found) > NAMED_MAX:
            told.append(
                f"left out: {len(self._found) - NAMED_MAX} more damaged ranges; `memstore check --full` names them"
            )
        return told


def pieces(count: int, month: str) -> str:
    """That a partition was made without what was damaged."""
    many = count != 1
    return (
        f"{count} damaged piece{'s' if many else ''} of {month} {'are' if many else 'is'} not in the index; "
        f"`memstore check --full` names {'them' if many else 'it'}"
    )


def unlisted(count: int) -> str:
    """That the months were listed without what was damaged."""
    many = count != 1
    return (
        f"{count} damaged piece{'s were' if many else ' was'} met when the months were listed; what only "
        f"{'they tell' if many else 'it tells'} of is not in the index; `memstore check --full` names "
        f"{'them' if many else 'it'}"
    )


def _place(error: MemstoreError) -> tuple[object, ...]:
    if isinstance(error, CorruptionError):
        return error.path, error.offset_bytes
    return (str(error),)


def _said(error: MemstoreError) -> str:
    return error.place if isinstance(error, CorruptionError) else str(error)
