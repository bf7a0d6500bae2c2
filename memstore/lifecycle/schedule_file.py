"""SCHEDULE.json: when each job last ran, one checked line that is replaced whole.

Lost without harm: a job whose last run nobody knows runs once more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from memstore.errors import MemstoreError
from memstore.format.checked import decode_checked, encode_checked
from memstore.format.names import StorePaths
from memstore.fs.atomic import replace_file
from memstore.fs.lock import locked
from memstore.fs.storage import Storage

_log = logging.getLogger(__name__)
_KIND = "schedule"
_BYTES_MAX = 1 << 16
"""Some ten jobs take less than 1 KiB."""


class ScheduleFile:
    """The last runs of a store's jobs, of all processes. Thread-safe; never raises: what fails is logged."""

    def __init__(self, storage: Storage, paths: StorePaths) -> None:
        self._storage = storage
        self._path = paths.schedule
        self._shared_lock = paths.lock("store")
        self._lock = threading.Lock()

    def read(self) -> dict[str, int]:
        """Job name to when its last run began, in microseconds; empty where nobody knows."""
        try:
            file = self._storage.open_read(self._path)
            try:
                line = file.read(0, _BYTES_MAX)
            finally:
                file.close()
        except FileNotFoundError:
            return {}
        except MemstoreError as error:
            _log.warning("when the jobs last ran cannot be read, so each runs once: %s", error)
            return {}
        kind, jobs = decode_checked(line.rstrip(b"\n")) or ("", None)
        if kind != _KIND or not isinstance(jobs, Mapping):
            _log.warning("%s does not verify; every job runs once and notes it anew", self._path)
            return {}
        return {name: at_us for name, at_us in jobs.items() if isinstance(at_us, int)}

    def note(self, name: str, at_us: int) -> None:
        """A job has run; what stands there of other jobs stays."""
        try:
            with self._lock, locked(self._storage, self._shared_lock):
                jobs = {**self.read(), name: at_us}
                replace_file(self._storage, self._path, encode_checked(_KIND, jobs))
        except (MemstoreError, OSError) as error:
            _log.warning("%s: that the job %s ran cannot be noted: %s", self._path, name, error)

    def reset_lock(self) -> None:
        """In a forked child."""
        self._lock = threading.Lock()
