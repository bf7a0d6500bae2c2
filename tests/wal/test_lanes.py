"""Lanes: written, followed, sealed, torn and damaged."""

import os

import pytest

from memstore.codec.checksum import checksum
from memstore.errors import CorruptionError, VersionError
from memstore.format.checked import encode_checked
from memstore.format.lane import Slice, encode_commit
from memstore.format.lines import agent_prefix, encode_line, line_time_us
from memstore.format.names import StorePaths, lane_token
from memstore.fs.atomic import make_directories
from memstore.fs.local import LocalStorage
from memstore.timestamps import iso_and_id_stamp
from memstore.wal.lane import create_lane
from memstore.wal.reader import LaneReader, iterate_footer
from memstore.wal.seal import read_seal, seal_lane

STORAGE = LocalStorage()
T0 = 1_736_951_400_000_000


def line(agent, second):
    iso, stamp = iso_and_id_stamp(T0 + second * 1_000_000)
    return encode_line(agent, iso, stamp, f"{second:016x}", b'{"memory_type":"GOAL"}')


def payload(*groups):
    """A commit of ``(agent, seconds)`` groups."""
    slices, body = [], b""
    for agent, seconds in groups:
        lines = [line(agent, s) for s in seconds]
        data = b"".join(lines)
        width = len(agent_prefix(agent))
        times = [line_time_us(x, width) for x in lines]
        slices.append(Slice(agent, "20250115", len(body), len(data), len(lines), times[0], times[-1], checksum(data)))
        body += data
    return encode_commit(at=T0, body_bytes=len(body), slices=slices) + body, len(slices)


@pytest.fixture
def paths(tmp_path):
    found = StorePaths(str(tmp_path))
    make_directories(STORAGE, found.lanes)
    return found


@pytest.fixture
def lane(paths):
    made = create_lane(
        STORAGE, paths, store_id="ab", writer_number=7, token="f" * 32, at_us=T0, durable=True, created_s=0.0
    )
    yield made
    made.close()


def reader_of(lane):
    reader = LaneReader(STORAGE.open_read(lane.path), lane_token(os.path.basename(lane.path)))
    reader.refresh()
    return reader


def seconds_of(reader, agent):
    reader.refresh()
    found = []
    for item in sorted(reader.agent_slices(agent).slices, key=lambda s: s.offset):
        data = reader.file.read(item.offset, item.length)
        assert checksum(data) == item.xxh3
        found += [int(x[len(agent_prefix(agent)) + 22 :][:16], 16) for x in data.splitlines()]
    return found


def seal(paths, lane, *, own=True):
    return seal_lane(STORAGE, paths, lane.file, at_us=T0, own=own)


def test_a_new_lane_is_locked_and_named_before_its_first_commit(paths, lane):
    assert os.listdir(paths.lanes) == [os.path.basename(lane.path)]
    assert not STORAGE.open_update(lane.path).try_lock()
    assert seconds_of(reader_of(lane), "a") == []


def test_commits_are_followed_as_they_come(lane):
    reader = reader_of(lane)
    for second in range(5):
        lane.append(*payload(("a", [second]), ("b", [second + 10, second + 20])))
        assert seconds_of(reader, "a") == list(range(second + 1))
    assert seconds_of(reader, "b") == [x for s in range(5) for x in (s + 10, s + 20)]
    assert reader.agents() == {"a", "b"}
    assert not reader.sealed


@pytest.mark.parametrize("missing", [1, 50, 200])
def test_a_truncated_tail_is_ignored_until_it_is_whole(lane, missing):
    lane.append(*payload(("a", [1])))
    whole, _ = payload(("a", [2, 3]), ("b", [4]))
    lane.file.write(whole[:-missing], lane.end)
    reader = reader_of(lane)
    assert seconds_of(reader, "a") == [1]
    assert seconds_of(reader, "b") == []
    lane.file.write(whole, lane.end)
    assert seconds_of(reader, "a") == [1, 2, 3]


def test_no_part_of_an_unproven_last_commit_is_seen(lane):
    whole, _ = payload(("a", [1]), ("b", [2]))
    lane.file.write(whole[:-1] + b"?", lane.end)  # the slice of b is torn, that of a is whole
    assert seconds_of(reader_of(lane), "a") == []


def test_what_this_process_committed_itself_needs_no_proof(lane):
    lane.append(*payload(("a", [1])))
    reader = LaneReader(STORAGE.open_read(lane.path), "f" * 32)
    reader.refresh(known_end=lane.end)
    assert len(reader.agent_slices("a").slices) == 1


def test_a_commit_that_is_cut_off_and_written_over_is_forgotten(lane):
    lane.append(*payload(("a", [1])))
    kept = lane.end
    lane.append(*payload(("a", [2]), ("b", [3])))
    reader = reader_of(lane)
    assert seconds_of(reader, "b") == [3]
    lane.file.truncate(kept)
    lane.end = kept
    lane.append(*payload(("a", [4, 5, 6, 7]), ("c", [8, 9])))
    assert seconds_of(reader, "a") == [1, 4, 5, 6, 7]
    assert seconds_of(reader, "b") == []


