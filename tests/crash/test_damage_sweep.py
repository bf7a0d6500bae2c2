"""Every file, every region: flipped bits, cut files, swapped and wiped blocks are reported, or change nothing (P6).

A store that has lanes (sealed, and open as a killed writer leaves one), day files, warm and cold files, files in the
trash, holds, an erasure and the state of the lifecycle is made once. Then one thing is damaged at a time, on a copy in
memory, and everything is read. An answer is right if it is what it was before, byte for byte, or an error that names
the file and the range in which the damage lies. With ``on_damage="skip"`` what is left is a part of what was, in
order, and what lies in other files is all of it there. Now and then the damaged store is worked on as well: merges,
maintenance and appends may fail, and lose nothing that lies elsewhere.

``DAMAGES`` says how many are wanted (``make damage N=20000``); a failure names the command that replays it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random, SystemRandom
from typing import Any

import pytest
from lifecycle_support import DAY_S, LIVELY, iso
from support import T0_US, make_engine, put, put_many
from tally import FLIPS, tally

from memstore.clock import ManualClock
from memstore.engine.engine import Engine
from memstore.engine.reading import Reading
from memstore.errors import CorruptionError, MemstoreError
from memstore.filters import build_filter
from memstore.format.holds_file import Hold
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.testing.crashing import CrashingStorage

ROOT = "/store"
COUNT = int(os.environ.get("DAMAGES", "400"))
SEED = os.environ.get("DAMAGE_SEED")
EVERYTHING = build_filter(now_us=0)
AGENTS = ("a", "b.B", "short")
SETTINGS = {**LIVELY, "storage.retention.rules": [{"agent": "short", "keep_days": 20}], "merging.file_syncs_max": 0}
Lines = dict[str, list[bytes]]


# -- the store that is damaged


@dataclass
class Store:
    """One store, whole.

    Attributes:
        disk: without power; what is copied is what lies there.
        lines: of each agent, in order.
        gone: lines that were forgotten or have expired; files may still hold them.
        clock: of its last moment.
        day_of: the UTC day of each line.
        in_lanes: lines that are in no file but a lane, by the lane's path.
    """

    disk: CrashingStorage
    lines: Lines
    gone: set[bytes]
    clock: ManualClock
    day_of: dict[bytes, str] = field(default_factory=dict)
    in_lanes: dict[str, set[bytes]] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        """What can be damaged: all but locks and what holds nothing."""
        return {path: data for path, data in self.disk.files(ROOT).items() if data}

    def silent(self, damage: Damage) -> bool:
        """Whether it may look like the end of a lane that a crash tore: of that nothing is said."""
        return damage.path.endswith(".lane")

    def excused(self, damage: Damage, agent: str) -> set[bytes]:
        """Lines of an agent that the damage may cost."""
        lines = self.lines[agent]
        in_lanes = {line for each in self.in_lanes.values() for line in each}
        if damage.path.endswith(".lane"):
            return self.in_lanes[damage.path].intersection(lines)
        home = os.path.basename(os.path.dirname(damage.path))
        if not home.startswith(agent[0]):
            return set()
        if damage.path.endswith("/MANIFEST"):
            return self._named_in(damage, agent)
        days = days_of(os.path.basename(damage.path))
        return {line for line in lines if line not in in_lanes and days[0] <= self.day_of[line] <= days[1]}

    def hits_first_line(self, damage: Damage, agent: str) -> bool:
        """Whether it is an agent's MANIFEST that cannot be told to be his."""
        if not damage.path.endswith("/MANIFEST") or not self.excused(damage, agent):
            return False
        return min(start for start, _ in damage.ranges) <= self.files[damage.path].index(b"\n")

    def _named_in(self, damage: Damage, agent: str) -> set[bytes]:
        """Lines in the files that a damaged part of a MANIFEST names; all of them where its first line is hit."""
        data = self.files[damage.path]
        in_lanes = {line for each in self.in_lanes.values() for line in each}
        lines = [line for line in self.lines[agent] if line not in in_lanes]
        first = min(start for start, _ in damage.ranges)
        if first < data.index(b"\n") + 1:
            return set(lines)
        start = data.rindex(b"\n", 0, first) + 1
        last = max(first + length for first, length in damage.ranges)
        # A line break that is damaged makes one line of two, which do not verify together.
        end = len(data) if damage.kind in ("cut", "cut_after_a_line") else data.find(b"\n", last) + 1 or len(data)
        names = {name.decode() for name in FILE_NAME.findall(data[start:end])}
        spans = [days_of(name) for name in names]
        return {line for line in lines if any(low <= self.day_of[line] <= high for low, high in spans)}


