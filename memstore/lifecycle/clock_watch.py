"""Whether the wall clock may be believed by those who remove what is old.

A clock that is a year ahead makes a year of records look expired. So each run of maintenance compares the wall clock
with the time since boot, across boots with what was seen last, and with the youngest merge of the store. After a jump
nothing is removed until the clock has gone on evenly for a day, or somebody vouches for it.

Within one boot both clocks are compared with the moment at which the note was begun, not with the last look: so many
small steps add up and are seen, too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec

from memstore.clock import MICROSECONDS_PER_SECOND, Clock
from memstore.errors import CorruptionError
from memstore.format.lifecycle_file import ClockNote, decode_lifecycle_file, encode_lifecycle_file
from memstore.format.names import StorePaths
from memstore.fs.atomic import read_file, replace_file
from memstore.fs.storage import Storage
from memstore.timestamps import US_PER_DAY, iso_text

_log = logging.getLogger(__name__)
JUMP_S = 3600.0
"""Wall time may depart by so much from the time since boot: NTP that sets a clock right once moves it by minutes, a
time zone mistaken for UTC by an hour or more."""
BACKWARDS_US = 5 * 60 * MICROSECONDS_PER_SECOND
"""By so much a clock may be behind what was seen before: machines that share a store differ by seconds."""
FORWARD_US = 31 * US_PER_DAY
"""A machine may have been off for so long. Longer looks like a clock that lost its battery."""
EVEN_US = US_PER_DAY
"""How long the clock has to go on evenly after a jump: a day, in which people see that the date is wrong."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be thought of the clock.

    Attributes:
        trusted: whether what is old may be removed by it.
        why: one sentence where it is not trusted; empty where it is.
        note: what to keep for the next look.
    """

    trusted: bool
    why: str
    note: ClockNote


def judge(
    previous: ClockNote | None,
    *,
    now_us: int,
    boot_s: float,
    boot_id: str,
    newest_evidence_us: int | None,
    trust_clock: bool = False,
) -> Verdict:
    """Compare the wall clock with all that is known.

    Args:
        previous: the note of the last look, or None where there is none.
        now_us: wall time.
        boot_s: seconds since boot.
        boot_id: which boot; empty where the platform does not say, which is taken for a new one each time.
        newest_evidence_us: wall time of the store's youngest merge, or None where there is none.
        trust_clock: somebody vouches for the clock: what was noted counts no longer.
    """
    begun = ClockNote(wall_us=now_us, boot_s=boot_s, boot_id=boot_id, last_us=now_us)
    if trust_clock or previous is None:
        jump = "" if trust_clock else _jump_since(None, now_us, newest_evidence_us)
        return _doubt(msgspec.structs.replace(begun, doubt=jump)) if jump else _trust(begun)
    if boot_id and previous.boot_id == boot_id and boot_s >= previous.boot_s:
        jump = _jump_within_boot(previous, now_us, boot_s)
        note = msgspec.structs.replace(previous, last_us=now_us)
    else:
        jump = _jump_since(previous, now_us, newest_evidence_us)
        note = _carried_over(previous, begun) if previous.doubt else begun
    if jump:
        return _doubt(msgspec.structs.replace(begun, doubt=jump))
    if previous.doubt and now_us - previous.wall_us < EVEN_US:
        return _doubt(note)
    return _trust(begun if previous.doubt else note)


def _carried_over(previous: ClockNote, begun: ClockNote) -> ClockNote:
    """The note of a jump after a restart, as if this boot had begun before it: the day that has to pass goes on."""
    passed_s = (begun.wall_us - previous.wall_us) / MICROSECONDS_PER_SECOND
    return msgspec.structs.replace(
        begun, wall_us=previous.wall_us, boot_s=begun.boot_s - passed_s, doubt=previous.doubt
    )


def _trust(note: ClockNote) -> Verdict:
    return Verdict(trusted=True, why="", note=note)


def _doubt(note: ClockNote) -> Verdict:
    again = iso_text(note.wall_us + EVEN_US)[:16].replace("T", " ")
    why = (
        f"the clock is not trusted: {note.doubt}; it is again at {again} UTC if it goes on evenly, or with trust_clock"
    )
    return Verdict(trusted=False, why=why, note=note)


def _jump_within_boot(previous: ClockNote, now_us: int, boot_s: float) -> str:
    """What happened to the clock since the note was begun, or empty."""
    ahead_s = (now_us - previous.wall_us) / MICROSECONDS_PER_SECOND - (boot_s - previous.boot_s)
    if abs(ahead_s) <= JUMP_S:
        return ""
    return f"it was set {_length(abs(ahead_s))} {'forward' if ahead_s > 0 else 'back'} while the machine was running"


def _jump_since(previous: ClockNote | None, now_us: int, newest_evidence_us: int | None) -> str:
    """What the clock shows that cannot be, or is not likely, after what was seen before; or empty."""
    known = [] if previous is None else [("maintenance last ran", previous.last_us)]
    known += [] if newest_evidence_us is None else [("records were last merged", newest_evidence_us)]
    if not known:
        return ""
    what, seen_us = max(known, key=lambda item: item[1])
    gap_s = (now_us - seen_us) / MICROSECONDS_PER_SECOND
    if now_us < seen_us - BACKWARDS_US:
        return f"it is {_length(-gap_s)} before the time at which {what}"
    if now_us > seen_us + FORWARD_US:
        return f"it is {_length(gap_s)} after the time at which {what}"
    return ""


def _length(seconds: float) -> str:
    days, hours = seconds / 86400, seconds / 3600
    if days >= 2:
        return f"{days:.0f} days"
    return f"{hours:.1f} hours" if hours >= 1 else f"{seconds / 60:.0f} minutes"


class ClockWatch:
    """LIFECYCLE.json of one store: what is known of the clock from run to run. For one thread.

    Two processes that look at the same moment write the same; a note that is lost makes the next look rely on the
    store's youngest merge.
    """

    def __init__(self, storage: Storage, paths: StorePaths, *, clock: Clock) -> None:
        self._storage = storage
        self._path = paths.lifecycle_state
        self._clock = clock

    def look(self, newest_evidence_us: int | None, *, trust_clock: bool = False, keep: bool = True) -> Verdict:
        """Judge the clock now, and keep the note for the next look.

        Args:
            newest_evidence_us: wall time of the store's youngest merge, or None where there is none.
            trust_clock: somebody vouches for the clock.
            keep: False for a dry run, which writes nothing.

        Raises:
            StorageError: the note cannot be written; `StorageFullError` for no space.
        """
        previous = self._load()
        verdict = judge(
            previous,
            now_us=self._clock.now_us(),
            boot_s=self._clock.boot_s(),
            boot_id=self._clock.boot_id(),
            newest_evidence_us=newest_evidence_us,
            trust_clock=trust_clock,
        )
        if keep and verdict.note != previous:
            replace_file(self._storage, self._path, encode_lifecycle_file(verdict.note))
        return verdict

    def _load(self) -> ClockNote | None:
        data = read_file(self._storage, self._path)
        if data is None:
            return None
        try:
            return decode_lifecycle_file(data, self._path)
        except CorruptionError as error:
            _log.warning("%s; the clock is held against the youngest merge alone", error)
            return None