def test_a_sealed_lane_is_bisected(paths, lane):
    agents = [f"agent_{n:04d}" for n in range(700)]
    for second in range(3):
        lane.append(*payload(*((a, [second]) for a in agents)))
    outcome = seal(paths, lane)
    assert (outcome.seal.slices, outcome.seal.agents, outcome.seal.commits) == (2100, 700, 3)
    reader = reader_of(lane)
    assert reader.sealed
    for agent in (agents[0], agents[1], agents[350], agents[-1]):
        assert seconds_of(reader, agent) == [0, 1, 2]
    for nobody in ("a", "agent_0100x", "zzz"):
        assert seconds_of(reader, nobody) == []
    assert reader.agents() == set(agents)
    assert 0 < reader.memory_bytes < 10_000  # what was asked for, not the 700 agents there are


def test_a_follower_notices_the_seal(paths, lane):
    lane.append(*payload(("a", [1])))
    reader = reader_of(lane)
    lane.append(*payload(("a", [2])))
    seal(paths, lane)
    assert seconds_of(reader, "a") == [1, 2]
    assert reader.sealed


def test_sealing_twice_changes_nothing(paths, lane):
    lane.append(*payload(("a", [1])))
    first = seal(paths, lane)
    size = lane.file.identity().size_bytes
    assert seal(paths, lane).seal == first.seal
    assert lane.file.identity().size_bytes == size


@pytest.mark.parametrize(("now", "sealed"), [(T0 + 5, T0 + 5), (T0 - 86_400_000_000, T0)])
def test_a_seal_is_never_dated_before_what_is_in_its_lane(paths, lane, now, sealed):
    lane.append(*payload(("a", [1])))
    assert seal_lane(STORAGE, paths, lane.file, at_us=now, own=True).seal.at == sealed


def test_a_torn_footer_is_written_again(paths, lane):
    lane.append(*payload(*((f"a{n}", [n]) for n in range(50))))
    seal(paths, lane)
    size = lane.file.identity().size_bytes
    for cut in (1, 100, 3000):
        lane.file.truncate(size - cut)
        assert seconds_of(reader_of(lane), "a7") == [7]
        outcome = seal(paths, lane, own=False)
        assert (outcome.seal.slices, outcome.torn_bytes) == (50, 0)
        assert lane.file.identity().size_bytes == size


def test_sealing_for_a_dead_writer_cuts_its_torn_tail_and_keeps_it_aside(paths, lane):
    lane.append(*payload(("a", [1])))
    whole, _ = payload(("a", [2, 3]))
    lane.file.write(whole[:-10], lane.end)
    outcome = seal(paths, lane, own=False)
    assert (outcome.seal.records, outcome.torn_bytes) == (1, len(whole) - 10)
    (kept,) = os.listdir(paths.recovery_log)
    assert (STORAGE.open_read(os.path.join(paths.recovery_log, kept))).read(0, 10_000) == whole[:-10]
    assert seconds_of(reader_of(lane), "a") == [1]


def test_a_last_commit_of_a_dead_writer_that_does_not_verify_is_its_torn_tail(paths, lane):
    lane.append(*payload(("a", [1])))
    whole, _ = payload(("a", [2]), ("b", [3]))
    lane.file.write(whole[:-2] + b"?\n", lane.end)
    assert seal(paths, lane, own=False).seal.records == 1


def test_a_damaged_commit_line_in_the_middle_is_reported_and_the_rest_kept(paths, lane):
    lane.append(*payload(("a", [1])))
    damaged_at = lane.end
    lane.append(*payload(("a", [2]), ("b", [3])))
    damaged_length = lane.end - damaged_at
    lane.append(*payload(("a", [4]), ("c", [5])))
    lane.file.write(b"X", damaged_at + 20)
    for _ in ("open", "sealed"):
        reader = reader_of(lane)
        assert reader.agent_slices("a").damaged == ((damaged_at, damaged_length),)
        assert reader.agent_slices("b").damaged == ((damaged_at, damaged_length),)
        assert reader.agent_slices("c").damaged == ()  # none of its lines begins in there
        assert seconds_of(reader, "a") == [1, 4]
        assert seconds_of(reader, "c") == [5]
        assert seal(paths, lane, own=False).seal.damaged == [(damaged_at, damaged_length)]


def test_a_damaged_footer_line_is_read_around(paths, lane):
    lane.append(*payload(*((f"a{n:02d}", [n]) for n in range(50))))
    outcome = seal(paths, lane)
    lane.file.write(b"X", outcome.seal.footer + 200)
    reader = reader_of(lane)
    assert [seconds_of(reader, f"a{n:02d}") for n in range(50)] == [[n] for n in range(50)]
    found = read_seal(lane.file, lane.file.identity().size_bytes)
    assert [s.agent for s in iterate_footer(lane.file, *found)] == [f"a{n:02d}" for n in range(50)]


def test_a_lane_whose_first_line_is_damaged_names_its_place(lane):
    lane.append(*payload(("a", [1])))
    lane.file.write(b"X", 5)
    with pytest.raises(CorruptionError, match="first line"):
        reader_of(lane)


def test_a_lane_of_a_newer_version_is_refused(paths):
    path = os.path.join(paths.lanes, f"{1:08x}-{'0' * 32}.lane")
    STORAGE.create(path).write(
        encode_checked("lane", {"version": 3, "store": "x", "writer": 1, "at": 0, "durability": "fsync"}), 0
    )
    with pytest.raises(VersionError):
        LaneReader(STORAGE.open_read(path), "0" * 32)
