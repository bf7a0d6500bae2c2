"""What should be done to one agent's files: a pure function from their state, the time and the settings to actions.

A file stands in at most one action of a plan, so that the actions can be carried out in any order; what one of them
makes possible is in the next plan. After everything in a plan was done, the next plan for the same moment is empty, or
leads there.

Where retention asks for it sooner than ``hot_storage_days``, a day goes warm sooner, for records are removed from
packed files only.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from memstore.config import Settings
from memstore.format.manifest import PackedFile, TrashedFile
from memstore.lifecycle.action import (
    Action,
    CleanUp,
    Compact,
    Digest,
    DropTombstones,
    Expire,
    Purge,
    Withheld,
    counted,
)
from memstore.lifecycle.holds import Holds
from memstore.lifecycle.packing import NEEDS_BYTES_MIN, Aging, HotFile, SizeEstimate, plan_packs
from memstore.lifecycle.retention import Rules, judge_file, judged_by, says_what_it_holds
from memstore.record import Importance
from memstore.timestamps import US_PER_DAY, day_start_us

__all__ = ["AgentState", "HotFile", "plan_agent"]

COMPACT_BYTES_MIN = 64 * 1024
"""A MANIFEST of less is read in a fraction of a millisecond."""


@dataclass(frozen=True, slots=True)
class AgentState:
    """One agent's files at one moment, as its MANIFEST, its directories and the notes of reads say.

    Attributes:
        agent: the true agent id.
        hot: day files that count, by name.
        packed: warm and cold files that count, by name.
        trash: files that an undelete brings back, by name.
        hidden_times: times of the records that have a tombstone not carried out yet, sorted.
        reads: when files were last read, by name, microseconds.
        leftovers: names on disk that do not count.
        manifest_bytes: size of the MANIFEST.
        manifest_useful_bytes: what it would be if it were compacted (estimate).
    """

    agent: str
    hot: Mapping[str, HotFile] = field(default_factory=dict)
    packed: Mapping[str, PackedFile] = field(default_factory=dict)
    trash: Mapping[str, TrashedFile] = field(default_factory=dict)
    hidden_times: tuple[int, ...] = ()
    reads: Mapping[str, int] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()
    manifest_bytes: int = 0
    manifest_useful_bytes: int = 0

    @property
    def ingested(self) -> int:
        """When its youngest records were merged, microseconds; 0 for none."""
        hot = max((each.ingested for each in self.hot.values()), default=0)
        return max([hot, *(each.ingested for each in self.packed.values())])


def plan_agent(
    state: AgentState, *, now_us: int, settings: Settings, rules: Rules, holds: Holds, clock_doubt: str = ""
) -> list[Action]:
    """What should be done to an agent's files now, newest first.

    Args:
        state: its files.
        now_us: the moment to plan for.
        settings: of the store.
        rules: its retention rules.
        holds: its legal holds.
        clock_doubt: why the clock is not trusted; then nothing is removed or shortened by age, and the plan says so.
    """
    plan = _AgentPlan(state, now_us=now_us, settings=settings, rules=rules, holds=holds, clock_doubt=clock_doubt)
    return plan.actions()


class _AgentPlan:
    """One plan in the making: each step leaves the files alone that an earlier one has taken."""

    def __init__(
        self, state: AgentState, *, now_us: int, settings: Settings, rules: Rules, holds: Holds, clock_doubt: str
    ) -> None:
        self._state = state
        self._agent = state.agent
        self._now_us = now_us
        self._lifecycle = settings.storage.lifecycle
        self._retention = settings.storage.retention
        self._rules = rules
        self._holds = holds
        self._clock_doubt = clock_doubt
        self._sizes = SizeEstimate.of(state.packed.values())
        self._taken: set[str] = set()

    def actions(self) -> list[Action]:
        expiries = list(self._expiries())
        steps: list[Iterable[Action]] = [
            self._purges(),
            self._clean_ups(),
            [each for each in expiries if isinstance(each, Expire) and each.whole],
            self._packs(),
            [each for each in expiries if not (isinstance(each, Expire) and each.whole)],
            self._tombstones(),
            self._digests(),
            self._compactions(),
        ]
        found: list[Action] = []
        for step in steps:
            for action in step:
                if isinstance(action, Withheld) or self._taken.isdisjoint(action.touched):
                    self._taken.update(action.touched)
                    found.append(action)
        return found

    # -- what is in the way

    def _purges(self) -> Iterator[Action]:
        due = {name: each for name, each in self._state.trash.items() if each.purge_at <= self._now_us}
        if due and self._clock_doubt:
            yield self._withheld(
                f"{counted(len(due), 'file')} of the trash would be removed for good", self._clock_doubt
            )
            return
        free = []
        for name, trashed in sorted(due.items()):
            names = self._holds.names_over(self._agent, trashed.packed.t_min, trashed.packed.t_max)
            if names:
                yield self._withheld(f"{name} would be removed from the trash for good", _holding(names))
            else:
                free.append(name)
        if free:
            size = sum(due[name].packed.size for name in free)
            yield Purge(agent=self._agent, files=tuple(free), frees_bytes=size)

    def _clean_ups(self) -> Iterator[Action]:
        if self._state.leftovers:
            yield CleanUp(agent=self._agent, names=self._state.leftovers)

    def _compactions(self) -> Iterator[Action]:
        whole, useful = self._state.manifest_bytes, self._state.manifest_useful_bytes
        if whole > COMPACT_BYTES_MIN and useful * 2 < whole:
            yield Compact(agent=self._agent, manifest_bytes=whole, needs_bytes=useful, frees_bytes=whole - useful)

    # -- tiers

    def _packs(self) -> Iterator[Action]:
        shortest = self._rules.shortest_days(self._agent)
        aging = Aging.of(self._lifecycle, now_us=self._now_us, shortest_retention_days=shortest)
        if self._lifecycle.compression_enabled:
            packed = {name: each for name, each in self._state.packed.items() if name not in self._taken}
            yield from plan_packs(
                self._agent, self._state.hot, packed, reads=self._state.reads, aging=aging, sizes=self._sizes
            )
            return
        overdue = [name for name, hot in self._state.hot.items() if shortest is not None and self._age(hot) > shortest]
        if overdue:
            yield self._withheld(
                f"{counted(len(overdue), 'day file')} older than the shortest retention period would be looked through",
                "records are removed from packed files only, and storage.lifecycle.compression_enabled is false",
            )

    def _age(self, hot: HotFile) -> int:
        return (self._now_us - day_start_us(hot.day)) // US_PER_DAY

    # -- what goes

    def _expiries(self) -> Iterator[Action]:
        slack_us = int(self._retention.slack_days * US_PER_DAY)
        for name, packed in self._newest_first():
            if not says_what_it_holds(packed):
                yield self._withheld(f"{name} would be looked through for expired records", _NO_KINDS)
                continue
            verdict = judge_file(
                packed,
                agent=self._agent,
                rules=self._rules,
                holds=self._holds,
                now_us=self._now_us,
                slack_us=slack_us,
            )
            if verdict.held:
                yield self._withheld(
                    f"records in {name} would be removed by {' and '.join(verdict.held_rules)}", _holding(verdict.held)
                )
            if verdict.records and self._clock_doubt:
                yield self._withheld(
                    f"up to {counted(verdict.records, 'record')} in {name} would be removed", self._clock_doubt
                )
            elif verdict.records and (verdict.whole or not self._was_judged(packed, slack_us)):
                yield Expire(
                    agent=self._agent,
                    file=name,
                    records=verdict.records,
                    whole=verdict.whole,
                    why=" and ".join(verdict.rules),
                    needs_bytes=0 if verdict.whole else _rewrite_bytes(packed),
                    # What lies in the trash is not free yet.
                    frees_bytes=packed.size if verdict.whole and not self._retention.grace_hours else 0,
                )

    def _was_judged(self, packed: PackedFile, slack_us: int) -> bool:
        """Whether every record of a file was judged before, and none of them has expired since."""
        return (
            packed.judged is not None
            and self._now_us - slack_us < packed.judged[1]
            and packed.judged[0] == judged_by(self._rules, self._holds)
        )

    def _tombstones(self) -> Iterator[Action]:
        times = self._state.hidden_times
        # A record that came late is in a day file; it goes when that is packed.
        spans = (
            [(hot.t_min, hot.t_max) for hot in self._state.hot.values()] if self._lifecycle.compression_enabled else []
        )
        for name, packed in self._newest_first():
            within = [
                time_us
                for frame in packed.frames
                for time_us in times[bisect.bisect_left(times, frame.t_min) : bisect.bisect_right(times, frame.t_max)]
                if not any(first <= time_us <= last for first, last in spans)
            ]
            held = [time_us for time_us in within if self._holds.may_cover(self._agent, time_us, time_us)]
            if held:
                yield self._withheld(
                    f"up to {counted(len(held), 'forgotten record')} in {name} would be removed for good",
                    _holding(self._holds.names_over(self._agent, min(held), max(held))),
                )
            if len(within) > len(held):
                ids = min(len(within) - len(held), packed.records)
                yield DropTombstones(agent=self._agent, file=name, ids=ids, needs_bytes=_rewrite_bytes(packed))

    def _digests(self) -> Iterator[Action]:
        if not self._lifecycle.digest_after_days:
            return
        oldest_kept_us = self._now_us - self._lifecycle.digest_after_days * US_PER_DAY
        for name, packed in self._newest_first():
            due = [
                kind
                for kind in packed.kinds
                if kind.importance == Importance.LOW
                and kind.memory_type in self._lifecycle.digest_types
                and packed.digested_until < kind.t_max <= oldest_kept_us
            ]
            records = sum(kind.records for kind in due)
            held = self._holds.names_over(self._agent, packed.t_min, packed.t_max)
            what = f"long text of up to {counted(records, 'record')} in {name} would be shortened"
            if due and (held or self._clock_doubt):
                yield self._withheld(what, _holding(held) if held else self._clock_doubt)
            elif due:
                yield Digest(agent=self._agent, file=name, records=records, needs_bytes=_rewrite_bytes(packed))

    def _newest_first(self) -> list[tuple[str, PackedFile]]:
        return sorted(self._state.packed.items(), key=lambda item: item[1].t_max, reverse=True)

    def _withheld(self, what: str, why: str) -> Withheld:
        return Withheld(agent=self._agent, what=what, why=why)


_NO_KINDS = "its index does not say which kinds of records it holds; rewriting it would"


def _holding(names: tuple[str, ...]) -> str:
    return f"{'hold' if len(names) == 1 else 'holds'} {', '.join(names)} may cover them"


def _rewrite_bytes(packed: PackedFile) -> int:
    """Room for a file that is written anew: its size and half of it, as for every estimate."""
    return max(packed.size * 3 // 2, NEEDS_BYTES_MIN)
