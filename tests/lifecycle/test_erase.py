"""Erase: what was named is gone from every file, nothing else is, and the receipt says what is left and why."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support import QUIET, T0_US, TINY, files_named, flip, lane_files, make_engine, put

from memstore import MemStore, NotFoundError, StorageError, UsageError
from memstore.clock import ManualClock
from memstore.engine.engine import Engine
from memstore.errors import HeldError
from memstore.filters import build_filter
from memstore.format.holds_file import Hold
from memstore.format.manifest import Move, TrashedFile
from memstore.format.names import tier_of
from memstore.fs.local import LocalStorage
from memstore.fs.lock import locked
from memstore.fs.storage import Storage
from memstore.ids import agent_directory
from memstore.lifecycle.commit import Committer
from memstore.lifecycle.erase import Eraser
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.lifecycle.receipt import Receipt
from memstore.testing.crashing import CrashingStorage, PowerCut
from memstore.testing.faulty import FaultyStorage
from memstore.timestamps import US_PER_DAY

ODD = 'Ünï "q\\uoted"'
AGENTS = ["bot", "bot_2", ODD]
AGES_DAYS = (80, 79, 20, 19, 12, 2, 2, 1, 0)
HOUR_S = 3600


@dataclass
class Tiered:
    """A store with records in every tier, in the trash, under a tombstone, and in a lane.

    Attributes:
        ids: of each agent, in order of time; the last lies in a lane.
        trashed: ids that lie in the trash.
        hidden: ids that a tombstone hides.
    """

    clock: ManualClock
    ids: dict[str, list[str]] = field(default_factory=dict)
    trashed: dict[str, list[str]] = field(default_factory=dict)
    hidden: dict[str, list[str]] = field(default_factory=dict)

    def visible(self, agent: str) -> list[str]:
        return [i for i in self.ids[agent] if i not in self.trashed[agent] and i not in self.hidden[agent]]


def set_to(clock: ManualClock, now_us: int) -> None:
    clock.step((now_us - clock.now_us()) / 1_000_000)


def build(engine: Engine, clock: ManualClock) -> Tiered:
    tiered = Tiered(clock)
    for age in AGES_DAYS[:-1]:
        set_to(clock, T0_US - age * US_PER_DAY + 7)
        for agent in AGENTS:
            for number in range(3):
                content = f"{agent} {age} {number} " + "words " * 20
                tiered.ids.setdefault(agent, []).append(put(engine, agent, content, memory_type="GOAL"))
    set_to(clock, T0_US)
    lifecycle = Lifecycle(engine)
    report = lifecycle.manager.maintain()
    assert not report.failed
    for agent in AGENTS:
        manifest = manifest_of(engine, agent)
        assert {tier_of(name) for name in (*manifest.day_files, *manifest.packed)} == {"hot", "warm", "cold"}
        name = min(name for name in manifest.packed if tier_of(name) == "warm")
        trashed = TrashedFile(packed=manifest.packed[name], at=T0_US, purge_at=T0_US + US_PER_DAY, reason="a test")
        Committer(engine).move(agent, manifest, Move(at=T0_US, reason="retention", sources=[name], trash=[trashed]))
        visible = set(lines(engine, agent))
        tiered.trashed[agent] = [i for i in tiered.ids[agent] if i not in visible]
        assert tiered.trashed[agent]
        tiered.hidden[agent] = [tiered.ids[agent][1], tiered.ids[agent][-2]]
        lifecycle.forgetter.forget(tiered.hidden[agent])
    clock.advance(5)
    for agent in AGENTS:
        tiered.ids[agent].append(put(engine, agent, "in a lane", memory_type="GOAL"))
    return tiered


def manifest_of(engine: Engine, agent: str) -> Any:
    manifest = engine.builder.manifest(agent)
    assert manifest is not None
    return manifest


def lines(engine: Engine, agent: str) -> dict[str, bytes]:
    """What a read finds, byte for byte."""
    found = engine.reader.lines(agent, build_filter(now_us=0), newest_first=False, on_damage="raise")
    return {
        line[len(b'{"memory_id":"') :].split(b'","')[0].replace(b'\\"', b'"').replace(b"\\\\", b"\\").decode(): line
        for line, _ in found
    }


def eraser(engine: Engine, *, wait_s: float = 0.0) -> Eraser:
    made = Lifecycle(engine).eraser
    made._drain_wait_s = wait_s
    return made


def raw_files(root: Path | str) -> Iterator[tuple[str, bytes]]:
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            yield path, Path(path).read_bytes()


def erased_for_good(root: Path | str, ids: Iterable[str]) -> None:
    """No file has one of these ids in its bytes, packed files unpacked."""
    import zstandard

    wanted = [i.replace("\\", "\\\\").replace('"', '\\"').encode() for i in ids]
    for path, data in raw_files(root):
        if path.endswith(".zst"):
            unpack = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
            data = unpack.decompress(data)  # noqa: PLW2901
        left = [memory_id for memory_id in wanted if memory_id in data]
        assert not left, f"{path} still has {left[:2]}"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0_US)


@pytest.fixture
def engine(tmp_path: Path, clock: ManualClock) -> Iterator[Engine]:
    opened = make_engine(tmp_path / "store", clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def tiered(engine: Engine, clock: ManualClock) -> Tiered:
    return build(engine, clock)


# -- what goes, and what stays


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_goes_from_every_tier_the_trash_and_the_lanes_and_nobody_else_does(
    engine: Engine, tiered: Tiered, tmp_path: Path, agent: str
) -> None:
    others = [each for each in AGENTS if each != agent]
    before = {each: lines(engine, each) for each in others}
    receipt = eraser(engine).erase_agent(agent)
    assert receipt.verified, receipt.as_dict()
    assert receipt.records == len(tiered.ids[agent])
    assert lines(engine, agent) == {}
    assert agent not in engine.inventory.agents()
    assert {each: lines(engine, each) for each in others} == before
    erased_for_good(tmp_path, tiered.ids[agent])
    assert not [path for path, _ in raw_files(tmp_path) if f"/{agent_directory(agent)}/" in path]
    assert not os.path.exists(tmp_path / "store" / "memory" / "archive" / agent_directory(agent))


@pytest.mark.parametrize("agent", AGENTS)
def test_ids_go_from_every_tier_and_their_neighbours_stay_byte_for_byte(
    engine: Engine, tiered: Tiered, tmp_path: Path, agent: str
) -> None:
    before = {each: lines(engine, each) for each in AGENTS}
    going = tiered.ids[agent][::3] + tiered.trashed[agent][:1] + tiered.hidden[agent][:1] + tiered.ids[agent][-1:]
    unknown = f"{agent}_20250115_143000_1234560000000100000000"
    receipt = eraser(engine).erase_ids([*going, unknown])
    assert receipt.verified, receipt.as_dict()
    assert receipt.records == len(set(going))
    assert receipt.not_found == (unknown,)
    assert receipt.ids == len(set(going)) + 1
    erased_for_good(tmp_path, going)
    for each in AGENTS:
        assert lines(engine, each) == {i: line for i, line in before[each].items() if i not in going}
        assert manifest_of(engine, each).records() == len(tiered.visible(each)) - (
            len(set(going) & set(tiered.visible(each))) if each == agent else 0
        )
    left = set(tiered.trashed[agent]) - set(going)
    assert set(tiered.hidden[agent]) - set(going) == set(manifest_of(engine, agent).hidden.ids)
    report = Lifecycle(engine).forgetter.undelete_agent(agent)
    assert report.records == len(left) + len(set(tiered.hidden[agent]) - set(going))
    assert set(lines(engine, agent)) == set(tiered.ids[agent]) - set(going)


def test_ids_of_several_agents_go_in_one_erasure_and_their_files_with_them(
    engine: Engine, tiered: Tiered, tmp_path: Path
) -> None:
    going = [i for agent in AGENTS for i in tiered.ids[agent]]
    receipt = eraser(engine).erase_ids(iter(going))
    assert receipt.verified, receipt.as_dict()
    assert receipt.records == len(going)
    assert receipt.files_rewritten == ()
    erased_for_good(tmp_path, going)
    assert [path for path, _ in raw_files(tmp_path) if path.endswith((".jsonl", ".zst"))] == []


def test_erased_repeats_and_originals_leave_the_others_whole(tmp_path: Path, clock: ManualClock) -> None:
    settings = {**QUIET, "storage": {**QUIET["storage"], "lifecycle": {"deduplication_enabled": True}}}
    set_to(clock, T0_US - 80 * US_PER_DAY)
    with_repeats = make_engine(tmp_path / "store", clock=clock, settings=settings)
    ids = []
    for _ in range(6):
        ids.append(put(with_repeats, "bot", "same " * 50, memory_type="SYSTEM_STATE", importance="LOW"))
        clock.advance(60)
    set_to(clock, T0_US)
    Lifecycle(with_repeats).manager.maintain()
    assert sum(packed.repeats for packed in manifest_of(with_repeats, "bot").packed.values()) == 5
    before = lines(with_repeats, "bot")
    assert eraser(with_repeats).erase_ids([ids[0], ids[3]]).verified
    assert lines(with_repeats, "bot") == {i: before[i] for i in ids if i not in (ids[0], ids[3])}
    assert sum(packed.repeats for packed in manifest_of(with_repeats, "bot").packed.values()) == 3
    erased_for_good(tmp_path, [ids[0], ids[3]])
    with_repeats.close()


def test_an_agent_can_begin_anew_after_it_was_erased(engine: Engine, tiered: Tiered) -> None:
    eraser(engine).erase_agent("bot")
    fresh = put(engine, "bot", "anew")
    assert list(lines(engine, "bot")) == [fresh]
    engine.drain(timeout_s=0)
    assert list(lines(engine, "bot")) == [fresh]
    assert engine.reader.get_line(fresh) is not None


def test_the_face_erases_and_clears_its_caches(tmp_path: Path) -> None:
    with MemStore(tmp_path / "store", settings=QUIET) as store:
        gone, kept = store.append(agent_id="bot", content="gone"), store.append(agent_id="bot", content="kept")
        assert store.get(gone) is not None
        assert store.agent("bot").recent(5)
        assert store.erase(ids=gone).verified
        assert store.get(gone) is None
        assert [record.memory_id for record in store.agent("bot").recent(5)] == [kept]
        assert store.erase(agent="bot").verified
        assert store.get(kept) is None
        assert store.agents() == []


# -- refusals


def test_what_cannot_be_erased_is_refused(engine: Engine, tiered: Tiered) -> None:
    before = dict(raw_files(engine.paths.shards))
    with pytest.raises(NotFoundError, match="nobody"):
        eraser(engine).erase_agent("nobody")
    with pytest.raises(UsageError):
        eraser(engine).erase_agent("")
    with pytest.raises(UsageError, match="is not a memory id"):
        eraser(engine).erase_ids([tiered.ids["bot"][0], "what is this"])
    with pytest.raises(UsageError, match="no ids"):
        eraser(engine).erase_ids([])
    assert set(before) <= set(dict(raw_files(engine.paths.shards)))
    assert not os.path.exists(os.path.join(os.path.dirname(manifest_of(engine, "bot").directory), "nobody"))


@pytest.mark.parametrize(
    "hold",
    [
        {"agent": "bot"},
        {"agent": "b*", "memory_types": ("GOAL",)},
        {"since_us": T0_US - 90 * US_PER_DAY, "until_us": T0_US - 70 * US_PER_DAY},
    ],
)
def test_a_hold_refuses_before_anything_is_changed(engine: Engine, tiered: Tiered, hold: dict[str, Any]) -> None:
    engine.drain(timeout_s=0)
    Lifecycle(engine).holds.add(Hold(name="case-7", at=T0_US, **hold))
    files, size = dict(raw_files(engine.paths.root + "/memory")), engine.forgotten.epoch()
    with pytest.raises(HeldError, match="case-7"):
        eraser(engine).erase_agent("bot")
    with pytest.raises(HeldError, match="case-7"):
        eraser(engine).erase_ids([tiered.ids[ODD][-1], tiered.ids["bot"][0]])
    assert dict(raw_files(engine.paths.root + "/memory")) == files
    assert engine.forgotten.epoch() == size


def test_a_hold_of_other_records_does_not_refuse(engine: Engine, tiered: Tiered) -> None:
    holds = Lifecycle(engine).holds
    holds.add(Hold(name="other-agent", at=T0_US, agent="bot_2"))
    holds.add(Hold(name="other-type", at=T0_US, agent="bot", memory_types=("ERROR",)))
    holds.add(Hold(name="other-record", at=T0_US, ids=(tiered.ids["bot"][4],)))
    assert eraser(engine).erase_ids([tiered.ids["bot"][5]]).verified
    with pytest.raises(HeldError, match="other-record"):
        eraser(engine).erase_agent("bot")


def test_a_missing_volume_refuses_before_anything_is_changed(engine: Engine, tiered: Tiered) -> None:
    home = os.path.dirname(manifest_of(engine, "bot").directory)
    other = next(path for path in engine.catalog.state.shard_paths.values() if path != home)
    os.rename(other, other + ".away")
    before = engine.forgotten.epoch()
    with pytest.raises(StorageError, match="mount its volume"):
        eraser(engine).erase_agent("bot")
    assert engine.forgotten.epoch() == before
    os.rename(other + ".away", other)


def test_maintenance_that_goes_on_is_waited_for_and_then_refused(
    engine: Engine, tiered: Tiered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memstore.lifecycle.turn.TURN_WAIT_S", 0.01)
    with locked(engine.storage, engine.paths.lock("lifecycle")), pytest.raises(StorageError, match="lifecycle"):
        eraser(engine).erase_agent("bot")
    assert lines(engine, "bot")


# -- other processes


def test_another_process_finds_nothing_at_once(engine: Engine, tiered: Tiered) -> None:
    other = make_engine(engine.paths.root, clock=tiered.clock)
    gone, kept = tiered.ids["bot"][0], tiered.ids["bot"][5]
    first = tiered.ids["bot_2"][0]
    for memory_id in (gone, kept, first):
        assert other.reader.get_line(memory_id) is not None
    assert other.reader.recent("bot", 100, build_filter(now_us=0), on_damage="raise")
    eraser(engine).erase_ids([gone])
    assert other.reader.get_line(gone) is None
    assert other.reader.get_line(kept) is not None
    assert gone not in lines(other, "bot")
    eraser(engine).erase_agent("bot_2")
    assert other.reader.get_line(first) is None
    assert other.reader.recent("bot_2", 100, build_filter(now_us=0), on_damage="raise") == []
    for _ in range(2):  # names of files come back, and handles of the old ones may be open
        fresh = put(engine, "bot_2", "anew")
        engine.drain(timeout_s=0)
        assert set(lines(other, "bot_2")) == {fresh}
        assert other.reader.get_line(fresh) is not None
        eraser(engine).erase_agent("bot_2")
        assert other.reader.get_line(fresh) is None
    other.close()


def test_a_lane_that_its_process_does_not_seal_is_pending_and_named(engine: Engine, tiered: Tiered) -> None:
    stopped = make_engine(engine.paths.root, clock=tiered.clock)
    stopped.maintenance._run = lambda _: None  # type: ignore[method-assign, assignment]
    in_lane, other = put(stopped, "bot", "cannot be merged"), put(stopped, ODD, "of somebody else")
    receipt = eraser(engine).erase_agent("bot")
    assert not receipt.verified
    assert [(p.where.startswith("lanes/"), "not sealed in time" in p.why) for p in receipt.pending] == [(True, True)]
    assert set(lines(engine, "bot")) == {in_lane}
    assert eraser(engine).erase_ids([in_lane]).pending
    assert lines(engine, "bot") == {}  # hidden until it can go
    stopped.close()
    engine.drain(timeout_s=0)
    assert lines(engine, "bot") == {}
    assert eraser(engine).erase_agent("bot").verified
    assert other in lines(engine, ODD)


def test_a_kept_lane_is_pending_and_its_records_are_not_read_again(engine: Engine, tiered: Tiered) -> None:
    writer = make_engine(engine.paths.root, clock=tiered.clock)
    merged = put(writer, "bot", "x" * 100)
    broken = put(writer, ODD, "y" * 100)
    writer.close()
    for path in lane_files(engine.paths.root):
        place = Path(path).read_bytes().find(b"y" * 100)
        if place > 0:
            flip(path, place)
    engine.drain(timeout_s=0)
    assert lane_files(engine.paths.root, ".kept")
    assert merged in lines(engine, "bot")
    receipt = eraser(engine).erase_agent("bot")
    assert [p.why for p in receipt.pending if "kept for repair" in p.why]
    assert lines(engine, "bot") == {}
    assert broken not in tiered.ids[ODD]
    fresh = put(engine, "bot", "anew")
    engine.drain(timeout_s=0)
    assert set(lines(engine, "bot")) == {fresh}
    other = eraser(engine).erase_ids([merged])
    assert other.pending
    assert set(lines(engine, "bot")) == {fresh}


@pytest.mark.parametrize("what", ["agent", "ids"])
def test_writers_go_on_beside_an_erasure_and_lose_nothing(tmp_path: Path, what: str) -> None:
    first = make_engine(tmp_path / "store", settings=TINY)
    second = make_engine(tmp_path / "store", settings=TINY)
    doomed = [put(first, "bot", f"old {n}") for n in range(30)]
    other = [put(first, "bot_2", f"old {n}") for n in range(30)]
    stop, written = threading.Event(), {"bot": [], "bot_2": []}  # type: ignore[var-annotated]

    def write(agent: str, into: Engine) -> None:
        number = 0
        while not stop.is_set():
            written[agent].append(put(into, agent, f"new {number}"))
            number += 1

    threads = [threading.Thread(target=write, args=pair) for pair in (("bot", second), ("bot_2", first))]
    for thread in threads:
        thread.start()
    receipts: list[Receipt] = []
    pause = threading.Event()
    for _ in range(3):
        known = len(written["bot"])
        while len(written["bot"]) == known:
            pause.wait(0.001)
        made = eraser(first, wait_s=10)
        receipts.append(made.erase_agent("bot") if what == "agent" else made.erase_ids(doomed))
    after = put(second, "bot", "after all of it")
    stop.set()
    for thread in threads:
        thread.join()
    first.drain(timeout_s=10)
    for receipt in receipts:
        assert receipt.verified, receipt.as_dict()
    left = lines(first, "bot")
    assert not set(doomed) & set(left)
    assert after in left
    assert set(left) <= {*written["bot"], after}
    if what == "ids":
        assert set(left) == {*written["bot"], after}
    assert set(lines(first, "bot_2")) == {*other, *written["bot_2"]}
    first.close()
    second.close()


# -- damage and leftovers


def test_a_damaged_warm_file_is_pending_and_the_rest_is_done(engine: Engine, tiered: Tiered, tmp_path: Path) -> None:
    manifest = manifest_of(engine, "bot")
    name = next(name for name in manifest.packed if tier_of(name) == "warm")
    path = engine.pieces.path_of(manifest, name)
    packed = manifest.packed[name]
    inside = [i for i in tiered.ids["bot"] if packed.t_min <= _time(i) <= packed.t_max]
    flip(path, 20)
    engine.pieces.clear()
    going = [tiered.ids["bot"][0], inside[0]]
    receipt = eraser(engine).erase_ids(going)
    assert [p.where for p in receipt.pending] == [os.path.relpath(path, engine.paths.root)]
    assert "damaged" in receipt.pending[0].why
    assert receipt.records == 1
    assert receipt.not_found == (inside[0],)
    assert engine.reader.get_line(inside[0]) is None  # a tombstone hides it, should the file be repaired
    whole = eraser(engine).erase_agent("bot")
    assert whole.verified, whole.as_dict()
    erased_for_good(tmp_path, tiered.ids["bot"])


def _time(memory_id: str) -> int:
    from memstore.ids import parse_id

    return parse_id(memory_id).time_us


def test_a_file_of_another_agent_that_cannot_be_read_is_named(engine: Engine, tiered: Tiered) -> None:
    (path,) = files_named(engine.paths.root, f"archive/bot_2/{_cold_name(engine)}")
    flip(path, 20)
    receipt = eraser(engine).erase_agent("bot")
    assert [p.where for p in receipt.pending] == [os.path.relpath(path, engine.paths.root)]
    assert "cannot be read" in receipt.pending[0].why
    assert lines(engine, "bot") == {}


def _cold_name(engine: Engine) -> str:
    return next(name for name in manifest_of(engine, "bot_2").packed if tier_of(name) == "cold")


def test_an_agent_whose_manifest_is_damaged_goes_all_the_same(engine: Engine, tiered: Tiered, tmp_path: Path) -> None:
    engine.drain(timeout_s=0)
    flip(manifest_of(engine, "bot").path, 30)
    assert eraser(engine).erase_agent("bot").verified
    erased_for_good(tmp_path, tiered.ids["bot"])


def test_ids_under_a_damaged_manifest_are_pending_and_other_agents_are_done(engine: Engine, tiered: Tiered) -> None:
    engine.drain(timeout_s=0)
    path = manifest_of(engine, "bot").path
    flip(path, 30)
    receipt = eraser(engine).erase_ids([tiered.ids["bot"][0], tiered.ids[ODD][0]])
    assert os.path.relpath(path, engine.paths.root) in [p.where for p in receipt.pending]
    assert tiered.ids[ODD][0] not in lines(engine, ODD)
    Lifecycle(engine).holds.add(Hold(name="doubt", at=T0_US, agent="bot"))
    with pytest.raises(HeldError, match="doubt"):
        eraser(engine).erase_ids([tiered.ids["bot"][0]])
    with pytest.raises(HeldError, match="doubt"):
        eraser(engine).erase_agent("bot")


def test_planted_copies_are_found_and_left_to_their_owner(engine: Engine, tiered: Tiered) -> None:
    manifest = manifest_of(engine, "bot")
    hot = next(iter(manifest.day_files))
    cold = next(name for name in manifest.packed if tier_of(name) == "cold")
    logs = Path(engine.paths.root, "logs", "mine")
    logs.mkdir(parents=True)
    shutil.copy(engine.pieces.path_of(manifest, hot), logs / "copy.txt")
    shutil.copy(engine.pieces.path_of(manifest, cold), Path(engine.paths.shards, "shard_000", "old.zst"))
    receipt = eraser(engine).erase_agent("bot")
    assert {f.where for f in receipt.found} == {"logs/mine/copy.txt", "memory/shards/shard_000/old.zst"}
    assert all(f.by_id == f.by_hash > 0 for f in receipt.found)
    assert {p.where for p in receipt.pending} == {f.where for f in receipt.found}
    assert not receipt.verified
    assert not receipt.as_dict()["verified"]
    assert (logs / "copy.txt").exists()


@pytest.mark.parametrize("what", ["agent", "ids"])
def test_leftovers_of_memstore_itself_go_too(engine: Engine, tiered: Tiered, tmp_path: Path, what: str) -> None:
    engine.drain(timeout_s=0)
    manifest = manifest_of(engine, "bot")
    home, archive = manifest.directory, engine.catalog.state.archive_of("bot")
    warm = next(name for name in manifest.packed if tier_of(name) == "warm")
    cold = next(name for name in manifest.packed if tier_of(name) == "cold")
    shard = os.path.dirname(home)
    planted = [
        os.path.join(home, ".tmp-0123456789abcdef"),
        os.path.join(archive, ".tmp-0123456789abcdef"),
        os.path.join(home, "20240101-20240102.77.jsonl.zst"),
        os.path.join(archive, "202401.78.jsonl.zst"),
        os.path.join(archive, ".trash", "202401.79.jsonl.zst"),
        os.path.join(shard, ".trash", "bot.0123456789abcdef", warm),
        os.path.join(shard, ".incoming", "bot.0123456789abcdef", warm),
    ]
    for path in planted:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(engine.pieces.path_of(manifest, cold), path)
    recovery = Path(engine.paths.recovery_log)
    recovery.mkdir(parents=True)
    torn = b"".join(lines(engine, "bot").values())
    (recovery / "a.torn").write_bytes(torn[: len(torn) // 2])
    (recovery / "b.torn").write_bytes(b"".join(lines(engine, "bot_2").values()))
    neighbour = os.path.join(shard, ".trash", "bot_2.0123456789abcdef")
    os.makedirs(neighbour)
    made = eraser(engine)
    receipt = made.erase_agent("bot") if what == "agent" else made.erase_ids(tiered.ids["bot"])
    assert receipt.verified, receipt.as_dict()
    assert not [path for path in planted if os.path.exists(path)]
    assert os.listdir(recovery) == ["b.torn"]
    assert os.path.isdir(neighbour)
    erased_for_good(tmp_path, tiered.ids["bot"])


# -- placement


def test_an_agent_on_another_volume_is_erased_there(tmp_path: Path, clock: ManualClock) -> None:
    volumes = [tmp_path / "v1", tmp_path / "v2"]
    for volume in volumes:
        volume.mkdir()
    settings = {**QUIET, "storage": {**QUIET["storage"], "volumes": [str(v) for v in volumes]}}
    settings["storage"]["lifecycle"] = {"archive_volume": str(volumes[1])}
    spread = make_engine(tmp_path / "store", clock=clock, settings=settings)
    tiered = build(spread, clock)
    receipt = eraser(spread).erase_agent("bot")
    assert receipt.verified, receipt.as_dict()
    assert [path for path in receipt.files_removed if os.path.isabs(path)]
    erased_for_good(tmp_path, tiered.ids["bot"])
    assert lines(spread, ODD)
    spread.close()


def test_an_agent_that_was_being_moved_is_erased_at_both_places(engine: Engine, tiered: Tiered, tmp_path: Path) -> None:
    engine.drain(timeout_s=0)
    home = manifest_of(engine, "bot").directory
    other = next(path for path in engine.catalog.state.shard_paths.values() if path != os.path.dirname(home))
    shutil.copytree(home, os.path.join(other, "bot"))
    assert eraser(engine).erase_agent("bot").verified
    erased_for_good(tmp_path, tiered.ids["bot"])


# -- interrupted


def erase_agent(made: Eraser, tiered: Tiered) -> Receipt:
    return made.erase_agent("bot")


def erase_ids(made: Eraser, tiered: Tiered) -> Receipt:
    return made.erase_ids(_some(tiered))


def _some(tiered: Tiered) -> list[str]:
    """Some ids of two agents: whole files, parts of files, the trash, a tombstone, a lane."""
    return [*tiered.ids["bot"][:5], *tiered.ids["bot"][9::2], *tiered.ids[ODD][::4]]


class Machine:
    """A machine whose power goes during an erasure."""

    def __init__(self) -> None:
        self.clock = ManualClock(T0_US)
        self.storage = CrashingStorage()
        engine = self.open()
        self.tiered = build(engine, self.clock)
        engine.close()
        engine = self.open()
        self.before = {agent: lines(engine, agent) for agent in AGENTS}
        engine.close()

    def open(self, storage: Storage | None = None) -> Engine:
        engine = make_engine("/store", storage or self.storage, clock=self.clock)
        engine.maintenance._run = lambda _: None  # type: ignore[method-assign, assignment]
        return engine

    def expected(self, what: str) -> dict[str, dict[str, bytes]]:
        if what == "agent":
            return {**self.before, "bot": {}}
        going = set(_some(self.tiered))
        return {agent: {i: b for i, b in of.items() if i not in going} for agent, of in self.before.items()}


@pytest.mark.parametrize(("what", "erase"), [("agent", erase_agent), ("ids", erase_ids)])
def test_an_erasure_that_loses_its_power_is_finished_by_the_next_maintenance(
    what: str, erase: Callable[[Eraser, Tiered], Receipt]
) -> None:
    sample = Machine()
    before = sample.storage.power.calls
    assert erase(eraser(sample.open()), sample.tiered).verified
    calls = sample.storage.power.calls - before
    assert calls > 30
    step = max(calls // 40, 1)
    outcomes = set()
    for number in range(1, calls + 1, step):
        outcomes.add(_cut_at(number, what, erase))
    assert outcomes in ({"not begun", "resumed", "finished"}, {"not begun", "resumed"})


def _cut_at(number: int, what: str, erase: Callable[[Eraser, Tiered], Receipt]) -> str:
    machine = Machine()
    made = eraser(machine.open())
    machine.storage.power.at_call(number)
    with pytest.raises((PowerCut, StorageError)):
        erase(made, machine.tiered)
        machine.storage.power.cut()
        raise PowerCut
    machine.storage = machine.storage.crash(Random(number).getrandbits(64))
    machine.clock.advance(1)
    engine = machine.open()
    seen = {agent: lines(engine, agent) for agent in AGENTS}
    for agent in AGENTS:  # never more than there was, never a line that is not its own
        assert seen[agent].items() <= machine.before[agent].items(), (number, agent)
    noted = [entry for entry in engine.forgotten.entries() if entry.erasure or entry.erased]
    fresh = put(engine, "bot", "written before the erasure is resumed")
    with locked(engine.storage, engine.paths.lock("lifecycle")):
        receipts = eraser(engine).resume()
    found = {agent: lines(engine, agent) for agent in AGENTS}
    assert found["bot"].pop(fresh), number
    if not noted:
        assert found == machine.before, number
        return "not begun"
    expected = machine.expected(what)
    if what == "ids" and len([entry for entry in noted if entry.erasure]) == 1:
        expected[ODD] = machine.before[ODD]  # the call never came to note that these were asked for
    assert found == expected, number
    for receipt in receipts:
        assert receipt.verified, (number, receipt.as_dict())
    with locked(engine.storage, engine.paths.lock("lifecycle")):
        assert eraser(engine).resume() == []
    for path, data in machine.storage.files("/store").items():
        if not path.endswith(".zst"):
            gone = [i for agent in AGENTS for i in machine.before[agent] if i not in expected[agent]]
            assert not [i for i in gone if i.encode() in data], (number, path)
    engine.close()
    return "resumed" if receipts else "finished"


@pytest.mark.parametrize(("what", "erase"), [("agent", erase_agent), ("ids", erase_ids)])
def test_a_refusing_disk_leaves_an_erasure_that_can_be_resumed(
    tmp_path: Path, clock: ManualClock, what: str, erase: Callable[[Eraser, Tiered], Receipt]
) -> None:
    storage = FaultyStorage(LocalStorage())
    engine = make_engine(tmp_path / "store", storage, clock=clock)
    tiered = build(engine, clock)
    engine.drain(timeout_s=0)
    before = {agent: lines(engine, agent) for agent in AGENTS}
    kind = "remove_directory" if what == "agent" else "rename"
    storage.fail(kind, path="*/bot*" if what == "agent" else "*/archive/*", times=1)
    with pytest.raises(StorageError, match="injected"):
        erase(eraser(engine), tiered)
    clock.advance(1)
    (receipt, *more) = Lifecycle(engine).eraser.resume()
    assert receipt.verified, receipt.as_dict()
    assert all(each.verified for each in more)
    going = set(tiered.ids["bot"]) if what == "agent" else set(_some(tiered))
    assert {a: lines(engine, a) for a in AGENTS} == {
        a: {i: b for i, b in before[a].items() if i not in going} for a in AGENTS
    }
    erased_for_good(tmp_path, going)
    engine.close()


@pytest.mark.parametrize("clock_step_s", [1.0, -30 * 3600.0], ids=["clock goes on", "clock set back"])
def test_what_an_agent_wrote_after_an_interrupted_erasure_stays(
    engine: Engine, tiered: Tiered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock_step_s: float
) -> None:
    made = eraser(engine)

    def killed(*_: Any) -> None:
        raise StorageError("killed")

    monkeypatch.setattr(made, "_remove_agent", killed)
    with pytest.raises(StorageError, match="killed"):
        made.erase_agent("bot")
    tiered.clock.step(clock_step_s)
    fresh = [put(engine, "bot", "same day as old ones"), put(engine, "bot", "another")]
    fresh.append(put(engine, "bot", "of an older day", timestamp_utc="2024-12-19T10:00:00Z"))
    engine.drain(timeout_s=0)
    imported = MemStore(engine.paths.root, settings=QUIET, clock=tiered.clock)
    old = "2024-12-20T10:00:00Z"
    imported.import_many([{"agent_id": "bot", "content": "late", "source_id": "s1", "timestamp_utc": old}])
    imported.drain()
    imported.close()
    forgotten = put(engine, "bot", "written and forgotten since")
    Lifecycle(engine).forgetter.forget([forgotten])
    engine.drain(timeout_s=0)
    report = Lifecycle(engine).manager.maintain()
    assert not report.failed
    left = lines(engine, "bot")
    assert forgotten not in left
    assert set(fresh) <= set(left)
    assert len(left) == 4
    erased_for_good(tmp_path, tiered.ids["bot"])
    assert Lifecycle(engine).eraser.resume() == []


def test_a_held_erasure_waits_for_the_hold_to_go(
    engine: Engine, tiered: Tiered, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = eraser(engine)

    def killed(*_: Any) -> None:
        raise StorageError("killed")

    with monkeypatch.context() as patched, pytest.raises(StorageError, match="killed"):
        patched.setattr(made, "_remove_agent", killed)
        made.erase_agent("bot")
    lifecycle = Lifecycle(engine)
    lifecycle.holds.add(Hold(name="case-7", at=T0_US, agent="bot"))
    assert made.resume() == []
    assert lines(engine, "bot")
    lifecycle.holds.remove("case-7")
    assert [receipt.verified for receipt in made.resume()] == [True]
    assert lines(engine, "bot") == {}


def test_nothing_in_forgotten_or_the_receipt_names_an_id(engine: Engine, tiered: Tiered) -> None:
    going = _some(tiered)
    receipt = eraser(engine).erase_ids(going)
    text = str(receipt.as_dict()) + Path(engine.paths.forgotten).read_text()
    assert not [memory_id for memory_id in going if memory_id in text]
