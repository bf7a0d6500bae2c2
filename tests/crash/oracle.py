"""What a store must hold after anything that can happen to it: a journal of what was asked, and the comparison.

The `Journal` watches an engine from above: which lines were handed to it, and what it answered. What it has
acknowledged must be there, byte for byte; what it refused must not; where it did not answer before the power went,
either may be, but a batch is all there or not at all. `check` compares an engine with it, and from then on an answer
that was open is settled: what a machine finds when it is on again is on its disk, and stays as it is.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from memstore.engine.batch import Batch, Ticket
from memstore.engine.engine import Engine
from memstore.errors import WriterBrokenError
from memstore.filters import build_filter
from memstore.ids import parse_id
from memstore.testing.crashing import PowerCut

EVERYTHING = build_filter(now_us=0)


@dataclass(slots=True)
class Entry:
    """One record.

    Attributes:
        memory_id: its id.
        agent: whose.
        lines: what may stand for it, without line breaks; more than one if it was imported again with other fields.
        there: whether it must be there (True), must not (False), or may (None).
        hidden: somebody asked to forget or to erase it, so that its batch need not be whole any more.
        erased: an erasure of it was acknowledged: no byte of it may be left.
        again: it was handed in more than once, so that its batches need not be whole.
        doomed: an erasure was begun that has not ended: it may go at any time.
    """

    memory_id: str
    agent: str
    lines: set[bytes]
    there: bool | None = None
    hidden: bool = False
    erased: bool = False
    again: bool = False
    doomed: bool = False


@dataclass(slots=True)
class Attempt:
    """One batch: its new records, and what the engine answered."""

    entries: list[Entry]
    answer: str = "none"


@dataclass(slots=True)
class Journal:
    """What was asked of a store through all its engines, processes and crashes. Thread-safe.

    Attributes:
        entries: every record that was ever handed to an engine, by id.
        attempts: the batches, in the order of their submission.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: list[_WatchedTicket] = field(default_factory=list)
    _off: bool = False

    def copy(self) -> Journal:
        """What is known now, for another future of the same machine; nobody may be waiting for an answer."""
        assert not self._waiting
        entries = {memory_id: replace(entry, lines=set(entry.lines)) for memory_id, entry in self.entries.items()}
        attempts = [Attempt([entries[e.memory_id] for e in a.entries], a.answer) for a in self.attempts]
        return Journal(entries, attempts)

    # -- watching

    def watch(self, engine: Engine) -> Engine:
        """Note what is appended through an engine from now on."""
        submit = engine.submit

        def watched(batch: Batch, *, wait_for_room: bool) -> None:
            ticket = _WatchedTicket(self, self._attempt(batch), batch.ticket)
            batch.ticket = ticket
            with self._lock:
                self._waiting.append(ticket)
            try:
                submit(batch, wait_for_room=wait_for_room)
            except Exception as error:
                self.answer(ticket, error)
                if self._off:
                    raise PowerCut("the power is off") from error
                raise
            if self._off:  # perhaps nobody takes it any more
                ticket.settle(PowerCut("the power is off"))

        engine.submit = watched  # type: ignore[method-assign]
        return engine

    def power_cut(self) -> None:
        """Nobody answers any more: whoever waits, now or later, gets a `PowerCut`. For ``Power.on_cut``."""
        with self._lock:
            self._off = True
            waiting = list(self._waiting)
        for ticket in waiting:
            ticket.settle(PowerCut("the power went before the answer"))

    def power_on(self) -> None:
        """The machine starts again."""
        with self._lock:
            self._off = False

    def answer(self, ticket: _WatchedTicket, error: BaseException | None) -> bool:
        """Note how a batch ended; whether this was its first answer."""
        with self._lock:
            if ticket not in self._waiting:
                return False
            self._waiting.remove(ticket)
            attempt = ticket.attempt
            if error is None:
                attempt.answer = "acknowledged"
            elif isinstance(error, (PowerCut, WriterBrokenError)) or "committer failed" in str(error):
                attempt.answer = "unknown"
            else:
                attempt.answer = "refused"
            for entry in attempt.entries:
                entry.there = {"acknowledged": True, "refused": False, "unknown": None}[attempt.answer]
            return True

    def _attempt(self, batch: Batch) -> Attempt:
        attempt = Attempt([])
        with self._lock:
            self.attempts.append(attempt)
            for (agent, _), lines in batch.groups.items():
                for line in lines:
                    memory_id = memory_id_of(line)
                    assert parse_id(memory_id).agent_id == agent
                    known = self.entries.get(memory_id)
                    assert known is None or known.there is not True or known.hidden, f"{memory_id} was given out twice"
                    entry = known or Entry(memory_id, agent, set())
                    entry.again = known is not None
                    entry.lines.add(line.rstrip(b"\n"))
                    self.entries[memory_id] = entry
                    attempt.entries.append(entry)
        return attempt

    # -- forgetting

    @contextmanager
    def forgetting(self, ids: Iterable[str]) -> Iterator[None]:
        """Around a call that hides records: if it returns they are gone, if it raises they may be."""
        return self._removing(ids, erasing=False)

    @contextmanager
    def erasing(self, ids: Iterable[str]) -> Iterator[None]:
        """Around a call that erases records for good; see `traces`."""
        return self._removing(ids, erasing=True)

    @contextmanager
    def restoring(self, ids: Iterable[str]) -> Iterator[None]:
        """Around a call that takes records back that were forgotten: if it returns they are there again."""
        entries = [e for e in self._of(ids) if not e.erased and e.there is not True]
        for entry in entries:
            entry.there = None
        yield
        for entry in entries:
            entry.there = True

    def may_go(self, ids: Iterable[str]) -> None:
        """From now on these may be there or not, until a machine is found with or without them."""
        for entry in self._of(ids):
            entry.hidden = True
            entry.there = None if entry.there else entry.there

    def begun_to_erase(self, ids: Iterable[str]) -> None:
        """An erasure of these did not end, or left something pending: they go sooner or later."""
        self.may_go(ids)
        for entry in self._of(ids):
            entry.doomed = True

    def _removing(self, ids: Iterable[str], *, erasing: bool) -> Iterator[None]:
        entries = self._of(ids)
        for entry in entries:
            entry.hidden = True
            if entry.there:
                entry.there = None
        yield
        for entry in entries:
            entry.there = False
            entry.erased |= erasing

    def _of(self, ids: Iterable[str]) -> list[Entry]:
        with self._lock:
            return [self.entries[memory_id] for memory_id in ids]

    # -- asking

    def agents(self) -> list[str]:
        """Every agent that a record was ever handed in for."""
        with self._lock:
            return sorted({entry.agent for entry in self.entries.values()})

    def ids(self, agent: str | None = None) -> list[str]:
        """Ids of the records that must be there."""
        with self._lock:
            return [e.memory_id for e in self.entries.values() if e.there and agent in {None, e.agent}]

    def acknowledged(self) -> int:
        """How many batches were acknowledged."""
        return sum(attempt.answer == "acknowledged" for attempt in self.attempts)


