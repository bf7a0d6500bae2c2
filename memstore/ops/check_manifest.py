"""What a MANIFEST says, held against itself: can all of it be true?"""

from __future__ import annotations

from collections.abc import Iterator

from memstore.format.manifest import decode_manifest_line
from memstore.format.names import parse_cold_file_name, parse_day_file_name, parse_warm_file_name
from memstore.fs.storage import Storage
from memstore.manifest.index import BlockRef, Manifest
from memstore.timestamps import US_PER_DAY, day_start_us, day_text


def unverified_lines(storage: Storage, path: str) -> Iterator[tuple[int, int]]:
    """Offset and length of every line that does not verify, of a MANIFEST that cannot be loaded.

    Raises:
        FileNotFoundError: it is not there.
        StorageError: it cannot be read, or a newer memstore wrote it.
    """
    file = storage.open_read(path)
    try:
        data = file.read(0, file.identity().size_bytes)
    finally:
        file.close()
    offset = 0
    for line in data.split(b"\n")[:-1]:
        if decode_manifest_line(line, path) is None:
            yield offset, len(line) + 1
        offset += len(line) + 1


def contradictions(manifest: Manifest) -> Iterator[str]:
    """What cannot be, in what a MANIFEST says of its files and records."""
    for name in manifest.day_files:
        yield from _block_faults(manifest, name)
    for name in (*manifest.packed, *manifest.trash):
        reason = _packed_fault(manifest, name)
        if reason is not None:
            yield f"{name}: {reason}"
    for memory_id in (*manifest.hidden.ids, *manifest.purged):
        if not memory_id.startswith(f"{manifest.agent}_"):
            yield f"it names records of others, such as {memory_id!r}"
            return


def blocks_of(manifest: Manifest, name: str) -> list[BlockRef]:
    """The blocks of a day file."""
    return [ref for ref in manifest.file_refs(name) if isinstance(ref, BlockRef)]


def _block_faults(manifest: Manifest, name: str) -> Iterator[str]:
    """The blocks of a day file fill it, and are of its day."""
    parsed = parse_day_file_name(name)
    assert parsed is not None, name
    start_us = day_start_us(parsed[0])
    end = 0
    for ref in sorted(blocks_of(manifest, name), key=lambda ref: ref.offset):
        if not (start_us <= ref.t_min <= ref.t_max < start_us + US_PER_DAY and ref.records > 0):
            yield f"{name}: a block that cannot be: {ref.records} records from {ref.t_min} to {ref.t_max}"
        if ref.offset != end:
            what = "no line says what stands at" if ref.offset > end else "two lines claim"
            yield f"{name}: {what} bytes {min(end, ref.offset)} to {max(end, ref.offset)}"
        end = ref.offset + ref.length


def _packed_fault(manifest: Manifest, name: str) -> str | None:
    """What cannot be in what a MANIFEST says of a packed file; None where all of it can."""
    packed = manifest.packed_file(name)
    if not packed.frames:
        return "it has no frames"
    times = [time for frame in packed.frames for time in (frame.t_min, frame.t_max)]
    if times != sorted(times) or any(frame.records <= 0 for frame in packed.frames):
        return "its frames are not in order"
    first, last = day_text(packed.t_min), day_text(packed.t_max)
    warm, cold = parse_warm_file_name(name), parse_cold_file_name(name)
    if (warm is not None and warm[:2] != (first, last)) or (cold is not None and {first[:6], last[:6]} != {cold[0]}):
        return f"its records are from {first} to {last}"
    if sum(kind.records for kind in packed.kinds) != packed.records:
        return "its kinds do not add up to its records"
    return None
