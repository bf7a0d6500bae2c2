"""A check of the second copy finds its damage and what it lacks, and a repair of it takes both anew from the store."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kept_store import Kept
from rich_store import clock_of_rich_store, open_rich
from support import QUIET, files_named, flip, lane_files
from test_check import KINDS, of_kind
from test_repair import content, lines_in, overwrite

from memstore import MemStore, NotFoundError, UsageError
from memstore.clock import WallClock
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.ops.check_copy import _CopyCheck, check_copy
from memstore.ops.compare_copy import Difference, compare_agent
from memstore.ops.finding import Finding
from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.report import CheckReport
from memstore.replica.tombstones import CopyTombstones
from memstore.wal.mirror import Mirror

IN_COPY = [kind for kind in KINDS if kind not in ("STORE.json", "reads")]


def look(root: str, *, full: bool = True) -> CheckReport:
    return check_copy(LocalStorage(), StorePaths(root), clock=WallClock(), full=full)


def told(report: CheckReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.severity != "note"]


def mend_copy(root: str) -> RepairReport:
    with open_rich(root) as store:
        report = store.repair_replica()
    assert report.is_clean, (report.failed, report.after and report.after.findings)
    return report


def lines_in_copy(kept: Kept) -> dict[str, dict[str, bytes]]:
    return lines_in(kept.copy)


@pytest.mark.parametrize("full", [False, True])
def test_a_copy_that_has_everything_is_clean(kept: Kept, full: bool) -> None:
    report = look(kept.root, full=full)
    assert report.is_clean, report.findings
    assert report.root == kept.copy
    assert report.checked.agents
    with open_rich(kept.root) as store:
        assert store.check(full=full, copy=True).is_clean


@pytest.mark.parametrize("kind", IN_COPY)
def test_damage_of_the_copy_is_told_with_its_place_and_mended_from_the_store(kept: Kept, kind: str) -> None:
    chance = random.Random(kind)
    paths = of_kind(kept.copy, kind)
    places = {}
    for path in {paths[0], paths[-1]}:
        places[path] = chance.randrange(os.path.getsize(path) - 2)
        flip(path, places[path], 1 << chance.randrange(8))
    report = look(kept.root)
    for path, offset in places.items():
        here = [finding for finding in told(report) if finding.path == path]
        assert any(each.offset_bytes <= offset <= each.offset_bytes + each.length_bytes for each in here), (kind, path)
        assert all("repair --copy" in each.repair for each in here)
    mended = mend_copy(kept.root)
    assert {step.path for step in mended.steps} >= places.keys()
    assert lines_in_copy(kept) == kept.lines


@pytest.mark.parametrize("how", ["missing", "cut"])
@pytest.mark.parametrize("kind", ["hot", "warm", "cold", "trash", "MANIFEST", "lane"])
def test_what_the_copy_has_lost_is_told_and_copied_once_more(kept: Kept, kind: str, how: str) -> None:
    for path in of_kind(kept.copy, kind):
        if how == "missing":
            os.unlink(path)
        else:
            os.truncate(path, os.path.getsize(path) // 2)
    report = look(kept.root, full=False)
    assert report.damaged
    assert mend_copy(kept.root).steps
    assert lines_in_copy(kept) == kept.lines


def test_a_file_that_is_the_same_is_not_copied_again(kept: Kept) -> None:
    hot = of_kind(kept.copy, "hot")
    before = {path: os.stat(path).st_ino for path in hot}
    overwrite(hot[0], 100, b"????")
    mend_copy(kept.root)
    changed = [path for path in hot if os.path.exists(path) and os.stat(path).st_ino != before[path]]
    assert changed == [hot[0]]


def test_a_pass_alone_does_not_notice_flipped_bits_of_the_copy(kept: Kept) -> None:
    """Which is why there is a check."""
    path = of_kind(kept.copy, "hot")[0]
    overwrite(path, 100, b"????")
    with open_rich(kept.root) as store:
        assert store.sync_replica()["state"] == "ok"
    assert [finding.path for finding in told(look(kept.root))] == [path]


def test_an_agent_that_the_copy_has_lost_is_missed(kept: Kept) -> None:
    home = os.path.dirname(files_named(kept.copy, "a/MANIFEST")[0])
    shutil.rmtree(home)
    shutil.rmtree(os.path.join(kept.copy, "memory", "archive", "a"))
    for lane in lane_files(kept.copy):
        os.unlink(lane)
    for full in (False, True):
        findings = told(look(kept.root, full=full))
        (finding,) = [each for each in findings if each.agent == "a"]
        assert (finding.kind, finding.path, finding.records) == ("replica", home, len(kept.lines["a"]))
        assert "not in it, such as a_" in finding.reason
        assert [each.agent for each in findings] == ["a", "new"]
    plan = open_and_plan(kept.root)
    assert [step.kind for step in plan.steps] == ["copy_again", "copy_again"]
    mend_copy(kept.root)
    assert lines_in_copy(kept) == kept.lines


def open_and_plan(root: str) -> RepairReport:
    with open_rich(root, read_only=True) as store:
        return store.repair_replica(plan_only=True)


def test_a_plan_changes_nothing(kept: Kept) -> None:
    path = of_kind(kept.copy, "hot")[0]
    overwrite(path, 100, b"????")
    before = content(path)
    plan = open_and_plan(kept.root)
    assert [(step.kind, step.path) for step in plan.steps] == [("copy_again", path)]
    assert plan.after is None
    assert content(path) == before


def test_what_the_store_has_lost_too_stays_in_the_copy_as_it_is(kept: Kept) -> None:
    (path,) = files_named(kept.root, "a/20250203.11.jsonl")
    there = kept.same_in_copy(path)
    for each, offset in ((path, 1100), (there, 100)):  # different blocks: between them they have everything
        overwrite(each, offset, b"????")
    mend_copy(kept.root)
    assert content(there) != content(path)
    for each in (path, there):
        overwrite(each, 100, b"????")
    before = content(there)
    with open_rich(kept.root) as store:
        report = store.repair_replica()
    assert report.failed
    assert content(there) == before


def test_a_record_that_is_hidden_in_the_store_and_not_in_the_copy_is_told(kept: Kept) -> None:
    (path,) = files_named(kept.copy, "a/MANIFEST")
    before = content(path)
    with open_rich(kept.root) as store:
        store.forget(sorted(kept.lines["a"])[-2:])
    assert look(kept.root).is_clean
    with open(path, "wb") as file:
        file.write(before)
    findings = [finding for finding in told(look(kept.root)) if finding.kind == "replica"]
    assert [(finding.agent, finding.records) for finding in findings] == [("a", 2)]
    assert "forgotten can be read there" in findings[0].reason
    mend_copy(kept.root)


# -- a copy that is behind, away, or none


def test_what_a_copy_lacks_that_says_so_is_a_note(kept: Kept) -> None:
    with open_rich(kept.root) as store:
        os.rename(kept.volume, f"{kept.volume}.away")
        store.append(agent_id="a", content="not in the copy")
    report = look(kept.root)
    assert (report.damaged, report.unread, report.is_clean) == (0, 1, False)
    assert "is not there" in report.findings[0].reason
    os.rename(f"{kept.volume}.away", kept.volume)
    report = look(kept.root)
    assert report.is_clean
    notes = [finding.reason for finding in report.findings if finding.kind == "replica"]
    assert any("it is behind since" in reason for reason in notes)
    assert any("1 record(s) of the store are not in it" in reason for reason in notes)
    mend_copy(kept.root)
    assert look(kept.root).is_clean


def behind(kept: Kept) -> None:
    """A record that is in a day file of the store, and nowhere in the copy, which was away and is back."""
    with open_rich(kept.root) as store:
        os.rename(kept.volume, f"{kept.volume}.away")
        store.append(agent_id="a", content="not in the copy")
        store.drain()
    os.rename(f"{kept.volume}.away", kept.volume)


def test_a_pass_that_was_stopped_before_a_line_of_the_manifest_leaves_no_damage(kept: Kept) -> None:
    behind(kept)
    (newest,) = [path for path in files_named(kept.root, "20250207.13.jsonl") if "/a/" in path]
    place = os.path.dirname(kept.same_in_copy(os.path.join(os.path.dirname(newest), "MANIFEST")))
    shutil.copy(newest, place)
    report = look(kept.root)
    assert told(report) == []
    assert any("a pass has begun to write there" in finding.reason for finding in report.findings)
    mend_copy(kept.root)
    assert told(look(kept.root)) == []


def test_a_record_that_is_just_being_forgotten_is_no_damage(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is hidden in the store, and not in the copy yet."""
    hidden_here, looked = threading.Event(), threading.Event()
    append, settle = CopyTombstones.append, _CopyCheck._settle

    def append_late(self: CopyTombstones, *of: Any, **named: Any) -> None:
        hidden_here.set()
        looked.wait()
        append(self, *of, **named)

    def settle_late(self: _CopyCheck) -> None:
        looked.set()
        settle(self)

    monkeypatch.setattr(CopyTombstones, "append", append_late)
    monkeypatch.setattr(_CopyCheck, "_settle", settle_late)
    with open_rich(kept.root) as store:
        assert store.sync_replica()["state"] == "ok"
        ids = [record.memory_id for record in store.agent("a").recent(1)]
        thread = threading.Thread(target=lambda: store.forget(ids))
        thread.start()
        hidden_here.wait()
        try:
            assert told(look(kept.root)) == []
            assert looked.is_set()
        finally:
            looked.set()
            thread.join()


