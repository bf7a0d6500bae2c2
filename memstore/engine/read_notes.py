"""When each file was last read, for the lifecycle: kept in memory, flushed lazily, lost without harm.

A file for each agent, ``reads/<agent directory>``, one checked line, replaced without a sync. Whoever writes last wins;
a note that is lost means that a file may go down a tier a day early.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping

import msgspec

from memstore.clock import Clock
from memstore.errors import StorageError
from memstore.format.checked import encode_checked, verified_body
from memstore.format.names import StorePaths
from memstore.fs.atomic import make_directories, read_file, temporary_path, try_unlink
from memstore.fs.storage import Storage
from memstore.ids import agent_directory
from memstore.timestamps import US_PER_DAY

_log = logging.getLogger(__name__)
FLUSH_AFTER_S = 60.0
"""How long a note stays in memory at most while reads go on."""
KEPT_DAYS = 400
"""Notes older than this say nothing that a policy asks for, and go at the next flush."""


class _ReadLine(msgspec.Struct):
    read: dict[str, int]


_decoder = msgspec.json.Decoder(_ReadLine)


class ReadNotes:
    """Thread-safe."""

    def __init__(self, storage: Storage, paths: StorePaths, *, clock: Clock) -> None:
        self._storage = storage
        self._paths = paths
        self._clock = clock
        self._lock = threading.Lock()
        self._notes: dict[tuple[str, str], int] = {}
        self._flushed_s = clock.monotonic_s()

    def note(self, agent: str, file: str) -> None:
        """A file of an agent was read just now."""
        key = (agent, file)
        if key not in self._notes:
            with self._lock:
                self._notes[key] = self._clock.now_us()
            if self._clock.monotonic_s() - self._flushed_s >= FLUSH_AFTER_S:
                self.flush()

    def flush(self) -> None:
        """Write what was noted; a disk that refuses is logged and nothing more."""
        with self._lock:
            notes, self._notes = self._notes, {}
            self._flushed_s = self._clock.monotonic_s()
        by_agent: dict[str, dict[str, int]] = {}
        for (agent, file), at in notes.items():
            by_agent.setdefault(agent, {})[file] = at
        try:
            if by_agent:
                make_directories(self._storage, self._paths.reads)
            for agent, read in by_agent.items():
                self._write(agent, read)
        except (StorageError, FileNotFoundError, FileExistsError) as error:
            _log.info("notes of what was read are lost, which does no harm: %s", error)

    def of(self, agent: str) -> Mapping[str, int]:
        """When each file of an agent was last read, microseconds, by name."""
        data = read_file(self._storage, self._path(agent))
        body = None if data is None else verified_body(data.rstrip(b"\n"))
        try:
            return {} if body is None else _decoder.decode(body).read
        except msgspec.DecodeError:
            return {}

    def forget(self, agent: str) -> None:
        """Drop what is known of an agent that is erased."""
        with self._lock:
            self._notes = {key: at for key, at in self._notes.items() if key[0] != agent}
        try_unlink(self._storage, self._path(agent))

    def reset(self) -> None:
        """In a forked child: the parent's notes are the parent's."""
        self._lock = threading.Lock()
        self._notes = {}

    def _path(self, agent: str) -> str:
        return os.path.join(self._paths.reads, agent_directory(agent))

    def _write(self, agent: str, read: Mapping[str, int]) -> None:
        oldest = self._clock.now_us() - KEPT_DAYS * US_PER_DAY
        merged = {file: at for file, at in {**self.of(agent), **read}.items() if at >= oldest}
        temporary = temporary_path(self._paths.reads)
        file = self._storage.create(temporary)
        try:
            file.write(encode_checked("read", merged), 0)
        finally:
            file.close()
        self._storage.rename(temporary, self._path(agent))
