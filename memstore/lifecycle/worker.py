"""Performs one action of a plan: builds what it takes, and lets it count. Decides nothing.

What an action was planned on may have changed since. Then it is left for the next plan: `SourcesChangedError`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

from memstore.engine.engine import Engine
from memstore.format.names import Tier, tier_of
from memstore.ids import parse_id
from memstore.lifecycle.action import (
    Action,
    AddShard,
    CleanUp,
    Compact,
    Digest,
    DropTombstones,
    Expire,
    MoveAgent,
    Pack,
    Purge,
)
from memstore.lifecycle.archive_place import fix_archive
from memstore.lifecycle.clearing import Clearing
from memstore.lifecycle.commit import Committer, SourcesChangedError
from memstore.lifecycle.holds import HoldsFile
from memstore.lifecycle.pack import Packer
from memstore.lifecycle.recipes import digest_change, expired_split, recipe_for
from memstore.lifecycle.replacing import Done, Replacement, check_holds
from memstore.lifecycle.retention import Expiry, Rules
from memstore.manifest.index import Hidden, Manifest


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What an action did.

    Attributes:
        action: which.
        seconds: how long it took.
        bytes_before: of the files it took the place of.
        bytes_after: of the files that count or can be brought back now.
        records: how many records it looked after.
    """

    action: Action
    seconds: float
    bytes_before: int
    bytes_after: int
    records: int


class Worker:
    """Performs actions, one at a time; the caller holds the lifecycle lock.

    Args:
        engine: the store.
        committer: lets changes count.
        packer: builds files.
        holds: what may not be removed, read anew whenever something is.
    """

    def __init__(self, engine: Engine, *, committer: Committer, packer: Packer, holds: HoldsFile) -> None:
        self._engine = engine
        self._holds = holds
        self._replacement = Replacement(engine, committer=committer, packer=packer, holds=holds)
        self._clearing = Clearing(engine, committer=committer, holds=holds)
        self._settings = engine.settings.storage.lifecycle
        self._rules = Rules(engine.settings)

    def perform(self, action: Action, *, now_us: int) -> ActionResult:
        """Do it.

        Raises:
            SourcesChangedError: what it was planned on has changed.
            StorageError: it could not be done; what was there before is there still.
        """
        clock = self._engine.clock
        started_s = clock.monotonic_s()
        before, after, records = self._perform(action, now_us)
        return ActionResult(action, clock.monotonic_s() - started_s, before, after, records)

    def _perform(self, action: Action, now_us: int) -> Done:  # noqa: PLR0911 - one for each kind
        match action:
            case Pack():
                return self._pack(action, now_us)
            case Expire():
                return self._expire(action, now_us)
            case DropTombstones():
                return self._drop_tombstones(action, now_us)
            case Digest():
                return self._digest(action, now_us)
            case Purge():
                return self._clearing.purge(action, now_us=now_us)
            case CleanUp():
                return self._clearing.clean_up(action, now_us=now_us)
            case Compact():
                return self._clearing.compact(action, now_us=now_us)
            case AddShard():
                self._engine.rebalancer.add_shard(None)
                return 0, 0, 0
            case MoveAgent():
                self._engine.rebalancer.pin(action.agent, action.shard)
                return 0, 0, 0
        raise AssertionError(action)

    # -- moves

    def _pack(self, action: Pack, now_us: int) -> Done:
        manifest = self._manifest(action.agent, action.sources)
        if action.tier == "cold":
            fix_archive(self._engine)
        recipe = recipe_for(action.tier, action.agent, self._settings, drop=self._droppable(manifest))
        return self._replacement.replace(manifest, list(action.sources), recipe, action.reason, now_us)

    def _drop_tombstones(self, action: DropTombstones, now_us: int) -> Done:
        manifest = self._manifest(action.agent, (action.file,))
        recipe = recipe_for(_packed_tier(action.file), action.agent, self._settings, drop=self._droppable(manifest))
        return self._replacement.replace(manifest, [action.file], recipe, "purge", now_us)

    def _digest(self, action: Digest, now_us: int) -> Done:
        agent, holds = action.agent, self._holds.load()
        manifest = self._manifest(agent, (action.file,))
        change = digest_change(
            agent,
            self._settings,
            now_us=now_us,
            held=lambda memory_id, kind, time_us: holds.covers_record(agent, memory_id, kind, time_us),
        )
        recipe = recipe_for(
            _packed_tier(action.file), agent, self._settings, drop=self._droppable(manifest), change=change
        )
        return self._replacement.replace(
            manifest, [action.file], recipe, "digest", now_us, check=partial(check_holds, self._holds, holds)
        )

    def _expire(self, action: Expire, now_us: int) -> Done:
        manifest = self._manifest(action.agent, (action.file,))
        packed = manifest.packed[action.file]
        if action.whole and not manifest.hidden.touches(packed.t_min, packed.t_max):
            return self._replacement.trash(manifest, packed, why=action.why, now_us=now_us)
        holds = self._holds.load()
        expiry = Expiry(self._rules, holds, action.agent, now_us)
        recipe = recipe_for(
            _packed_tier(action.file),
            action.agent,
            self._settings,
            drop=self._droppable(manifest),
            split=expired_split(expiry, action.agent),
        )
        return self._replacement.replace(
            manifest,
            [action.file],
            recipe,
            "retention",
            now_us,
            why=action.why,
            check=partial(check_holds, self._holds, holds),
            judged=lambda: expiry.judged,
        )

    def _droppable(self, manifest: Manifest) -> Hidden:
        """The tombstones that may be carried out: a record that is held stays in its file, hidden."""
        holds, hidden = self._holds.load(), manifest.hidden
        if not hidden.ids or not holds:
            return hidden
        times = {memory_id: parse_id(memory_id).time_us for memory_id in hidden.ids}
        return Hidden.of(i for i, time_us in times.items() if not holds.may_cover(manifest.agent, time_us, time_us))

    def _manifest(self, agent: str, sources: tuple[str, ...]) -> Manifest:
        """The agent's MANIFEST, which lists all sources.

        Raises:
            SourcesChangedError: it does not any more.
            CorruptionError: it is damaged: nothing is moved before it is repaired.
        """
        manifest = self._engine.builder.manifest(agent)
        if manifest is None:
            raise SourcesChangedError(f"agent {agent!r} is gone")
        error = manifest.damage()
        if error is not None:
            raise error
        for name in sources:
            if name not in manifest.day_files and name not in manifest.packed:
                raise SourcesChangedError(f"{os.path.join(manifest.directory, name)} counts no longer")
        return manifest


def _packed_tier(name: str) -> Tier:
    tier = tier_of(name)
    assert tier in ("warm", "cold"), name
    return tier
