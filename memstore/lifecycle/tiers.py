"""How much lies in which tier, of whom: the figures of ``MemStore.tiers``, from MANIFESTs alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from memstore.engine.engine import Engine
from memstore.format.manifest import PackedFile
from memstore.format.names import tier_of
from memstore.manifest.index import Manifest
from memstore.timestamps import US_PER_DAY

GROWTH_DAYS = 7
"""Days over which growth is looked at: a week has its quiet days."""
TIERS = ("hot", "warm", "cold", "trash")


@dataclass(slots=True)
class _Sum:
    files: int = 0
    records: int = 0
    bytes: int = 0
    raw_bytes: int = 0

    def add(self, *, records: int, size: int, raw: int) -> None:
        self.files += 1
        self.records += records
        self.bytes += size
        self.raw_bytes += raw

    @property
    def ratio(self) -> float | None:
        """Bytes over raw bytes."""
        return round(self.bytes / self.raw_bytes, 6) if self.raw_bytes else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "records": self.records,
            "bytes": self.bytes,
            "raw_bytes": self.raw_bytes,
            "ratio": self.ratio,
        }


def tier_figures(engine: Engine) -> dict[str, Any]:
    """Files, records and bytes by tier and agent, and when the disk will be full.

    Returns:
        ``tiers``: a dict for each of hot, warm, cold, trash and ``waiting`` (lanes that are not merged):
        ``tier, files, records, bytes, raw_bytes, ratio`` (bytes over raw bytes, None for nothing). ``agents``: for each
        ``agent, files, records, bytes, raw_bytes, ratio`` and, for each tier, ``TIER_files, TIER_records, TIER_bytes``;
        bytes and files count the trash, raw bytes and ratio do not. ``repeats``: ``records`` that are stored as
        repeats, and ``saved_bytes``, before packing. ``growth``: ``free_bytes, bytes_per_day`` (what arrived in the
        last days, at the ratio that it will be packed to) and ``days_until_full``, or None where nothing arrived.
    """
    sums = {tier: _Sum() for tier in TIERS}
    agents: list[dict[str, Any]] = []
    repeats = saved = 0
    arrived = 0
    since_us = engine.clock.now_us() - GROWTH_DAYS * US_PER_DAY
    for agent in engine.inventory.agents(skip_damaged=True):
        manifest = engine.builder.manifest(agent)
        if manifest is None:
            continue
        own = _agent_sums(manifest)
        for tier, total in own.items():
            sums[tier].files += total.files
            sums[tier].records += total.records
            sums[tier].bytes += total.bytes
            sums[tier].raw_bytes += total.raw_bytes
        live = _total(own[tier] for tier in ("hot", "warm", "cold"))
        agents.append(
            {
                "agent": agent,
                "files": sum(total.files for total in own.values()),
                "records": manifest.records(),
                "bytes": live.bytes + own["trash"].bytes,
                "raw_bytes": live.raw_bytes,
                "ratio": live.ratio,
                **{f"{tier}_files": own[tier].files for tier in TIERS},
                **{f"{tier}_records": own[tier].records for tier in TIERS},
                **{f"{tier}_bytes": own[tier].bytes for tier in TIERS},
            }
        )
        repeats += sum(packed.repeats for packed in manifest.packed.values())
        saved += sum(packed.saved for packed in manifest.packed.values())
        arrived += _arrived_bytes(manifest, since_us)
    lanes = engine.inventory.lanes()
    waiting = {
        "tier": "waiting",
        "files": lanes["open"] + lanes["sealed"],
        "records": None,
        "bytes": lanes["bytes"],
        "raw_bytes": lanes["bytes"],
        "ratio": None,
    }
    return {
        "tiers": [*({"tier": tier, **total.as_dict()} for tier, total in sums.items()), waiting],
        "agents": agents,
        "repeats": {"records": repeats, "saved_bytes": saved},
        "growth": _growth(engine, sums, arrived),
    }


def _agent_sums(manifest: Manifest) -> dict[str, _Sum]:
    sums = {tier: _Sum() for tier in TIERS}
    for name, size in manifest.day_files.items():
        sums["hot"].add(records=sum(ref.records for ref in manifest.file_refs(name)), size=size, raw=size)
    for name, packed in manifest.packed.items():
        _add_packed(sums[tier_of(name) or "warm"], packed)
    for trashed in manifest.trash.values():
        _add_packed(sums["trash"], trashed.packed)
    return sums


def _add_packed(total: _Sum, packed: PackedFile) -> None:
    total.add(records=packed.records, size=packed.size, raw=packed.raw_bytes + packed.saved)


def _arrived_bytes(manifest: Manifest, since_us: int) -> int:
    """Bytes of lines that were merged since, unpacked."""
    at = manifest.ingested
    hot = sum(size for name, size in manifest.day_files.items() if at[name] >= since_us)
    frames = (frame for packed in manifest.packed.values() for frame in packed.frames)
    return hot + sum(frame.raw_length for frame in frames if frame.ingested >= since_us)


def _growth(engine: Engine, sums: dict[str, _Sum], arrived: int) -> dict[str, Any] | None:
    if not arrived:
        return None
    free = engine.storage.free_bytes(engine.paths.root)
    packed = _total(sums[tier] for tier in ("warm", "cold"))
    ratio = packed.bytes / packed.raw_bytes if packed.raw_bytes else 1.0
    per_day = arrived * ratio / GROWTH_DAYS
    return {
        "free_bytes": free,
        "bytes_per_day": round(per_day),
        "days_until_full": round(free / per_day, 1) if per_day else None,
    }


def _total(sums: Iterable[_Sum]) -> _Sum:
    total = _Sum()
    for each in sums:
        total.bytes += each.bytes
        total.raw_bytes += each.raw_bytes
    return total
