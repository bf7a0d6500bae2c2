"""How long records are kept: rules, the periods they give, and what of a packed file is due.

The first rule that matches a record counts; then ``storage.lifecycle.cold_retention_months``. CRITICAL is kept unless a
rule names it. A record's own ``metadata.retention_days`` overrides all of them, for CRITICAL too. A period has ended
only when it has ended by the record's time AND by the time at which it reached a day file: what is imported today is
not removed tomorrow because it is old. (Of a packed line the latter is known by frame, in doubt later.) A hold
overrules everything.

Months are calendar months: a record of the 15th goes on the 15th, and where that month is shorter than the day, at the
beginning of the next.
"""

from __future__ import annotations

import calendar
import datetime as dt
import fnmatch
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from memstore.codec.checksum import checksum
from memstore.config import Settings
from memstore.config_rules import RULES_KEY, rule_kinds
from memstore.format.manifest import KindCount, PackedFile
from memstore.lifecycle.holds import Holds
from memstore.record import Importance, MemoryType
from memstore.timestamps import US_PER_DAY

_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
_BEFORE_ALL_US = -(2**62)
NEVER_US = 2**62
_MONTH_DAYS_MIN, _MONTH_DAYS_MAX = 28, 31
_AGENTS_REMEMBERED_MAX = 4096


class Period(NamedTuple):
    """How long something is kept: days or calendar months, one of them None."""

    days: float | None
    months: int | None

    def cutoff_us(self, now_us: int) -> int:
        """The latest time whose period has ended by ``now_us``; all before it have ended, too."""
        if self.days is not None:
            return now_us - self._length_us(self.days)
        return _months_before(now_us, self.months or 0)

    def end_us(self, begun_us: int) -> int:
        """When a period that began then ends: the first moment whose `cutoff_us` reaches ``begun_us``."""
        if self.days is not None:
            return begun_us + self._length_us(self.days)
        return _months_after(begun_us, self.months or 0)

    @staticmethod
    def _length_us(days: float) -> int:
        """Whole microseconds, so that adding and subtracting agree: a sum with a fraction is rounded by its size."""
        return math.ceil(days * US_PER_DAY)

    @property
    def days_min(self) -> float:
        """Its length in days at the shortest."""
        return self.days if self.days is not None else float((self.months or 0) * _MONTH_DAYS_MIN)

    @property
    def text(self) -> str:
        """For people: ``90 days``, ``12 months``."""
        number, unit = (self.days, "day") if self.days is not None else (self.months, "month")
        return f"{number:g} {unit}{'' if number == 1 else 's'}"


class Kept(NamedTuple):
    """What the rules say of some records: their period (None: for ever), and which rule says so, for people."""

    period: Period | None
    rule: str


class Rules:
    """The retention rules of a store; they do not change. Safe to share between threads.

    Args:
        settings: ``storage.retention.rules`` and ``storage.lifecycle.cold_retention_months`` of these, loaded and
            checked.
    """

    def __init__(self, settings: Settings) -> None:
        self._rules = [
            (rule.agent, rule_kinds(rule), Kept(_period(rule.keep_days, rule.keep_months), _label(number, rule.agent)))
            for number, rule in enumerate(settings.storage.retention.rules, 1)
        ]
        months = settings.storage.lifecycle.cold_retention_months
        usual = Kept(Period(None, months), f"storage.lifecycle.cold_retention_months = {months}")
        critical = Kept(None, "CRITICAL is kept unless a rule names it")
        self._default = {
            (str(memory_type), str(importance)): critical if importance is Importance.CRITICAL else usual
            for memory_type in MemoryType
            for importance in Importance
        }
        self._of_agent: dict[str, dict[tuple[str, str], Kept]] = {}
        retention = settings.storage.retention.rules
        self.text = msgspec.json.encode((msgspec.to_builtins(retention), months))

    def of(self, agent: str) -> dict[tuple[str, str], Kept]:
        """What holds for an agent's records, by ``(memory_type, importance)``; every pair there is."""
        known = self._of_agent.get(agent)
        if known is None:
            if len(self._of_agent) >= _AGENTS_REMEMBERED_MAX:
                self._of_agent = {}
            known = dict(self._default)
            for pattern, kinds, kept in reversed(self._rules):
                if pattern == agent or fnmatch.fnmatchcase(agent, pattern):
                    known.update(dict.fromkeys(kinds, kept))
            self._of_agent[agent] = known
        return known

    def kept(self, agent: str, memory_type: str, importance: str) -> Kept:
        """What holds for one kind of an agent's records; for ever where the kind is unknown."""
        return self.of(agent).get((memory_type, importance), Kept(None, "a kind that this version does not know"))

    def period_us(self, agent: str, memory_type: str, importance: str) -> int | None:
        """Length of a period in microseconds, a month taken for 31 days; None: for ever. To show, not to remove by."""
        period = self.kept(agent, memory_type, importance).period
        if period is None:
            return None
        return int((period.days if period.days is not None else (period.months or 0) * _MONTH_DAYS_MAX) * US_PER_DAY)

    def shortest_days(self, agent: str) -> float | None:
        """Days, at least, of the shortest period that an agent's records may have by rule; None: all for ever."""
        return min((kept.period.days_min for kept in self.of(agent).values() if kept.period is not None), default=None)


