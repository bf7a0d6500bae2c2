"""Legal holds: what nobody may remove, and the file they stand in.

A hold is asked twice: of one record, exactly, by whoever is about to remove it; and of a stretch of time, in doubt
with yes, by whoever plans. HOLDS.json is read anew for each plan and each act that removes something: a hold counts
from the moment it was added, in every process. Where it is damaged nothing may be removed.
"""

from __future__ import annotations

import bisect
import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from memstore.errors import NotFoundError, UsageError
from memstore.format.holds_file import Hold, decode_holds_file, encode_holds_file
from memstore.format.names import StorePaths
from memstore.fs.atomic import read_file, replace_file
from memstore.fs.lock import locked
from memstore.fs.storage import Storage
from memstore.ids import parse_id
from memstore.nearest import nearest_name
from memstore.record import MemoryType

HOLDS_MAX = 1000
"""Each record that retention looks at is held against all of its agent's."""
HOLD_IDS_MAX = 100_000
"""Ids of one hold; some 6 MB of HOLDS.json. More are better held by agent and time."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_AGENTS_REMEMBERED_MAX = 1024


@dataclass(frozen=True, slots=True)
class _Cover:
    """One hold, as far as one agent is concerned."""

    name: str
    since_us: int
    until_us: int
    types: frozenset[str]
    ids: frozenset[str] | None
    id_times: tuple[int, ...]

    def may_cover(self, t_min: int, t_max: int) -> bool:
        if not (self.since_us <= t_max and t_min < self.until_us):
            return False
        if self.ids is None:
            return True
        first = bisect.bisect_left(self.id_times, max(t_min, self.since_us))
        return first < len(self.id_times) and self.id_times[first] <= min(t_max, self.until_us - 1)

    def covers(self, memory_id: str, memory_type: str, time_us: int) -> bool:
        return (
            self.since_us <= time_us < self.until_us
            and (not self.types or memory_type in self.types)
            and (self.ids is None or memory_id in self.ids)
        )


class Holds:
    """Every hold of a store at one moment. The holds do not change; safe to share between threads.

    Args:
        holds: as HOLDS.json lists them.
    """

    def __init__(self, holds: Iterable[Hold] = ()) -> None:
        self.holds = tuple(holds)
        self._of_agent: dict[str, tuple[_Cover, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self.holds)

    def __iter__(self) -> Iterator[Hold]:
        return iter(self.holds)

    def covers_record(self, agent: str, memory_id: str, memory_type: str, time_us: int) -> bool:
        """Whether a hold forbids to remove this record."""
        return any(cover.covers(memory_id, memory_type, time_us) for cover in self._covers(agent))

    def covering(self, agent: str, memory_id: str, memory_type: str, time_us: int) -> tuple[str, ...]:
        """Names of the holds that forbid to remove this record, for the error that says so."""
        return tuple(c.name for c in self._covers(agent) if c.covers(memory_id, memory_type, time_us))

    def may_cover(self, agent: str, t_min: int, t_max: int) -> bool:
        """Whether a hold may forbid to remove a record of these times (both inclusive); no is certain."""
        return any(cover.may_cover(t_min, t_max) for cover in self._covers(agent))

    def names_over(self, agent: str, t_min: int, t_max: int, memory_type: str | None = None) -> tuple[str, ...]:
        """Names of the holds that `may_cover` these times, and this type where one is given."""
        return tuple(
            cover.name
            for cover in self._covers(agent)
            if cover.may_cover(t_min, t_max) and (memory_type is None or not cover.types or memory_type in cover.types)
        )

    def first_free_us(self, agent: str, memory_type: str, t_min: int, t_max: int) -> int | None:
        """From when on, within ``t_min`` to ``t_max``, a record of the type may be free of holds; None: never.

        Holds of single ids are left aside: beside each of them there may be a record that is free.
        """
        free = t_min
        for cover in sorted(self._covers(agent), key=lambda c: c.since_us):
            if cover.ids is None and cover.since_us <= free and (not cover.types or memory_type in cover.types):
                free = max(free, cover.until_us)
        return free if free <= t_max else None

    def ids_within(self, agent: str, t_min: int, t_max: int) -> int:
        """How many records of these times are held by their id, whatever their type."""
        covers = [c for c in self._covers(agent) if c.ids is not None and not c.types and c.may_cover(t_min, t_max)]
        ids: set[str] = set()
        for cover in covers:
            first, last = max(t_min, cover.since_us), min(t_max, cover.until_us - 1)
            ids.update(each for each in cover.ids or () if first <= parse_id(each).time_us <= last)
        return len(ids)

    def _covers(self, agent: str) -> tuple[_Cover, ...]:
        if not self.holds:
            return ()
        known = self._of_agent.get(agent)
        if known is None:
            if len(self._of_agent) >= _AGENTS_REMEMBERED_MAX:
                self._of_agent = {}
            known = self._of_agent[agent] = tuple(_covers_of(agent, self.holds))
        return known


def _covers_of(agent: str, holds: Iterable[Hold]) -> Iterator[_Cover]:
    for hold in holds:
        if hold.agent is not None and hold.agent != agent and not fnmatch.fnmatchcase(agent, hold.agent):
            continue
        ids: frozenset[str] | None = None
        times: tuple[int, ...] = ()
        if hold.ids:
            ids = frozenset(memory_id for memory_id in hold.ids if parse_id(memory_id).agent_id == agent)
            times = tuple(sorted(parse_id(memory_id).time_us for memory_id in ids))
            if not ids:
                continue
        yield _Cover(hold.name, hold.since_us, hold.until_us, frozenset(hold.memory_types), ids, times)


class HoldsFile:
    """HOLDS.json of one store; changed under ``locks/store``."""

    def __init__(self, storage: Storage, paths: StorePaths) -> None:
        self._storage = storage
        self._path = paths.holds
        self._lock = paths.lock("store")

    def load(self) -> Holds:
        """The holds as they stand; none where the file is not there.

        Raises:
            CorruptionError: it does not verify. Then nothing may be removed.
        """
        data = read_file(self._storage, self._path)
        return Holds() if data is None else Holds(decode_holds_file(data, self._path))

    def add(self, hold: Hold) -> Hold:
        """Add a hold, durably; it counts for every plan and every removal that begins after this returns.

        Raises:
            UsageError: its name is taken or not plain, or it can cover nothing.
            CorruptionError: HOLDS.json does not verify.
        """
        check_hold(hold)
        with locked(self._storage, self._lock):
            holds = self.load().holds
            if any(other.name == hold.name for other in holds):
                raise UsageError(f"there is a hold named {hold.name!r} already; remove it, or choose another name")
            if len(holds) >= HOLDS_MAX:
                raise UsageError(f"there are {len(holds)} holds, which is the limit; remove those that have ended")
            replace_file(self._storage, self._path, encode_holds_file([*holds, hold]))
        return hold

    def remove(self, name: str) -> Hold:
        """Remove a hold, durably, and return it.

        Raises:
            NotFoundError: there is no hold of this name.
            CorruptionError: HOLDS.json does not verify.
        """
        with locked(self._storage, self._lock):
            holds = self.load().holds
            found = next((hold for hold in holds if hold.name == name), None)
            if found is None:
                nearest = nearest_name(name, [hold.name for hold in holds])
                hint = f"; did you mean {nearest!r}?" if nearest else ""
                raise NotFoundError(f"there is no hold named {name!r}{hint}")
            replace_file(self._storage, self._path, encode_holds_file([hold for hold in holds if hold != found]))
        return found


def check_hold(hold: Hold) -> None:
    """See that a hold says what it covers.

    Raises:
        UsageError: its name is not plain, or it can cover nothing.
    """
    if not _NAME.fullmatch(hold.name):
        raise UsageError(
            f"{hold.name!r:.100} is no name for a hold: 1 to 80 letters, digits, '.', '_' or '-', no mark at the start"
        )
    if hold.agent is not None and not hold.agent:
        raise UsageError(
            f"hold {hold.name}: the agent is empty; leave it out for all of them, or give an id or pattern"
        )
    if hold.since_us >= hold.until_us:
        raise UsageError(f"hold {hold.name}: it ends before it begins, so it would cover nothing")
    unknown = [each for each in hold.memory_types if each not in tuple(MemoryType)]
    if unknown:
        raise UsageError(f"hold {hold.name}: {unknown[0]!r} is no memory type; there are {', '.join(MemoryType)}")
    if len(hold.ids) > HOLD_IDS_MAX:
        raise UsageError(
            f"hold {hold.name}: {len(hold.ids)} ids; the limit is {HOLD_IDS_MAX}. Hold an agent and a time instead"
        )
    for memory_id in hold.ids:
        parse_id(memory_id)
