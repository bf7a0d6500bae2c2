"""What can be set: frozen, typed settings with the reason for each default.

The structs only say what exists and what is allowed; ``config_load`` fills them from files, the environment and the
caller, and is where ranges are checked (a struct built by hand is checked when it is passed to ``load_settings``). A
setting's name is its dotted path, such as ``storage.caching.pattern_cache_mb``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

Count = Annotated[int, msgspec.Meta(ge=1)]
CountOrNone = Annotated[int, msgspec.Meta(ge=0)]
Size = Annotated[int, msgspec.Meta(ge=1, le=2**50)]
SizeOrNone = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Megabytes = Annotated[float, msgspec.Meta(ge=0, le=2**30)]
Duration = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
DurationOrNone = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class ShardingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How agents are spread over shards."""

    enabled: bool = True
    """False: a new store has one shard (``storage.shards`` becomes 1). True, because shards cost nothing until volumes
    are added."""
    agents_per_shard: Count = 100
    """Agents a shard is meant for: above this mean a shard should be added. 100 keeps what one shard's lock covers
    short."""
    max_shard_size_gb: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = 50.0
    """GB (2^30 bytes) above which a shard counts as too large. 50: can still be copied to another volume in one go."""
    auto_scale: bool = False
    """Whether shards are added without being asked. False: moving agents is a planned action."""
    replication_factor: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    """Copies of each record. 1: the store's own."""


class LifecycleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When day files go from hot to warm to cold."""

    hot_storage_days: CountOrNone = 7
    """Days a record stays in a plain day file. 7: most reads are of the last week."""
    warm_storage_days: Count = 30
    """Days of age up to which a record stays in quickly readable frames; above ``hot_storage_days``. 30: the last
    month."""
    cold_retention_months: Count = 12
    """Months after which archived records may be removed. 12: a year can be looked back on."""
    compression_enabled: bool = True
    """Whether warm and cold files are packed. True: measured on real memories, 1 to 6 % is left."""
    deduplication_enabled: bool = False
    """Whether records that repeat another's content are stored as references. False: until asked for, files stay plain
    lines."""


class CachingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Budgets of an open store's three caches; MB are 2^20 bytes, 0 switches one off and changes no answer."""

    recent_memories_mb: Megabytes = 64
    """MB of records. 64: about 80,000 lines of 780 bytes, a small part of any server."""
    pattern_cache_mb: Megabytes = 16
    """MB of answers to repeated filtered reads. 16: answers are small, and outdated by the agent's next record."""
    agent_stats_cache_mb: Megabytes = 8
    """MB of per-agent counts and sizes. 8: an entry is a few numbers."""
    cache_ttl_minutes: Duration = 60
    """Minutes an entry lives at most. 60: what nobody asked for within the hour gives its memory back."""


class StorageSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept where, and how safely."""

    durability: Literal["fsync", "os"] = "fsync"
    """``fsync``: an acknowledged record survives a power cut. ``os``: a killed process only; must be asked for."""
    shards: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 4
    """Shards a store is created with; later ``memstore shards add`` adds more. 4 keep locks apart and can move to 4
    volumes."""
    volumes: list[str] = []
    """Absolute directories over which the shards are spread; empty: all of them in the store's root."""
    allow_network_file_system: bool = False
    """Whether a root on NFS, SMB and the like is opened. False: their locks and syncs do not keep the promises."""
    record_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=GIB)] = 16 * MIB
    """Bytes of the longest record's line. 16 MiB is 80 times the longest seen, and still bounds what one record takes
    in memory."""
    ballast_bytes: SizeOrNone = 16 * MIB
    """Bytes reserved on disk, given up when it is full so that clean-up can still write; 0: none. 16 MiB: room for the
    notes that a clean-up writes."""
    sharding: ShardingSettings = msgspec.field(default_factory=ShardingSettings)
    lifecycle: LifecycleSettings = msgspec.field(default_factory=LifecycleSettings)
    caching: CachingSettings = msgspec.field(default_factory=CachingSettings)


class WritingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lanes and group commit, per writing process unless said otherwise."""

    lane_bytes_max: Size = 64 * MIB
    """Bytes at which a lane is sealed. 64 MiB: few files, and little to read again after a crash."""
    lane_slices_max: Count = 16384
    """Slices at which a lane is sealed. 16,384: the index of an open lane then costs a reader 5 MB at most."""
    seal_after_s: Duration = 300
    """Seconds after which a lane that holds anything is sealed. 300: quiet writers' records reach day files within
    minutes."""
    commit_bytes_max: Size = 8 * MIB
    """Bytes a committer takes per commit at most (one batch is never split). 8 MiB: some 10,000 records, about 30 ms to
    write and sync."""
    pending_bytes_max: Size = 64 * MIB
    """Bytes not yet written above which appenders wait: bounds memory when the disk is slower than the agents. 8
    commits' worth."""
    batch_bytes_max: Size = 256 * MIB
    """Bytes of one ``append_many``, which is held in memory and written as one commit; above it the batch is
    refused."""
    waiting_bytes_max: Size = 4 * GIB
    """Bytes of sealed lanes, of all processes, above which writers wait for the merge. 4 GiB bounds the disk space and
    read cost."""


class MergingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When sealed lanes are merged into day files, and in what portions."""

    background: bool = True
    """Whether this process merges by itself. False: another process does, or ``drain`` is called."""
    lanes_max: Count = 64
    """Sealed lanes at which a merge starts, and the most one takes. 64: each lane costs every reader a lookup."""
    waiting_bytes: SizeOrNone = GIB
    """Bytes of sealed lanes at which a merge starts, however many agents they hold. 1 GiB: a quarter of what stops the
    writers."""
    bytes_per_agent: SizeOrNone = 64 * KIB
    """Mean bytes waiting per agent at which a merge starts: a merge opens two files per agent, which must be worth it
    (64 KiB: one full block)."""
    age_s: DurationOrNone = 300
    """Seconds after which the oldest sealed lane is merged whatever its size. 300: a quiet store comes to rest within
    minutes."""
    run_bytes_max: Size = 8 * MIB
    """Bytes of one agent's lines that a merge sorts at once: bounds its memory, whatever an agent wrote."""
    file_syncs_max: CountOrNone = 64
    """Files that are fdatasynced one by one; above it one syncfs per file system. 64: a syncfs also writes what other
    programs left dirty, many fdatasyncs take nearly all of a merge's time."""


class ReadingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Memory and descriptors that readers of one open store may take."""

    lane_index_bytes_max: SizeOrNone = 64 * MIB
    """Bytes of lane headers kept in memory. 64 MiB: a bound, whatever is waiting for a merge."""
    manifest_index_bytes_max: SizeOrNone = 64 * MIB
    """Bytes of MANIFESTs kept in memory, least recently used out first. 64 MiB: the same budget as for lanes."""
    open_files_max: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 256
    """Files kept open for reading. 256: a quarter of the usual limit of 1,024 descriptors per process."""


class PerformanceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is done at once."""

    max_concurrent_operations: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 64
    """Awaited reads that run at the same time; the others wait their turn. 64 bounds the memory they hold."""
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1000
    """Records per durable batch of an import. 1,000: one fdatasync a batch is then a small part of the time."""
    async_processing: bool = True
    """Part of the platform's file; switches nothing in memstore."""
    background_optimization: bool = True
    """False switches ``merging.background`` off."""


class MonitoringSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is watched."""

    metrics_retention_days: Count = 30
    """Days metrics are kept. 30: a month can be compared with the last."""
    alert_thresholds: dict[str, float] = {}
    """Metric name to the value above which an alert is raised. Empty: no alerts. A layer replaces it as a whole."""
    health_check_interval_seconds: Duration = 60
    """Seconds between health checks. 60: a minute is soon enough for a disk that fills."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set.

    Complete: passed to ``load_settings`` it decides every key. Pass a mapping to set a few.
    """

    storage: StorageSettings = msgspec.field(default_factory=StorageSettings)
    writing: WritingSettings = msgspec.field(default_factory=WritingSettings)
    merging: MergingSettings = msgspec.field(default_factory=MergingSettings)
    reading: ReadingSettings = msgspec.field(default_factory=ReadingSettings)
    performance: PerformanceSettings = msgspec.field(default_factory=PerformanceSettings)
    monitoring: MonitoringSettings = msgspec.field(default_factory=MonitoringSettings)


# (smaller key, larger key, whether they may be equal, what the larger one has to leave room for)
ORDERED_KEYS = (
    ("writing.commit_bytes_max", "writing.lane_bytes_max", True, "a lane holds at least one commit"),
    ("writing.lane_bytes_max", "writing.waiting_bytes_max", True, "one sealed lane alone may not stop the writers"),
    ("storage.record_bytes_max", "writing.batch_bytes_max", True, "a batch holds at least one record"),
    ("merging.waiting_bytes", "writing.waiting_bytes_max", True, "a merge starts before writers have to wait for it"),
    ("storage.lifecycle.hot_storage_days", "storage.lifecycle.warm_storage_days", False, "warm comes after hot"),
)

# (switch, key it decides, value of that key while the switch is off)
SWITCHES = (
    ("performance.background_optimization", "merging.background", False),
    ("storage.sharding.enabled", "storage.shards", 1),
)

_NOT_THERE_YET = {
    "storage.lifecycle": "tiers are not there yet: every record stays hot and none is removed",
    "storage.sharding.auto_scale": "shards are not added by themselves yet: `memstore shards add` adds one",
    "storage.sharding.max_shard_size_gb": "shard sizes are not watched yet: `memstore shards` shows them",
    "storage.sharding.replication_factor": "replication is not there yet: the store keeps one copy",
    "performance.async_processing": "there is nothing to switch yet: AsyncMemStore is the awaitable form",
    "monitoring": "monitoring is not there yet: `memstore stats` shows the counters",
    "database": "memstore keeps plain files and connects to no database",
}


def missing_feature(key: str, value: Any) -> str | None:
    """Why a key, given with this value, has no effect yet; None where it has."""
    if key == "storage.sharding.replication_factor" and value == 1:
        return None  # one copy is what there is
    parts = key.split(".")
    reasons = (_NOT_THERE_YET.get(".".join(parts[:end])) for end in range(len(parts), 0, -1))
    return next((reason for reason in reasons if reason), None)


@functools.cache
def key_types() -> Mapping[str, Any]:
    """Every dotted key and its annotated type, in the order of the structs."""
    return {key: found for key, found in _walk_types(Settings, "") if not _is_section(found)}


@functools.cache
def sections() -> Mapping[str, tuple[str, ...]]:
    """Every dotted section, with ``""`` for the whole, and the names in it."""
    found = {key: kind for key, kind in _walk_types(Settings, "") if _is_section(kind)}
    return {key: tuple(kind.__struct_fields__) for key, kind in {"": Settings, **found}.items()}


def flatten(settings: Settings) -> dict[str, Any]:
    """Dotted key to value, every key there is, in the order of the structs.

    Raises:
        TypeError: a section is not the struct that belongs there.
    """
    values: dict[str, Any] = {}
    _flatten_into(values, settings, Settings, "")
    return values


def unflatten(values: Mapping[str, Any]) -> Settings:
    """The settings of these values, which must be complete and checked."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *parents, name = key.split(".")
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
        section[name] = value
    return msgspec.convert(nested, Settings)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _walk_types(struct: type[msgspec.Struct], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for field in msgspec.structs.fields(struct):
        found.append((prefix + field.name, field.type))
        if _is_section(field.type):
            found += _walk_types(field.type, f"{prefix}{field.name}.")
    return found


def _flatten_into(values: dict[str, Any], struct: Any, expected: type[msgspec.Struct], prefix: str) -> None:
    if not isinstance(struct, expected):
        raise TypeError(
            f"{prefix.rstrip('.') or 'settings'} must be a {expected.__name__}, not {type(struct).__name__}"
        )
    for field in msgspec.structs.fields(expected):
        value = getattr(struct, field.name)
        if _is_section(field.type):
            _flatten_into(values, value, field.type, f"{prefix}{field.name}.")
        else:
            values[prefix + field.name] = value
