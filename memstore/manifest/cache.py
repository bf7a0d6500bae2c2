"""MANIFESTs kept in memory, within a budget, each validated by the identity of its path before it is used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from memstore.fs.storage import Storage
from memstore.manifest.index import Manifest
from memstore.manifest.reader import load_manifest
from memstore.manifest.torn import TornTail, lost_lines, torn_tail


class ManifestCache:
    """By agent directory, least recently used first out. Thread-safe.

    Args:
        storage: where they lie.
        bytes_max: budget.
        on_change: told what a MANIFEST said before and what it says now, None where it is gone.
    """

    def __init__(
        self, storage: Storage, *, bytes_max: int, on_change: Callable[[Manifest, Manifest | None], None] | None = None
    ) -> None:
        self._storage = storage
        self._on_change = on_change
        self._bytes_max = bytes_max
        self._entries: OrderedDict[str, tuple[Manifest, int]] = OrderedDict()
        self._bytes = 0
        self._ends_seen: dict[str, bytes] = {}
        """Headers of MANIFESTs whose ends were compared with the files beside them."""
        self._lock = threading.Lock()

    def get(self, directory: str) -> Manifest | None:
        """The agent's MANIFEST as it stands now, or None where there is none."""
        with self._lock:
            entry = self._entries.get(directory)
            known = None if entry is None else entry[0]
            if known is not None:
                self._entries.move_to_end(directory)
        if known is not None:
            identity = self._storage.identify(known.path)
            if identity is not None and known.stands_at(identity):
                return known
        manifest = load_manifest(self._storage, directory, known)
        if known is not None and manifest is not known and self._on_change is not None:
            self._on_change(known, manifest)
        with self._lock:
            self._forget(directory)
            if known is not None and (manifest is None or manifest.end < known.end):
                self._ends_seen.pop(directory, None)
            if manifest is not None:
                cost = manifest.memory_bytes
                self._entries[directory] = (manifest, cost)
                self._bytes += cost
                while self._bytes > self._bytes_max and len(self._entries) > 1:
                    evicted, (_, freed) = self._entries.popitem(last=False)
                    self._ends_seen.pop(evicted, None)
                    self._bytes -= freed
                if len(self._entries) == 1:
                    self._bytes = cost  # whatever Ctrl-C left uncounted
        return manifest

    def torn_tail(self, directory: str, manifest: Manifest | None) -> TornTail | None:
        """What stands behind the last whole line of ``manifest``, as `get` gave it; None where nothing does."""
        if manifest is not None and manifest.end >= manifest.identity.size_bytes:
            return None
        return torn_tail(self._storage, directory, manifest)

    def lost_lines(self, directory: str, manifest: Manifest) -> TornTail | None:
        """What tells that whole lines are missing at the end of ``manifest``; looked for until nothing does, once."""
        if self._ends_seen.get(directory) == manifest.header:
            return None
        found = lost_lines(self._storage, directory, manifest)
        if found is None:
            with self._lock:
                if directory in self._entries:
                    self._ends_seen[directory] = manifest.header
        return found

    @property
    def memory_bytes(self) -> int:
        """Estimate of what all of them cost."""
        return self._bytes

    def clear(self) -> None:
        """Forget all; a new lock too, for a forked child may have inherited a held one."""
        self._lock = threading.Lock()
        self._entries = OrderedDict()
        self._ends_seen = {}
        self._bytes = 0

    def _forget(self, directory: str) -> None:
        entry = self._entries.pop(directory, None)
        if entry is not None:
            self._bytes -= entry[1]
