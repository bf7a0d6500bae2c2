"""Damage is never silent (P6): what a flipped bit or a torn file does to reads, merges and the next opening."""

from __future__ import annotations

import logging
import os
import shutil
from typing import Any

import pytest
from support import QUIET, assert_exactly, files_named, flat, flip, lane_files, make_engine, put, put_many

from memstore import CorruptionError, MemStore
from memstore.format.checked import encode_checked

BODY = "b" * 300


@pytest.fixture
def root(tmp_path: Any) -> str:
    return str(tmp_path / "store")


def open_store(root: str) -> MemStore:
    return MemStore(root, settings=QUIET)


def fill(root: str, *, rounds: int = 3, agents: tuple[str, ...] = ("a", "b")) -> dict[str, list[str]]:
    """One merged chunk per round and agent, of five records each."""
    ids: dict[str, list[str]] = {agent: [] for agent in agents}
    with open_store(root) as store:
        for number in range(rounds):
            for agent in agents:
                ids[agent] += store.append_many(
                    {
                        "agent_id": agent,
                        "content": f"{number}-{i}-{BODY}",
                        "timestamp_utc": f"2025-01-15T0{number}:00:0{i}Z",
                    }
                    for i in range(5)
                )
            store.drain()
    return ids


def leave_lane(
    root: str, *, commits: int = 3, agents: tuple[str, ...] = ("a", "b")
) -> tuple[str, dict[str, list[list[str]]]]:
    """A lane with a batch of every agent in each commit, left as a killed writer leaves it: not sealed."""
    engine = make_engine(root)
    ids: dict[str, list[list[str]]] = {agent: [] for agent in agents}
    for number in range(commits):
        given = [{"agent_id": agent, "content": f"{number}-{i}-{BODY}"} for agent in agents for i in range(4)]
        batch = put_many(engine, given)
        for index, agent in enumerate(agents):
            ids[agent].append(batch[index * 4 : index * 4 + 4])
    (path,) = lane_files(root)
    aside = f"{root}.lane"
    shutil.copyfile(path, aside)
    engine.close()
    os.unlink(path)
    shutil.move(aside, path)
    return path, ids


def header_offsets(path: str) -> list[int]:
    with open(path, "rb") as file:
        data = file.read()
    found = []
    position = data.find(b'\n{"commit":')
    while position >= 0:
        found.append(position + 1)
        position = data.find(b'\n{"commit":', position + 1)
    return found


def assert_names_place(error: CorruptionError, path: str, offset: int) -> None:
    assert error.path == path
    assert error.offset_bytes <= offset < error.offset_bytes + error.length_bytes
    assert path in str(error)


# -- day files


