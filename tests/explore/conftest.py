from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field

import pytest

from memstore import MemStore
from memstore.explore.asking import Asking
from memstore.explore.conversation import Conversation, Place
from memstore.explore.hits_view import Look
from memstore.explore.session import FACETS


def fill(store: MemStore) -> list[str]:
    """A little of everything, on 40 days of 2025."""
    ids = store.append_many(
        {
            "agent_id": f"bdi_{number % 3}",
            "memory_type": "ERROR" if number % 4 == 0 else "INTERACTION",
            "importance": "HIGH" if number % 5 == 0 else "MEDIUM",
            "input": {"content": f"Analyze the market, part {number}"},
            "response": {
                "content": "a timeout" if number % 2 else "all is well",
                "success": number % 2 == 0,
                "processing_time_ms": float(number),
            },
            "tags": ["market", "even" if number % 2 == 0 else "odd"],
            "context": {"session_id": f"s{number % 2}", "user_id": number % 7},
            "timestamp_utc": f"2025-01-{number + 1:02d}T12:00:00Z"
            if number < 31
            else f"2025-02-{number - 30:02d}T12:00:00Z",
        }
        for number in range(40)
    )
    child = store.append(
        agent_id="bdi_0", content="what followed", parent=ids[0], timestamp="2025-01-01T12:00:01Z", memory_type="PLAN"
    )
    return [*ids, child]


@pytest.fixture
def root(tmp_path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def store(root):
    settings = {"merging.background": False, "storage.ballast_bytes": 0, "search.background": False}
    with MemStore(root, durability="os", settings=settings) as opened:
        yield opened


@pytest.fixture
def ids(store) -> list[str]:
    found = fill(store)
    store.index()
    return found


@dataclass
class FakeScreen:
    """Remembers what was drawn, as text."""

    directory: str
    width: int = 100
    lines: list[str] = field(default_factory=list)
    unicode: bool = True

    def show(self, *drawn) -> None:
        self.lines += [line for each in drawn for line in str(each).split("\n")]

    def look(self) -> Look:
        return Look(self.width, styled=False, is_unicode=self.unicode)

    def height(self) -> int:
        return 40

    def rows(self, columns, rows) -> None:
        self.lines += ["\t".join(columns), *("\t".join(str(row[name]) for name in columns) for row in rows)]

    @contextlib.contextmanager
    def file(self, path):
        with open(os.path.join(self.directory, path), "wb") as out:
            yield out

    def take(self) -> str:
        """What was drawn since the last call."""
        text, self.lines = "\n".join(self.lines), []
        return text


@pytest.fixture
def screen(tmp_path) -> FakeScreen:
    return FakeScreen(str(tmp_path))


@pytest.fixture
def talk(store, ids, screen):
    """A conversation that says what is typed to it shows."""
    made = Conversation(store, screen, Place(store.root), Asking(limit=5, facets=FACETS))

    def say(text: str) -> str:
        assert made.answer(text), "it went on"
        return screen.take()

    say.of = made
    yield say
    for thread in threading.enumerate():
        if thread.name in ("memstore-names", "memstore-question"):
            thread.join(30)