def test_what_a_pass_brings_while_the_copy_is_compared_is_not_missing(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind(kept)
    compare, passes = compare_agent, []

    def compare_and_bring(*of: Any, **named: Any) -> Difference:
        difference = compare(*of, **named)
        if difference.missing and not passes:
            passes.append(difference)
            with open_rich(kept.root) as store:
                store.sync_replica()
        return difference

    monkeypatch.setattr("memstore.ops.check_copy.compare_agent", compare_and_bring)
    assert look(kept.root).findings == []
    assert passes


def test_a_commit_that_reaches_the_copy_last_is_not_missing(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    written_here, looked = threading.Event(), threading.Event()
    looked.set()
    write, compare = Mirror._write, compare_agent

    def write_late(self: Mirror, payload: bytes, end: int) -> None:
        written_here.set()
        looked.wait(30)
        write(self, payload, end)

    def compare_and_let_on(*of: Any, settle: Callable[[], None], **named: Any) -> Difference:
        def let_on() -> None:
            threading.Timer(0.1, looked.set).start()
            settle()

        return compare(*of, settle=let_on, **named)

    monkeypatch.setattr(Mirror, "_write", write_late)
    monkeypatch.setattr("memstore.ops.check_copy.compare_agent", compare_and_let_on)
    with open_rich(kept.root) as store:
        store.append(agent_id="a", content="makes a lane")
        looked.clear()
        before = sum(map(os.path.getsize, lane_files(kept.root)))
        thread = threading.Thread(target=lambda: store.append(agent_id="a", content="on its way"))
        thread.start()
        try:
            assert written_here.wait(30)
            while sum(map(os.path.getsize, lane_files(kept.root))) == before:
                threading.Event().wait(0.001)  # the lane's own write goes on beside the mirror's
            assert told(look(kept.root)) == []
            assert looked.is_set(), "it was missed at the first look"
        finally:
            looked.set()
            thread.join()


def test_a_store_without_a_copy_and_a_copy_itself_are_refused(kept: Kept, rich: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is the second copy itself"):
        look(kept.copy)
    with open_rich(kept.root) as store:
        store.remove_replica()
    with pytest.raises(NotFoundError, match="has no second copy"):
        look(kept.root)
    with pytest.raises(NotFoundError, match="holds no store"):
        look(str(tmp_path / "nothing"))


# -- beside writers


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[MemStore]:
    (tmp_path / "second").mkdir()
    settings = {
        **QUIET,
        "merging": {"background": True, "age_s": 0},
        "writing": {"lane_bytes_max": 8192, "commit_bytes_max": 4096},
    }
    with MemStore(str(tmp_path / "store"), settings=settings) as store:
        store.add_replica(str(tmp_path / "second"))
        yield store


def test_nothing_is_missed_of_what_is_written_meanwhile(busy: MemStore) -> None:
    stop = threading.Event()

    def write() -> None:
        for number in range(100_000):
            if stop.is_set():
                return
            ids = busy.append_many({"agent_id": a, "content": f"{number} " + "x" * 100} for a in "abc")
            if number % 5 == 0:
                busy.forget(ids[0])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(12):
            report = busy.check(full=number % 2 == 0, copy=True)
            assert report.is_clean, [finding.sentence for finding in told(report)]
    finally:
        stop.set()
        thread.join()
    assert busy.check(full=True, copy=True).is_clean
    assert clock_of_rich_store()
