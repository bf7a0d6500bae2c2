"""Packing: every line once, in order, in frames that describe themselves, with bounded memory and no thread left."""

import threading
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import STEP_US, T0_US, WIDTH, MemoryFile, line_of, lines_of, packed

from memstore.codec.checksum import checksum
from memstore.errors import StorageError, StorageFullError
from memstore.format.frames import decode_seek_table
from memstore.fs.local import LocalStorage
from memstore.packed import writer as writer_module
from memstore.packed.reader import read_frame, verify_packed
from memstore.packed.writer import PackedWriter
from memstore.testing.faulty import FaultyStorage


@pytest.fixture(scope="module", autouse=True)
def _a_thread_is_given_each_frame_by_itself():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_module, "TASK_BYTES", 1)
        yield


def frames_of(file, whole):
    offset = 0
    for frame in whole.frames:
        yield frame, read_frame(file, offset_bytes=offset, frame=frame)
        offset += frame.length


def packers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("memstore-pack")]


@settings(max_examples=150)
@given(
    sizes=st.lists(st.sampled_from([210, 220, 400, 999, 1000, 1001, 2500, 9000]), min_size=1, max_size=30),
    frame_bytes_max=st.sampled_from([1, 210, 1000, 1001, 2048, 100_000]),
    threads=st.sampled_from([0, 2]),
    data=st.data(),
)
def test_frames_are_as_full_as_whole_lines_allow_however_the_lines_come(sizes, frame_bytes_max, threads, data):
    lines = lines_of(sizes)
    whole, place = b"".join(lines), 0
    file = MemoryFile()
    with PackedWriter(file, prefix_bytes=WIDTH, frame_bytes_max=frame_bytes_max, level=1, threads=threads) as writer:
        while place < len(lines):
            count = data.draw(st.integers(1, 8))
            writer.add(b"".join(lines[place : place + count]), ingested_us=T0_US + place)
            place += count
        written = writer.finish()
    assert written.xxh3 == checksum(whole)
    assert (written.records, written.raw_bytes) == (len(lines), len(whole))
    contents = [content for _, content in frames_of(file, written)]
    assert b"".join(contents) == whole
    number = 0
    for frame, content in frames_of(file, written):
        assert frame.records == content.count(b"\n")
        assert (frame.t_min, frame.t_max) == (T0_US + number * STEP_US, T0_US + (number + frame.records - 1) * STEP_US)
        assert frame.raw_length <= frame_bytes_max or frame.records == 1
        number += frame.records
        if number < len(lines):  # the next line would not have fitted
            assert frame.raw_length + len(lines[number]) > frame_bytes_max
    assert verify_packed(file, written.named("x", kinds=[]), prefix_bytes=WIDTH) == len(lines)


def test_a_frame_is_as_young_as_its_youngest_line():
    lines = lines_of([300] * 9)
    with PackedWriter(MemoryFile(), prefix_bytes=WIDTH, frame_bytes_max=950, level=1, threads=0) as writer:
        for number, ingested in enumerate([5, 9, 1, 1, 1, 7, 2, 3, 4]):
            writer.add(lines[number], ingested_us=ingested)
        assert [frame.ingested for frame in writer.finish().frames] == [9, 7, 4]


def test_threads_change_nothing_in_the_file():
    lines = lines_of([300 + number % 50 * 40 for number in range(600)])
    files = [packed(lines, frame_bytes_max=4096, threads=threads)[0].data for threads in (0, 1, 2, 5)]
    assert all(data == files[0] for data in files)


def test_the_file_is_frames_and_a_seek_table_and_nothing_else():
    file, whole = packed(lines_of([400] * 20))
    end = sum(frame.length for frame in whole.frames)
    entries = decode_seek_table(bytes(file.data[end:]), file_bytes=whole.size)
    assert [entry[:2] for entry in entries] == [frame[:2] for frame in whole.frames]
    assert len(file.data) == whole.size
    for frame, content in frames_of(file, whole):
        assert frame.xxh3 == checksum(zstandard.ZstdCompressor(level=3, write_checksum=True).compress(content))


