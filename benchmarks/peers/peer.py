"""What every peer can be asked, in words that fit all of them."""

from __future__ import annotations

import abc
import importlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any, ClassVar, Literal

from benchmarks.workloads import Memory

Reach = Literal["fsync", "os"]
"""What an acknowledged write has reached: the disk, or the operating system."""
Stored = dict[str, Any]
"""One record with ``memory_id``, ``agent_id`` and ``timestamp_utc`` in place. Ids sort by agent, then by time."""


class MissingPeerError(Exception):
    """A peer is not installed, or does not start; the text says why."""


class UnsupportedError(Exception):
    """A peer has nothing for what it is asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """All of the words, in records of a kind or an agent."""

    words: tuple[str, ...]
    memory_type: str | None = None
    agent_id: str | None = None


class Peer(abc.ABC):
    """One store of one peer, open in a directory of its own. Not thread-safe.

    Attributes:
        name: in the registry.
        packages: distributions that must be installed; the version of the first is the peer's.
        reaches: what an acknowledged write can be made to reach, and the peer's own setting for it, in words.
        searches: how words are found, in words; None: not at all.
        served: a server of the first that opens it; others connect to that while it is open.
        caveat: what a reader of its figures should know.

    Args:
        directory: made if it is not there.
        reach: what an acknowledged write has reached.
        searchable: whether words are to be found; costs writes where an index is kept.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    reaches: ClassVar[dict[Reach, str]]
    searches: ClassVar[str | None] = None
    served: ClassVar[bool] = False
    caveat: ClassVar[str] = ""

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        os.makedirs(directory, exist_ok=True)
        self._directory = directory
        self._reach: Reach = reach
        self._searchable = searchable

    @classmethod
    def version(cls) -> str:
        """Of what is installed.

        Raises:
            MissingPeerError: it is not.
        """
        try:
            return next(iter([version(package) for package in cls.packages]), "")
        except PackageNotFoundError as error:
            raise MissingPeerError(f"{error.name} is not installed") from error

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be measured here, or None."""
        try:
            cls.version()
        except MissingPeerError as error:
            return str(error)
        return None

    @staticmethod
    def form(memories: Sequence[Memory]) -> list[Stored]:
        """Records as who uses this peer has them: made before the clock runs."""
        return [memory.stored for memory in memories]

    @abc.abstractmethod
    def write(self, records: Sequence[Stored]) -> Sequence[str]:
        """Write records as one unit, or as few as the peer can; back when they have reached what was asked.

        Returns:
            Their ids, by which they can be got.
        """

    @abc.abstractmethod
    def get(self, memory_id: str) -> Any:
        """One record, decoded: by memstore's decoder where the peer keeps lines, else by its own; None: not there.

        Raises:
            UnsupportedError: there is no look-up by id.
        """

    @abc.abstractmethod
    def recent(self, agent_id: str, limit: int) -> Sequence[Any]:
        """An agent's newest records, the newest first, decoded.

        Raises:
            UnsupportedError: there is no such question.
        """

    def search(self, question: Question, limit: int) -> Sequence[Any]:  # noqa: ARG002 - for those who can
        """Records in which all words occur, the best or the first so many, decoded.

        Raises:
            UnsupportedError: words are not searched for.
        """
        raise UnsupportedError("it does not search for words")

    @abc.abstractmethod
    def count(self) -> int:
        """How many records there are."""

    def settle(self) -> None:  # noqa: B027 - most have nothing to do
        """Do what the peer does later: checkpoints, merges, statistics."""

    def bytes_on_disk(self) -> int:
        """Of the directory, in blocks, as ``du`` counts."""
        return blocks(self._directory)

    @abc.abstractmethod
    def close(self) -> None:
        """Close it; a server is stopped by who started it."""

    def fill(self, batches: Iterable[list[Memory]]) -> float:
        """Write batches of records that may come again and again, each time under new ids.

        Returns:
            Seconds of writing; making the new ids is not counted.
        """
        taken = 0.0
        for number, batch in enumerate(batches):
            tail = f"{number:010x}"
            records = [{**memory.stored, "memory_id": memory.stored["memory_id"] + tail} for memory in batch]
            began = perf_counter()
            self.write(records)
            taken += perf_counter() - began
        return taken


def blocks(directory: str) -> int:
    """Bytes that a directory takes on disk: 512 for each block of its files and directories."""
    total = 0
    for place, _, names in os.walk(directory):
        for path in (place, *(os.path.join(place, name) for name in names)):
            total += os.lstat(path).st_blocks * 512
    return total


def load(module: str) -> Any:
    """A module that may not be installed, without types.

    Raises:
        MissingPeerError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPeerError(f"{module} cannot be imported: {error}") from error


def agent_of(memory_id: str) -> str:
    """Whose record an id is: what stands before date, time and suffix."""
    return memory_id.rsplit("_", 3)[0]