FILE_NAME = re.compile(rb'"((?:\d{8}(?:-\d{8})?|\d{6})\.\d+\.jsonl(?:\.zst)?)"')


def days_of(name: str) -> tuple[str, str]:
    """First and last UTC day that a file's name speaks of."""
    days = name.partition(".")[0]
    if len(days) == 6:
        return f"{days}01", f"{days}31"
    return days[:8], days[-8:]


def record(agent: str, days: float, number: int) -> dict[str, Any]:
    kind = "PERFORMANCE" if number % 3 == 0 else "GOAL"
    words = Random(f"{agent} {days} {number}").randbytes(60 + 97 * number % 500).hex()
    content: Any = {"state": "well " * 9} if kind == "PERFORMANCE" else words
    return {"agent_id": agent, "content": content, "memory_type": kind, "timestamp_utc": iso(days)}


def build() -> Store:
    disk = CrashingStorage()
    clock = ManualClock(T0_US)

    def engine(**settings: Any) -> Engine:
        made = make_engine(ROOT, disk, settings={**SETTINGS, **settings}, clock=clock)
        made.maintenance._run = lambda _: None  # type: ignore[method-assign]
        return made

    first = engine(**{"storage.lifecycle.deduplication_enabled": True})
    for step in range(3):
        put_many(
            first,
            [
                record(agent, -60 + 5 * step + number * 0.9, number)
                for agent in AGENTS
                for number in range(9 if agent == "a" else 4)
            ],
        )
        first.drain(timeout_s=0)
    life = Lifecycle(first)
    once = {line for agent in AGENTS for line in read(first, agent)}
    clock.advance(25 * DAY_S)
    life.manager.maintain(trust_clock=True)  # cold; and what is short-lived goes into the trash
    for _ in range(2):
        put_many(first, [record(agent, 9 + number * 0.7, number) for agent in AGENTS for number in range(8)])
        first.drain(timeout_s=0)
        clock.advance(1)
        life.manager.maintain()  # warm
    for _ in range(3):
        ids = put_many(first, [record(agent, 23 + number * 0.3, number) for agent in AGENTS for number in range(5)])
        first.drain(timeout_s=0)
    once |= {line for agent in AGENTS for line in read(first, agent)}
    life.forgetter.forget([ids[0]])
    life.holds.add(Hold(name="litigation", at=T0_US, agent="short", until_us=T0_US - 100))
    life.eraser._drain_wait_s = 0.0
    life.eraser.erase_ids([ids[1]])
    first.close()
    for number in range(2):  # a lane that is sealed and one whose writer was killed
        writer = engine()
        for commit in range(3):
            put_many(writer, [record(agent, 24.9, commit + number) for agent in ("a", "b.B") for _ in range(2)])
        committer = writer._committer
        assert committer is not None
        lane = committer.release_lane()
        assert lane is not None
        committer.close()
        if number == 0:
            writer.maintenance.retire(lane)
            writer.maintenance._seal_own()
        else:
            lane.close()
    reader = open_reader(disk, clock)
    there = {agent: read(reader, agent) for agent in AGENTS}
    store = Store(disk, there, once.difference(*there.values()), clock)
    for lines in store.lines.values():
        for line in lines:
            text = line.split(b'"timestamp_utc":"', 1)[1][:10]
            store.day_of[line] = text.decode().replace("-", "")
    for path, data in store.files.items():
        if path.endswith(".lane"):
            there = set(data.split(b"\n"))
            store.in_lanes[path] = {line for lines in store.lines.values() for line in lines if line in there}
    disk.power.cut()
    return store


def open_reader(disk: CrashingStorage, clock: ManualClock) -> Engine:
    return make_engine(ROOT, disk, settings=SETTINGS, clock=clock, read_only=True)


def read(engine: Engine, agent: str, *, newest_first: bool = False, on_damage: Any = "raise") -> list[bytes]:
    return [line for line, _ in engine.reader.lines(agent, EVERYTHING, newest_first=newest_first, on_damage=on_damage)]