@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_flipped_byte_of_a_day_file_is_reported_with_its_place(root: str, place: str) -> None:
    ids = fill(root)
    path = files_named(root, "a/20250115.1.jsonl")[0]
    size = os.path.getsize(path)
    offset = {"start": 5, "middle": size // 2, "end": size - 5}[place]
    flip(path, offset)
    with open_store(root) as store:
        bot = store.agent("a")
        with pytest.raises(CorruptionError) as caught:
            list(bot.range())
        assert_names_place(caught.value, path, offset)
        assert caught.value.records == 5
        with pytest.raises(CorruptionError):
            bot.recent(100)
        left = [record.memory_id for record in bot.range(on_damage="skip")]
        assert len(left) == 10
        assert set(left) < set(ids["a"])
        assert [record.memory_id for record in bot.range(newest_first=True, on_damage="skip")] == left[::-1]
        assert [record.memory_id for record in bot.recent(100, on_damage="skip")] == left[::-1]
        for memory_id in ids["a"]:
            if memory_id in left:
                assert store.get(memory_id) is not None
            else:
                with pytest.raises(CorruptionError):
                    store.get(memory_id)
        assert store.stats()["counters"]["damage_skipped"] >= 3
        assert_exactly(store, {"b": ids["b"]})


def test_cut_day_file_is_reported_and_nothing_is_appended_behind_the_gap(root: str) -> None:
    ids = fill(root)
    path = files_named(root, "a/20250115.1.jsonl")[0]
    size = os.path.getsize(path)
    os.truncate(path, size - 10)
    with open_store(root) as store:
        fresh = store.append(agent_id="a", content="late", timestamp="2025-01-15T09:00:00Z")
        report = store.drain()
        assert len(report.pending) == 1
        assert os.path.getsize(path) == size - 10
        with pytest.raises(CorruptionError) as caught:
            list(store.agent("a").range())
        assert caught.value.path == path
        assert [r.memory_id for r in store.agent("a").range(on_damage="skip")] == [*ids["a"][:10], fresh]
        assert_exactly(store, {"b": ids["b"]})
    assert len(lane_files(root, ".kept")) == 1


def test_missing_day_file_is_damage(root: str) -> None:
    ids = fill(root)
    path = files_named(root, "a/20250115.1.jsonl")[0]
    os.unlink(path)
    with open_store(root) as store:
        with pytest.raises(CorruptionError) as caught:
            list(store.agent("a").range())
        assert caught.value.path == path
        assert list(store.agent("a").range(on_damage="skip")) == []
        assert_exactly(store, {"b": ids["b"]})


# -- lanes


def test_flipped_commit_line_in_the_middle_of_a_lane_is_reported(root: str) -> None:
    path, ids = leave_lane(root)
    offset = header_offsets(path)[1] + 20
    flip(path, offset)
    with open_store(root) as store:
        for agent in ("a", "b"):
            with pytest.raises(CorruptionError) as caught:
                list(store.agent(agent).range())
            assert_names_place(caught.value, path, offset)
            left = [record.memory_id for record in store.agent(agent).range(on_damage="skip")]
            assert left == ids[agent][0] + ids[agent][2]
        damage = store.stats()["damage"]
        assert [entry["path"] for entry in damage] == [path]


def test_flipped_commit_line_is_still_reported_after_the_merge(root: str) -> None:
    path, ids = leave_lane(root)
    flip(path, header_offsets(path)[1] + 20)
    with open_store(root) as store:
        report = store.drain()
        assert report.pending == [os.path.basename(path)]
        kept = lane_files(root, ".kept")
        assert len(kept) == 1
        for agent in ("a", "b"):
            with pytest.raises(CorruptionError):
                list(store.agent(agent).range())
            assert [r.memory_id for r in store.agent(agent).range(on_damage="skip")] == ids[agent][0] + ids[agent][2]
            with pytest.raises(CorruptionError):
                store.get(ids[agent][1][0])
            assert store.get(ids[agent][2][0]) is not None
    with open_store(root) as store:
        assert [entry["path"] for entry in store.stats()["damage"]] == kept
        with pytest.raises(CorruptionError) as caught:
            store.agent("a").recent(100)
        assert caught.value.path == kept[0]


def test_agent_without_lines_in_a_damaged_commit_is_not_bothered(root: str) -> None:
    path, _ = leave_lane(root)
    flip(path, header_offsets(path)[1] + 20)
    with open_store(root) as store:
        memory_id = store.append(agent_id="c", content=1)
        assert_exactly(store, {"c": [memory_id]})
        store.drain()
        assert_exactly(store, {"c": [memory_id]})


def test_wiped_page_that_hides_whose_records_it_held_is_reported_to_everybody(root: str) -> None:
    path, ids = leave_lane(root)
    _, second, third = header_offsets(path)
    with open(path, "r+b") as file:
        file.seek(second)
        file.write(bytes(third - second))
    with open_store(root) as store:
        for agent in ("a", "b"):
            with pytest.raises(CorruptionError):
                list(store.agent(agent).range())
            assert [r.memory_id for r in store.agent(agent).range(on_damage="skip")] == ids[agent][0] + ids[agent][2]


def test_flipped_body_of_a_lane_costs_only_its_slice_and_the_merge_keeps_the_lane(root: str) -> None:
    path, ids = leave_lane(root)
    offset = header_offsets(path)[1]
    with open(path, "rb") as file:
        file.seek(offset)
        body = offset + len(file.readline())
    flip(path, body + 50)
    with open_store(root) as store:
        with pytest.raises(CorruptionError) as caught:
            list(store.agent("a").range())
        assert_names_place(caught.value, path, body + 50)
        assert caught.value.records == 4
        assert_exactly(store, {"b": flat(ids["b"])})
        report = store.drain()
        assert report.pending == [os.path.basename(path)]
        assert lane_files(root) == []
        (kept,) = lane_files(root, ".kept")
        assert_exactly(store, {"b": flat(ids["b"])})
        with pytest.raises(CorruptionError) as caught:
            list(store.agent("a").range())
        assert caught.value.path in (path, kept)
        left = ids["a"][0] + ids["a"][2]
        assert [r.memory_id for r in store.agent("a").range(on_damage="skip")] == left
        more = store.append(agent_id="a", content="after")
        store.drain()
        assert [r.memory_id for r in store.agent("a").range(on_damage="skip")] == [*left, more]
    with open_store(root) as store:
        assert [r.memory_id for r in store.agent("a").range(on_damage="skip")] == [*left, more]
        assert_exactly(store, {"b": flat(ids["b"])})


@pytest.mark.parametrize("target", ["footer", "seal"])
def test_flipped_footer_or_seal_loses_nothing_and_is_written_again(root: str, target: str) -> None:
    path, ids = leave_lane(root)
    engine = make_engine(root)
    engine.maintenance._waiting()  # seals the orphan
    engine.close()
    with open(path, "rb") as file:
        data = file.read()
    flip(path, data.find(b'{"slice":' if target == "footer" else b'{"seal":') + 15)
    expected = {agent: flat(batches) for agent, batches in ids.items()}
    with open_store(root) as store:
        assert_exactly(store, expected)
        assert store.drain().pending == []
        assert_exactly(store, expected)
    assert lane_files(root) == []


def test_unreadable_first_line_of_a_lane_is_reported_and_the_rest_of_the_store_goes_on(root: str) -> None:
    merged = fill(root)
    path, _ = leave_lane(root)
    flip(path, 10)
    with open_store(root) as store:
        with pytest.raises(CorruptionError) as caught:
            list(store.agent("a").range())
        assert_names_place(caught.value, path, 10)
        assert [r.memory_id for r in store.agent("a").range(on_damage="skip")] == merged["a"]
        assert store.get(merged["a"][0]) is not None
        fresh = store.append(agent_id="a", content="goes on")
        assert store.drain(timeout_s=0.2).pending == [os.path.basename(path)]
        assert [r.memory_id for r in store.agent("a").range(on_damage="skip")] == [*merged["a"], fresh]
    assert lane_files(root) == [path]


def test_lane_that_is_cut_within_its_first_line_is_reported_with_all_that_is_left_of_it(root: str) -> None:
    path, _ = leave_lane(root)
    os.truncate(path, 50)
    with open_store(root) as store, pytest.raises(CorruptionError) as caught:
        list(store.agent("a").range())
    assert (caught.value.path, caught.value.offset_bytes, caught.value.length_bytes) == (path, 0, 50)


@pytest.mark.parametrize("kept_share", [0.0, 0.1, 0.5, 0.99])
def test_torn_tail_of_a_lane_is_cut_silently_and_kept_aside(
    root: str, kept_share: float, caplog: pytest.LogCaptureFixture
) -> None:
    path, ids = leave_lane(root)
    last = header_offsets(path)[-1]
    size = os.path.getsize(path)
    os.truncate(path, last + int((size - last) * kept_share))
    expected = {agent: flat(batches[:-1]) for agent, batches in ids.items()}
    with open_store(root) as store, caplog.at_level(logging.WARNING):
        assert_exactly(store, expected)
        assert store.drain().pending == []
        assert_exactly(store, expected)
    torn = os.listdir(os.path.join(root, "logs", "recovery")) if kept_share else []
    assert ("torn tail" in caplog.text) == bool(kept_share)
    assert len(torn) == bool(kept_share)


def test_torn_tail_with_its_full_length_but_wrong_bytes_is_cut_whole(root: str) -> None:
    """All of a batch or none: the last commit's second slice never reached the disk, so its first does not count."""
    path, ids = leave_lane(root)
    with open(path, "r+b") as file:
        file.seek(-200, os.SEEK_END)
        file.write(bytes(200))
    expected = {agent: flat(batches[:-1]) for agent, batches in ids.items()}
    with open_store(root) as store:
        assert_exactly(store, expected)
        store.drain()
        assert_exactly(store, expected)


# -- MANIFEST


def manifest_lines(path: str) -> list[tuple[int, bytes]]:
    with open(path, "rb") as file:
        lines = file.readlines()
    offsets = [sum(map(len, lines[:i])) for i in range(len(lines))]
    return list(zip(offsets, lines, strict=True))


@pytest.mark.parametrize("line", [0, 1, 2, 3], ids=["first", "second", "middle", "last"])
def test_flipped_line_of_a_manifest_is_reported_wherever_it_stands(root: str, line: int) -> None:
    ids = fill(root)
    path = files_named(root, "a/MANIFEST")[0]
    offset = manifest_lines(path)[line][0] + 30
    flip(path, offset)
    with open_store(root) as store:
        bot = store.agent("a")
        for read in (
            lambda: list(bot.range()),
            lambda: bot.recent(100),
            bot.count,
            lambda: list(bot.range(newest_first=True)),
        ):
            with pytest.raises(CorruptionError) as caught:
                read()
            assert_names_place(caught.value, path, offset)
        assert_exactly(store, {"b": ids["b"]})
        if line:
            left = [i for number, i in enumerate(ids["a"]) if number // 5 != line - 1]
            assert [r.memory_id for r in bot.range(on_damage="skip")] == left
            lost = ids["a"][(line - 1) * 5]
            with pytest.raises(CorruptionError):
                store.get(lost)
            assert store.get(left[0]) is not None


@pytest.mark.parametrize("line", [0, 1, 2, 3], ids=["first", "second", "middle", "last"])
def test_merge_does_not_write_behind_a_damaged_manifest_and_loses_nothing(root: str, line: int) -> None:
    ids = fill(root)
    path = files_named(root, "a/MANIFEST")[0]
    day_file = files_named(root, "a/20250115.1.jsonl")[0]
    flip(path, manifest_lines(path)[line][0] + 30)
    with open(path, "rb") as file:
        before = file.read()
    size = os.path.getsize(day_file)
    with open_store(root) as store:
        fresh = store.append_many(
            {"agent_id": agent, "content": "later", "timestamp_utc": "2025-01-15T08:00:00Z"} for agent in ("a", "b")
        )
        report = store.drain()
        assert len(report.pending) == 1
        with open(path, "rb") as file:
            assert file.read() == before
        assert os.path.getsize(day_file) == size
        with pytest.raises(CorruptionError):
            list(store.agent("a").range())
        assert_exactly(store, {"b": [*ids["b"], fresh[1]]})
        if line:
            assert fresh[0] in [r.memory_id for r in store.agent("a").range(on_damage="skip")]
    flip(path, manifest_lines(path)[line][0] + 30)  # repaired by hand
    with open_store(root) as store:
        assert_exactly(store, {"a": [*ids["a"], fresh[0]], "b": [*ids["b"], fresh[1]]})


@pytest.mark.parametrize("wiped", ["all", "last line"])
def test_wiped_manifest_is_damage_and_its_day_files_are_not_cut(root: str, wiped: str) -> None:
    ids = fill(root)
    path = files_named(root, "a/MANIFEST")[0]
    day_file = files_named(root, "a/20250115.1.jsonl")[0]
    size = os.path.getsize(day_file)
    start = 0 if wiped == "all" else manifest_lines(path)[-1][0]
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(bytes(os.path.getsize(path) - start))
    with open_store(root) as store:
        with pytest.raises(CorruptionError) as caught:
            list(store.agent("a").range())
        assert caught.value.path == path
        with pytest.raises(CorruptionError):
            store.get(ids["a"][-1])
        store.append(agent_id="a", content="later", timestamp="2025-01-15T08:00:00Z")
        assert len(store.drain().pending) == 1
        assert_exactly(store, {"b": ids["b"]})
    assert os.path.getsize(day_file) == size


def test_torn_tail_of_a_manifest_is_cut_when_its_lanes_are_still_there(
    root: str, caplog: pytest.LogCaptureFixture
) -> None:
    merged = fill(root)
    path, ids = leave_lane(root)
    expected = {agent: merged[agent] + flat(ids[agent]) for agent in merged}
    manifest = files_named(root, "a/MANIFEST")[0]
    token = os.path.basename(path)[9:41]
    with open(manifest, "ab") as file:
        file.write(b'{"merge":{"id":"0123456789abcdef","at":1,"lanes":["%b"],"chu' % token.encode())
    with open_store(root) as store, caplog.at_level(logging.WARNING):
        assert_exactly(store, expected)
        assert store.drain().pending == []
        assert "torn tail" in caplog.text
        assert_exactly(store, expected)


# -- STORE.json


def test_flipped_store_file_is_reported_with_its_place(root: str) -> None:
    fill(root)
    path = os.path.join(root, "STORE.json")
    flip(path, 60)
    with pytest.raises(CorruptionError) as caught:
        open_store(root)
    assert_names_place(caught.value, path, 60)
    flip(path, 60)
    open_store(root).close()


def test_damage_of_the_store_file_reaches_the_appender_whose_commit_meets_it(root: str) -> None:
    engine = make_engine(root)
    path = os.path.join(root, "STORE.json")
    flip(path, 60)
    with pytest.raises(CorruptionError) as caught:
        put(engine, "a", 1)
    assert caught.value.path == path
    flip(path, 60)
    put(engine, "a", 2)
    engine.close()


def test_empty_store_file_is_damage_not_a_new_store(root: str) -> None:
    fill(root)
    os.truncate(os.path.join(root, "STORE.json"), 0)
    with pytest.raises(CorruptionError):
        open_store(root)


# -- damage while a merge is to be repeated


def test_lane_that_is_damaged_before_its_merge_is_repeated_is_kept_and_its_merged_records_stay(root: str) -> None:
    """A merge was stopped after its MANIFEST line; then one of its lanes rots. The day file has what the lane had."""
    path, ids = leave_lane(root)
    aside = f"{root}.aside"
    shutil.copyfile(path, aside)
    with open_store(root) as store:
        store.drain()
    shutil.move(aside, path)
    # The lane is back, as if its unlink had never reached the disk, and a slice of it no longer verifies.
    with open(path, "rb") as file:
        data = file.read()
    flip(path, data.find(b"0-0-bbbb") + 20)
    expected = {agent: flat(batches) for agent, batches in ids.items()}
    with open_store(root) as store:
        assert_exactly(store, expected)
        store.drain(timeout_s=5)
        assert_exactly(store, expected)
        store.append(agent_id="a", content="on it goes")
        store.drain(timeout_s=5)


def test_lanes_of_other_kinds_of_line_are_unknown_to_nobody(root: str) -> None:
    """A verified MANIFEST line of a kind this version does not know is refused, not skipped."""
    fill(root)
    path = files_named(root, "a/MANIFEST")[0]
    with open(path, "ab") as file:
        file.write(encode_checked("novelty", {"x": 1}))
    with open_store(root) as store, pytest.raises(Exception, match="unknown kind"):
        list(store.agent("a").range())
