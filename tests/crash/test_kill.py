"""kill -9 of writers and of the merger at random moments: every acknowledged record is there, once (P1, P2, P5)."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from support import QUIET
from tally import KILLS, tally

from memstore import MemStore

pytestmark = pytest.mark.first

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = int(os.environ.get("KILL_ROUNDS", "200"))
ROUNDS_PER_STORE = 10
"""A new store every so many rounds: reading everything back after each round stays quick."""
START_WAIT_S = 30.0


class Zygote:
    """The forking helper, its children, and what they have told so far."""

    def __init__(self, script: str = "kill_zygote.py") -> None:
        self._acks, write_end = os.pipe()
        os.set_blocking(self._acks, False)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(HERE), *sys.path])}
        self._process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, script), str(write_end)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[write_end],
            env=environment,
            text=True,
        )
        os.close(write_end)
        self._rest = b""
        self.acked: dict[str, list[str]] = defaultdict(list)
        self.told: dict[str, set[str]] = defaultdict(set)
        self.kills = 0

    def _ask(self, command: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def spawn(self, role: str, seed: int, root: str) -> int:
        return self._ask(f"spawn {role} {seed} {root}")

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        assert self._ask(f"wait {pid}") == -signal.SIGKILL, "it had died of something else; see its traceback above"
        self.kills += 1

    def listen(self, seconds: float) -> bool:
        """Take in what was acknowledged, waiting at most so long for something; whether there was any."""
        if not select.select([self._acks], [], [], max(seconds, 0))[0]:
            return False
        data = self._rest + os.read(self._acks, 1 << 20)
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            word, agent, memory_id = line.decode().split(" ")
            if word == "ack":
                self.acked[agent].append(memory_id)
            else:
                self.told[word].add(memory_id)
        return bool(lines)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        os.close(self._acks)


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


def check(store: MemStore, acked: dict[str, list[str]], told: str) -> None:
    batches: Counter[str] = Counter()
    sizes: dict[str, int] = {}
    for agent in store.agents():
        bot = store.agent(agent)
        found = list(bot.range())
        ids = [record.memory_id for record in found]
        assert ids == sorted(set(ids)), f"{told}: {agent} has doubled or unsorted records"
        missing = set(acked.get(agent, ())) - set(ids)
        assert not missing, f"{told}: {agent} lost {len(missing)} acknowledged records, such as {min(missing)}"
        assert bot.count() == len(ids), told
        assert [record.memory_id for record in bot.recent(30)] == ids[-30:][::-1], told
        for record in found[-3:]:
            assert store.get(record.memory_id) == record, told
        for record in found:
            batches[record.content["batch"]] += 1
            sizes[record.content["batch"]] = record.content["size"]
    torn = {batch: count for batch, count in batches.items() if count != sizes[batch]}
    assert not torn, f"{told}: batches that are neither whole nor absent: {torn}"
    assert set(acked) <= set(store.agents()), told


def play_round(zygote: Zygote, chance: random.Random, root: str) -> None:
    """Two writers and a merger; some are killed and replaced on the way, all at the end."""
    roles = ["writer", "writer", "merger"]
    running = {zygote.spawn(role, chance.randrange(2**40), root): role for role in roles}
    for _ in range(chance.randrange(1, 4)):
        before = sum(map(len, zygote.acked.values()))
        deadline = time.monotonic() + START_WAIT_S
        while sum(map(len, zygote.acked.values())) == before and time.monotonic() < deadline:
            zygote.listen(0.1)
        until = time.monotonic() + chance.random() * 0.08
        while (left := until - time.monotonic()) > 0:
            zygote.listen(left)
        victim = chance.choice(list(running))
        zygote.kill(victim)
        role = running.pop(victim)
        running[zygote.spawn(role, chance.randrange(2**40), root)] = role
    for pid in running:
        zygote.kill(pid)
    while zygote.listen(0):
        pass


@pytest.mark.kill
def test_every_acknowledged_record_is_there_once_after_kill_9(zygote: Zygote, tmp_path: Any) -> None:
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    chance = random.Random(seed)
    root = ""
    kills = 0
    for number in range(ROUNDS):
        told = f"round {number} of KILL_SEED={seed}"
        if number % ROUNDS_PER_STORE == 0:
            if root:
                shutil.rmtree(root)
            root = str(tmp_path / f"store-{number}")
            zygote.acked.clear()
        play_round(zygote, chance, root)
        with MemStore(root, settings=QUIET, read_only=True) as store:
            check(store, zygote.acked, told)
        if chance.random() < 0.3:
            with MemStore(root, settings=QUIET) as store:
                assert store.drain().pending == [], told
                check(store, zygote.acked, f"{told}, drained")
        tally(KILLS, zygote.kills - kills)
        kills = zygote.kills
    assert kills >= 3 * ROUNDS
