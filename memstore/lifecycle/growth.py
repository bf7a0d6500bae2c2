"""When a store needs another shard, or an agent another place: a pure function from what its shards hold.

Nothing flaps. A shard is only ever added, an agent only moves from a shard that is too large to one that stays well
below that, and stays there: it is pinned, and what is pinned is never moved from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memstore.config import GIB, Settings
from memstore.lifecycle.action import Action, AddShard, MoveAgent, Withheld

TARGET_SHARE_MAX = 0.8
"""Of the limit, what a shard may hold after an agent has come: it has room to grow before it is too large itself."""


@dataclass(slots=True)
class _Shard:
    """A shard as it would be after the moves that are planned already."""

    name: str
    agents: int
    bytes: int
    heaviest: list[tuple[int, str]]
    pinned: frozenset[str]


def plan_growth(shards: Sequence[Mapping[str, Any]], settings: Settings) -> list[Action]:
    """Shards to add and agents to move.

    Args:
        shards: as ``MemStore.shards`` gives them: ``name, agents, bytes, heaviest`` (``agent, bytes``), ``pinned``.
        settings: ``storage.sharding`` of these. With ``auto_scale`` off the plan only says what it would be; with
            ``enabled`` off there is one shard for good.

    Returns:
        At most one `AddShard`, and one `MoveAgent` for each shard that is too large.
    """
    sharding = settings.storage.sharding
    if not sharding.enabled or not shards:
        return []
    actions = list(_actions(shards, sharding.agents_per_shard, int(sharding.max_shard_size_gb * GIB)))
    return actions if sharding.auto_scale else [_withheld(action) for action in actions]


def _actions(given: Sequence[Mapping[str, Any]], agents_max: int, bytes_max: int) -> Iterator[Action]:
    shards = [
        _Shard(
            shard["name"],
            shard["agents"],
            shard["bytes"],
            [(each["bytes"], each["agent"]) for each in shard["heaviest"]],
            frozenset(shard["pinned"]),
        )
        for shard in given
    ]
    reasons = []
    agents = sum(shard.agents for shard in shards)
    if agents > agents_max * len(shards):
        mean = agents / len(shards)
        reasons.append(f"{mean:.0f} agents a shard are more than storage.sharding.agents_per_shard = {agents_max}")
    for shard in sorted(shards, key=lambda each: -each.bytes):
        if shard.bytes <= bytes_max:
            continue
        large = f"{shard.name} has {_gb(shard.bytes)}, more than storage.sharding.max_shard_size_gb"
        movable = [(size, agent) for size, agent in shard.heaviest if agent not in shard.pinned and size < shard.bytes]
        move = _best_move(shard, movable, shards, bytes_max)
        if move is not None:
            size, agent, target = move
            shard.bytes, target.bytes = shard.bytes - size, target.bytes + size
            yield MoveAgent(agent=agent, shard=target.name, reason=large, needs_bytes=size)
        elif any(size <= bytes_max * TARGET_SHARE_MAX for size, _ in movable) and min(s.bytes for s in shards):
            reasons.append(f"{large}, and no other has room for one of its agents")
        else:
            yield Withheld(
                what=f"an agent of {shard.name} ({_gb(shard.bytes)}) would be moved",
                why="each of its heaviest is pinned, alone, or too large for any shard; raise "
                "storage.sharding.max_shard_size_gb, or unpin one",
            )
    if reasons:
        yield AddShard(reason="; ".join(reasons))


def _best_move(
    source: _Shard, movable: Sequence[tuple[int, str]], shards: Sequence[_Shard], bytes_max: int
) -> tuple[int, str, _Shard] | None:
    """The smallest agent that relieves the shard, else the largest, of those that the lightest has room for."""
    target = min((shard for shard in shards if shard is not source), key=lambda each: each.bytes, default=None)
    if target is None:
        return None
    fitting = [(size, agent) for size, agent in movable if target.bytes + size <= bytes_max * TARGET_SHARE_MAX]
    enough = [(size, agent) for size, agent in fitting if source.bytes - size <= bytes_max]
    if not fitting:
        return None
    size, agent = min(enough) if enough else max(fitting)
    return size, agent, target


def _withheld(action: Action) -> Action:
    switch = "storage.sharding.auto_scale is off; `memstore shards"
    match action:
        case AddShard():
            return Withheld(what=f"a shard would be added: {action.reason}", why=f"{switch} add` does it")
        case MoveAgent():
            return Withheld(
                agent=action.agent,
                what=f"it would be moved to {action.shard}: {action.reason}",
                why=f"{switch} pin {action.agent} {action.shard}` does it",
            )
    return action


def _gb(number_bytes: int) -> str:
    return f"{number_bytes / GIB:.1f} GB"
