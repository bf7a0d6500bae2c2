"""Append to an agent's MANIFEST. The caller holds the lock of the agent's shard.

A torn tail is cut before anything is appended; a valid line is never touched, except that recovery writes the same
bytes over it again, because what the page cache says after a crash is not believed.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from memstore.errors import CorruptionError, StorageError, WriterBrokenError
from memstore.format.manifest import encode_manifest_header
from memstore.format.names import MANIFEST
from memstore.fs.parts import write_again
from memstore.fs.storage import Storage, StorageFile
from memstore.manifest.index import Manifest


class ManifestWriter:
    """One agent's MANIFEST, open for appending. Short-lived: opened and closed under the shard's lock."""

    def __init__(self, file: StorageFile, end: int) -> None:
        self.file = file
        self._end = end

    def append(self, line: bytes) -> None:
        """Write one whole line at the end; not synced.

        Raises:
            StorageFullError: no space; what was written of it was cut off, durably: what it names is thrown away next.
            WriterBrokenError: that could not be done; a power cut may bring the line back.
        """
        try:
            self.file.write(line, self._end)
        except StorageError as error:
            try:
                self.file.truncate(self._end)
                self.file.sync_data()
            except StorageError as failed:
                raise WriterBrokenError(f"{error}; whether the line is on disk is unknown") from failed
            raise
        self._end += len(line)

    def rewrite(self, offset: int, length: int) -> None:
        """Write lines' own bytes over them, so that the next sync carries them."""
        write_again(self.file, offset, offset + length)


def open_manifest(
    storage: Storage,
    directory: str,
    agent: str,
    *,
    known: Manifest | None,
    at_us: int,
    on_torn: Callable[[str, int], None],
) -> ManifestWriter:
    """Open the agent's MANIFEST, created with its first line where it is not there.

    Args:
        storage: where it lies.
        directory: the agent's; it exists.
        agent: the true agent id.
        known: what its MANIFEST says now, loaded under the lock; None where there is none.
        at_us: now.
        on_torn: told the path and length of a torn tail that was cut.

    Raises:
        CorruptionError: damaged in the middle: nothing is appended behind damage, repair comes first.
    """
    path = os.path.join(directory, MANIFEST)
    if known is not None:
        error = known.damage()
        if error is not None:
            raise error
        if known.agent != agent:
            raise CorruptionError(
                path, offset_bytes=0, length_bytes=1, reason=f"it belongs to agent {known.agent!r}, not {agent!r}"
            )
    file = storage.open_write(path)
    try:
        end = 0 if known is None else known.end
        size = file.identity().size_bytes
        if size > end:
            on_torn(path, size - end)
            file.truncate(end)
        writer = ManifestWriter(file, end)
        if known is None:
            writer.append(encode_manifest_header(agent=agent, at=at_us))
    except BaseException:
        file.close()
        raise
    return writer
