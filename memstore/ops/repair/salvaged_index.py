"""What is left of an agent's MANIFEST: its whole lines, those that could be mended, and whether any is lost."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from memstore.errors import CorruptionError, MemstoreError
from memstore.format.manifest import ManifestHeader, ManifestLine, decode_manifest_line, encode_manifest_header
from memstore.format.names import MANIFEST
from memstore.fs.storage import FileIdentity, Storage
from memstore.manifest.growing import GrowingManifest
from memstore.manifest.index import Manifest
from memstore.ops.repair.copied_index import CopiedIndex, copied_indexes
from memstore.ops.repair.good_copies import GoodCopies, file_of_agent
from memstore.ops.repair.kindred_files import KindredFiles
from memstore.ops.repair.mend_lines import MendedLine, mended_lines


@dataclass(frozen=True, slots=True)
class SalvagedIndex:
    """The index, as far as it is known.

    Attributes:
        manifest: what the lines that are left say together; of nothing where none is.
        header: the first line's content; None where that is lost.
        mended: lines that were put right, and how.
        lost: offset and length of those that are not known.
        is_there: whether there is such a file.
        source: which second copy its lines up to some byte were taken from together; empty where none was.
        is_current: whether that copy has everything that the store has.
    """

    manifest: Manifest
    header: ManifestHeader | None
    mended: tuple[MendedLine, ...]
    lost: tuple[tuple[int, int], ...]
    is_there: bool
    source: str = ""
    is_current: bool = False


def salvage_index(
    storage: Storage, directory: str, agent: str, *, at_us: int, copies: GoodCopies, current: str | None = None
) -> SalvagedIndex:
    """Read a MANIFEST of which any line may be damaged.

    Args:
        storage: where it lies.
        directory: the agent's.
        agent: whose it is taken to be where its first line cannot say.
        at_us: when it is taken to have begun, likewise.
        copies: where good copies may be had.
        current: root of a second copy that has everything that the store has.

    Raises:
        VersionError: written by a newer format.
        StorageError: it cannot be read.
    """
    path = os.path.join(directory, MANIFEST)
    data, identity = _content(storage, path)
    kin = KindredFiles(data, file_of_agent(path), copies)
    lines = [(each, _decoded(each, path)) for each in mended_lines(data, kin.bytes_at)]
    first = lines[0][1] if lines else None
    header = None if first is None else first.manifest
    begun = at_us if header is None else header.at
    raw = encode_manifest_header(agent=agent, at=begun)
    if header is not None and lines[0][0].line is not None:
        raw = lines[0][0].line + b"\n"
    known = Manifest(path, directory, agent if header is None else header.agent, raw, begun, identity, 0)
    growing = GrowingManifest(known)
    lost: list[tuple[int, int]] = []
    for place, line in lines:
        if line is None or not _added(growing, line, place):
            lost.append((place.offset, place.length))
    found = SalvagedIndex(
        growing.manifest(identity, len(data)),
        header,
        tuple(place for place, _ in lines if place.mended),
        tuple(lost),
        is_there=identity.size_bytes > 0,
    )
    for copied in copied_indexes(copies, file_of_agent(path), current=current):
        better = _with_copied(found, copied, data, lines)
        if better is not None:
            return better
    return found


Lines = list[tuple[MendedLine, ManifestLine | None]]


def _with_copied(found: SalvagedIndex, copied: CopiedIndex, data: bytes, lines: Lines) -> SalvagedIndex | None:
    """The index, with what a second copy knows of it; None where that is no more."""
    first_lost = min((offset for offset, _ in found.lost), default=len(data))
    if copied.is_of(data):
        if copied.end <= first_lost:
            return None
    elif not copied.is_current or any(line is not None for _, line in lines):
        return None
    header = decode_manifest_line(copied.first, found.manifest.path)
    if header is None or header.manifest is None:
        return None
    is_cut = not copied.is_of(data) or copied.end > len(data)
    known = dataclasses.replace(
        _nothing(found.manifest), agent=header.manifest.agent, header=copied.first + b"\n", begun=header.manifest.at
    )
    growing = GrowingManifest(known)
    added = [copied.state, *copied.since] if is_cut else [copied.state]
    for said in added:
        growing.add(said, 0, 0)
    later = [] if is_cut else [(place, line) for place, line in lines if place.offset + place.length > copied.end]
    lost = [(len(data), 0)] if is_cut else []  # nobody knows how many came behind what the copy knows
    for place, line in later:
        if line is None or not _added(growing, line, place):
            lost.append((place.offset, place.length))
    manifest = growing.manifest(found.manifest.identity, found.manifest.end)
    taken = MendedLine(0, copied.end, None, f"by what {copied.source} says of it", copied.source)
    mended = (taken, *(place for place, _ in later if place.mended))
    return SalvagedIndex(
        dataclasses.replace(manifest, of=None),
        header.manifest,
        mended,
        tuple(lost),
        is_there=found.is_there,
        source=copied.source,
        is_current=copied.is_current,
    )


def _nothing(manifest: Manifest) -> Manifest:
    """A MANIFEST at the same place of which no line is known."""
    return Manifest(
        manifest.path, manifest.directory, manifest.agent, manifest.header, manifest.begun, manifest.identity, 0
    )


def _content(storage: Storage, path: str) -> tuple[bytes, FileIdentity]:
    identity = storage.identify(path)
    if identity is None:
        return b"", FileIdentity(0, 0, 0)
    file = storage.open_read(path)
    try:
        return file.read(0, identity.size_bytes), identity
    finally:
        file.close()


def _decoded(place: MendedLine, path: str) -> ManifestLine | None:
    return None if place.line is None else decode_manifest_line(place.line, path)


def _added(growing: GrowingManifest, line: ManifestLine, place: MendedLine) -> bool:
    try:
        growing.add(line, place.offset, place.length)
    except (CorruptionError, MemstoreError):
        return False
    return True