# -- damages


@dataclass
class Damage:
    """What is done to one file.

    Attributes:
        kind: in words.
        path: of the file.
        content: what it holds from then on; None where it is gone.
        ranges: first byte and length of what is not what it was.
    """

    kind: str
    path: str
    content: bytes | None
    ranges: list[tuple[int, int]]

    def touches(self, error: CorruptionError) -> bool:
        """Whether an error names the file, and a range in which some of the damage lies, or which it adjoins."""
        start, end = error.offset_bytes, error.offset_bytes + error.length_bytes
        ranges = self.ranges
        if self.path.endswith(".lane") and self.kind == "swap":
            # A whole commit line in a wrong place is believed, and so are the lengths it states.
            ranges = [(min(first for first, _ in ranges), 1 << 40)]
        return error.path == self.path and any(start <= first + length and first <= end for first, length in ranges)


def flip(data: bytes, chance: Random) -> tuple[bytes, list[tuple[int, int]]]:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :], [(place, 1)]


def scribble(data: bytes, chance: Random) -> tuple[bytes, list[tuple[int, int]]]:
    place, length = chance.randrange(len(data)), chance.randrange(1, 40)
    other = chance.randbytes(min(length, len(data) - place))
    return data[:place] + other + data[place + len(other) :], [(place, len(other))]


def cut(data: bytes, chance: Random) -> tuple[bytes, list[tuple[int, int]]]:
    place = chance.randrange(len(data))
    return data[:place], [(place, len(data) - place)]


def cut_after_a_line(data: bytes, chance: Random) -> tuple[bytes, list[tuple[int, int]]]:
    ends = [index + 1 for index, byte in enumerate(data[:-1]) if byte == 10] or [0]
    place = chance.choice(ends)
    return data[:place], [(place, len(data) - place)]


def wipe(data: bytes, chance: Random) -> tuple[bytes, list[tuple[int, int]]]:
    size = chance.choice((64, 512, 4096))
    place = chance.randrange(len(data)) // size * size
    length = min(size, len(data) - place)
    return data[:place] + bytes(length) + data[place + length :], [(place, length)]


def swap(data: bytes, chance: Random) -> tuple[bytes, list[tuple[int, int]]]:
    size = chance.choice((16, 64, 512))
    blocks = len(data) // size
    if blocks < 2:
        return flip(data, chance)
    one, two = sorted(chance.sample(range(blocks), 2))
    parts = [data[i * size : (i + 1) * size] for i in range(blocks)] + [data[blocks * size :]]
    parts[one], parts[two] = parts[two], parts[one]
    return b"".join(parts), [(one * size, size), (two * size, size)]


def remove(data: bytes, chance: Random) -> tuple[None, list[tuple[int, int]]]:
    return None, [(0, len(data))]


Change = Callable[[bytes, Random], tuple[bytes | None, list[tuple[int, int]]]]
CHANGES: list[tuple[int, Change]] = [
    (10, flip),
    (3, scribble),
    (3, cut),
    (2, cut_after_a_line),
    (2, wipe),
    (2, swap),
    (1, remove),
]


def draw(store: Store, chance: Random) -> Damage:
    """A damage of some file: each kind of file as often as any other, whatever their sizes."""
    by_kind: dict[str, list[str]] = {}
    for path in store.files:
        by_kind.setdefault(kind_of(path), []).append(path)
    while True:
        path = chance.choice(by_kind[chance.choice(sorted(by_kind))])
        data = store.files[path]
        (change,) = chance.choices([each for _, each in CHANGES], [weight for weight, _ in CHANGES])
        content, ranges = change(data, chance)
        if content != data:
            return Damage(change.__name__, path, content, ranges)


def kind_of(path: str) -> str:
    """Lane, day file, packed file, trash, MANIFEST, or the name of a file of the root."""
    name = os.path.basename(path)
    if "/.trash/" in path:
        return "trash"
    if path.startswith(f"{ROOT}/memory"):
        return {"jsonl": "day file", "zst": "cold" if "/archive/" in path else "warm"}.get(
            name.rpartition(".")[2], name
        )
    return "lane" if name.endswith(".lane") else name


# -- what may become of them


