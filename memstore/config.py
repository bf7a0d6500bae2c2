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

from memstore.record import Importance, MemoryType

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
Days = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
ZstdLevel = Annotated[int, msgspec.Meta(ge=1, le=22)]


REPLICATION_FACTOR_MAX = 2
"""Copies that a store can have; the platform's file may ask for more."""


class ShardingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How agents are spread over shards."""

    enabled: bool = True
    """False: a new store has one shard (``storage.shards`` becomes 1). True, because shards cost nothing until volumes
    are added."""
    agents_per_shard: Count = 100
    """Agents a shard is meant for: above this mean a shard is due. 100 keeps what one shard's lock covers short."""
    max_shard_size_gb: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = 50.0
    """GB (2^30 bytes) above which one of a shard's agents is moved to the lightest shard. 50: can still be copied to
    another volume in one go."""
    auto_scale: bool = False
    """Whether maintenance adds shards and moves agents by itself. False: it only says which command would."""
    replication_factor: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    """Copies of each record, 1 or 2. 1: the store's own; 2 needs ``replica_volume``."""
    replica_volume: str = ""
    """Absolute directory on another volume where a new store gets its second copy; an existing one by ``memstore
    replica add``. Empty: none."""


def _machine_types() -> list[MemoryType]:
    return [MemoryType.SYSTEM_STATE, MemoryType.PERFORMANCE]


def _lower_importances() -> list[Importance]:
    return [Importance.LOW, Importance.MEDIUM]


class LifecycleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When day files go from hot to warm to cold."""

    hot_storage_days: CountOrNone = 7
    """Days of age up to which a record stays in a plain day file; fewer where a retention rule of the agent is shorter.
    7: most reads are of the last week."""
    warm_storage_days: Count = 30
    """Days of age up to which a record stays in quickly readable frames; above ``hot_storage_days``. 30: the last
    month."""
    cold_retention_months: Count = 12
    """Calendar months after which records are removed that no retention rule names, CRITICAL ones never. 12: a year
    can be looked back on."""
    compression_enabled: bool = True
    """Whether warm and cold files are packed; retention acts on these only. True: measured on real memories, 1 to 6 %
    is left."""
    deduplication_enabled: bool = False
    """Whether records that repeat another's content are stored as references. False: until asked for, files stay plain
    lines."""
    deduplication_types: list[MemoryType] = msgspec.field(default_factory=_machine_types)
    """Types whose repeats are stored as references. These two: what repeats is mostly a machine reporting itself."""
    deduplication_importances: list[Importance] = msgspec.field(default_factory=_lower_importances)
    """Importances whose repeats are stored as references. Not the higher ones: their lines stay as they came."""
    warm_level: ZstdLevel = 3
    """Level of zstd for warm files. 3: over 1,000 MB/s, and 9 saves a tenth at a third of the speed."""
    cold_level: ZstdLevel = 12
    """Level of zstd for cold files. 12: 19 saves a twentieth more at a fortieth of the speed."""
    warm_frame_bytes: Annotated[int, msgspec.Meta(ge=4 * KIB, le=MIB)] = 256 * KIB
    """Bytes of lines in a warm frame at most, which a read of one record unpacks; warm files of less are joined by
    their neighbours. 256 KiB: 0.2 ms."""
    cold_frame_bytes: Annotated[int, msgspec.Meta(ge=4 * KIB, le=16 * MIB)] = MIB
    """Bytes of lines in a cold frame at most. 1 MiB: half the size of 256 KiB, at 0.7 ms a read."""
    archive_volume: str = ""
    """Absolute directory on another volume for cold files, fixed when the store's first one is made; empty: in the
    store's root."""
    keep_read_days: Days = 3
    """Days for which a file that was read stays a tier up; 0: reading keeps nothing. 3: work that pauses over a weekend
    goes on at the same speed."""
    fold_after_days: Days = 1
    """Days without arrivals after which late records are folded into the packed file of their day. 1: an import that
    goes on for hours rewrites it once."""
    reserve_bytes: SizeOrNone = 64 * MIB
    """Bytes of free space that a move leaves; without them it does not begin. 64 MiB: a lane, so that writers do not
    feel it."""
    digest_after_days: CountOrNone = 0
    """Days of age after which long text of LOW routine records is replaced by a digest, for good; 0: never. 0: nothing
    is lost unless asked for."""
    digest_text_bytes: Annotated[int, msgspec.Meta(ge=32, le=MIB)] = 256
    """Bytes of text that a digest keeps. 256: the first sentences, which mostly say what it was about."""
    digest_types: list[MemoryType] = msgspec.field(default_factory=_machine_types)
    """Types that count as routine for digests. These two: what a machine says of itself, not what an agent learned."""


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How long some records are kept; exactly one of ``keep_days``, ``keep_months`` and ``keep_forever`` is given."""

    agent: str = "*"
    """Which agents: an id, or a pattern with ``*``, ``?`` and ``[...]``."""
    memory_type: MemoryType | list[MemoryType] = []
    """One type or several; empty: any."""
    importance: Importance | list[Importance] = []
    """One importance or several; empty: any but CRITICAL, which a rule has to name."""
    keep_days: float | None = None
    """Days, a part of one too."""
    keep_months: int | None = None
    """Calendar months."""
    keep_forever: bool = False
    """Never removed by age."""


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long records are kept, and how they go."""

    grace_hours: DurationOrNone = 48
    """Hours for which records that retention removed can be brought back; 0: none. 48: what went on a Friday evening
    can be missed on a Sunday."""
    slack_days: Days = 1
    """Days a record may be overdue before a file is rewritten for it. 1: a file is not rewritten for one record at each
    run."""
    rules: list[RetentionRule] = []
    """Tables ``agent, memory_type, importance`` and ``keep_days``, ``keep_months`` or ``keep_forever``; the first that
    matches a record counts. Empty: ``storage.lifecycle.cold_retention_months`` holds for all but CRITICAL."""


class CachingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Budgets of an open store's three caches; MB are 2^20 bytes, 0 switches one off and changes no answer."""

    recent_memories_mb: Megabytes = 96
    """MB of records. 96: about 98,000 lines of 780 bytes, which answer nine of ten lookups in a million records where
    few are asked for most of the time (Zipf, exponent 1.1; docs/PERFORMANCE.md)."""
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
    force_alone: bool = False
    """Whether one of two copies is opened for writing though the other may know more. False: read-only, for what is
    written to both cannot be brought together again."""
    record_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=GIB)] = 16 * MIB
    """Bytes of the longest record's line. 16 MiB is 80 times the longest seen, and still bounds what one record takes
    in memory."""
    ballast_bytes: SizeOrNone = 16 * MIB
    """Bytes reserved on disk, given up when it is full so that clean-up can still write; 0: none. 16 MiB: room for the
    notes that a clean-up writes."""
    sharding: ShardingSettings = msgspec.field(default_factory=ShardingSettings)
    lifecycle: LifecycleSettings = msgspec.field(default_factory=LifecycleSettings)
    retention: RetentionSettings = msgspec.field(default_factory=RetentionSettings)
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
    consumer_lag_bytes: SizeOrNone = GIB
    """Bytes of merged lanes kept for a consumer (search index, backup) that lags; above it the oldest go, and it reads
    what it missed from the files. 1 GiB: a million records."""
    file_syncs_max: CountOrNone = 64
    """Files that are fdatasynced one by one; above it one syncfs per file system. 64: a syncfs also writes what other
    programs left dirty, many fdatasyncs take nearly all of a merge's time."""


class SchedulingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a store that maintains itself (``maintain=True``, ``memstore daemon``) does what, in seconds."""

    merge_s: Duration = 60
    """Seconds between looks for lanes to seal and merge. 60: a look costs nothing, and age decides by minutes."""
    tier_s: Duration = 3600
    """Seconds between runs that pack, fold and clean up. 3,600: files become due once a day; what failed is tried again
    within the hour."""
    retention_s: Duration = 86_400
    """Seconds between runs of retention. A day: periods are counted in days."""
    scrub_s: Duration = 604_800
    """Seconds between runs that read everything to find damage. A week: found while backups still have it."""
    scrub_bytes_per_s: SizeOrNone = 32 * MIB
    """Bytes that such a run reads a second; 0: as fast as it can. 32 MiB: a fraction of what a disk gives, and a
    terabyte takes nine hours."""
    heartbeat_s: Duration = 10
    """Seconds between heartbeats of the daemon. 10: a watchdog notices within half a minute."""
    index_s: Duration = 5
    """Seconds between looks for what is to be indexed for search. 5: what waits is scanned by every search."""
    backup_s: Duration = 21_600
    """Seconds between backups, where ``backup.destination`` is set. 6 hours: what a day's work may not cost."""
    replica_s: Duration = 10
    """Seconds between looks at the second copy: what is new is copied, one that was away joins again. 10: a look costs
    little, and lanes of the copy do not pile up."""
    analytics_s: Duration = 86_400
    """Seconds between runs of the analytics hook. A day: it sums up days."""


class BackupSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The backups that a store that maintains itself takes."""

    destination: str = ""
    """Directory for backups of this store and no other; empty: none are taken. Best on another disk."""
    keep_daily: CountOrNone = 7
    """Of so many days the last backup is kept, and with them all lanes: any moment since can be restored. 7: what goes
    wrong unseen is noticed within the week."""
    keep_weekly: CountOrNone = 4
    """Of so many weeks the last backup is kept. 4: a month."""
    keep_monthly: CountOrNone = 12
    """Of so many months the last backup is kept. 12: as long as retention keeps records."""


class ReadingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Memory and descriptors that readers of one open store may take."""

    lane_index_bytes_max: SizeOrNone = 64 * MIB
    """Bytes of lane headers kept in memory. 64 MiB: a bound, whatever is waiting for a merge."""
    manifest_index_bytes_max: SizeOrNone = 64 * MIB
    """Bytes of MANIFESTs kept in memory, least recently used out first. 64 MiB: the same budget as for lanes."""
    frame_cache_bytes_max: SizeOrNone = 16 * MIB
    """Bytes of unpacked frames kept in memory; 0: none. 16 MiB: 16 cold frames or 64 warm ones, so that neighbours of
    what was read cost no unpacking."""
    open_files_max: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 256
    """Files kept open for reading. 256: a quarter of the usual limit of 1,024 descriptors per process."""


class SearchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The search index. There is none until somebody searches, or asks for one."""

    language: str = "english"
    """Language whose words are brought to their stem, or ``none``. English: most records are; another one builds the
    index anew."""
    context_keys: list[str] = []
    """Keys of ``context`` that can be searched as fields, beside session_id, user_id, task_id and model. None: each
    costs space in the index."""
    background: bool = True
    """Whether this process keeps the index up to date by itself. False: a daemon does, or searches index what they
    find."""


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
    scheduling: SchedulingSettings = msgspec.field(default_factory=SchedulingSettings)
    backup: BackupSettings = msgspec.field(default_factory=BackupSettings)
    reading: ReadingSettings = msgspec.field(default_factory=ReadingSettings)
    search: SearchSettings = msgspec.field(default_factory=SearchSettings)
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
    "storage.sharding.replication_factor": "a second copy needs a volume: set storage.sharding.replica_volume, or give "
    "an existing store one by `memstore replica add DIR`",
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
    """Dotted key to value, every key there is, in the order of the structs; lists and tables as plain values.

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
            values[prefix + field.name] = msgspec.to_builtins(value)
