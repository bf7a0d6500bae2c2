"""The power goes, for real as far as memstore can tell: what was acknowledged is on the disk (P1, P2, P5).

``make power-cut N=500``. A story (``workload.py``) is recorded once for every `CUTS_PER_STORY` cuts; each cut is one
image, mounted by the kernel's own ext4, read by memstore, drained, read again. The same story under eatmydata, whose
syncs do nothing, has to be caught losing records: or the rig would prove nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import Any

import pytest
import rig
from rig import Disk, mounted, record
from tally import POWER_CUTS, tally
from workload import SETTINGS

from memstore import MemStore

CUTS = int(os.environ.get("POWER_CUTS", "16"))
SEED = os.environ.get("POWER_SEED")
CUTS_PER_STORY = 50
CONTROL_CUTS = 40
SEARCHED_MAX = 1000
"""More than a story has records."""
why_not = rig.missing()
pytestmark = [pytest.mark.kill, pytest.mark.skipif(bool(why_not), reason=why_not)]


@dataclass
class Notes:
    """What the program had been told, and had asked for, by a moment.

    Attributes:
        batches: ids that were acknowledged together.
        going: ids that somebody had asked to forget or to erase.
        gone: those for which that was acknowledged.
    """

    batches: list[list[str]] = field(default_factory=list)
    going: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)


def notes_until(path: str, at_ns: int) -> Notes:
    notes = Notes()
    with open(path, encoding="ascii") as file:
        for line in file:
            time_ns, what, *ids = line.split()
            if int(time_ns) > at_ns:
                break
            if what == "has":
                notes.batches.append(ids)
            else:
                (notes.going if what == "goes" else notes.gone).update(ids)
    return notes


def lines_of(store: MemStore) -> dict[str, bytes]:
    """Every line by its id; each agent's in order, none twice."""
    found: dict[str, bytes] = {}
    for agent in store.agents():
        lines = list(store.agent(agent).lines())
        assert lines == sorted(set(lines)), f"{agent}: doubled or out of order"
        assert store.agent(agent).count() == len(lines)
        found |= {line[len(b'{"memory_id":"') : line.index(b'"', 14)].decode(): line for line in lines}
    return found


def found_by_search(store: MemStore) -> set[str]:
    """Every id that a search for everything gives, each once."""
    result = store.search("", sort="oldest", limit=SEARCHED_MAX, highlight=False)
    ids = [hit.record.memory_id for hit in result.hits]
    assert len(ids) == len(set(ids)) == result.total, "a search gives a record twice, or counts others than it gives"
    return set(ids)


def lost_of(store: MemStore, notes: Notes, everything: Notes) -> list[str]:
    """Acknowledged records that are not there; everything else that is wrong fails."""
    found = lines_of(store)
    known = {memory_id for batch in everything.batches for memory_id in batch}
    assert found.keys() <= known, f"nobody appended {min(found.keys() - known)}"
    assert not found.keys() & notes.gone, f"{min(found.keys() & notes.gone)} was forgotten and is back"
    for batch in everything.batches:
        there = {memory_id in found for memory_id in batch if memory_id not in everything.going}
        assert len(there) < 2, f"half a batch: {batch}"
    acknowledged = {memory_id for batch in notes.batches for memory_id in batch}
    return sorted(acknowledged - found.keys() - notes.going)


def cut(disk: Disk, path: str, story: dict[str, bytes], base: str, seed: int) -> list[str]:
    """Cut the power once; acknowledged records that are lost. Everything else that is wrong fails."""
    chance = Random(seed)
    event = chance.randrange(1, len(disk.events))
    image = os.path.join(base, "found")
    with open(image, "wb") as file:
        file.write(disk.after(event, chance))
    notes, everything = notes_until(path, disk.events[event - 1].at_ns), notes_until(path, 1 << 63)
    with mounted(image, os.path.join(base, "mounted")) as directory:
        root = os.path.join(directory, "store")
        if not os.path.exists(os.path.join(root, "STORE.json")) and not notes.batches:
            with MemStore(root, settings=SETTINGS) as store:
                store.append(agent_id="first", content="it can begin")
            return []
        with MemStore(root, settings=SETTINGS, read_only=True) as store:
            lost = lost_of(store, notes, everything)
            changed = [i for i, line in lines_of(store).items() if story.get(i, line) != line]
            assert not changed, f"{changed[0]} is not what it was"
            before = lines_of(store)
            assert found_by_search(store) == before.keys(), "a search does not give what is there"
        with MemStore(root, settings=SETTINGS) as store:
            assert store.drain().pending == []
            assert lines_of(store) == before, "a merge after the power cut has changed what is there"
            assert store.maintain().failed == []
            after = lines_of(store)
            assert before.keys() - after.keys() <= everything.going, (
                "only an erasure that was begun takes anything away"
            )
            assert after == {memory_id: before[memory_id] for memory_id in after}
            store.index()
            assert found_by_search(store) == after.keys(), "a search behind an indexer does not give what is there"
    return lost


def whole_story(disk: Disk, base: str) -> dict[str, bytes]:
    """What the store held when nothing had gone wrong."""
    image = os.path.join(base, "whole")
    with open(image, "wb") as file:
        file.write(disk.after(len(disk.events), Random(0)))
    with (
        mounted(image, os.path.join(base, "mounted")) as directory,
        MemStore(os.path.join(directory, "store"), settings=SETTINGS, read_only=True) as store,
    ):
        return lines_of(store)


@pytest.fixture
def base(tmp_path: Any) -> Iterator[str]:
    yield str(tmp_path)
    for directory, _, _ in os.walk(tmp_path):
        assert not os.path.ismount(directory), f"{directory} is still mounted"


def test_nothing_acknowledged_is_lost_or_doubled_by_a_power_cut(base: str) -> None:
    seed = int(SEED) if SEED else SystemRandom().randrange(1, 2**32)
    for number in range(0, 1 if SEED else CUTS, CUTS_PER_STORY):
        story_seed = seed + number
        directory = os.path.join(base, str(number))
        os.makedirs(directory)
        disk, path = record(directory, story_seed)
        story = whole_story(disk, directory)
        assert len(story) > 50
        for each in range(min(CUTS_PER_STORY, CUTS - number)):
            try:
                lost = cut(disk, path, story, directory, story_seed * 1000 + each)
                assert not lost, f"{len(lost)} acknowledged records are lost, such as {lost[0]}"
            except BaseException as error:
                error.add_note(
                    f"cut {each} of story {story_seed}; to replay (threads may differ): POWER_SEED={story_seed} "
                    f"POWER_CUTS={CUTS_PER_STORY} {sys.executable} -m pytest tests/power"
                )
                raise
            tally(POWER_CUTS)


def test_a_store_whose_syncs_do_nothing_is_caught(base: str) -> None:
    disk, path = record(base, 7, forgets_to_sync=True)
    for each in range(CONTROL_CUTS):
        try:
            if cut(disk, path, {}, base, each):
                return
        except Exception:  # noqa: BLE001 - damage, half a batch, an ext4 that cannot be mounted: caught as well
            return
    pytest.fail("no power cut lost anything: the rig proves nothing")
