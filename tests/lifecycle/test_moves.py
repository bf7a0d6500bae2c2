"""Files move from tier to tier: every read stays as it was, whoever reads, and what cannot be moved stays."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lifecycle_support import (
    DAY_S,
    LIVELY,
    Lines,
    agent_files,
    assert_holds,
    assert_no_orphans,
    failures,
    iso,
    lines_in,
    real,
    remember,
    tiers,
)
from support import NO_CACHES, T0_US, flip

from memstore import CorruptionError, MemStore, StorageError, StorageFullError
from memstore.clock import ManualClock
from memstore.codec.zstd import compress
from memstore.engine import reading
from memstore.engine.view import ViewBuilder
from memstore.fs.local import LocalStorage
from memstore.lifecycle.action import Withheld
from memstore.lifecycle.commit import Committer
from memstore.testing.faulty import Fault, FaultyStorage, disk_full

AGENTS = ("a", "Über/b", "c")


def records(first: int, last: int, *, agents: tuple[str, ...] = AGENTS, each: int = 3) -> list[dict[str, Any]]:
    """Records of some days after T0 (before it, where negative)."""
    return [
        {
            "agent_id": agent,
            "content": {"day": day, "text": f"{agent} " + "words " * (40 + number)},
            "timestamp_utc": iso(day + (number + 1) / 24),
        }
        for day in range(first, last)
        for agent in agents
        for number in range(each)
    ]


@pytest.fixture(autouse=True)
def _no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is cut here, and the syncs would take most of the time."""
    for sync in ("fsync", "fdatasync"):
        monkeypatch.setattr(f"os.{sync}", lambda _: None)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0_US)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> FaultyStorage:
    made = FaultyStorage(LocalStorage())
    monkeypatch.setattr("memstore.store.LocalStorage", lambda: made)
    return made


@pytest.fixture
def open_store(tmp_path: Any, clock: ManualClock) -> Iterator[Callable[..., MemStore]]:
    """Opens the store; all openings are closed at the end."""
    opened: list[MemStore] = []

    def open_one(**settings: Any) -> MemStore:
        read_only = settings.pop("read_only", False)
        given = {**LIVELY, **{f"storage.{key}": value for key, value in settings.items()}}
        opened.append(MemStore(tmp_path / "store", settings=given, clock=clock, read_only=read_only, durability="os"))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def path_of(root: str, kind: str, agent: str = "a") -> str:
    """The newest file of an agent in a tier."""
    return [path for path in agent_files(root)[kind] if f"/{agent}/" in path][-1]


# -- through the tiers


