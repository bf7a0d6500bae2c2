"""What tests of packed files share: record lines of any length, a file in memory, a packed file of some lines."""

from __future__ import annotations

from memstore.codec.checksum import checksum
from memstore.format.lines import agent_prefix, encode_line
from memstore.fs.storage import FileIdentity
from memstore.packed.kinds import KindCounter
from memstore.packed.writer import PackedWriter
from memstore.timestamps import iso_and_id_stamp

AGENT = "a"
WIDTH = len(agent_prefix(AGENT))
T0_US = 1_736_899_200_000_000
"""2025-01-15T00:00:00Z."""
STEP_US = 1_000_000
FIELDS = b'"agent_id":"a","memory_type":"LEARNING","importance":"LOW"'


def line_of(number, *, size=200, fields=FIELDS):
    """A line of about ``size`` bytes, number ``number`` in time."""
    iso, stamp = iso_and_id_stamp(T0_US + number * STEP_US)
    text = (f"{number} remembers " * (size // 12 + 1)).encode()[: max(size - 200, 1)]
    return encode_line(AGENT, iso, stamp, f"{number:016x}", b'{%b,"content":"%b"}' % (fields, text))


def lines_of(sizes, start=0):
    """Sorted lines of these sizes."""
    return [line_of(start + number, size=size) for number, size in enumerate(sizes)]


class MemoryFile:
    """As much of a `StorageFile` as packed files need."""

    path = "/store/20250115-20250115.1.jsonl.zst"

    def __init__(self, data=b""):
        self.data = bytearray(data)

    def read(self, offset_bytes, length_bytes):
        assert offset_bytes >= 0
        assert length_bytes >= 0
        return bytes(self.data[offset_bytes : offset_bytes + length_bytes])

    def write(self, data, offset_bytes):
        assert offset_bytes == len(self.data), "written in order, without gaps"
        self.data += data

    def identity(self):
        return FileIdentity(1, 1, len(self.data))


def packed(lines, *, frame_bytes_max=1000, level=3, threads=0, file=None, ingested_us=T0_US):
    """``(file, PackedFile)`` of some lines."""
    file = MemoryFile() if file is None else file
    with PackedWriter(
        file, prefix_bytes=WIDTH, frame_bytes_max=frame_bytes_max, level=level, threads=threads
    ) as writer:
        writer.add(b"".join(lines), ingested_us=ingested_us)
        written = writer.finish()
    assert written.xxh3 == checksum(b"".join(lines))
    counter = KindCounter()
    counter.add(b"".join(lines), ingested_us=ingested_us)
    return file, written.named("20250115-20250115.1.jsonl.zst", kinds=counter.kinds(), own=counter.own)