class Expiry:
    """Which records of one agent have expired: asked for each record of a file that is written anew.

    Args:
        rules: of the store.
        holds: of the store, read after the file was chosen.
        agent: whose records.
        now_us: the moment they are judged by.
    """

    def __init__(self, rules: Rules, holds: Holds, agent: str, now_us: int) -> None:
        self._cutoffs = {
            kind: _BEFORE_ALL_US if kept.period is None else kept.period.cutoff_us(now_us)
            for kind, kept in rules.of(agent).items()
        }
        self._periods = {kind: kept.period for kind, kept in rules.of(agent).items()}
        self._holds = holds
        self._agent = agent
        self._now_us = now_us
        self._by = judged_by(rules, holds)
        self._first_kept: dict[tuple[str, str], int] = {}
        self._next_us = NEVER_US

    @property
    def judged(self) -> tuple[str, int]:
        """By what it has judged, and when the first of the records that it was asked for and that stay expires.

        Those that a hold keeps are left aside: without the hold they are judged by something else.
        """
        ends = [self._next_us]
        for kind, begun_us in self._first_kept.items():
            period = self._periods.get(kind)
            if period is not None:
                ends.append(period.end_us(begun_us))
        return self._by, min(ends)

    def expired(  # noqa: PLR0917 - asked for each record, and keywords take as long as the answer
        self,
        memory_type: str,
        importance: str,
        time_us: int,
        ingested_us: int,
        own_days: float | None,
        memory_id: str,
    ) -> bool:
        """Whether a record's period has ended and no hold keeps it.

        Args:
            memory_type: its type.
            importance: its importance.
            time_us: its time.
            ingested_us: when it reached a day file, or later where that is not known exactly.
            own_days: its ``metadata.retention_days``, or None.
            memory_id: its id, for holds that name it.
        """
        begun_us = max(time_us, ingested_us)
        if own_days is not None:
            end_us = begun_us + int(min(own_days * US_PER_DAY, NEVER_US))
            if end_us > self._now_us:
                self._next_us = min(self._next_us, end_us)
                return False
        else:
            kind = (memory_type, importance)
            if begun_us > self._cutoffs.get(kind, _BEFORE_ALL_US):
                if begun_us < self._first_kept.get(kind, NEVER_US):
                    self._first_kept[kind] = begun_us
                return False
        return not self._holds.covers_record(self._agent, memory_id, memory_type, time_us)


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What of a packed file is due.

    Attributes:
        records: how many records may go, at most; 0: none.
        whole: all of them, for certain.
        rules: the rules by which they go.
        held: names of the holds that keep records whose period has ended.
        held_rules: the rules that these holds overrule.
    """

    records: int
    whole: bool
    rules: tuple[str, ...]
    held: tuple[str, ...]
    held_rules: tuple[str, ...]


class _Part(NamedTuple):
    """Some records of a file that go by one rule: how many, whether some or all of them are due, and who holds them."""

    records: int
    due: bool
    all_ended: bool
    held: tuple[str, ...]
    rule: str


def judged_by(rules: Rules, holds: Holds) -> str:
    """The checksum of all that decides what expires; see `PackedFile.judged`."""
    return checksum(rules.text + msgspec.json.encode(holds.holds))


def judge_file(
    packed: PackedFile, *, agent: str, rules: Rules, holds: Holds, now_us: int, slack_us: int
) -> FileVerdict:
    """What of a packed file is due, by its index alone.

    Some records are due when the oldest of their kind has been for ``slack_us``; all are as soon as all periods have
    ended. Where records have a period of their own, the index does not say of which kind they are: then more may be
    promised than goes. Nothing of a file is due whose index does not say what it holds (`says_what_it_holds`).
    """
    if not says_what_it_holds(packed):
        return FileVerdict(records=0, whole=False, rules=(), held=(), held_rules=())
    parts = list(_parts(packed, agent=agent, rules=rules, holds=holds, now_us=now_us, slack_us=slack_us))
    names = holds.names_over(agent, packed.t_min, packed.t_max)
    whole = not names and all(part.all_ended for part in parts)
    if holds.ids_within(agent, packed.t_min, packed.t_max) >= packed.records:
        parts = [part._replace(due=False, held=part.held or names if part.due else part.held) for part in parts]
    going = parts if whole else [part for part in parts if part.due]
    overruled = [part for part in parts if part.held]
    return FileVerdict(
        records=packed.records if whole else min(sum(part.records for part in going), packed.records),
        whole=whole,
        rules=_distinct([part.rule for part in going]),
        held=_distinct([name for part in overruled for name in part.held]),
        held_rules=_distinct([part.rule for part in overruled]),
    )


def says_what_it_holds(packed: PackedFile) -> bool:
    """Whether the kinds of a file's index add up to its records; not where they were lost and no line was read."""
    return sum(kind.records for kind in packed.kinds) == packed.records


