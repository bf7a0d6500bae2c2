"""Let files take the place of others: build them, let them count, and say so to whoever has read the old ones."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from memstore.engine.engine import Engine
from memstore.errors import StorageError, WriterBrokenError
from memstore.format.forgotten import Changing, ForgottenRecords, text_hash
from memstore.format.manifest import Move, PackedFile, TrashedFile
from memstore.fs.atomic import try_unlink
from memstore.lifecycle.commit import Committer, SourcesChangedError
from memstore.lifecycle.digests_kept import with_digests
from memstore.lifecycle.holds import Holds, HoldsFile
from memstore.lifecycle.pack import Built, Packer, Recipe
from memstore.lifecycle.trash import trashed_file
from memstore.manifest.index import Manifest
from memstore.timestamps import US_PER_DAY

Done = tuple[int, int, int]
"""Bytes of what was there before, bytes of what is there now or can be brought back, and records looked after."""


class Replacement:
    """Replaces files of agents, one after the other; the caller holds the lifecycle lock.

    Args:
        engine: the store.
        committer: lets changes count.
        packer: builds files.
        holds: what may not be removed.
    """

    def __init__(self, engine: Engine, *, committer: Committer, packer: Packer, holds: HoldsFile) -> None:
        self._engine = engine
        self._committer = committer
        self._packer = packer
        self._holds = holds
        self._settings = engine.settings.storage

    def replace(
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
    ) -> Done:
        """Build what takes the place of the sources, and let it count.

        Args:
            manifest: of the agent.
            sources: names of its files.
            recipe: what becomes of their records.
            reason: as the MANIFEST has it.
            now_us: the time.
            why: what the trash says of what goes there.
            check: raises `SourcesChangedError` where it may not count; the locks are held.
            judged: what the result says of the periods by which its records were judged.

        Raises:
            SourcesChangedError: they are not what they were.
            StorageError: it could not be done; what was there before is there still.
        """
        self._committer.await_merges(manifest, sources)
        built = self._build(manifest, sources, recipe)
        live = built.live if built.live is None else self._digested(manifest, sources, recipe, built, now_us)
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
        except (SourcesChangedError, StorageError) as error:
            self._abandon_unless_it_counts(manifest.agent, built, error)
            raise
        hidden = len(built.dropped) + (0 if built.trash is None else built.trash.records)
        if built.trash is not None:
            self._note(manifest.agent, hidden, now_us)
        after = sum(packed.size for packed in (live, built.trash) if packed is not None)
        records = sum(packed.records for packed in (live, built.trash) if packed is not None) + len(built.dropped)
        return sum(_stored_bytes(manifest, name) for name in sources), after, records

    def trash(self, manifest: Manifest, packed: PackedFile, *, why: str, now_us: int) -> Done:
        """Let a whole file go to the trash as it is.

        Args:
            manifest: of the agent.
            packed: the file.
            why: as retention says it.
            now_us: the time.

        Raises:
            SourcesChangedError: it is not what it was, or a hold covers it.
            StorageError: it could not be done; what was there before is there still.
        """
        trashed = self._trashed(packed, why, now_us)
        move = Move(at=now_us, reason="retention", sources=[packed.file], trash=[trashed])
        holds = self._holds.load()
        if holds.may_cover(manifest.agent, packed.t_min, packed.t_max):
            raise SourcesChangedError("a legal hold was added")

        def check_and_stir() -> None:
            check_holds(self._holds, holds)
            self._stir(manifest.agent, now_us, packed.t_min, packed.t_max)

        self._committer.move(manifest.agent, manifest, move, check=check_and_stir)
        self._note(manifest.agent, packed.records, now_us)
        return packed.size, packed.size, packed.records

    def _note_judged(
        self,
        manifest: Manifest,
        name: str,
        judged: tuple[str, int],
        now_us: int,
        check: Callable[[], None] | None,
    ) -> Done:
        """A file in which nothing has expired stays as it is, but is not looked through again at the next run."""
        packed = msgspec.structs.replace(manifest.packed_file(name), judged=judged)
        move = Move(at=now_us, reason="retention", sources=[name], to=[packed])
        self._committer.move(manifest.agent, manifest, move, check=check)
        return packed.size, packed.size, 0

    def _digested(
        self, manifest: Manifest, sources: list[str], recipe: Recipe, built: Built, now_us: int
    ) -> PackedFile:
        """A result that says which of its records are digests."""
        assert built.live is not None
        until_us = None if recipe.change is None else now_us - self._settings.lifecycle.digest_after_days * US_PER_DAY
        before = [manifest.packed.get(name) for name in sources]
        return with_digests(built.live, before, made=built.changed, until_us=until_us)

    def _build(self, manifest: Manifest, sources: list[str], recipe: Recipe) -> Built:
        try:
            return self._packer.build(manifest, sources, recipe)
        except FileNotFoundError as error:
            raise SourcesChangedError(str(error)) from error

    def _trashed(self, packed: PackedFile, why: str, now_us: int) -> TrashedFile:
        return trashed_file(packed, reason=why, now_us=now_us, grace_hours=self._settings.retention.grace_hours)

    def _stir(self, agent: str, now_us: int, t_min: int, t_max: int) -> None:
        """Say between which times, both inclusive, records of an agent are about to go or to change.

        The caller holds the merge lock until they have: whoever has had it after that has nothing to wait for.
        """
        self._engine.forgotten.stir(Changing(at=now_us, agent=text_hash(agent), since=t_min, until=t_max + 1))

    def _note(self, agent: str, records: int, now_us: int) -> None:
        self._engine.forgotten.note(
            ForgottenRecords(at=now_us, act="retention", agent=text_hash(agent), records=records)
        )

    def _abandon_unless_it_counts(self, agent: str, built: Built, error: Exception) -> None:
        """Throw a result away whose commit failed, unless its line was written before that, or may be on the disk."""
        if isinstance(error, WriterBrokenError):
            return  # a power cut may make it count: its files stay for the next clean-up
        manifest = self._engine.builder.manifest(agent)
        names = {packed.file for packed in (built.live, built.trash) if packed is not None}
        if manifest is None or not any(name in manifest.packed or name in manifest.trash for name in names):
            self._abandon(built)

    def _abandon(self, built: Built) -> None:
        for path in built.paths:
            try_unlink(self._engine.storage, path)


def check_holds(file: HoldsFile, judged_by: Holds) -> None:
    """Raises: SourcesChangedError: holds were added or removed since records were judged by them."""
    if file.load().holds != judged_by.holds:
        raise SourcesChangedError("legal holds were added or removed")


def _stored_bytes(manifest: Manifest, name: str) -> int:
    """Bytes on disk of a file that counts or is in the trash."""
    committed = manifest.day_files.get(name)
    return manifest.packed_file(name).size if committed is None else committed
