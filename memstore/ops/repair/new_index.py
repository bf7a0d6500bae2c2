"""What an agent's MANIFEST says once it is repaired: files that stay, new ones, and lanes that count as merged."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import msgspec

from memstore.format.manifest import Block, Chunk, PackedFile, State, TrashedFile
from memstore.format.names import parse_day_file_name
from memstore.lifecycle.digests_kept import as_digested
from memstore.lifecycle.pack import Built
from memstore.manifest.compaction import TOKEN_KEPT_US
from memstore.ops.repair.agent_plan import AgentPlan
from memstore.ops.repair.salvage import FileSalvage


def new_index(
    plan: AgentPlan,
    built: Sequence[tuple[FileSalvage, Built]],
    *,
    version: int,
    kept_lanes: AbstractSet[str],
    now_us: int,
) -> State:
    """All of it, as one state.

    Args:
        plan: of the agent.
        built: files that are not kept, and what was made of each.
        version: above that of every file there is.
        kept_lanes: tokens of lanes that were kept because something of them could not be merged.
        now_us: the time.
    """
    manifest = plan.index.manifest
    kept = [each for each in plan.files if plan.is_kept(each)]
    days = [each for each in kept if parse_day_file_name(each.name) is not None]
    packed: list[PackedFile] = []
    trash: list[TrashedFile] = []
    for each in kept:
        if parse_day_file_name(each.name) is None:
            known = each.packed or manifest.packed_file(each.name)
            _sort_in(each, known, packed, trash)
    for each, result in built:
        one = result.live or result.trash
        if one is not None:
            was_packed = each.listed and parse_day_file_name(each.name) is None
            old = manifest.packed_file(each.name) if was_packed else None
            _sort_in(each, as_digested(one, old), packed, trash)
    gone = [each.name for each in plan.files if not plan.is_kept(each) and not each.is_missing]
    return State(
        at=now_us,
        next_version=version,
        lanes=_merged_lanes(plan, kept_lanes, now_us),
        days=sorted((Chunk(each.name, 0, _blocks(each)) for each in days), key=lambda chunk: chunk.file),
        ingested={each.name: each.ingested for each in days},
        packed=sorted(packed, key=lambda each: each.file),
        trash=sorted(trash, key=lambda each: each.packed.file),
        hidden=sorted(plan.hidden),
        purged=sorted(manifest.purged),
        dropped={**manifest.dropped, **dict.fromkeys(gone, now_us)},
    )


def _merged_lanes(plan: AgentPlan, kept_lanes: AbstractSet[str], now_us: int) -> list[str]:
    """Lanes that count as merged: those that are kept, and those that a reader may have listed within the hour."""
    manifest = plan.index.manifest
    merge_at = {token: merge.at for merge in manifest.merges for token in merge.lanes}
    is_of_copy = bool(plan.index.source)  # which knows of them, and not since when
    return sorted(
        token
        for token in manifest.merged
        if token not in plan.unmerged
        and (
            token in kept_lanes
            or (is_of_copy and token not in merge_at)
            or merge_at.get(token, manifest.begun) > now_us - TOKEN_KEPT_US
        )
    )


def _blocks(each: FileSalvage) -> list[Block]:
    """The index of a day file that stays."""
    if each.blocks is not None:
        return each.blocks
    return [Block(piece.length, piece.records, piece.t_min, piece.t_max, piece.xxh3) for piece in each.pieces]


def _sort_in(each: FileSalvage, known: PackedFile, packed: list[PackedFile], trash: list[TrashedFile]) -> None:
    if each.trashed is not None:
        trash.append(msgspec.structs.replace(each.trashed, packed=known))
    else:
        packed.append(known)
