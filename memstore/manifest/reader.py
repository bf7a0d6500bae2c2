"""Read an agent's MANIFEST, or what was added to it since the last time.

A torn last line is ignored (somebody is writing it, or died there); a line that does not verify with a valid one behind
it is damage and is kept as a range, for reads to report.
"""

from __future__ import annotations

import os

from memstore.errors import CorruptionError
from memstore.format.manifest import decode_manifest_line
from memstore.format.names import MANIFEST
from memstore.fs.storage import FileIdentity, Storage, StorageFile
from memstore.manifest.growing import GrowingManifest
from memstore.manifest.index import Manifest


def load_manifest(storage: Storage, directory: str, known: Manifest | None = None) -> Manifest | None:
    """Read an agent's MANIFEST, or only what was added since ``known``.

    Returns:
        None where there is no MANIFEST or not even its first line is whole.

    Raises:
        VersionError: written by a newer format.
        StorageError: a line verifies but is of no known kind.
    """
    path = os.path.join(directory, MANIFEST)
    identity = storage.identify(path)
    if identity is None:
        return None
    if known is not None and known.stands_at(identity):
        return known
    try:
        file = storage.open_read(path)
    except FileNotFoundError:
        return None
    try:
        return _read(file, path, known)
    finally:
        file.close()


def _read(file: StorageFile, path: str, known: Manifest | None) -> Manifest | None:
    identity = file.identity()
    if known is not None and not _continues(file, known, identity):
        known = None
    start = 0 if known is None else known.end
    data = file.read(start, identity.size_bytes - start)
    lines = data.split(b"\n")[:-1]  # what follows the last line break is torn
    decoded = [decode_manifest_line(line, path) for line in lines]
    while decoded and decoded[-1] is None:
        decoded.pop()
    if known is None:
        if not decoded:
            return None
        header = None if decoded[0] is None else decoded[0].manifest
        if header is None:
            raise CorruptionError(
                path, offset_bytes=0, length_bytes=len(lines[0]), reason="the first line does not verify"
            )
        known = Manifest(path, os.path.dirname(path), header.agent, lines[0] + b"\n", header.at, identity, 0)
    growing = GrowingManifest(known)
    position = start
    for raw, line in zip(lines, decoded, strict=False):
        length = len(raw) + 1
        if line is None:
            growing.damaged.append((position, length))
        else:
            growing.add(line, position, length)
        position += length
    return growing.manifest(identity, position)


def _continues(file: StorageFile, known: Manifest, now: FileIdentity) -> bool:
    """Whether it is the same file, not cut since, and not a compaction that got the inode of an older one."""
    before = known.identity
    return (
        (before.device, before.inode) == (now.device, now.inode)
        and now.size_bytes >= known.end
        and file.read(0, len(known.header)) == known.header
    )