def do(store: Store, damage: Damage) -> CrashingStorage:
    """A copy of the store with the damage in it."""
    disk = store.disk.crash(0)
    if damage.content is None:
        disk.unlink(damage.path)
    else:
        file = disk.open_update(damage.path)
        file.truncate(0)
        file.write(damage.content, 0)
        file.close()
    return disk


def look(store: Store, damage: Damage) -> None:
    """Read everything in every way, and compare."""
    disk = do(store, damage)
    try:
        engine = open_reader(disk, store.clock)
    except CorruptionError as error:
        if damage.path.endswith("/STORE.json") and damage.touches(error):
            return
        raise
    except MemstoreError:
        assert damage.path.endswith("/STORE.json")
        assert damage.content is None, "a damaged STORE.json is neither a newer one nor none"
        return
    for agent in AGENTS:
        expected = store.lines[agent]
        errors: list[CorruptionError] = []
        for newest_first in (False, True):
            answer = answered(errors, partial(read, engine, agent, newest_first=newest_first))
            excused = store.excused(damage, agent)
            if answer is not None:
                compare(answer[::-1] if newest_first else answer, expected, excused if store.silent(damage) else set())
        ids = [id_of(line) for line in expected]
        for memory_id, line in zip(ids, expected, strict=True):
            got = answered(errors, engine.reader.get_line, memory_id)
            assert got is None or got == line, f"{memory_id} is not what it was"
        counted = answered(errors, lambda who: engine.reader.count(who, EVERYTHING, on_damage="raise"), agent)
        assert counted is None or store.silent(damage) or counted == len(expected)
        newest = answered(errors, lambda who: engine.reader.recent(who, 7, EVERYTHING, on_damage="raise"), agent)
        assert newest is None or store.silent(damage) or [r.memory_id for r in newest] == ids[:-8:-1]
        for error in errors:
            assert damage.touches(error), f"the damage lies in {damage.ranges}; it is reported as {error}"
        if store.hits_first_line(damage, agent) and errors:
            continue  # nothing of that agent is read around it: its tombstones cannot be told
        left = read(engine, agent, on_damage="skip")
        assert left[::-1] == read(engine, agent, newest_first=True, on_damage="skip")
        if damage.path.endswith("/MANIFEST"):  # a line that is read around hides nothing any more, and expires nothing
            left = [line for line in left if line not in store.gone]
        compare(left, expected, store.excused(damage, agent))


def work(store: Store, damage: Damage) -> None:
    """Merge, maintain and append on the damaged store: whatever fails, nothing that lies elsewhere is lost."""
    disk = do(store, damage)
    clock = ManualClock(store.clock.now_us() + 1_000_000)
    fresh: dict[str, str] = {}
    try:
        engine = make_engine(ROOT, disk, settings=SETTINGS, clock=clock)
        engine.maintenance._run = lambda _: None  # type: ignore[method-assign]
    except MemstoreError:
        return
    for step in range(2):
        for agent in ("a", "b.B"):
            with suppress(MemstoreError):
                fresh[put(engine, agent, f"written on {step}")] = agent
        with suppress(MemstoreError):
            engine.drain(timeout_s=0)
        with suppress(MemstoreError):
            lifecycle = Lifecycle(engine)
            lifecycle.eraser._drain_wait_s = 0.0
            lifecycle.manager.maintain()
        clock.advance(9 * DAY_S)
    with suppress(MemstoreError):
        engine.close()
    reader = open_reader(disk, clock)
    for agent in ("a", "b.B"):  # those of "short" may have expired meanwhile
        if store.hits_first_line(damage, agent):
            continue
        mine = {i for i, whose in fresh.items() if whose == agent}
        left = [line for line in read(reader, agent, on_damage="skip") if line not in store.gone]
        assert {i for i in mine if not any(id_of(line) == i for line in left)} == set(), "a new record is lost"
        old = [line for line in left if id_of(line) not in mine]
        lasting = [line for line in store.lines[agent] if b'"PERFORMANCE"' not in line]
        compare([line for line in old if line in set(lasting)], lasting, store.excused(damage, agent))
        assert not [line for line in old if line not in set(store.lines[agent])]


def answered(errors: list[CorruptionError], ask: Callable[..., Any], *arguments: Any) -> Any:
    """An answer, or None and an error more."""
    try:
        return ask(*arguments)
    except CorruptionError as error:
        errors.append(error)
        return None


