"""Performs one action of a plan: builds what it takes, and lets it count. Decides nothing.

What an action was planned on may have changed since. Then it is left for the next plan: `SourcesChangedError`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from memstore.engine.catalog import archive_path_on
from memstore.engine.engine import Engine
from memstore.engine.piece_reader import PieceReader
from memstore.errors import NotFoundError, StorageError
from memstore.format.forgotten import Changing, ForgottenRecords, text_hash
from memstore.format.manifest import Move, PackedFile, TrashedFile
from memstore.format.names import TRASH_DIRECTORY, Tier, tier_of
from memstore.fs.atomic import TEMPORARY_PREFIX, make_durable_directories, try_unlink
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
from memstore.lifecycle.collapse import OwnRepeatFieldError
from memstore.lifecycle.commit import Committer, LockedAgent, SourcesChangedError
from memstore.lifecycle.holds import Holds, HoldsFile
from memstore.lifecycle.pack import Built, Packer, Recipe
from memstore.lifecycle.recipes import digest_change, expired_split, recipe_for
from memstore.lifecycle.retention import Expiry, Rules
from memstore.manifest.index import Hidden, Manifest
from memstore.timestamps import US_PER_DAY

US_PER_HOUR = 3_600_000_000


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
        self._committer = committer
        self._packer = packer
        self._holds = holds
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

    def _perform(self, action: Action, now_us: int) -> tuple[int, int, int]:  # noqa: PLR0911 - one for each kind
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
                return self._purge(action, now_us)
            case CleanUp():
                return self._clean_up(action, now_us)
            case Compact():
                return self._compact(action, now_us)
            case AddShard():
                self._engine.rebalancer.add_shard(None)
                return 0, 0, 0
            case MoveAgent():
                self._engine.rebalancer.pin(action.agent, action.shard)
                return 0, 0, 0
        raise AssertionError(action)

    # -- moves

    def _pack(self, action: Pack, now_us: int) -> tuple[int, int, int]:
        manifest = self._manifest(action.agent, action.sources)
        if action.tier == "cold":
            self._fix_archive()
        recipe = recipe_for(action.tier, action.agent, self._settings, drop=self._droppable(manifest))
        return self._replace(manifest, list(action.sources), recipe, action.reason, now_us)

    def _drop_tombstones(self, action: DropTombstones, now_us: int) -> tuple[int, int, int]:
        manifest = self._manifest(action.agent, (action.file,))
        recipe = recipe_for(_packed_tier(action.file), action.agent, self._settings, drop=self._droppable(manifest))
        return self._replace(manifest, [action.file], recipe, "purge", now_us)

    def _digest(self, action: Digest, now_us: int) -> tuple[int, int, int]:
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
        return self._replace(manifest, [action.file], recipe, "digest", now_us, check=lambda: self._check_holds(holds))

    def _expire(self, action: Expire, now_us: int) -> tuple[int, int, int]:
        manifest = self._manifest(action.agent, (action.file,))
        packed = manifest.packed[action.file]
        if action.whole and not manifest.hidden.touches(packed.t_min, packed.t_max):
            return self._trash_whole(action, manifest, packed, now_us)
        holds = self._holds.load()
        expiry = Expiry(self._rules, holds, action.agent, now_us)
        recipe = recipe_for(
            _packed_tier(action.file),
            action.agent,
            self._settings,
            drop=self._droppable(manifest),
            split=expired_split(expiry, action.agent),
        )
        return self._replace(
            manifest,
            [action.file],
            recipe,
            "retention",
            now_us,
            why=action.why,
            check=lambda: self._check_holds(holds),
            judged=lambda: expiry.judged,
        )

    def _trash_whole(self, action: Expire, manifest: Manifest, packed: PackedFile, now_us: int) -> tuple[int, int, int]:
        move = Move(
            at=now_us,
            reason="retention",
            sources=[action.file],
            trash=[self._trashed(packed, action.why, now_us)],
        )
        holds = self._holds.load()
        if holds.may_cover(action.agent, packed.t_min, packed.t_max):
            raise SourcesChangedError("a legal hold was added")

        def check_and_stir() -> None:
            self._check_holds(holds)
            self._stir(action.agent, now_us, packed.t_min, packed.t_max)

        self._committer.move(action.agent, manifest, move, check=check_and_stir)
        self._note(action.agent, packed.records, now_us)
        return packed.size, packed.size, packed.records

    def _droppable(self, manifest: Manifest) -> Hidden:
        """The tombstones that may be carried out: a record that is held stays in its file, hidden."""
        holds, hidden = self._holds.load(), manifest.hidden
        if not hidden.ids or not holds:
            return hidden
        times = {memory_id: parse_id(memory_id).time_us for memory_id in hidden.ids}
        return Hidden.of(i for i, time_us in times.items() if not holds.may_cover(manifest.agent, time_us, time_us))

    def _check_holds(self, judged_by: Holds) -> None:
        """Raises: SourcesChangedError: holds were added or removed since records were judged by them."""
        if self._holds.load().holds != judged_by.holds:
            raise SourcesChangedError("legal holds were added or removed")

    def _replace(
        self,
        manifest: Manifest,
        sources: list[str],
        recipe: Recipe,
        reason: str,
        now_us: int,
        *,
        why: str = "",
        check: Callable[[], None] | None = None,
        judged: Callable[[], tuple[str, int]] | None = None,
    ) -> tuple[int, int, int]:
        """Build what takes the place of the sources, and let it count."""
        built = self._build(manifest, sources, recipe)
        live = built.live if built.live is None else self._with_digests(manifest, sources, recipe, built, now_us)
        if live is not None and judged is not None:
            if built.trash is None and not built.dropped:  # all of it was held, or kept by periods of their own
                self._abandon(built)
                return self._note_judged(manifest, sources[0], judged(), now_us, check)
            live = msgspec.structs.replace(live, judged=judged())
        move = Move(
            at=now_us,
            reason=reason,
            sources=sources,
            to=[] if live is None else [live],
            trash=[] if built.trash is None else [self._trashed(built.trash, why, now_us)],
            purged=built.dropped,
        )

        def check_and_stir() -> None:
            if check is not None:
                check()
            if built.trash is not None:
                self._stir(manifest.agent, now_us, built.trash.t_min, built.trash.t_max)
            if built.changed and live is not None:
                self._stir(manifest.agent, now_us, live.t_min, live.t_max)

        try:
            self._committer.move(manifest.agent, manifest, move, check=check_and_stir)
        except (SourcesChangedError, StorageError):
            if not self._counts(manifest.agent, built):
                self._abandon(built)
            raise
        hidden = len(built.dropped) + (0 if built.trash is None else built.trash.records)
        if built.trash is not None:
            self._note(manifest.agent, hidden, now_us)
        after = sum(packed.size for packed in (live, built.trash) if packed is not None)
        records = sum(packed.records for packed in (live, built.trash) if packed is not None) + len(built.dropped)
        return _stored_bytes(manifest, sources), after, records

    def _note_judged(
        self,
        manifest: Manifest,
        name: str,
        judged: tuple[str, int],
        now_us: int,
        check: Callable[[], None] | None,
    ) -> tuple[int, int, int]:
        """A file in which nothing has expired stays as it is, but is not looked through again at the next run."""
        packed = msgspec.structs.replace(manifest.packed_file(name), judged=judged)
        move = Move(at=now_us, reason="retention", sources=[name], to=[packed])
        self._committer.move(manifest.agent, manifest, move, check=check)
        return packed.size, packed.size, 0

    def _with_digests(
        self, manifest: Manifest, sources: list[str], recipe: Recipe, built: Built, now_us: int
    ) -> PackedFile:
        """A result that says which of its records are digests."""
        assert built.live is not None
        before = [manifest.packed.get(name) for name in sources]
        until_us = min((0 if each is None else each.digested_until for each in before), default=0)
        if recipe.change is not None:
            until_us = now_us - self._settings.digest_after_days * US_PER_DAY
        digests = built.changed + sum(each.digests for each in before if each is not None)
        return msgspec.structs.replace(built.live, digests=digests, digested_until=until_us)

    def _build(self, manifest: Manifest, sources: list[str], recipe: Recipe) -> Built:
        try:
            return self._packer.build(manifest, sources, recipe)
        except OwnRepeatFieldError:
            return self._packer.build(manifest, sources, recipe.whole())
        except FileNotFoundError as error:
            raise SourcesChangedError(str(error)) from error

    def _trashed(self, packed: PackedFile, why: str, now_us: int) -> TrashedFile:
        grace_us = int(self._engine.settings.storage.retention.grace_hours * US_PER_HOUR)
        return TrashedFile(packed=packed, at=now_us, purge_at=now_us + grace_us, reason=why)

    def _stir(self, agent: str, now_us: int, t_min: int, t_max: int) -> None:
        """Say between which times, both inclusive, records of an agent are about to go or to change.

        The caller holds the merge lock until they have: whoever has had it after that has nothing to wait for.
        """
        self._engine.forgotten.stir(Changing(at=now_us, agent=text_hash(agent), since=t_min, until=t_max + 1))

    def _note(self, agent: str, records: int, now_us: int) -> None:
        self._engine.forgotten.note(
            ForgottenRecords(at=now_us, act="retention", agent=text_hash(agent), records=records)
        )

    def _counts(self, agent: str, built: Built) -> bool:
        """Whether a result may count although its commit failed: its line may have been written before the failure."""
        manifest = self._engine.builder.manifest(agent)
        names = {packed.file for packed in (built.live, built.trash) if packed is not None}
        return manifest is not None and any(name in manifest.packed or name in manifest.trash for name in names)

    def _abandon(self, built: Built) -> None:
        for path in built.paths:
            try_unlink(self._engine.storage, path)

    # -- removals

    def _purge(self, action: Purge, now_us: int) -> tuple[int, int, int]:
        with self._committer.locked_agent(action.agent) as held:
            manifest = _whole(held)
            files = [manifest.trash[name] for name in action.files if name in manifest.trash]
            holds = self._holds.load()
            due = [
                each
                for each in files
                if each.purge_at <= now_us and not holds.may_cover(action.agent, each.packed.t_min, each.packed.t_max)
            ]
            if not due:
                raise SourcesChangedError("what was to be purged has been brought back, or is held")
            move = Move(at=now_us, reason="purge", sources=[each.packed.file for each in due])
            self._committer.move_locked(held, manifest, move)
        return sum(e.packed.size for e in due), 0, sum(e.packed.records for e in due)

    def _clean_up(self, action: CleanUp, now_us: int) -> tuple[int, int, int]:
        removed = 0
        with self._committer.locked_agent(action.agent) as held:
            manifest = _whole(held)
            self._committer.remove_dropped(held, at_us=now_us)
            archive = self._engine.catalog.state.archive_of(action.agent)
            for home in (held.directory, archive):
                for directory in (home, os.path.join(home, TRASH_DIRECTORY)):
                    removed += self._remove_orphans(directory, manifest, action.names)
        return removed, 0, 0

    def _remove_orphans(self, directory: str, manifest: Manifest, names: tuple[str, ...]) -> int:
        """Remove temporary files and packed files that no line names; the lifecycle lock says nobody is building them.

        Day files that no line names are left: a merge that was killed may be repeated into them.
        """
        storage = self._engine.storage
        freed = 0
        try:
            entries = storage.list_directory(directory)
        except FileNotFoundError:
            return 0
        known = manifest.packed.keys() | manifest.trash.keys()
        for entry in entries:
            orphan = tier_of(entry.name) in ("warm", "cold") and entry.name not in known
            if entry.name in names and (orphan or entry.name.startswith(TEMPORARY_PREFIX)):
                path = os.path.join(directory, entry.name)
                identity = storage.identify(path)
                freed += 0 if identity is None else identity.size_bytes
                try_unlink(storage, path)
        return freed

    def _compact(self, action: Compact, now_us: int) -> tuple[int, int, int]:
        with self._committer.locked_agent(action.agent) as held:
            before = _whole(held).identity.size_bytes
            self._committer.compact(held, at_us=now_us)
        manifest = self._engine.builder.manifest(action.agent)
        return before, 0 if manifest is None else manifest.identity.size_bytes, 0

    # -- what it works on

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

    def _fix_archive(self) -> None:
        """Fix where the archive lies, before the first cold file is made; see that it is there afterwards.

        Raises:
            NotFoundError: the volume of the settings is not there.
            StorageError: the archive was on a volume that is not there now.
        """
        engine = self._engine
        volume = self._settings.archive_volume
        archive = engine.catalog.reload().archive
        store = engine.catalog.state.store
        if engine.storage.identify(archive) is not None:
            if store.archive is not None:
                # Who wrote it into STORE.json may have been stopped before the new file's name was synced.
                engine.storage.sync_directory(engine.paths.root)
            return
        if store.archive is not None or self._archive_was_used():
            raise StorageError(f"{archive}: the archive is missing; mount its volume, or restore it from a backup")
        if volume:
            if engine.storage.identify(volume) is None:
                raise NotFoundError(f"archive volume {volume} is not there; mount it first")
            engine.check_file_system(volume)
            archive = archive_path_on(volume, store.id)
        make_durable_directories(engine.storage, archive)
        if volume:
            engine.catalog.update(lambda content: msgspec.structs.replace(content, archive=archive))

    def _archive_was_used(self) -> bool:
        """Whether some agent has a cold file: then a missing archive is a loss, not a beginning."""
        for agent in self._engine.inventory.agents(skip_damaged=True):
            manifest = self._engine.builder.manifest(agent)
            if manifest is not None and any(tier_of(name) == "cold" for name in (*manifest.packed, *manifest.trash)):
                return True
        return False


def worker_packer(engine: Engine, reader: PieceReader) -> Packer:
    """A packer that puts each tier where it belongs in an engine's store."""

    def directory_of(manifest: Manifest, tier: Tier) -> str:
        return engine.catalog.state.archive_of(manifest.agent) if tier == "cold" else manifest.directory

    return Packer(engine.storage, reader=reader, directory_of=directory_of)


def stored_bytes(manifest: Manifest, name: str) -> int:
    """Bytes on disk of a file that counts or is in the trash."""
    committed = manifest.day_files.get(name)
    return manifest.packed_file(name).size if committed is None else committed


def _stored_bytes(manifest: Manifest, names: list[str]) -> int:
    return sum(stored_bytes(manifest, name) for name in names)


def _packed_tier(name: str) -> Tier:
    tier = tier_of(name)
    assert tier in ("warm", "cold"), name
    return tier


def _whole(held: LockedAgent) -> Manifest:
    """Raises: SourcesChangedError, CorruptionError: there is no MANIFEST, or it is damaged."""
    if held.manifest is None:
        raise SourcesChangedError(f"{held.directory} is gone")
    error = held.manifest.damage()
    if error is not None:
        raise error
    return held.manifest