class _WatchedTicket:
    """Answers once, whoever comes first: the committer or the power cut."""

    def __init__(self, journal: Journal, attempt: Attempt, ticket: Ticket) -> None:
        self.attempt = attempt
        self._journal = journal
        self._ticket = ticket

    def settle(self, error: Any) -> None:
        if self._journal.answer(self, error):
            self._ticket.settle(error)


def memory_id_of(line: bytes) -> str:
    """The id that a record line begins with; ids of tests need no escapes."""
    start = len(b'{"memory_id":"')
    return line[start : line.index(b'"', start)].decode()


def check(engine: Engine, journal: Journal, *, settle: bool = True, every_way: bool = True) -> None:
    """Compare what an engine answers with what it was asked.

    Every acknowledged record is there, byte for byte, once, in order, by every way to ask; none that was refused,
    forgotten or never handed in; batches without an answer are there wholly or not at all; no damage is known.

    Args:
        engine: opened on what is left of the store.
        journal: what was asked of it.
        settle: what has no answer is as it is found, from now on. Not where caches hold what no disk does.
        every_way: ask in every way; otherwise in one, which takes a tenth of the time.

    Raises:
        AssertionError: it is not so.
    """
    damage = engine.inventory.damage()
    assert not damage, f"damage: {damage}"
    found: dict[str, bytes] = {}
    for agent in sorted({*journal.agents(), *engine.inventory.agents()}):
        found.update(_read_agent(engine, agent, every_way=every_way))
    for memory_id, line in found.items():
        entry = journal.entries.get(memory_id)
        assert entry is not None, f"nobody ever handed in {memory_id}"
        assert line in entry.lines, f"{memory_id} is not what was handed in: {line[:200]!r}"
        assert entry.there is not False, f"{memory_id} must not be there: refused, forgotten or once found missing"
    lost = [e.memory_id for e in journal.entries.values() if e.there and e.memory_id not in found]
    assert not lost, f"{len(lost)} acknowledged record(s) are lost: {lost[:5]}"
    for attempt in journal.attempts:
        there = {entry.memory_id in found for entry in attempt.entries if not (entry.hidden or entry.again)}
        assert len(there) <= 1, f"half a batch: {[(e.memory_id, e.memory_id in found) for e in attempt.entries]}"
    if every_way:
        _check_by_id(engine, journal, found)
    if settle:
        for entry in journal.entries.values():
            entry.there = entry.memory_id in found
            if entry.there and entry.doomed:
                entry.there = None