def compare(found: list[bytes], expected: list[bytes], excused: set[bytes]) -> None:
    """What was found is what was there, in that order, but for lines that the damage excuses."""
    strange = [line for line in found if line not in set(expected)]
    assert not strange, f"lines that were not there before: {strange[:3]}"
    there = set(found)
    assert [line for line in expected if line in there] == found, "another order, or lines twice"
    lost = [line for line in expected if line not in there and line not in excused]
    assert not lost, f"{len(lost)} lines are lost that lie elsewhere, such as {lost[0]!r}"


def id_of(line: bytes) -> str:
    start = len(b'{"memory_id":"')
    return line[start : line.index(b'"', start)].decode()


# -- running it


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Damage is logged, thousands of times; and a read that begins again for ever fails."""
    take = Reading._look

    def counted(self: Any, distrusted: frozenset[str]) -> None:
        self.looks = getattr(self, "looks", 0) + 1
        assert self.looks < 200, "a read begins again for ever"
        take(self, distrusted)

    monkeypatch.setattr(Reading, "_look", counted)
    monkeypatch.setattr("memstore.lifecycle.manager.DRAIN_WAIT_S", 0.0)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def store() -> Store:
    logging.disable(logging.CRITICAL)
    return build()


def test_the_store_that_is_damaged_has_every_kind_of_file(store: Store) -> None:
    kinds = {kind_of(path) for path in store.files}
    files = {"STORE.json", "HOLDS.json", "LIFECYCLE.json", "FORGOTTEN"}
    assert kinds == {"lane", "day file", "MANIFEST", "warm", "cold", "trash", *files}
    assert store.gone
    assert all(store.in_lanes.values())
    for path in store.files:
        look(store, Damage("nothing", path, store.files[path], [(len(store.files[path]) - 1, 1)]))


def test_a_damaged_frame_costs_its_own_lines_and_repeats_of_them_and_no_others(store: Store) -> None:
    """A read began again for ever where a repeat lay in one frame and its original in a damaged one."""
    path = max((p for p in store.files if kind_of(p) == "cold" and "/a/" in p), key=lambda p: len(store.files[p]))
    data = store.files[path]
    frames = [index for index in range(len(data)) if data.startswith(b"\x28\xb5\x2f\xfd", index)]
    assert len(frames) > 1
    for place in frames:
        content = data[: place + 60] + bytes([data[place + 60] ^ 1]) + data[place + 61 :]
        damage = Damage("flip", path, content, [(place + 60, 1)])
        look(store, damage)
        left = read(open_reader(do(store, damage), store.clock), "a", on_damage="skip")
        in_file = store.excused(damage, "a")
        assert in_file.intersection(left), "the other frames' lines are there"


def test_a_manifest_that_ends_too_early_is_damage_though_every_line_of_it_verifies(store: Store) -> None:
    """An older length came back: what the last merges and moves made stands beside it."""
    (path,) = (path for path in store.files if path.endswith("MANIFEST") and "/b-b" in path)
    data = store.files[path]
    ends = [index + 1 for index, byte in enumerate(data[:-1]) if byte == 10]
    assert len(ends) > 5
    for end in ends:
        damage = Damage("cut_after_a_line", path, data[:end], [(end, len(data) - end)])
        reader = open_reader(do(store, damage), store.clock)
        with pytest.raises(CorruptionError) as caught:
            reader.reader.count("b.B", EVERYTHING, on_damage="raise")
        assert damage.touches(caught.value), str(caught.value)
        look(store, damage)


@pytest.mark.parametrize("share", range(2))
def test_damage_is_an_error_that_names_its_place_or_changes_nothing(store: Store, share: int) -> None:
    first = int(SEED) if SEED else SystemRandom().randrange(2**32)
    for number in range(1 if SEED else COUNT // 2):
        damage = draw(store, Random(first + number))
        try:
            look(store, damage)
            if SEED or number % 8 == 0:
                work(store, damage)
        except BaseException as error:
            error.add_note(
                f"{damage.kind} of {damage.path} at {damage.ranges}; to replay: DAMAGE_SEED={first + number} "
                f"{sys.executable} -m pytest tests/crash/test_damage_sweep.py -k names_its_place"
            )
            raise
        tally(FLIPS)
