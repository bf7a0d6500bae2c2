"""Stamps: the time and the id of a record, from one clock reading.

Uniqueness comes from (writer number, sequence), never from the clock. A writer number is taken from STORE.json at the
first stamp, and a new one when the clock has stepped back or the sequence is used up, so that within one writer
number ids only grow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from memstore.clock import Clock
from memstore.draft import Draft
from memstore.errors import InvalidRecordError, UsageError
from memstore.ids import SEQUENCE_MAX, derived_suffix, minted_number, number_suffix
from memstore.timestamps import US_PER_DAY, iso_and_id_stamp, iso_text, parse_time


class Stamp(NamedTuple):
    """``iso`` and ``id_stamp`` are the two texts of ``time_us``; ``suffix`` is 16 hex digits."""

    time_us: int
    iso: str
    id_stamp: str
    suffix: str


class StampRun(NamedTuple):
    """Stamps of records that share one time; their suffixes are ``first``, ``first + 1``, ... as 16 hex digits."""

    iso: str
    id_stamp: str
    first: int


class Stamper:
    """Mints the stamps of one process. Thread-safe."""

    def __init__(self, clock: Clock, take_writer_number: Callable[[], int]) -> None:
        self._clock = clock
        self._take_writer_number = take_writer_number
        self._lock = threading.Lock()
        self._writer: int | None = None
        self._sequence = 0
        self._last_us = 0

    @property
    def writer_number(self) -> int:
        """This process's writer number, taken now if it has none."""
        with self._lock:
            return self._current_writer()

    def stamp(self, *, agent_id: str, timestamp: object, source_id: str | None) -> Stamp:
        """The stamp of one record.

        Args:
            agent_id: whose it is.
            timestamp: what the caller gave as time, or None for now.
            source_id: for a record from elsewhere: its id is derived, and it must bring its own time.

        Raises:
            InvalidRecordError: before 1970, more than a day ahead, unreadable, or a source_id without a timestamp.
        """
        now_us, number = self._take(0 if source_id is not None else 1)
        time_us = now_us
        if timestamp is not None:
            time_us = _checked_time(timestamp, now_us)
        elif source_id is not None:
            raise InvalidRecordError(
                "a record with a source_id needs its timestamp_utc: its memory_id is derived from both"
            )
        iso, id_stamp = iso_and_id_stamp(time_us)
        suffix = number_suffix(number) if source_id is None else derived_suffix(agent_id, source_id)
        return Stamp(time_us, iso, id_stamp, suffix)

    def stamp_many(self, drafts: Sequence[Draft]) -> list[Stamp]:
        """The stamps of a batch: records that bring no time of their own share one clock reading.

        Raises:
            InvalidRecordError: as `stamp`; says which record's time is refused.
        """
        fresh = sum(draft.timestamp is None and draft.source_id is None for draft in drafts)
        now_us, number = self._take(fresh)
        iso_now, id_stamp_now = iso_and_id_stamp(now_us)
        latest_us = now_us + US_PER_DAY
        stamps: list[Stamp] = []
        for index, draft in enumerate(drafts):
            timestamp, source_id = draft.timestamp, draft.source_id
            if timestamp is None and source_id is None:
                stamps.append(Stamp(now_us, iso_now, id_stamp_now, number_suffix(number)))
                number += 1
                continue
            if type(timestamp) is int and source_id is not None and 0 <= timestamp <= latest_us:
                iso, id_stamp = iso_and_id_stamp(timestamp)
                stamps.append(Stamp(timestamp, iso, id_stamp, derived_suffix(draft.agent_id, source_id)))
                continue
            try:
                stamps.append(self.stamp(agent_id=draft.agent_id, timestamp=timestamp, source_id=source_id))
            except InvalidRecordError as error:
                raise InvalidRecordError(error.reason, index=index) from error
        return stamps

    def stamp_run(self, count: int) -> StampRun:
        """The stamps of that many new records at once: one clock reading, numbers that follow each other."""
        now_us, first = self._take(count)
        iso, id_stamp = iso_and_id_stamp(now_us)
        return StampRun(iso, id_stamp, first)

    def forget(self) -> None:
        """In a forked child: the parent's writer number is the parent's."""
        self._lock = threading.Lock()
        self._writer = None

    def _take(self, count: int) -> tuple[int, int]:
        """One clock reading, and the first of ``count`` numbers that follow each other and are nobody else's."""
        with self._lock:
            now_us = self._now_us()
            if count == 0:
                return now_us, 0
            if self._sequence + count - 1 > SEQUENCE_MAX:
                self._writer = None
            number = minted_number(self._current_writer(), self._sequence)
            self._sequence += count
        return now_us, number

    def _now_us(self) -> int:
        """The time; the clock's stepping back ends the writer number. The lock is held."""
        now_us = self._clock.now_us()
        if now_us < self._last_us:
            self._writer = None
        self._last_us = now_us
        return now_us

    def _current_writer(self) -> int:
        if self._writer is None:
            self._writer = self._take_writer_number()
            self._sequence = 0
        return self._writer


def _checked_time(timestamp: object, now_us: int) -> int:
    try:
        time_us = parse_time(timestamp, now_us=now_us)  # type: ignore[arg-type]
    except UsageError as error:
        raise InvalidRecordError(f"timestamp: {error}") from error
    if time_us < 0:
        raise InvalidRecordError(f"timestamp {timestamp!r} is before 1970")
    if time_us > now_us + US_PER_DAY:
        raise InvalidRecordError(
            f"timestamp {timestamp!r} is more than a day ahead of this machine's clock ({iso_text(now_us)}); "
            "set the clock right first"
        )
    return time_us
