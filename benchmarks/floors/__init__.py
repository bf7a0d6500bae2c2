"""What the machine gives when nothing but the inevitable is done; every result is stated as a ratio to its floor."""

from benchmarks.floors.compress import solid_bytes, zstd_alone
from benchmarks.floors.copy import copy_and_sync
from benchmarks.floors.parse import forget_files, read_and_parse, unpack_and_parse
from benchmarks.floors.read import OpenFiles
from benchmarks.floors.select import SelectByKey
from benchmarks.floors.wake import wake_us
from benchmarks.floors.write import FLOOR_BATCH, create_us, fdatasync_us, write_batches, write_each

__all__ = [
    "FLOOR_BATCH",
    "OpenFiles",
    "SelectByKey",
    "copy_and_sync",
    "create_us",
    "fdatasync_us",
    "forget_files",
    "read_and_parse",
    "solid_bytes",
    "unpack_and_parse",
    "wake_us",
    "write_batches",
    "write_each",
    "zstd_alone",
]