def _parts(
    packed: PackedFile, *, agent: str, rules: Rules, holds: Holds, now_us: int, slack_us: int
) -> Iterator[_Part]:
    own_records = 0 if packed.own is None else packed.own[0]
    if own_records < packed.records:
        for kind in packed.kinds:
            kept = rules.kept(agent, kind.memory_type, kind.importance)
            yield _kind_part(packed, kind, kept, agent=agent, holds=holds, now_us=now_us, slack_us=slack_us)
    if packed.own is not None:
        _, first_us, last_us = packed.own
        due = first_us <= now_us - slack_us
        held = holds.names_over(agent, packed.t_min, packed.t_max) if due else ()
        fully_held = all(
            holds.first_free_us(agent, kind.memory_type, kind.t_min, kind.t_max) is None for kind in packed.kinds
        )
        rule = "their own metadata.retention_days"
        yield _Part(own_records, due and not fully_held, last_us <= now_us, held, rule)


def _kind_part(
    packed: PackedFile, kind: KindCount, kept: Kept, *, agent: str, holds: Holds, now_us: int, slack_us: int
) -> _Part:
    period, rule = kept
    if period is None:
        return _Part(kind.records, due=False, all_ended=False, held=(), rule=rule)
    cutoff_us = period.cutoff_us(now_us - slack_us)
    due = kind.t_min <= cutoff_us and _begun_us(packed, kind.t_min) <= cutoff_us
    held: tuple[str, ...] = ()
    if due:
        held = holds.names_over(agent, kind.t_min, min(kind.t_max, cutoff_us), kind.memory_type)
        free_us = holds.first_free_us(agent, kind.memory_type, kind.t_min, kind.t_max)
        due = free_us is not None and _begun_us(packed, free_us) <= cutoff_us
    all_ended = max(kind.t_max, packed.ingested) <= period.cutoff_us(now_us)
    return _Part(kind.records, due, all_ended, held, rule)


def _begun_us(packed: PackedFile, time_us: int) -> int:
    """From when on the period of a record of this time counts: its time, or when its frame's youngest line came."""
    ingested = [frame.ingested for frame in packed.frames if frame.t_min <= time_us <= frame.t_max]
    return max(time_us, max(ingested, default=packed.ingested))


def _distinct(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _period(days: float | None, months: int | None) -> Period | None:
    return None if days is None and months is None else Period(days, months)


def _label(number: int, agent: str) -> str:
    return f"{RULES_KEY}, rule {number}" + ("" if agent == "*" else f" ({agent})")


def _months_after(begun_us: int, months: int) -> int:
    """The first moment at which ``months`` calendar months have passed; see `_months_before`."""
    day_number, within_us = divmod(begun_us, US_PER_DAY)
    day = dt.date.fromordinal(_EPOCH_DAY + day_number)
    year, month0 = divmod(day.year * 12 + day.month - 1 + months, 12)
    if year >= dt.MAXYEAR:
        return NEVER_US
    length = calendar.monthrange(year, month0 + 1)[1]
    if day.day > length:  # it comes to the day that this month does not have as the next one begins
        last = dt.date(year, month0 + 1, length).toordinal() - _EPOCH_DAY
        return (last + 1) * US_PER_DAY
    return (dt.date(year, month0 + 1, day.day).toordinal() - _EPOCH_DAY) * US_PER_DAY + within_us


def _months_before(now_us: int, months: int) -> int:
    """The latest time for which ``months`` calendar months have passed."""
    day_number, within_us = divmod(now_us, US_PER_DAY)
    today = dt.date.fromordinal(_EPOCH_DAY + day_number)
    year, month0 = divmod(today.year * 12 + today.month - 1 - months, 12)
    if year < dt.MINYEAR:
        return _BEFORE_ALL_US
    length = calendar.monthrange(year, month0 + 1)[1]
    if today.day > length:  # everything of that month has come to the day that it does not have
        last = dt.date(year, month0 + 1, length).toordinal() - _EPOCH_DAY
        return (last + 1) * US_PER_DAY - 1
    return (dt.date(year, month0 + 1, today.day).toordinal() - _EPOCH_DAY) * US_PER_DAY + within_us
