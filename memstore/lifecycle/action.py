"""What can be done to an agent's files, or to the store: one value for each thing, decided here and done by a worker.

An action is small, says what it needs and frees (bytes, estimated), and can be shown to people (``sentence``) and to
machines (``as_dict``). A plan is a list of them; so a dry run is the list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from memstore.format.names import parse_cold_file_name, parse_day_file_name, parse_warm_file_name

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What all of them have.

    Attributes:
        agent: whose files, or empty for the store's own.
        needs_bytes: free space it takes while it runs.
        frees_bytes: what it leaves free in the end.
    """

    kind: ClassVar[str] = ""
    agent: str = ""
    needs_bytes: int = 0
    frees_bytes: int = 0

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """The same for machines: ``kind``, every attribute, and the ``sentence``."""
        return {"kind": self.kind, **dataclasses.asdict(self), "sentence": self.sentence}

    @property
    def touched(self) -> tuple[str, ...]:
        """Names of the agent's files that it works on."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeLanes(Action):
    """Merge what writers have logged into day files: ``lanes`` lanes of ``bytes`` bytes, of all agents."""

    kind: ClassVar[str] = "merge_lanes"
    lanes: int
    bytes: int

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        return f"Merge {counted(self.lanes, 'lane')} ({_size(self.bytes)}) into day files."


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack(Action):
    """Make one packed file of some day files and packed files of one month.

    Attributes:
        reason: ``warm`` and ``cold`` take files down a tier; ``fold`` takes late records into a packed file.
        tier: of the result.
        month: ``YYYYMM``; every source is of it.
        sources: names of day files and packed files.
        records: in all of them, tombstoned ones included.
        raw_bytes: of their lines, unpacked.
        stored_bytes: of their files.
    """

    kind: ClassVar[str] = "pack"
    reason: Literal["warm", "cold", "fold"]
    tier: Literal["warm", "cold"]
    month: str
    sources: tuple[str, ...]
    records: int
    raw_bytes: int
    stored_bytes: int

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        what = f"{counted(self.records, 'record')} of {self.agent} ({_size(self.stored_bytes)})"
        if self.reason == "fold":
            return f"Fold late records of {self.month} into the {self.tier} file they belong to: {what}."
        return f"Pack {counted(len(self.sources), 'file')} of {self.month} into one {self.tier} file: {what}."

    @property
    def touched(self) -> tuple[str, ...]:
        """Names of the agent's files that it works on."""
        return self.sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire(Action):
    """Remove records whose period has ended from a packed file, into the trash.

    Attributes:
        file: the packed file.
        records: how many at most; a few of them may turn out to be held, or kept by a period of their own.
        whole: every record in it has expired and none is held: the file goes as it is.
        why: by which rules.
    """

    kind: ClassVar[str] = "expire"
    file: str
    records: int
    whole: bool
    why: str

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        much = f"all {counted(self.records, 'record')}" if self.whole else f"up to {counted(self.records, 'record')}"
        return f"Move {much} of {self.agent} in {self.file} to the trash: {self.why}."

    @property
    def touched(self) -> tuple[str, ...]:
        """Names of the agent's files that it works on."""
        return (self.file,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTombstones(Action):
    """Write a packed file anew without the ``ids`` records (at most) that were forgotten."""

    kind: ClassVar[str] = "drop_tombstones"
    file: str
    ids: int

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        return f"Write {self.file} of {self.agent} anew without up to {counted(self.ids, 'forgotten record')}."

    @property
    def touched(self) -> tuple[str, ...]:
        """Names of the agent's files that it works on."""
        return (self.file,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge(Action):
    """Remove files of the trash for good, because their grace period has ended."""

    kind: ClassVar[str] = "purge"
    files: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        return (
            f"Remove {counted(len(self.files), 'file')} of {self.agent} ({_size(self.frees_bytes)}) from the trash "
            "for good: the grace period has ended."
        )

    @property
    def touched(self) -> tuple[str, ...]:
        """Names of the agent's files that it works on."""
        return self.files


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest(Action):
    """Write a packed file anew with digests for the long text of ``records`` LOW routine records at most."""

    kind: ClassVar[str] = "digest"
    file: str
    records: int

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        return (
            f"Shorten long text in up to {counted(self.records, 'LOW routine record')} of {self.agent} in {self.file}, "
            "for good."
        )

    @property
    def touched(self) -> tuple[str, ...]:
        """Names of the agent's files that it works on."""
        return (self.file,)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanUp(Action):
    """Remove files that count no longer, or never did: dropped ones, temporary ones, orphans."""

    kind: ClassVar[str] = "clean_up"
    names: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        return f"Remove {counted(len(self.names), 'file')} of {self.agent} that no MANIFEST lists any more."

    @property
    def touched(self) -> tuple[str, ...]:
        """Names of the agent's files that it works on."""
        return self.names


@dataclass(frozen=True, slots=True, kw_only=True)
class Compact(Action):
    """Write an agent's MANIFEST anew without what it says of files that are gone."""

    kind: ClassVar[str] = "compact"
    manifest_bytes: int

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        return f"Compact the MANIFEST of {self.agent} ({_size(self.manifest_bytes)})."


@dataclass(frozen=True, slots=True, kw_only=True)
class AddShard(Action):
    """Add a shard, to which about 1/n of the agents move."""

    kind: ClassVar[str] = "add_shard"
    reason: str

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        return f"Add a shard: {self.reason}."


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAgent(Action):
    """Move an agent to another shard and keep it there."""

    kind: ClassVar[str] = "move_agent"
    shard: str
    reason: str

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        return f"Move {self.agent} to {self.shard}: {self.reason}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld(Action):
    """Nothing to do, but to be said: ``what`` would be done and is not, and ``why``."""

    kind: ClassVar[str] = "withheld"
    what: str
    why: str

    @property
    def sentence(self) -> str:
        """One plain sentence for people."""
        return f"Not done{f' for {self.agent}' if self.agent else ''}: {self.what}, because {self.why}."


def order_actions(actions: Iterable[Action], *, short_of_space: bool) -> list[Action]:
    """The order in which to carry them out.

    Normally lanes first, then what only removes, then the newest days first, then the store's growth. Short of space:
    first what needs none, then what frees most.
    """
    listed = list(actions)
    if short_of_space:
        return sorted(listed, key=lambda each: (isinstance(each, Withheld), each.needs_bytes > 0, -each.frees_bytes))
    listed.sort(key=_last_day, reverse=True)
    listed.sort(key=_stage)
    return listed


def days_of(name: str) -> tuple[str, str]:
    """First and last day a file of an agent may hold, ``YYYYMMDD``; of a cold file the month's, written to the 31st."""
    day = parse_day_file_name(name)
    if day is not None:
        return day[0], day[0]
    warm = parse_warm_file_name(name)
    if warm is not None:
        return warm[0], warm[1]
    cold = parse_cold_file_name(name)
    assert cold is not None, name
    return f"{cold[0]}01", f"{cold[0]}31"


def _stage(action: Action) -> int:
    match action:
        case MergeLanes():
            return 0
        case Purge() | CleanUp():
            return 1
        case Compact():
            return 3
        case AddShard() | MoveAgent():
            return 4
        case Withheld():
            return 5
    return 2


def _last_day(action: Action) -> str:
    if isinstance(action, Pack | Expire | DropTombstones | Digest):
        return max(days_of(name)[1] for name in action.touched)
    return ""


def counted(number: int, noun: str) -> str:
    """``1 file``, ``1,200 files``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _size(number_bytes: int) -> str:
    value, units = float(number_bytes), ("bytes", "KiB", "MiB", "GiB", "TiB")
    index = 0
    while value >= KIB and index < len(units) - 1:
        value /= KIB
        index += 1
    return f"{value:.0f} {units[index]}" if index == 0 or value >= 100 else f"{value:.1f} {units[index]}"
