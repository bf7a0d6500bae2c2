"""Let tantivy write to a simulated disk.

tantivy opens its files itself, so it is given a real directory. What it has done there is repeated on the simulated
disk before the next call that looks at the index, one call after the other, in the order in which tantivy promises to
do it and with its syncs: a segment's files, each synced; the list of what it owns; the directory; then ``meta.json``,
synced, and renamed into place; what is not needed any more goes last. So the power can go at any call of a commit, and
what was not synced may be lost. What the store removes is removed from both.

The names of tantivy's files are drawn by itself: a story with an index is replayed but for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import tantivy

from memstore.testing.crashing import CrashingStorage
from memstore.testing.faulty import Fault, FaultyStorage

META = "meta.json"
OWNED = ".managed.json"
"""tantivy's list of the files that it may remove."""
OF_OPEN_FILES = frozenset(
    {"read", "write", "truncate", "identity", "size_bytes", "sync_data", "sync_file_system", "try_lock"}
)
"""Calls that name no file, but have one open."""
MEMORY = "/dev/shm"
Stamp = tuple[int, int, int]
_called = threading.local()


class TantivyDisk(FaultyStorage):
    """A `CrashingStorage` as the engines and tantivy see it. Thread-safe.

    Args:
        inner: what is there, and what the power takes.
        below: the directory of the partitions.
    """

    def __init__(self, inner: CrashingStorage, below: str) -> None:
        super().__init__(inner)
        self.inner = inner
        self._below = below
        self._catching_up = threading.RLock()
        self._real = tempfile.mkdtemp(prefix="tantivy-", dir=MEMORY if os.path.isdir(MEMORY) else None)
        self._known: dict[str, dict[str, Stamp]] = {}
        weakref.finalize(self, shutil.rmtree, self._real, ignore_errors=True)
        if inner.power.on and inner.exists(below):
            self._lay_out()

    def real(self, path: str) -> str:
        """Where tantivy finds what the store calls so."""
        return self._real + path.removeprefix(self._below)

    # -- what tantivy has done

    def _lay_out(self) -> None:
        """What the machine has found is what tantivy finds."""
        for entry in self.inner.list_directory(self._below):
            os.mkdir(self.real(f"{self._below}/{entry.name}"))
        for path, data in self.inner.files(self._below).items():
            with open(self.real(path), "wb") as file:
                file.write(data)
        for entry in self.inner.list_directory(self._below):
            self._known[entry.name] = self._stamps(entry.name)

    def _stamps(self, directory: str) -> dict[str, Stamp]:
        found = {}
        for name in os.listdir(f"{self._real}/{directory}"):
            if not name.endswith(".lock") and not name.startswith(".tmp"):
                with contextlib.suppress(FileNotFoundError):  # a merge has just ended
                    at = os.stat(f"{self._real}/{directory}/{name}")
                    found[name] = (at.st_mtime_ns, at.st_size, at.st_ino)
        return found

    def _catch_up(self, path: str) -> None:
        if path != self._below and not path.startswith(f"{self._below}/"):
            return
        with self._catching_up:
            for directory in list(self._known):
                self._repeat(directory)

    def _repeat(self, directory: str) -> None:
        known = self._known[directory]
        try:
            there, content = self._look_at(directory)
        except FileNotFoundError:
            return
        changed = list(content)
        gone = [name for name in known if name not in there]
        if not changed and not gone:
            return
        top = f"{self._below}/{directory}"
        segments = sorted((name for name in changed if name not in (META, OWNED)), key=lambda name: there[name])
        if segments and OWNED in there:
            owned = {*json.loads(content.get(OWNED, b"[]")), *gone} - {OWNED}  # as it was while what is gone was there
            self._replace(f"{top}/{OWNED}", json.dumps(sorted(owned)).encode())
        for name in segments:
            self._write(f"{top}/{name}", content[name])
            known[name] = there[name]
        if META in changed:
            self.inner.sync_directory(top)
            self._replace(f"{top}/{META}", content[META])
            known[META] = there[META]
        for name in gone:
            if self.inner.exists(f"{top}/{name}"):
                self.inner.unlink(f"{top}/{name}")
            del known[name]
        if gone:
            self.inner.sync_directory(top)
        if OWNED in changed:
            self._replace(f"{top}/{OWNED}", content[OWNED])
            known[OWNED] = there[OWNED]

    def _look_at(self, directory: str) -> tuple[dict[str, Stamp], dict[str, bytes]]:
        """What is there, and what is in those files that have changed; of one moment between tantivy's merges."""
        known = self._known[directory]
        while True:
            there = self._stamps(directory)
            content = {}
            with contextlib.suppress(FileNotFoundError):
                for name, stamp in there.items():
                    if known.get(name) != stamp:
                        with open(f"{self._real}/{directory}/{name}", "rb") as file:
                            content[name] = file.read()
                if self._stamps(directory) == there:
                    return there, content

    def _write(self, path: str, data: bytes) -> None:
        if self.inner.exists(path):  # it could not be written whole, or synced
            self.inner.unlink(path)
        file = self.inner.create(path)
        try:
            file.write(data, 0)
            file.sync_data()
        finally:
            file.close()

    def _replace(self, path: str, data: bytes) -> None:
        temporary = os.path.join(os.path.dirname(path), ".tmptantivy")
        self._write(temporary, data)
        self.inner.rename(temporary, path)

    # -- the storage protocol

    def strike(self, kind: str, path: str) -> Fault | None:
        """Before each call for a name: whose disk tantivy is given next, and what it has done there meanwhile."""
        if kind not in OF_OPEN_FILES:
            _called.disk = self
            self._catch_up(path)
        return super().strike(kind, path)

    def make_directory(self, path: str) -> None:
        super().make_directory(path)
        if os.path.dirname(path) == self._below:
            os.mkdir(self.real(path))
            self._known[os.path.basename(path)] = {}

    def unlink(self, path: str) -> None:
        super().unlink(path)
        directory, name = os.path.split(path)
        if os.path.dirname(directory) == self._below:
            with self._catching_up:
                self._known[os.path.basename(directory)].pop(name, None)
                os.unlink(self.real(path))

    def remove_directory(self, path: str) -> None:
        super().remove_directory(path)
        if os.path.dirname(path) == self._below:
            with self._catching_up:
                del self._known[os.path.basename(path)]
                shutil.rmtree(self.real(path))


class TantivyDisks:
    """What a `Machine` wraps its disk in: one view of each, shared by all its processes.

    Args:
        below: the directory of the partitions.
    """

    def __init__(self, below: str) -> None:
        self._below = below
        self._view: TantivyDisk | None = None

    def __call__(self, storage: CrashingStorage) -> TantivyDisk:
        if self._view is None or self._view.inner is not storage:
            self._view = TantivyDisk(storage, self._below)
        return self._view


class _Index:
    """``tantivy.Index``, of a directory of the disk that this thread has just called."""

    def __call__(self, schema: tantivy.Schema, path: str) -> tantivy.Index:
        return tantivy.Index(schema, path=_called.disk.real(path))

    @staticmethod
    def open(path: str) -> tantivy.Index:
        """An index that is there."""
        return tantivy.Index.open(_called.disk.real(path))


class _Tantivy:
    Index = _Index()

    def __getattr__(self, name: str) -> Any:
        return getattr(tantivy, name)


@contextmanager
def tantivy_on_simulated_disks() -> Iterator[None]:
    """Meanwhile every index on a disk is one of a `TantivyDisk`."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("partition", "partition_writer"):
            patch.setattr(f"memstore.search.{module}.tantivy", _Tantivy())
        yield