def _read_agent(engine: Engine, agent: str, *, every_way: bool) -> dict[str, bytes]:
    up = [line for line, _ in engine.reader.lines(agent, EVERYTHING, newest_first=False, on_damage="raise")]
    ids = [memory_id_of(line) for line in up]
    twice = [memory_id for memory_id, count in Counter(ids).items() if count > 1]
    assert not twice, f"twice: {twice[:5]}"
    assert up == sorted(up), f"{agent}: out of order"
    if not every_way:
        return dict(zip(ids, up, strict=True))
    down = [line for line, _ in engine.reader.lines(agent, EVERYTHING, newest_first=True, on_damage="raise")]
    assert down == up[::-1], f"{agent}: newest first is not oldest first turned round"
    recent = engine.reader.recent(agent, len(up) + 1, EVERYTHING, on_damage="raise")
    assert [record.memory_id for record in recent] == ids[::-1], f"{agent}: recent"
    assert engine.reader.count(agent, EVERYTHING, on_damage="raise") == len(up), f"{agent}: count"
    return dict(zip(ids, up, strict=True))


def _check_by_id(engine: Engine, journal: Journal, found: Mapping[str, bytes]) -> None:
    for memory_id in list(journal.entries)[:: max(len(journal.entries) // 20, 1)]:
        assert engine.reader.get_line(memory_id) == found.get(memory_id), f"{memory_id}: get"
    ids = list(journal.entries)
    assert engine.reader.get_lines(ids) == [found.get(memory_id) for memory_id in ids], "get_many"


def traces(
    files: Mapping[str, bytes], journal: Journal, *, unpack: Callable[[str, bytes], bytes] = lambda _, data: data
) -> list[tuple[str, str]]:
    """Path and id wherever the id of an erased record can still be read.

    Args:
        files: every file of the store (`CrashingStorage.files`).
        journal: what was erased.
        unpack: content of a file as text, for those that are compressed.
    """
    erased = [entry.memory_id for entry in journal.entries.values() if entry.erased]
    texts = {path: unpack(path, data) for path, data in files.items()} if erased else {}
    return [(path, memory_id) for path, text in texts.items() for memory_id in erased if memory_id.encode() in text]
