"""Ctrl-C at any moment, and the program goes on: what a notebook is (P1, P3).

KeyboardInterrupt comes between any two instructions of the main thread, inside locks and waits too. None of ours may be
left taken, or the next call would wait for ever; and nothing that is kept in memory may be left half changed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interrupting import Interrupter
from support import TINY
from tally import INTERRUPTS, tally

from memstore import MemStore

spawn = multiprocessing.get_context("spawn")
SECONDS = 4
BETWEEN_INTERRUPTS_S = 0.003
AGENTS = 5
FDS_MAX = 64
INTERRUPTED_PLACES = int(os.environ.get("INTERRUPTS", "60"))


class Notebook:
    """A program whose handler raises only while it is in a cell."""

    def __init__(self, root: str, acknowledged: str) -> None:
        self.in_cell = False
        self.interrupted = 0
        self.store = MemStore(root, settings=TINY)
        self.store.search("", limit=1)  # imports what searches; Python's own import does not survive every interrupt
        self.acknowledged = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.next = 0
        self.rng = random.Random(1)
        signal.signal(signal.SIGINT, self.on_interrupt)
        sys.unraisablehook = lambda _: None  # one that comes inside a __del__ is told there and dropped

    def on_interrupt(self, *_: Any) -> None:
        if self.in_cell:
            raise KeyboardInterrupt

    def run(self, end_s: float) -> None:
        while time.monotonic() < end_s:
            try:
                self.in_cell = True
                while time.monotonic() < end_s:
                    self.cell()
                self.in_cell = False
            except KeyboardInterrupt:
                self.in_cell = False
                self.interrupted += 1

    def cell(self) -> None:
        kind = self.rng.random()
        first, count = self.next, 20 if kind < 0.1 else 1
        self.next += count
        agent = f"bot{first % AGENTS}"
        if kind < 0.1:
            self.store.append_many({"agent_id": agent, "content": first + i} for i in range(count))
        elif kind < 0.7:
            self.store.append(agent_id=agent, content=first)
        elif kind < 0.9:
            self.store.agent(agent).recent(20)
        else:
            self.store.search("", limit=3)
        if kind < 0.7:
            os.write(self.acknowledged, b"".join(b"%d\n" % (first + i) for i in range(count)))


def be_interrupted(root: str, acknowledged: str, ready: Any, told: Any) -> None:
    notebook = Notebook(root, acknowledged)
    ready.set()
    notebook.run(time.monotonic() + SECONDS)
    store = notebook.store
    store.append(agent_id="bot0", content=-1)  # what is still under way is done before
    agents = store.agents()
    searched = [store.search("", agent=agent, limit=1).total for agent in agents]
    read = [sum(1 for _ in store.agent(agent).range()) for agent in agents]
    store.close()
    told.put((notebook.interrupted, len(os.listdir("/proc/self/fd")), threading.active_count(), searched, read))


@pytest.mark.kill
def test_ctrl_c_at_any_moment_loses_nothing_leaves_no_lock_taken_and_no_file_open(tmp_path: Path) -> None:
    root, acknowledged = str(tmp_path / "store"), tmp_path / "acknowledged"
    ready, told = spawn.Event(), spawn.SimpleQueue()
    process = spawn.Process(target=be_interrupted, args=(root, str(acknowledged), ready, told))
    process.start()
    assert ready.wait(60)
    rng, end_s = random.Random(2), time.monotonic() + SECONDS
    while time.monotonic() < end_s and process.is_alive():
        time.sleep(rng.expovariate(1 / BETWEEN_INTERRUPTS_S))
        os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 0, "it hangs, or a call failed: its traceback is above"
    interrupted, descriptors, threads, searched, read = told.get()
    assert interrupted > 10
    assert descriptors < FDS_MAX
    assert threads <= 3
    tally(INTERRUPTS, interrupted)
    with MemStore(root) as store:
        by_agent = [[record.content for record in store.agent(agent).range()] for agent in store.agents()]
    assert searched == read == list(map(len, by_agent)), "what it found, what it read, and what another process reads"
    found = [content for contents in by_agent for content in contents]
    assert len(found) == len(set(found)), "a record is there twice"
    lost = {int(line) for line in acknowledged.read_text().split()} - set(found)
    assert not lost, "acknowledged and not there"


class Watched:
    """A store of one agent, and what was written to it."""

    def __init__(self, root: str) -> None:
        self.store = MemStore(root, settings=TINY)
        self.bot = self.store.agent("bot")
        self.attempted: list[int] = []
        self.acknowledged: set[int] = set()
        for _ in range(3):
            self.append_many()

    def append(self) -> None:
        self.attempted.append(len(self.attempted))
        self.bot.append(content=self.attempted[-1])
        self.acknowledged.add(self.attempted[-1])

    def append_many(self) -> None:
        first = len(self.attempted)
        batch = range(first, first + 5)
        self.attempted.extend(batch)
        self.bot.append_many({"content": number} for number in batch)
        self.acknowledged.update(batch)

    def somebody_else_writes(self) -> None:
        first = len(self.attempted)
        batch = range(first, first + 5)
        self.attempted.extend(batch)
        with MemStore(self.store.root, settings=TINY) as other:
            other.agent("bot").append_many({"content": number} for number in batch)
        self.acknowledged.update(batch)

    def look(self) -> None:
        self.append()  # behind whatever an interrupted one has left in the queue
        read = [record.content for record in self.bot.range()]
        assert self.acknowledged <= set(read) <= set(self.attempted)
        assert max(Counter(read).values()) == 1
        assert self.store.search("", limit=1).total == len(read)
        assert [record.content for record in self.bot.recent(5)] == read[:-6:-1]


CALLS: dict[str, Callable[[Watched], Any]] = {
    "append": Watched.append,
    "append_many": Watched.append_many,
    "recent": lambda watched: watched.bot.recent(10),
    "range": lambda watched: list(watched.bot.range()),
    "search": lambda watched: watched.store.search("", limit=3),
    "aggregate": lambda watched: watched.store.aggregate(by=["agent"]),
    "index": lambda watched: watched.store.index(),
    "drain": lambda watched: watched.store.drain(),
    "stats": lambda watched: watched.store.stats(),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one in a callback of the collector
@pytest.mark.parametrize("called", CALLS)
def test_call_that_is_interrupted_anywhere_leaves_nothing_half_done(tmp_path: Path, called: str) -> None:
    call = CALLS[called]
    watched = Watched(str(tmp_path / "store"))
    watched.look()
    counting = Interrupter()
    watched.somebody_else_writes()
    counting.run(lambda: call(watched))
    rng = random.Random(called)
    interrupted = 0
    for _ in range(INTERRUPTED_PLACES):
        watched.somebody_else_writes()
        interrupted += Interrupter(rng.randint(1, counting.passed)).run(lambda: call(watched))
        watched.look()
    watched.store.close()
    assert interrupted > INTERRUPTED_PLACES / 3
    tally(INTERRUPTS, interrupted)
