"""How long what is put into the trash can be brought back."""

from __future__ import annotations

from memstore.format.manifest import PackedFile, TrashedFile

_US_PER_HOUR = 3_600_000_000


def trashed_file(packed: PackedFile, *, reason: str, now_us: int, grace_hours: float) -> TrashedFile:
    """A packed file that goes to the trash now, and may be removed for good after its period of grace."""
    return TrashedFile(packed=packed, at=now_us, purge_at=now_us + int(grace_hours * _US_PER_HOUR), reason=reason)
