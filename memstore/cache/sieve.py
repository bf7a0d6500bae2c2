"""A cache bounded in bytes and in time, which gives up what nobody has asked for again: SIEVE.

After Zhang, Yang, Yue, Vigfusson and Rashmi, "SIEVE is Simpler than LRU" (NSDI 2024). Entries stand in the order in
which they came. A hit only marks its entry. A hand goes from the oldest to the newest and then begins again: it unmarks
what is marked and leaves it where it stands, and gives up the first that is not. So what is asked for once is soon
gone, and what is asked for often stays. Two queues are the one of the paper: what the hand has passed, and what it has
before it, to whose end comes what is new.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from memstore.clock import Clock

V = TypeVar("V")
ENTRY_BYTES = 200
"""What an entry costs beside its value: key, node, entry; measured with 100,000 entries of 64-character keys."""
_PASSED_MAX = 64
"""Marked entries that the hand passes in search of one: then the next has to go. A Zipf stream has it pass 17."""


class _Entry(Generic[V]):
    """A value, what it costs, until when it counts, and whether it was asked for since the hand was here."""

    __slots__ = ("cost", "ends_s", "is_marked", "value")

    def __init__(self, value: V, cost: int, ends_s: float) -> None:
        self.value = value
        self.cost = cost
        self.ends_s = ends_s
        self.is_marked = False


class SieveCache(Generic[V]):
    """Thread-safe. A budget of 0 bytes switches it off: it then holds nothing and counts nothing."""

    def __init__(self, clock: Clock, *, bytes_max: int, ttl_s: float) -> None:
        self._clock = clock
        self._bytes_max = bytes_max
        self._ttl_s = ttl_s
        self._hits = 0
        self._misses = 0
        self._bytes = 0
        self.clear()

    @property
    def enabled(self) -> bool:
        """Whether it has a budget."""
        return self._bytes_max > 0

    def get(self, key: Hashable) -> V | None:
        """The value, or None where it is not there or too old."""
        if not self._bytes_max:
            return None
        now_s = self._clock.monotonic_s()
        with self._lock:
            entry = self._before.get(key)
            if entry is None:
                entry = self._passed.get(key)
            if entry is not None:
                if entry.ends_s > now_s:
                    entry.is_marked = True
                    self._hits += 1
                    return entry.value
                self._remove(key)
            self._misses += 1
            return None

    def put(self, key: Hashable, value: V, size_bytes: int) -> None:
        """Keep a value that weighs ``size_bytes``; one over the whole budget is not kept."""
        cost = size_bytes + ENTRY_BYTES
        if cost > self._bytes_max:
            return
        with self._lock:
            self._remove(key)
            while self._bytes + cost > self._bytes_max:
                if not (self._before or self._passed):  # Ctrl-C came between an entry and its weight
                    self._bytes = 0
                    break
                self._give_up_one()
            self._before[key] = _Entry(value, cost, self._clock.monotonic_s() + self._ttl_s)
            self._bytes += cost

    def discard(self, key: Hashable) -> None:
        """Forget one entry if it is there."""
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        """Forget all; a new lock too, for a forked child may have inherited a held one."""
        self._lock = threading.Lock()
        self._before: OrderedDict[Hashable, _Entry[V]] = OrderedDict()
        self._passed: OrderedDict[Hashable, _Entry[V]] = OrderedDict()
        self._bytes = 0

    def stats(self) -> dict[str, float | int]:
        """``entries, bytes, bytes_max, hits, misses, hit_rate`` (0 where nothing was asked)."""
        with self._lock:
            asked = self._hits + self._misses
            return {
                "entries": len(self._before) + len(self._passed),
                "bytes": self._bytes,
                "bytes_max": self._bytes_max,
                "hits": self._hits,
                "misses": self._misses,
                "hit_rate": round(self._hits / asked, 4) if asked else 0.0,
            }

    def _give_up_one(self) -> None:
        for left in range(_PASSED_MAX, -1, -1):
            self._begin_again()
            key, entry = self._before.popitem(last=False)
            if not entry.is_marked or not left:
                self._bytes -= entry.cost
                break
            entry.is_marked = False
            self._passed[key] = entry
        self._begin_again()  # before something new comes, which is not what the hand is to see next

    def _begin_again(self) -> None:
        """At the newest entry the hand goes back to the oldest."""
        if not self._before:
            self._before, self._passed = self._passed, self._before

    def _remove(self, key: Hashable) -> None:
        entry = self._before.pop(key, None)
        if entry is None:
            entry = self._passed.pop(key, None)
        if entry is not None:
            self._bytes -= entry.cost