def test_records_go_warm_then_cold_and_every_opening_answers_the_same(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store, plain = open_store(), open_store(**{f"caching.{key}": value for key, value in NO_CACHES.items()})
    watcher = open_store(read_only=True)
    expected = remember(store, records(-20, 1))
    seen = []
    for day in range(60):
        for opening in (store, plain, watcher):
            assert_holds(opening, expected, told=f"day {day}")
        report = (store, plain)[day % 2].maintain()
        assert failures(report) == []
        seen.append(frozenset(tiers(store)))
        assert_no_orphans(store, told=f"day {day}")
        clock.advance(DAY_S)
    assert {frozenset({"hot", "warm"}), frozenset({"warm"}), frozenset({"cold"})} <= set(seen)
    assert tiers(store) == {"cold": sum(map(len, expected.values()))}
    for opening in (store, plain, watcher):
        assert_holds(opening, expected)


def test_late_records_are_folded_into_the_file_of_their_day(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store = open_store()
    expected = remember(store, records(-90, -60) + records(-20, -8))
    store.maintain()
    before = tiers(store)
    assert set(before) == {"warm", "cold"}
    for agent, lines in remember(store, records(-80, -75, each=1) + records(-15, -10, each=2)).items():
        expected[agent].update(lines)
    store.maintain()
    assert tiers(store)["hot"] > 0  # more may come
    assert_holds(store, expected)
    clock.advance(2 * DAY_S)
    report = store.maintain()
    assert {"fold"} == {r.action.reason for r in report.done}
    assert "hot" not in tiers(store)
    assert_holds(store, expected)
    assert_no_orphans(store)
    assert real(store.plan()) == []


def test_cold_lines_are_the_lines_that_were_written_and_repeats_come_back_whole(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store = open_store(**{"lifecycle.deduplication_enabled": True})
    state = {"memory_type": "SYSTEM_STATE", "importance": "LOW", "content": {"state": "well", "detail": "x" * 200}}
    expected = remember(
        store, [{**record, **(state if number % 4 else {})} for number, record in enumerate(records(-70, -50))]
    )
    store.maintain()
    assert store.tiers()["repeats"]["records"] > 50
    for agent, lines in remember(store, [{**r, **state} for r in records(-65, -60, each=1)]).items():
        expected[agent].update(lines)
    store.drain()
    clock.advance(2 * DAY_S)
    store.maintain()
    assert set(tiers(store)) == {"cold"}
    assert_holds(store, expected)


# -- real tools


def test_duckdb_polars_pandas_and_zstdcat_count_what_memstore_counts(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    duckdb = pytest.importorskip("duckdb")
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    store = open_store()
    remember(store, records(-70, -40) + records(-25, -8))
    store.maintain()
    victims = [record.memory_id for record in store.agent("a").range()][::7]
    store.forget(victims)
    store.maintain()
    assert set(tiers(store)) == {"warm", "cold"}
    found = agent_files(store.root)
    paths = found["warm"] + found["cold"]
    records_there = sum(store.agent(agent).count() for agent in AGENTS)
    query = "SELECT count(*), count(DISTINCT memory_id) FROM read_ndjson(?, union_by_name = true)"
    assert duckdb.execute(query, [paths]).fetchone() == (records_there, records_there)
    assert sum(polars.scan_ndjson(path).collect().height for path in paths) == records_there
    assert sum(len(pandas.read_json(path, lines=True, compression="zstd")) for path in paths) == records_there
    zstdcat = shutil.which("zstdcat")
    lines = [
        line
        for path in paths
        for line in (
            lines_in(path)
            if zstdcat is None
            else subprocess.run([zstdcat, path], capture_output=True, check=True).stdout.splitlines()
        )
    ]
    assert sorted(lines) == sorted(line for agent in AGENTS for line in store.agent(agent).lines())


# -- readers beside movers


def shake(store: MemStore, clock: ManualClock, expected: Lines, rounds: int) -> None:
    """Move everything, again and again: what is late comes warm, folds, goes cold, folds again."""
    for number in range(rounds):
        late = records(-12 + number % 5, -8 + number % 5, each=1)
        for agent, lines in remember(store, late).items():
            expected.setdefault(agent, {}).update(lines)
        store.drain()
        clock.advance(2 * DAY_S)
        report = store.maintain()
        assert failures(report) == []
        assert report.done


def test_readers_beside_movers_always_see_everything(open_store: Callable[..., MemStore], clock: ManualClock) -> None:
    store, reader = open_store(), open_store(read_only=True)
    old = remember(store, records(-45, -1, each=6))
    expected = {agent: dict(lines) for agent, lines in old.items()}
    wanted = {agent: set(lines.values()) for agent, lines in old.items()}
    until = iso(40)
    stop = threading.Event()
    problems: list[BaseException] = []
    passes = itertools.count()

    def read(opening: MemStore, newest_first: bool) -> None:
        try:
            while not stop.is_set():
                for agent, records_of in old.items():
                    bot = opening.agent(agent)
                    found = list(bot.lines(newest_first=newest_first, until=until))
                    assert found == sorted(found, reverse=newest_first)
                    assert len(set(found)) == len(found)
                    assert wanted[agent] <= set(found)
                    assert bot.count(until=iso(-13)) == sum(f'"{iso(-13)}' > t for t in times(records_of))
                    some = next(iter(records_of))
                    assert opening._engine.reader.get_line(some) == records_of[some]
                    assert len(bot.recent(50)) == 50
                next(passes)
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            problems.append(error)

    threads = [
        threading.Thread(target=read, args=(opening, newest_first))
        for opening in (store, reader)
        for newest_first in (False, True)
    ]
    for thread in threads:
        thread.start()
    shake(store, clock, expected, rounds=12)
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == [], problems[0]
    assert next(passes) >= len(threads)
    assert_holds(store, expected)
    assert_no_orphans(store)


def times(lines: dict[str, bytes]) -> list[str]:
    return ['"' + line.partition(b'"timestamp_utc":"')[2][:27].decode() for line in lines.values()]


_OTHER_PROCESS = """
import sys
from memstore import MemStore
root, until = sys.argv[1:]
with MemStore(root, read_only=True) as store:
    print("ready", flush=True)
    for line in sys.stdin:
        found = [list(store.agent(agent).lines(until=until)) for agent in store.agents()]
        assert all(lines == sorted(set(lines)) for lines in found)
        print(sum(map(len, found)), sum(store.agent(agent).count(until=until) for agent in store.agents()), flush=True)
"""


def test_another_process_reads_on_while_everything_moves(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store = open_store()
    expected = remember(store, records(-45, -13, each=4))
    number = sum(map(len, expected.values()))
    command = [sys.executable, "-c", _OTHER_PROCESS, store.root, iso(-12.9)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        for _ in range(12):
            other.stdin.write("again\n")
            other.stdin.flush()
            shake(store, clock, expected, rounds=1)
            assert other.stdout.readline() == f"{number} {number}\n"
        other.stdin.close()
        assert other.wait(30) == 0


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_scan_follows_more_moves_than_it_would_in_a_row(
    open_store: Callable[..., MemStore], clock: ManualClock, newest_first: bool
) -> None:
    """Only moves without progress between them count: a scan of a week through daily moves ends."""
    store = open_store(**{"lifecycle.keep_read_days": 0})
    expected = remember(store, records(-30, -8, agents=("a",), each=8))
    store.maintain()
    reader = open_store(read_only=True)
    reader._engine.handles._files_max = 1
    scan = reader.agent("a").lines(newest_first=newest_first)
    found = [next(scan)]
    moves = 0
    while True:
        late = records(-25 + moves % 15, -24 + moves % 15, agents=("a",), each=1) if moves < 40 else []
        later = [{**record, "timestamp_utc": iso(-8 - moves % 20 + moves / 1e4)} for record in late]
        if later:
            remember(store, later)
            store.drain()
            clock.advance(2 * DAY_S)
            store.maintain()
            moves += 1
        try:
            found.extend(next(scan) for _ in range(7))
        except RuntimeError:  # the scan has ended
            break
    assert moves > 2 * reading.MOVES_FOLLOWED_MAX
    assert set(expected["a"].values()) <= set(found)
    assert found == sorted(set(found), reverse=newest_first)


@pytest.mark.parametrize(
    ("hours", "plan_days", "waits"),
    [(2, 0, False), (0, 80, False), (2, 0, True)],
    ids=["the clock is set", "a plan for later", "a consumer keeps the lane"],
)
def test_a_merge_and_a_compaction_between_the_lanes_and_the_manifest_double_nothing(
    open_store: Callable[..., MemStore],
    monkeypatch: pytest.MonkeyPatch,
    hours: float,
    plan_days: float,
    waits: bool,
) -> None:
    """A reader lists the lanes, and then stands still while all of it happens."""
    store = open_store()
    clock = store._engine.clock
    assert isinstance(clock, ManualClock)
    remember(store, records(-3, -1, agents=("a",)))
    store.maintain()
    expected = remember(store, records(-1, 0, agents=("a",)))
    if waits:
        store._engine.consumers.register("slow", at_us=clock.now_us())
    reader = open_store(read_only=True)
    committer = Committer(store._engine)
    look = ViewBuilder.manifest
    happened = []

    def late(builder: ViewBuilder, agent: str) -> Any:
        if builder is reader._engine.builder and not happened:
            happened.append(store.drain())
            clock.advance(hours * 3600)
            with committer.locked_agent("a") as held:
                committer.compact(held, at_us=clock.now_us() + int(plan_days * DAY_S * 1e6))
        return look(builder, agent)

    monkeypatch.setattr(ViewBuilder, "manifest", late)
    newest = [record.memory_id for record in reader.agent("a").recent(30)]
    assert happened
    assert newest == sorted(set(newest), reverse=True)
    assert set(expected["a"]) <= set(newest)
    assert reader.agent("a").count() == len(newest)


# -- what is not moved


def assert_others_went(store: MemStore, agent: str, tier: str) -> None:
    for other in set(AGENTS) - {agent}:
        (figures,) = (each for each in store.tiers()["agents"] if each["agent"] == other)
        assert figures[f"{tier}_bytes"] > 0
        assert figures["hot_bytes"] == 0


@pytest.mark.parametrize("offset", [20, -40])
def test_a_damaged_day_file_stays_and_the_others_go_on(open_store: Callable[..., MemStore], offset: int) -> None:
    store = open_store()
    expected = remember(store, records(-20, -8))
    store.drain()
    path = path_of(store.root, "hot")
    flip(path, offset)
    for _ in range(2):
        report = store.maintain()
        assert [type(error) for _, error in report.failed] == [CorruptionError]
        assert path in str(report.failed[0][1])
    assert os.path.exists(path)
    assert_others_went(store, "a", "warm")
    assert agent_files(store.root)["temporary"] == []
    flip(path, offset)
    report = store.maintain()
    assert failures(report) == []
    assert_holds(store, expected)
    assert_no_orphans(store)


@pytest.mark.parametrize("kind", ["warm", "cold"])
def test_a_damaged_frame_stays_and_the_others_go_on(
    open_store: Callable[..., MemStore], clock: ManualClock, kind: str
) -> None:
    store = open_store()
    expected = remember(store, records(-20, -8) if kind == "warm" else records(-80, -60))
    store.maintain()
    for agent, lines in remember(store, records(-19, -8, each=1) if kind == "warm" else records(-75, -65)).items():
        expected[agent].update(lines)
    store.drain()
    clock.advance(2 * DAY_S)
    path = path_of(store.root, kind)
    flip(path, 60)
    report = store.maintain()
    assert report.failed
    assert {type(error) for _, error in report.failed} == {CorruptionError}
    assert {action.agent for action, _ in report.failed} == {"a"}
    assert os.path.exists(path)
    assert agent_files(store.root)["temporary"] == []
    for agent in set(AGENTS) - {"a"}:
        assert list(store.agent(agent).lines()) == sorted(expected[agent].values())
    flip(path, 60)
    report = store.maintain()
    assert failures(report) == []
    assert_holds(store, expected)
    assert_no_orphans(store)


def drop_a_line(data: bytes) -> bytes:
    return data[data.index(b"\n") + 1 :]


def double_a_line(data: bytes) -> bytes:
    return data[: data.index(b"\n") + 1] + data


def change_a_byte(data: bytes) -> bytes:
    place = data.index(b"words")
    return data[:place] + b"swords"[: len(b"words")] + data[place + len(b"words") :]


@pytest.mark.parametrize("spoil", [drop_a_line, double_a_line, change_a_byte])
@pytest.mark.parametrize("collapse", [False, True])
def test_a_result_that_does_not_hold_what_went_in_is_refused(
    open_store: Callable[..., MemStore],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[bytes], bytes],
    collapse: bool,
) -> None:
    store = open_store(**{"lifecycle.deduplication_enabled": collapse})
    days = (-80, -60) if collapse else (-20, -8)
    expected = remember(store, records(*days, agents=("a",)))
    store.drain()
    before = agent_files(store.root)
    with monkeypatch.context() as patch:
        patch.setattr("memstore.packed.writer.compress", lambda data, level: compress(spoil(data), level=level))
        report = store.maintain()
    assert report.failed
    assert all(isinstance(error, StorageError) for _, error in report.failed)
    assert agent_files(store.root) == before
    assert_holds(store, expected)
    assert failures(store.maintain()) == []
    assert_holds(store, expected)
    assert_no_orphans(store)


def test_a_result_that_changes_on_its_way_to_the_disk_is_refused(
    open_store: Callable[..., MemStore], storage: FaultyStorage
) -> None:
    store = open_store()
    expected = remember(store, records(-20, -8, agents=("a",)))
    store.drain()
    before = agent_files(store.root)

    def spoil(kind: str, path: str) -> None:
        if kind == "sync_data" and ".tmp-" in path and "/a/" in path:
            flip(path, 50)

    storage.before_call = spoil
    report = store.maintain()
    storage.before_call = None
    assert {type(error) for _, error in report.failed} == {CorruptionError}
    assert agent_files(store.root) == before
    assert_holds(store, expected)
    assert failures(store.maintain()) == []
    assert_holds(store, expected)


def test_days_that_grow_while_a_result_is_built_are_not_moved(
    open_store: Callable[..., MemStore], storage: FaultyStorage
) -> None:
    store, other = open_store(), open_store()
    expected = remember(store, records(-20, -8, agents=("a",)))
    store.drain()
    late: Lines = {}

    def come_late(kind: str, path: str) -> None:
        if kind == "rename" and ".tmp-" in path and "/a/" in path and not late:
            storage.before_call = None
            late.update(remember(other, records(-18, -9, agents=("a",), each=1)))
            other.drain()

    storage.before_call = come_late
    report = store.maintain()
    expected["a"].update(late["a"])
    assert any("has changed" in why for _, why in report.skipped)
    assert failures(report) == []
    assert_holds(store, expected)
    store.maintain()
    assert_holds(store, expected)
    assert_no_orphans(store)
    assert real(store.plan()) == []


def test_what_a_merge_could_not_sync_is_not_moved_before_it_can(
    open_store: Callable[..., MemStore], storage: FaultyStorage
) -> None:
    # A power cut would otherwise leave a warm file whose agent has no MANIFEST: damage, as far as anybody can tell.
    store = open_store()
    expected = remember(store, records(-20, -8, agents=("a",)))
    storage.fail("sync_file_system", "sync_data", path="*/shards/*", times=1)
    storage.recording = True
    report = store.maintain()
    assert report.failed[0][0].kind == "merge_lanes"
    assert all("has to be repeated first" in str(error) for _, error in report.failed[1:])
    assert not [path for call, path in storage.calls if call == "create" and "/a/" in path], "something was built"
    assert tiers(store).keys() == {"hot"}
    assert failures(store.maintain()) == []
    assert tiers(store).keys() == {"warm"}
    assert_holds(store, expected)


def test_a_result_that_is_finished_while_its_agent_is_copied_to_another_volume_does_not_count(
    open_store: Callable[..., MemStore], storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch, volume: str
) -> None:
    """The copy was made without it; what it was made of would be removed from the copy."""
    store, mover = open_store(), open_store()
    expected = remember(store, records(-20, -8, agents=("a",)))
    store.drain()
    shard = mover.add_shard()["shard"]
    mover.pin("a", "shard_000")
    monkeypatch.setattr("memstore.engine.rebalance._device", lambda _, path: path)  # every directory is a volume
    reports: list[Any] = []
    built = threading.Event()
    keeper = threading.Thread(target=lambda: reports.append(store.maintain()))

    def at_the_same_time(kind: str, path: str) -> None:
        if kind == "rename" and ".incoming" in path and not built.is_set():
            keeper.start()
            assert built.wait(60)
        elif path.endswith("locks/merge") and threading.current_thread() is keeper:
            built.set()

    storage.before_call = at_the_same_time
    for step in ("_merge", "_sweep"):  # they would ask for the merge lock before anything is built
        monkeypatch.setattr(f"memstore.lifecycle.manager.Manager.{step}", lambda _: None)
    mover.pin("a", shard)
    keeper.join()
    storage.before_call = None
    assert any("has been moved" in why for _, why in reports[0].skipped), reports[0].as_dict()
    for opening in (store, mover, open_store()):
        assert_holds(opening, expected)
    assert failures(store.maintain()) == []
    assert_holds(store, expected)
    assert tiers(store).keys() == {"warm"}


def test_a_damaged_manifest_is_left_alone_and_the_others_go_on(open_store: Callable[..., MemStore]) -> None:
    store = open_store()
    remember(store, records(-20, -8))
    store.drain()
    remember(store, records(-20, -8))
    store.drain()
    path = os.path.join(os.path.dirname(path_of(store.root, "hot")), "MANIFEST")
    with open(path, "rb") as file:
        before = file.read()
    flip(path, before.index(b"\n") + 40)
    store = open_store()  # the other one has read it before
    report = store.maintain()
    assert any("do not verify" in why for _, why in report.skipped)
    assert_others_went(store, "a", "warm")
    flip(path, before.index(b"\n") + 40)
    with open(path, "rb") as file:
        assert file.read() == before
    store = open_store()
    assert failures(store.maintain()) == []
    assert_no_orphans(store)


# -- the archive


@pytest.fixture
def volume(tmp_path: Any) -> str:
    path = tmp_path / "volume"
    path.mkdir()
    return str(path)


def test_the_archive_lies_on_the_volume_of_the_settings(open_store: Callable[..., MemStore], volume: str) -> None:
    store = open_store(**{"lifecycle.archive_volume": volume})
    expected = remember(store, records(-80, -60))
    assert failures(store.maintain()) == []
    assert tiers(store) == {"cold": sum(map(len, expected.values()))}
    assert agent_files(store.root)["cold"] == []
    assert_holds(store, expected)
    elsewhere = open_store()  # who opens it without the setting finds them all the same
    assert_holds(elsewhere, expected)
    assert failures(elsewhere.maintain()) == []


def test_a_volume_that_is_not_mounted_stops_cold_alone_and_says_so(
    open_store: Callable[..., MemStore], clock: ManualClock, volume: str
) -> None:
    store = open_store(**{"lifecycle.archive_volume": volume})
    expected = remember(store, records(-80, -60) + records(-20, -4))
    store.maintain()
    assert set(tiers(store)) == {"hot", "warm", "cold"}
    os.rename(volume, volume + "-away")
    os.mkdir(volume)  # the mount point
    for opening in (store, open_store(), open_store(read_only=True)):
        bot = opening.agent("a")
        with pytest.raises(StorageError, match="mount its volume"):
            list(bot.lines())
        with pytest.raises(StorageError, match="mount its volume"):
            opening.get(min(expected["a"]))
        recent = [i for i, line in sorted(expected["a"].items()) if line.split(b'"day":')[1][:3] > b"-20"]
        assert [r.memory_id for r in bot.range(since=iso(-21))] == [
            i for i in sorted(expected["a"]) if i.split("_")[1] > "20241225"
        ], recent[:1]
        assert len(bot.recent(10)) == 10
    clock.advance(5 * DAY_S)
    store.append_many(records(-75, -70, each=1))
    report = store.maintain()
    assert "pack" in {r.action.kind for r in report.done}
    assert all("mount its volume" in str(error) for _, error in report.failed)
    clock.advance(30 * DAY_S)  # December goes cold: not now
    report = store.maintain()
    assert report.failed
    assert os.listdir(volume) == []
    os.rmdir(volume)
    os.rename(volume + "-away", volume)
    assert failures(store.maintain()) == []
    assert "hot" not in tiers(store)
    for agent in AGENTS:
        assert set(expected[agent].values()) <= set(store.agent(agent).lines())
    assert real(store.plan()) == []


def test_a_volume_that_never_was_there_is_said_and_the_rest_goes_on(
    open_store: Callable[..., MemStore], volume: str
) -> None:
    store = open_store(**{"lifecycle.archive_volume": volume + "/nowhere"})
    expected = remember(store, records(-80, -60) + records(-20, -8))
    report = store.maintain()
    assert report.failed
    assert all("mount it first" in str(error) for _, error in report.failed)
    assert "warm" in tiers(store)
    assert not os.path.exists(volume + "/nowhere")
    assert_holds(store, expected)
    os.mkdir(volume + "/nowhere")
    assert failures(store.maintain()) == []
    assert_holds(store, expected)


def test_a_full_archive_stops_cold_alone(
    open_store: Callable[..., MemStore], storage: FaultyStorage, volume: str
) -> None:
    store = open_store(**{"lifecycle.archive_volume": volume})
    expected = remember(store, records(-80, -60) + records(-20, -8))
    store.drain()
    storage.arm(Fault(frozenset({"write"}), path=f"{volume}/*", times=-1, error=disk_full, written_bytes=100))
    report = store.maintain()
    assert {type(error) for _, error in report.failed} == {StorageFullError}
    assert tiers(store).keys() == {"hot", "warm"}
    assert [name for _, _, names in os.walk(volume) for name in names] == []
    assert_holds(store, expected)
    storage.disarm()
    assert failures(store.maintain()) == []
    assert tiers(store).keys() == {"warm", "cold"}
    assert_holds(store, expected)
    assert not any(isinstance(action, Withheld) for action in store.plan())
