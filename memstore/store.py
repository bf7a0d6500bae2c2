"""MemStore: open, append, read, close."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, Unpack

import msgspec

from memstore.agent import AgentMemory, AppendFields
from memstore.backup.find_copies import find_copies
from memstore.backup.job import BackupJob
from memstore.caretaking import Caretaking, Progress
from memstore.clock import Clock, WallClock
from memstore.config import Settings
from memstore.config_load import load_settings
from memstore.draft import Draft
from memstore.engine.appender import ImportOutcome, RecordLike, record_list
from memstore.engine.engine import Engine
from memstore.engine.maintenance import DrainReport
from memstore.errors import ConfigError, UsageError
from memstore.finder import Finder, drop_index, renew_index
from memstore.finding import Finding
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.ids import check_agent_id
from memstore.lifecycle.jobs import LifecycleJobs, Scrub
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.lifecycle.manager import ALL_PARTS, Part
from memstore.lifecycle.scheduler import LifecycleScheduler
from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.repair.repair_step import RepairStep
from memstore.ops.repair.repair_store import repair_store
from memstore.ops.scrub import Scrub as StoreScrub
from memstore.ops.scrub import scrub_stats
from memstore.record import MemoryRecord, decode_record
from memstore.replica.replicator import Replicator
from memstore.replica.setup import force_alone
from memstore.replicating import Replicating
from memstore.writing import StartedAppend, append_batch, append_one, check_import, record_fields, start_append

_log = logging.getLogger(__name__)
SettingsArgument = Settings | Mapping[str, Any] | str | os.PathLike[str]
Durability = Literal["fsync", "os"]


def open_engine(
    root: str | os.PathLike[str],
    *,
    settings: SettingsArgument | None,
    durability: Durability | None,
    read_only: bool,
    create: bool,
    clock: Clock | None,
) -> Engine:
    """The engine behind a face; see `MemStore` for the arguments and errors."""
    loaded = load_settings(settings)
    for notice in loaded.notices:
        _log.warning("%s", notice)
    effective = loaded.settings
    if durability is not None:
        if durability not in ("fsync", "os"):
            raise ConfigError(f"durability is 'fsync' or 'os', not {durability!r}")
        effective = msgspec.structs.replace(
            effective, storage=msgspec.structs.replace(effective.storage, durability=durability)
        )
    path = os.fspath(root)
    if not isinstance(path, str) or not path:
        raise UsageError(f"the root of a store is the path of a directory as text, not {root!r}")
    path, storage, clock = os.path.abspath(path), LocalStorage(), clock or WallClock()
    if effective.storage.force_alone and not read_only and storage.identify(StorePaths(path).store_file) is not None:
        force_alone(storage, path, clock=clock)
    return Engine(storage, path, settings=effective, clock=clock, read_only=read_only, create=create)


class MemStore(Caretaking, Finding, Replicating):
    """A store of agent memories in a directory. Thread-safe; any number of processes may have it open.

    Args:
        root: the store's directory; created if it is not there.
        settings: `memstore.Settings`, a mapping, or the path of a TOML, YAML or JSON file; laid over the user's file
            and the environment.
        durability: ``fsync`` (survives a power cut) or ``os`` (survives a killed process); overrides the settings.
        read_only: never write, and take no locks.
        create: make the store where there is none.
        maintain: look after the store in the background, as ``memstore daemon`` does, until it is closed.
        analytics: called once a day (``scheduling.analytics_s``) by a store that maintains itself.
        clock: for tests.

    Raises:
        UsageError: the root is a file, or a directory that holds something else where a store is to be made.
        NotFoundError: there is no store and none may be made.
        ConfigError: a setting is unknown or out of its range.
        VersionError: a newer memstore wrote it.
        UnsupportedError: the root lies on a network file system.
        StorageError: the root cannot be written, or STORE.json is damaged or lost (`CorruptionError`).
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        settings: SettingsArgument | None = None,
        durability: Durability | None = None,
        read_only: bool = False,
        create: bool = True,
        maintain: bool = False,
        analytics: Callable[[MemStore], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if maintain and read_only:
            raise UsageError("a store that is opened read-only cannot be maintained; leave out one of the two")
        if analytics is not None and not maintain:
            raise UsageError("analytics runs beside maintenance: pass maintain=True too")
        self._engine = open_engine(
            root, settings=settings, durability=durability, read_only=read_only, create=create, clock=clock
        )
        self._finder = Finder(self._engine)
        self._replicator = Replicator(self._engine)
        self._lifecycle = Lifecycle(
            self._engine,
            drop_derived=functools.partial(drop_index, self._engine),
            settle_copy=self._replicator.settle,
        )
        self._engine.maintenance.on_merged = self._follow_merge
        self._give_copy()
        self._replicator.rejoin()
        self._scheduler = self._start_scheduler(analytics) if maintain else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def root(self) -> str:
        """The store's directory, absolute."""
        return self._engine.paths.root

    @property
    def settings(self) -> Settings:
        """What is in force."""
        return self._engine.settings

    def agent(self, agent_id: str) -> AgentMemory:
        """The view of one agent; the agent need not exist yet.

        Raises:
            InvalidRecordError: no agent can have this id.
        """
        self._engine.check_open()
        return AgentMemory(self._engine, agent_id, self._lifecycle.forgetter, self._finder)

    def append(self, *, agent_id: str, **fields: Unpack[AppendFields]) -> str:
        """Remember one thing for an agent; see `AgentMemory.append`."""
        return append_one(self._engine, record_fields(agent_id, fields))

    def append_many(self, records: Iterable[MemoryRecord | Mapping[str, Any]]) -> list[str]:
        """Store records of any agents as one batch: all of them, or none.

        Args:
            records: `MemoryRecord` or plain dicts with ``agent_id``. Those with a ``source_id`` that are stored
                already are not stored again.

        Returns:
            Their memory ids in order, once the batch is durable.

        Raises:
            InvalidRecordError: says which record is refused; nothing was written.
            UsageError: the batch is over ``batch_bytes_max``.
        """
        return append_batch(self._engine, records).ids

    def import_many(self, records: Iterable[RecordLike]) -> ImportOutcome:
        """Like `append_many` for records from elsewhere: says which of them were new.

        Args:
            records: each with ``source_id`` and ``timestamp_utc``; a `memstore.draft.Draft` is taken as it is.
        """
        listed = record_list(records)
        check_import(listed)
        return append_batch(self._engine, listed)

    def get(self, memory_id: str) -> MemoryRecord | None:
        """One record by its id, or None where there is none.

        Raises:
            UsageError: no id of this form.
            CorruptionError: the part of a file that would hold it is damaged.
        """
        self._engine.check_open()
        line = self._engine.reader.get_line(memory_id)
        return None if line is None else decode_record(line)

    def get_many(self, memory_ids: Iterable[str]) -> list[MemoryRecord | None]:
        """Several records by their ids, in the same order, None where there is none; faster than one by one.

        Raises:
            UsageError: one is no id of this form.
            CorruptionError: the part of a file that would hold one of them is damaged.
        """
        self._engine.check_open()
        lines = self._engine.reader.get_lines(memory_ids)
        return [None if line is None else decode_record(line) for line in lines]

    def agents(self) -> list[str]:
        """Ids of all agents that have a record, sorted.

        Raises:
            CorruptionError: an agent's directory no longer says whose it is; ``stats`` names all such damage.
        """
        self._engine.check_open()
        return self._engine.inventory.agents()

    def stats(self) -> dict[str, Any]:
        """Figures of the whole store and of this process; walks the store's directories.

        Returns:
            ``root, id, agents, records, bytes_on_disk``, ``ballast_bytes`` (a part of them that is given up when the
            disk is full), ``shards, epoch, lanes, caches, counters, damage, scrub`` (how far the slow check is and what
            the last one found), ``replica`` (the second copy; see `replica_status`), ``durability, read_only``.
        """
        self._engine.check_open()
        inventory = self._engine.inventory
        state = self._engine.catalog.reload()
        agents = inventory.agents(skip_damaged=True)
        return {
            "root": self.root,
            "id": state.store.id,
            "agents": len(agents),
            "records": inventory.records(agents),
            "bytes_on_disk": inventory.bytes_on_disk(),
            "ballast_bytes": inventory.ballast_bytes(),
            "shards": len(state.store.shards),
            "epoch": state.store.epoch,
            "lanes": inventory.lanes(),
            "caches": self._engine.reader.cache_stats(),
            "counters": self._engine.metrics.snapshot(),
            "damage": inventory.damage(),
            "scrub": scrub_stats(self._engine.storage, self._engine.paths),
            "replica": self.replica_status(),
            "durability": self.settings.storage.durability,
            "read_only": self._engine.read_only,
        }

    def drain(self, timeout_s: float = 30.0) -> DrainReport:
        """Seal and merge everything that is in lanes, so that every agent's directory is complete in itself.

        Args:
            timeout_s: how long to wait for other processes to let go of their lanes; those that do not are named as
                pending.

        Raises:
            LockedError: another merge did not end in time.
        """
        return self._engine.drain(timeout_s=timeout_s)

    def shards(self) -> list[dict[str, Any]]:
        """One dict per shard: ``name, path, agents, bytes, heaviest, pinned, misplaced``."""
        self._engine.check_open()
        return self._engine.inventory.shards()

    def add_shard(
        self, volume: str | None = None, *, progress: Callable[[int, int], None] | None = None
    ) -> dict[str, Any]:
        """Add a shard and move about 1/n of the agents to it, while reads and writes go on. Resumable: call it again.

        Args:
            volume: a directory on another volume, or None for below the root.
            progress: told how many of all agents have been looked at.

        Returns:
            ``shard`` (its name), ``agents`` there are, and how many were ``moved``.
        """
        self._engine.check_writable()
        if volume is not None:
            self._engine.check_file_system(volume)
        self._engine.drain(timeout_s=5.0)
        name, report = self._engine.rebalancer.add_shard(volume, progress)
        return {"shard": name, "agents": report.agents, "moved": report.moved}

    def pin(self, agent_id: str, shard: str | None) -> dict[str, Any]:
        """Keep an agent on a shard of its own choosing (None: let the ring place it again), and move it there.

        Returns:
            ``shard``, and how many agents were ``moved`` (0 or 1).
        """
        self._engine.check_writable()
        report = self._engine.rebalancer.pin(check_agent_id(agent_id), shard)
        return {"shard": shard, "moved": report.moved}

    def close(self) -> None:
        """Finish what is pending, seal this process's lane and merge it if nobody else is merging. Idempotent."""
        if self._scheduler is not None:
            self._scheduler.close()
        self._finder.close()
        self._replicator.close()
        self._lifecycle.let_go()
        self._engine.close()

    def _follow_merge(self) -> None:
        self._finder.catch_up()
        self._replicator.catch_up()

    def _give_copy(self) -> None:
        """Give a store that was just made the second copy that the settings ask for."""
        engine, sharding = self._engine, self.settings.storage.sharding
        if engine.read_only or sharding.replication_factor == 1 or not sharding.replica_volume:
            return
        if engine.created:
            self.add_replica(sharding.replica_volume)
        elif engine.catalog.state.store.replica is None:
            _log.warning(
                "%s has one copy, and the settings ask for two: `memstore replica add %s` gives it the second",
                self.root,
                sharding.replica_volume,
            )

    def _start_scheduler(self, analytics: Callable[[MemStore], object] | None) -> LifecycleScheduler:
        engine = self._engine
        jobs = lifecycle_jobs(self, analytics=analytics).jobs()
        scheduler = LifecycleScheduler(jobs, storage=engine.storage, paths=engine.paths, clock=engine.clock)
        scheduler.start()
        return scheduler


def repair(
    root: str | os.PathLike[str],
    *,
    settings: SettingsArgument | None = None,
    source: str | os.PathLike[str] | None = None,
    known_copies: bool = True,
    volumes: Iterable[str] = (),
    plan_only: bool = False,
    progress: Progress | None = None,
    on_step: Callable[[RepairStep], None] | None = None,
    clock: Clock | None = None,
) -> RepairReport:
    """Repair a store that may be too damaged to be opened, or say what a repair would do.

    Args:
        root: the store's directory.
        settings: as `MemStore` takes them.
        source: a copy of the store's directory, a backup, or a directory of backups, from which good bytes are taken
            before any other.
        known_copies: take good bytes from the second copy and from the backups that the store knows of, too.
        volumes: where shards on other volumes lie, if STORE.json is lost.
        plan_only: change nothing.
        progress: told how many bytes the checks have read, and of how many.
        on_step: told of each step before it is done.
        clock: for tests.

    Raises:
        NotFoundError: there is no store, or no such copy or volume.
        UsageError: the copy is that of another store.
        LockedError: maintenance or a merge did not end in time; nothing was changed.
        ReadOnlyError: the second copy is not there, or was made the store, and going on alone is not forced.
        StorageError: the root cannot be read.
    """
    storage, paths = LocalStorage(), StorePaths(os.path.abspath(os.fspath(root)))
    opened: list[Engine] = []
    sharding = load_settings(settings).settings.storage.sharding
    copies = find_copies(
        storage,
        paths,
        named=None if source is None else os.fspath(source),
        known=known_copies,
        replica_volume=sharding.replica_volume or None,
    )

    def opener() -> Engine:
        engine = open_engine(
            paths.root, settings=settings, durability=None, read_only=plan_only, create=False, clock=clock
        )
        opened.append(engine)
        return engine

    def renew() -> None:
        for engine in opened:
            if not engine.read_only:
                renew_index(engine)

    def told(step: RepairStep) -> None:
        renew()  # before it is done, for a repair may be stopped anywhere
        if on_step is not None:
            on_step(step)

    try:
        report = repair_store(
            storage,
            paths,
            clock=clock or WallClock(),
            open_engine=opener,
            copies=copies,
            volumes=list(volumes),
            plan_only=plan_only,
            progress=progress,
            on_step=told,
        )
        if report.steps:
            renew()  # somebody may have searched, and so built it, meanwhile
        return report
    finally:
        for engine in opened:
            engine.close()


def lifecycle_jobs(
    store: MemStore,
    *,
    retention: bool = True,
    analytics: Callable[[MemStore], object] | None = None,
    scrub: Scrub | None = None,
) -> LifecycleJobs:
    """What a scheduler runs for a store.

    Args:
        store: open for writing.
        retention: whether this process removes what is due by age.
        analytics: called with the store at its interval.
        scrub: takes the place of `memstore.ops.scrub`.
    """
    engine, manager = store._engine, store._lifecycle.manager  # noqa: SLF001 - its own module
    engine.check_writable()
    upkeep: frozenset[Part] = ALL_PARTS - {"retention"}
    return LifecycleJobs(
        engine.settings.scheduling,
        merge=engine.maintenance.merge_due,
        tier=functools.partial(manager.maintain, parts=upkeep),
        retention=functools.partial(manager.maintain, parts=frozenset({"retention"})) if retention else None,
        analytics=None if analytics is None else lambda _stop: _discard(analytics(store)),
        scrub=StoreScrub(engine).run if scrub is None else scrub,
        backup=BackupJob(engine).run if engine.settings.backup.destination else None,
        index=lambda stop: _discard(store._finder.index(stop=stop.is_set)),  # noqa: SLF001 - its own module
        replica=lambda stop: _discard(store._replicator.run(stop.is_set)),  # noqa: SLF001 - its own module
    )


def _discard(_result: object) -> None:
    """What a hook returns is nobody's business."""


def start_import(store: MemStore, drafts: list[Draft]) -> StartedAppend:
    """``store.import_many`` without the wait: the importers read on meanwhile, and then wait for this.

    Other imports into the store wait until it has been waited for.
    """
    check_import(drafts)
    engine = store._engine  # noqa: SLF001 - its own module
    engine.check_writable()
    return start_append(engine, drafts)


def engine_of(store: MemStore) -> Engine:
    """What the store stands on, for modules above it that read its files in a way of their own.

    Raises:
        StoreClosedError: it was closed.
    """
    engine = store._engine  # noqa: SLF001 - its own module
    engine.check_open()
    return engine