def test_a_file_of_nothing_has_no_frames():
    with PackedWriter(MemoryFile(), prefix_bytes=WIDTH, frame_bytes_max=1000, level=1, threads=2) as writer:
        writer.add(b"", ingested_us=1)
        written = writer.finish()
    assert (written.frames, written.records) == ([], 0)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_memory_is_bounded_however_much_is_packed(threads):
    frame_bytes, step = 1 << 20, 4 << 20
    body = b"".join(line_of(0, size=2000) for _ in range(step // 2000))
    stamp = body[WIDTH : WIDTH + 22]
    tracemalloc.start()
    try:
        with PackedWriter(
            MemoryFile(), prefix_bytes=WIDTH, frame_bytes_max=frame_bytes, level=1, threads=threads
        ) as writer:
            for second in range(60):
                writer.add(body.replace(stamp, b"20250115_0000%02d_000000" % second), ingested_us=1)
            peak = tracemalloc.get_traced_memory()[1]
            written = writer.finish()
    finally:
        tracemalloc.stop()
    assert written.raw_bytes > 230e6
    # What the caller holds, one frame cut and split, and those that are under way.
    assert peak < 2 * step + (threads + 2 + 4) * frame_bytes


def test_no_more_frames_are_under_way_than_promised(monkeypatch):
    started, may_go = threading.Semaphore(0), threading.Event()
    real = writer_module._pack

    def slow(data, level):
        started.release()
        assert may_go.wait(10)
        return real(data, level)

    file = MemoryFile()
    lines = lines_of([900] * 40)
    writer = PackedWriter(file, prefix_bytes=WIDTH, frame_bytes_max=1000, level=1, threads=2)
    writer.add(lines[0] + lines[1], ingested_us=1)  # the first frame needs no thread
    monkeypatch.setattr(writer_module, "_pack", slow)
    adding = threading.Thread(target=lambda: writer.add(b"".join(lines[2:]), ingested_us=1))
    adding.start()
    started.acquire()
    started.acquire()
    while len(writer._under_way) < 3:
        adding.join(0.001)
    adding.join(0.05)
    assert len(writer._under_way) + 1 <= 2 + 2  # and the one that is waited for
    assert adding.is_alive()
    may_go.set()
    adding.join()
    assert writer.finish().records == 40
    assert not packers()


@pytest.mark.parametrize("task_bytes", [1, 1500, 5000, 1 << 20])
def test_frames_that_are_handed_over_together_come_out_the_same(monkeypatch, task_bytes):
    lines = lines_of([900] * 40)
    file, whole = packed(lines, threads=0)
    monkeypatch.setattr(writer_module, "TASK_BYTES", task_bytes)
    other, threaded = packed(lines, threads=2)
    assert (other.data, threaded) == (file.data, whole)
    for threads in (1, 3):
        assert verify_packed(other, threaded, prefix_bytes=WIDTH, threads=threads) == 40
    assert not packers()


def test_few_frames_start_no_thread():
    started = []
    for frames in (1, 2, 3):
        writer = PackedWriter(MemoryFile(), prefix_bytes=WIDTH, frame_bytes_max=1000, level=1, threads=2)
        writer.add(b"".join(lines_of([900] * frames)), ingested_us=1)
        started.append(len(packers()))
        assert len(writer.finish().frames) == frames
    assert started == [0, 0, 1]
    assert not packers()


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("after", [0, 1, 5, 19, 20])
def test_a_full_disk_is_told_and_leaves_no_thread(tmp_path, threads, after):
    storage = FaultyStorage(LocalStorage())
    file = storage.create(str(tmp_path / "packed"))
    fault = storage.fill(written_bytes=10)
    fault.after = after
    writer = PackedWriter(file, prefix_bytes=WIDTH, frame_bytes_max=1000, level=1, threads=threads)

    def pack():
        for line in lines_of([900] * 20):
            writer.add(line, ingested_us=1)
        writer.finish()

    with pytest.raises(StorageFullError):
        pack()
    assert not packers()
    storage.disarm()
    with pytest.raises(StorageError, match="no more can be packed"):
        writer.add(line_of(99), ingested_us=1)
    with pytest.raises(StorageError, match="no more can be packed"):
        writer.finish()


def test_an_error_while_compressing_is_told_and_leaves_no_thread(monkeypatch):
    def fails(data, level):
        raise MemoryError

    writer = PackedWriter(MemoryFile(), prefix_bytes=WIDTH, frame_bytes_max=1000, level=1, threads=2)
    writer.add(b"".join(lines_of([900] * 4)), ingested_us=1)
    monkeypatch.setattr(writer_module, "_pack", fails)
    writer.add(b"".join(lines_of([900] * 2, start=4)), ingested_us=1)
    with pytest.raises(MemoryError):
        writer.finish()
    assert not packers()


def test_a_writer_that_is_given_up_leaves_no_thread():
    def give_up():
        with PackedWriter(MemoryFile(), prefix_bytes=WIDTH, frame_bytes_max=1000, level=1, threads=2) as writer:
            writer.add(b"".join(lines_of([900] * 30)), ingested_us=1)
            assert packers()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert not packers()


@pytest.mark.parametrize(
    "line", [b"{}\n", b'{"memory_id":"other_agent_20250115_000000_0"}\n', b"\n", b"x" * 80 + b"\n"]
)
def test_a_line_that_is_no_record_of_the_agent_is_refused(line):
    with (
        PackedWriter(MemoryFile(), prefix_bytes=WIDTH, frame_bytes_max=1000, level=1, threads=0) as writer,
        pytest.raises(StorageError, match="not laid out as this agent's"),
    ):
        writer.add(line, ingested_us=1)
        writer.finish()
