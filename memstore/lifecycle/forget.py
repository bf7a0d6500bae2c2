"""Forget single records at once, and bring back what was forgotten or expired while it is still there.

A tombstone in the agent's MANIFEST hides a record from the moment its line is durable; the next rewrite of its file
drops it for good. What retention removed lies in the agent's trash until its grace period ends.

What came from elsewhere and expired may have been imported again meanwhile, under the same id: then the record that is
there stays, and the one in the trash is not brought back beside it. So imports wait for an undelete.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import msgspec

from memstore.engine.engine import Engine
from memstore.engine.lookup import find_lines
from memstore.errors import HeldError, NotFoundError
from memstore.format.forgotten import Act, Changing, ForgottenRecords, text_hash
from memstore.format.holds_file import Hold
from memstore.format.manifest import Move, TrashedFile
from memstore.format.names import tier_of
from memstore.fs.lock import locked
from memstore.ids import is_derived_id, parse_id
from memstore.lifecycle.commit import Committer, LockedAgent
from memstore.lifecycle.holds import HoldsFile
from memstore.lifecycle.pack import Packer
from memstore.lifecycle.recipes import others_split, recipe_for
from memstore.lifecycle.turn import own_turn
from memstore.manifest.index import Hidden, Manifest
from memstore.record import decode_record
from memstore.replica.tombstones import CopyTombstones
from memstore.timestamps import YEAR_10000_US

_IDS_PER_LINE = 1000
"""Hashes in one line of FORGOTTEN: 35 KB."""
_IMPORT_WAIT_S = 600.0
"""How long an undelete waits for an import's batch."""


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What was forgotten: ids that are hidden now, and ids that no record has (or that were hidden before)."""

    hidden: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


@dataclass(slots=True)
class UndeleteReport:
    """What was brought back: how many records, and the holds that keep retention from taking them again.

    ``unknown``: ids that no record has, or one that is there already.
    """

    records: int = 0
    holds: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class Forgetter:
    """Thread-safe; one per open store that writes."""

    def __init__(self, engine: Engine, *, committer: Committer, packer: Packer, holds: HoldsFile) -> None:
        self._engine = engine
        self._committer = committer
        self._packer = packer
        self._holds = holds
        self._tombstones = CopyTombstones(engine)

    def forget(self, memory_ids: Iterable[str]) -> ForgetReport:
        """Hide records from every read, in every process, at once.

        Raises:
            UsageError: one is no id of this form.
            HeldError: a legal hold covers one of them; nothing was hidden.
            CorruptionError: the part of a file that would hold one of them is damaged.
        """
        wanted = _by_agent(memory_ids)
        found = {agent: find_lines(self._engine.builder, agent, times) for agent, times in wanted.items()}
        holds = self._holds.load()
        for agent, lines in found.items():
            for memory_id, line in lines.items():
                names = holds.covering(agent, memory_id, decode_record(line).memory_type, wanted[agent][memory_id])
                if names:
                    raise HeldError(f"{memory_id} may not be forgotten: hold {', '.join(names)} covers it")
        report = ForgetReport()
        for agent, lines in found.items():
            if lines:
                now_us = self._engine.clock.now_us()
                times = {memory_id: wanted[agent][memory_id] for memory_id in lines}
                with self._committer.locked_agent(agent) as held:
                    self._stir(agent, now_us, min(times.values()), max(times.values()) + 1, ids=sorted(times))
                    self._committer.hide(held, agent, sorted(lines), at_us=now_us)
                self._note(agent, "forget", len(lines), now_us)
                self._tombstones.follow_notes()
            report.hidden.extend(lines)
            report.unknown.extend(memory_id for memory_id in wanted[agent] if memory_id not in lines)
        return report

    def undelete_agent(self, agent: str) -> UndeleteReport:
        """Bring back all of an agent's records that were forgotten or expired and are still there.

        Raises:
            NotFoundError: the agent has no such record.
        """
        report = UndeleteReport()
        now_us = self._engine.clock.now_us()
        with self._lifecycle_lock(), self._import_lock():
            manifest = self._engine.builder.manifest(agent)
            if manifest is None or not (manifest.trash or manifest.hidden.ids):
                raise NotFoundError(f"agent {agent!r} has no record that could be brought back")
            for trashed, there in self._with_those_that_are_there(manifest):
                self._hold(report, agent, trashed, now_us)  # first, so that no retention comes between
                if there:
                    report.records += self._restore_without(manifest, trashed, there, now_us)
            with self._committer.locked_agent(agent) as held:
                if held.manifest is None:
                    raise NotFoundError(f"agent {agent!r} is gone")
                self._stir(agent, now_us, 0, YEAR_10000_US)
                trash, hidden = list(held.manifest.trash.values()), sorted(held.manifest.hidden.ids)
                if trash:
                    self._restore(held, held.manifest, trash, now_us)
                if hidden:
                    self._announce(agent, hidden, now_us)
                    self._committer.show(self._committer.refreshed(held), agent, hidden, at_us=now_us)
                report.records += sum(trashed.packed.records for trashed in trash) + len(hidden)
        self._note(agent, "undelete", report.records, now_us)
        return report

    def _with_those_that_are_there(self, manifest: Manifest) -> Iterator[tuple[TrashedFile, frozenset[str]]]:
        """Each file of the trash, and the ids in it that would be there twice; those that expired last come first."""
        taken = set(manifest.hidden.ids)
        for trashed in sorted(manifest.trash.values(), key=lambda each: each.at, reverse=True):
            imported: dict[str, int] = {}
            for ref in manifest.file_refs(trashed.packed.file):
                for line in self._engine.pieces.all_lines(manifest, ref):
                    memory_id = decode_record(line).memory_id
                    if is_derived_id(memory_id):
                        imported[memory_id] = parse_id(memory_id).time_us
            stored = find_lines(self._engine.builder, manifest.agent, imported) if imported else {}
            yield trashed, frozenset(imported.keys() & (taken | stored.keys()))
            taken |= imported.keys()

    def _restore_without(self, manifest: Manifest, trashed: TrashedFile, there: frozenset[str], now_us: int) -> int:
        """Bring a file of the trash back without the records that are there; how many that were."""
        name = trashed.packed.file
        tier = tier_of(name)
        assert tier is not None
        settings = self._engine.settings.storage.lifecycle
        recipe = recipe_for(tier, manifest.agent, settings, drop=Hidden.of(there))
        current = self._engine.builder.manifest(manifest.agent) or manifest
        built = self._packer.build(current, [name], recipe)
        move = Move(at=now_us, reason="undelete", sources=[name], to=[] if built.live is None else [built.live])
        self._committer.move(manifest.agent, current, move, check=self._stirrer(current.agent, trashed, now_us))
        return 0 if built.live is None else built.live.records

    def undelete_ids(self, memory_ids: Iterable[str]) -> UndeleteReport:
        """Bring back single records that were forgotten or expired and still can be; others are listed as unknown.

        Raises:
            UsageError: one is no id of this form.
        """
        report = UndeleteReport()
        for agent, times in _by_agent(memory_ids).items():
            with self._lifecycle_lock(), self._import_lock():
                stored = find_lines(self._engine.builder, agent, times)
                report.unknown.extend(sorted(stored))
                records = self._undelete_ids(report, agent, times.keys() - stored.keys())
            if records:
                report.records += records
                self._note(agent, "undelete", records, self._engine.clock.now_us())
        return report

    def _undelete_ids(self, report: UndeleteReport, agent: str, ids: set[str]) -> int:
        now_us = self._engine.clock.now_us()
        with self._committer.locked_agent(agent) as held:
            manifest = held.manifest
            hidden = sorted(ids & manifest.hidden.ids) if manifest is not None else []
            if hidden:
                times = [parse_id(memory_id).time_us for memory_id in hidden]
                self._stir(agent, now_us, min(times), max(times) + 1)
                self._announce(agent, hidden, now_us)
                self._committer.show(held, agent, hidden, at_us=now_us)
        ids -= set(hidden)
        back = 0
        while True:
            manifest = self._engine.builder.manifest(agent)
            wanted = Hidden.of(ids)
            trashed = None if manifest is None else self._trash_with(manifest, wanted)
            if manifest is None or trashed is None:
                break
            found = self._take_out(report, manifest, trashed, wanted, now_us)
            back += len(found)
            ids -= found
        report.unknown.extend(sorted(ids))
        return back + len(hidden)

    def _trash_with(self, manifest: Manifest, wanted: Hidden) -> TrashedFile | None:
        """A file of the trash that holds one of these records."""
        for trashed in manifest.trash.values():
            if wanted.touches(trashed.packed.t_min, trashed.packed.t_max) and self._ids_in(manifest, trashed, wanted):
                return trashed
        return None

    def _ids_in(self, manifest: Manifest, trashed: TrashedFile, wanted: Hidden) -> set[str]:
        by_needle = wanted.by_needle()
        found: set[str] = set()
        for ref in manifest.file_refs(trashed.packed.file):
            if wanted.touches(ref.t_min, ref.t_max):
                for line in self._engine.pieces.all_lines(manifest, ref):
                    memory_id = by_needle.get(line[: wanted.needle_bytes])
                    if memory_id is not None:
                        found.add(memory_id)
        return found

    def _take_out(
        self, report: UndeleteReport, manifest: Manifest, trashed: TrashedFile, wanted: Hidden, now_us: int
    ) -> set[str]:
        """Divide a file of the trash into what comes back and what stays."""
        found = self._ids_in(manifest, trashed, wanted)
        self._hold(report, manifest.agent, trashed, now_us, ids=tuple(sorted(found)))
        name = trashed.packed.file
        tier = tier_of(name)
        assert tier is not None
        settings = self._engine.settings.storage.lifecycle
        recipe = recipe_for(tier, manifest.agent, settings, drop=Hidden(), split=others_split(Hidden.of(found)))
        built = self._packer.build(manifest, [name], recipe)
        stays = [] if built.trash is None else [msgspec.structs.replace(trashed, packed=built.trash)]
        move = Move(at=now_us, reason="undelete", sources=[name], to=[built.live] if built.live else [], trash=stays)
        self._committer.move(manifest.agent, manifest, move, check=self._stirrer(manifest.agent, trashed, now_us))
        return found

    def _restore(self, held: LockedAgent, manifest: Manifest, trash: list[TrashedFile], now_us: int) -> None:
        packed = [trashed.packed for trashed in trash]
        move = Move(at=now_us, reason="undelete", sources=[each.file for each in packed], to=packed)
        self._committer.move_locked(held, manifest, move)

    def _hold(
        self, report: UndeleteReport, agent: str, trashed: TrashedFile, now_us: int, *, ids: tuple[str, ...] = ()
    ) -> None:
        """Keep retention from taking at its next run what it took before."""
        stem = trashed.packed.file.partition(".jsonl")[0]
        hold = Hold(
            name=f"undeleted-{stem}-{secrets.token_hex(6)}",
            at=now_us,
            agent=None if ids else agent,
            ids=ids,
            since_us=0 if ids else trashed.packed.t_min,
            until_us=YEAR_10000_US if ids else trashed.packed.t_max + 1,
            reason="brought back by an undelete; remove this hold once the rule that took it is changed",
        )
        self._holds.add(hold)
        report.holds.append(hold.name)

    def _lifecycle_lock(self) -> AbstractContextManager[None]:
        return own_turn(self._engine.storage, self._engine.paths)

    def _import_lock(self) -> AbstractContextManager[None]:
        storage, paths = self._engine.storage, self._engine.paths
        return locked(storage, paths.lock("import"), timeout_s=_IMPORT_WAIT_S)

    def _stirrer(self, agent: str, trashed: TrashedFile, now_us: int) -> Callable[[], None]:
        """Says, under the locks of a move, that records of a file of the trash are about to be shown again."""
        packed = trashed.packed
        return lambda: self._stir(agent, now_us, packed.t_min, packed.t_max + 1)

    def _stir(self, agent: str, now_us: int, since_us: int, until_us: int, *, ids: Sequence[str] = ()) -> None:
        """Say which records are about to be hidden, each by its id, or to be shown again.

        The caller holds the merge lock until they are: whoever has had it after that has nothing to wait for.
        """
        whose = text_hash(agent)
        for start in range(0, max(len(ids), 1), _IDS_PER_LINE):
            hashes = [text_hash(memory_id) for memory_id in ids[start : start + _IDS_PER_LINE]]
            self._engine.forgotten.stir(Changing(at=now_us, agent=whose, since=since_us, until=until_us, ids=hashes))

    def _announce(self, agent: str, ids: Iterable[str], now_us: int) -> None:
        """Note that these are forgotten no longer, before they are shown: else a check would take them for a fault."""
        self._note(agent, "undelete", 0, now_us, ids=ids)

    def _note(self, agent: str, act: Act, records: int, now_us: int, *, ids: Iterable[str] = ()) -> None:
        hashes = [text_hash(memory_id) for memory_id in ids]
        self._engine.forgotten.note(
            ForgottenRecords(at=now_us, act=act, agent=text_hash(agent), records=records, ids=hashes)
        )


def _by_agent(memory_ids: Iterable[str]) -> dict[str, dict[str, int]]:
    """Ids with their times, by agent; raises UsageError for what is no id."""
    listed = [memory_ids] if isinstance(memory_ids, str) else memory_ids
    wanted: dict[str, dict[str, int]] = {}
    for memory_id in listed:
        parts = parse_id(memory_id)
        wanted.setdefault(parts.agent_id, {})[memory_id] = parts.time_us
    return wanted
