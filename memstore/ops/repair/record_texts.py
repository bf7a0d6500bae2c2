"""The content of any file that holds records, unpacked as far as that goes: what is damaged ends it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from memstore.codec.zstd import any_frame_end, is_skippable, unpack_parts
from memstore.errors import StorageError
from memstore.format.names import parse_day_file_name
from memstore.fs.parts import parts_of
from memstore.fs.storage import Storage

_PROBE_BYTES = 16


def record_texts(storage: Storage, path: str) -> Iterator[bytes]:
    """The content of a day file, a packed file or a lane, unpacked as far as that goes, in parts."""
    file = storage.open_read(path)
    try:
        if parse_day_file_name(os.path.basename(path)) is not None or not path.endswith(".zst"):
            yield from parts_of(file)
            return
        offset, size = 0, file.identity().size_bytes
        while offset < size:
            end = any_frame_end(file.read, offset, size=size)
            if not is_skippable(file.read(offset, _PROBE_BYTES)):
                yield from unpack_parts(file.read, offset, end - offset)
            offset = end
    except (StorageError, ValueError):  # as far as it goes: what is damaged is not there to clash with
        return
    finally:
        file.close()
