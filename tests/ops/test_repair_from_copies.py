"""A repair takes good bytes from the second copy and the backups by itself, and never what is older than ours."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from kept_store import Kept
from rich_store import clock_of_rich_store, open_rich
from support import files_named, lane_files
from test_check import of_kind
from test_repair import SETTINGS, content, kinds, lines_in, mend, overwrite

from memstore.errors import ReadOnlyError, UsageError
from memstore.ops.repair.repair_report import RepairReport
from memstore.store import repair


def sources(report: RepairReport) -> set[str]:
    """Who gave anything, by the first words of what people call it."""
    return {" ".join(each.source.split()[:2]) for step in report.steps for each in step.copied}


def spoil(path: str) -> None:
    overwrite(path, os.path.getsize(path) // 2, b"????")


FILES = ["hot", "warm", "cold", "trash"]


@pytest.mark.parametrize("how", ["spoiled", "missing", "cut"])
@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_as_they_were_by_the_second_copy(kept: Kept, kind: str, how: str) -> None:
    paths = of_kind(kept.root, kind)
    before = {path: content(path) for path in paths}
    for path in paths:
        if how == "spoiled":
            spoil(path)
        elif how == "missing":
            os.unlink(path)
        else:
            os.truncate(path, os.path.getsize(path) // 2)
    plan = mend(kept.root, plan_only=True)
    report = mend(kept.root)
    assert kinds(report) == ["restore_file"] * len(paths) == kinds(plan)
    assert plan.steps == report.steps
    assert sources(report) == {"the second"}
    assert f"the second copy at {kept.copy}" in report.steps[0].sentence
    assert {path: content(path) for path in paths} == before
    assert lines_in(kept.root) == kept.lines


@pytest.mark.parametrize("kind", FILES)
def test_what_is_damaged_in_the_second_copy_too_comes_from_the_backup(kept: Kept, kind: str) -> None:
    paths = of_kind(kept.root, kind)
    for path in paths:
        spoil(kept.same_in_copy(path))
        spoil(path)
    report = mend(kept.root)
    assert sources(report) == {"the backup"}
    assert lines_in(kept.root) == kept.lines


def test_what_no_copy_has_is_lost_and_told(kept: Kept) -> None:
    (path,) = files_named(kept.root, "a/20250203.11.jsonl")
    (in_backup,) = files_named(kept.points()[-1], "a/20250203.11.jsonl")
    for each in (kept.same_in_copy(path), in_backup, path):
        overwrite(each, 100, b"????")
    report = mend(kept.root)
    assert kinds(report) == ["salvage_file", "write_manifest"]
    assert (report.records_lost, sources(report)) == (3, set())
    found = lines_in(kept.root)
    assert found["a"].items() < kept.lines["a"].items()


def test_without_copies_nothing_is_taken_from_them(kept: Kept) -> None:
    (path,) = files_named(kept.root, "a/20250203.11.jsonl")
    overwrite(path, 100, b"????")
    report = mend(kept.root, known_copies=False)
    assert (report.copies, report.records_lost) == ([], 3)


def test_the_newest_backup_is_asked_first_and_one_that_lacks_the_bytes_is_passed_over(kept: Kept) -> None:
    with open_rich(kept.root) as store:
        store.remove_replica()
        store.drain()
        store.backup(kept.backups)
    older, newer = kept.points()
    (path,) = files_named(kept.root, "a/20250203.11.jsonl")
    overwrite(path, 100, b"????")
    plan = mend(kept.root, plan_only=True)
    assert plan.copies == [f"the backup {newer}", f"the backup {older}"]
    assert [each.source for step in plan.steps for each in step.copied] == plan.copies[:1]
    (there,) = files_named(newer, "a/20250203.11.jsonl")
    shutil.move(there, there + ".away")
    plan = mend(kept.root, plan_only=True)
    assert [each.source for step in plan.steps for each in step.copied] == [f"the backup {older}"]


def test_a_copy_that_is_not_there_is_named(kept: Kept) -> None:
    os.rename(kept.volume, f"{kept.volume}.away")
    shutil.rmtree(kept.backups)
    (path,) = files_named(kept.root, "a/20250203.11.jsonl")
    overwrite(path, 100, b"????")
    plan = mend(kept.root, plan_only=True)
    assert plan.copies == []
    copy, backup = plan.copies_missing
    assert kept.copy in copy
    assert kept.backups in backup
    before = content(path)
    with pytest.raises(ReadOnlyError, match="bring the volume back"):
        mend(kept.root)
    assert content(path) == before
    settings = {**SETTINGS, "storage.force_alone": True}
    report = repair(kept.root, settings=settings, clock=clock_of_rich_store())
    assert (report.is_clean, report.records_lost) == (True, 3)


def test_backups_may_be_named_where_the_store_does_not_know_them(kept: Kept) -> None:
    with open_rich(kept.root) as store:
        store.remove_replica()
        store.detach_backups(kept.backups)
    (path,) = files_named(kept.root, "a/20250203.11.jsonl")
    overwrite(path, 100, b"????")
    assert mend(kept.root, plan_only=True).copies == []
    for named in (kept.backups, kept.points()[0], kept.copy):
        plan = mend(kept.root, plan_only=True, source=named)
        assert kinds(plan) == ["restore_file"], named
    report = mend(kept.root, source=kept.backups)
    assert lines_in(kept.root) == kept.lines
    assert sources(report) == {"the backup"}


def test_copies_of_another_store_are_refused(kept: Kept, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    with open_rich(other) as store:
        store.append(agent_id="a", content=1)
        store.backup(str(tmp_path / "backups of other"))
    for named in (other, str(tmp_path / "backups of other")):
        with pytest.raises(UsageError, match="of another store"):
            mend(kept.root, source=named)


# -- lanes


def test_damaged_slices_of_a_lane_come_from_the_second_copy(kept: Kept) -> None:
    (path,) = lane_files(kept.root)
    overwrite(path, content(path).index(b"late 1 "), b"????")
    report = mend(kept.root)
    assert kinds(report) == ["release_lane"]
    assert sources(report) == {"the second"}
    assert lines_in(kept.root) == kept.lines


@pytest.mark.parametrize("where", ["first line", "commit line", "all but the end"])
def test_lost_lines_of_a_lane_come_from_the_second_copy_where_the_lane_itself_does_not_have_them(
    kept: Kept, where: str
) -> None:
    (path,) = lane_files(kept.root)
    data = content(path)
    start = data.index(b'{"commit"')
    if where == "all but the end":
        overwrite(path, 0, bytes(data.index(b'{"slice"')))
    else:
        overwrite(path, 20 if where == "first line" else start + 20, b"????")
    report = mend(kept.root)
    assert sources(report) == ({"the second"} if where == "all but the end" else set()), "or the footer says the same"
    assert lines_in(kept.root) == kept.lines


def test_a_slice_of_which_a_record_was_erased_comes_back_without_it(kept: Kept) -> None:
    """The lane could not be merged when the record was erased, so that it is in the copy's lane, too."""
    (path,) = lane_files(kept.root)
    overwrite(path, content(path).index(b"late 1 "), b"????")
    with open_rich(kept.root) as store:
        assert store.drain(timeout_s=0.1).pending
        gone = next(i for i, line in kept.lines["a"].items() if b"late 3 " in line)
        assert store.erase(ids=gone).pending
    report = mend(kept.root)
    assert "lines that were erased" in report.steps[0].sentence
    with open_rich(kept.root) as store:
        assert store.get(gone) is None
        assert store.agent("a").count() == len(kept.lines["a"]) - 1


@pytest.mark.parametrize("how", ["unmerged", "some forgotten and erased since"])
def test_a_lane_that_is_gone_comes_back_from_the_second_copy(kept: Kept, how: str) -> None:
    (path,) = lane_files(kept.root)
    left = {agent: dict(of_agent) for agent, of_agent in kept.lines.items()}
    if how != "unmerged":
        with open_rich(kept.root) as store:
            gone = sorted(memory_id for memory_id, line in kept.lines["a"].items() if b"late" in line)[:2]
            store.forget(gone[:1])
            store.erase(ids=gone[1:])
            ids = store.append_many({"agent_id": a, "content": f"later {n}"} for a in ("a", "new") for n in range(3))
            (path,) = lane_files(kept.root)
        left["a"] = {i: line for i, line in left["a"].items() if i not in gone}
    os.unlink(path)
    plan = mend(kept.root, plan_only=True)
    assert kinds(plan) == ["restore_lane"]
    assert (plan.steps[0].path, plan.steps[0].records_kept) == (path, 10 if how == "unmerged" else 6)
    report = mend(kept.root)
    assert report.steps == plan.steps
    found = lines_in(kept.root)
    for agent, of_agent in left.items():
        assert of_agent.items() <= found[agent].items()
    if how != "unmerged":
        assert {i for of_agent in found.values() for i in of_agent} - {i for of in left.values() for i in of} == {*ids}
    again = mend(kept.root)
    assert again.steps == []


# -- MANIFESTs


@pytest.mark.parametrize("line", range(6))
def test_lines_of_a_manifest_come_from_a_backup_of_the_same_file(kept: Kept, line: int) -> None:
    (path,) = files_named(kept.root, "a/MANIFEST")
    before = content(path)
    whole = before.split(b"\n")
    line = min(line, len(whole) - 2)
    overwrite(path, sum(len(each) + 1 for each in whole[:line]) + 40, b"????")
    report = mend(kept.root)
    assert kinds(report) == ["write_manifest", "release_lane"], "the lane could not be merged before"
    step = report.steps[0]
    assert sources(report) == {"the backup"}
    assert "from the files and lanes" not in step.sentence, "nothing had to be guessed"
    assert lines_in(kept.root) == kept.lines


def test_a_backup_from_before_a_compaction_gives_no_lines(kept: Kept) -> None:
    """Its lines verify, and are not those that stood there."""
    with open_rich(kept.root) as store:
        store.drain()
        engine = store._engine
        committer = store._lifecycle.manager._committer if hasattr(store._lifecycle.manager, "_committer") else None
        if committer is None:
            from memstore.lifecycle.commit import Committer

            committer = Committer(engine)
        with committer.locked_agent("a") as held:
            committer.compact(held, at_us=engine.clock.now_us())
    (path,) = files_named(kept.root, "a/MANIFEST")
    overwrite(path, content(path).index(b"\n") + 40, b"????")
    report = mend(kept.root)
    assert not any(
        "backup" in each.source for step in report.steps if step.kind == "write_manifest" for each in step.copied
    )
    assert lines_in(kept.root) == kept.lines


@pytest.fixture
def twice(kept: Kept) -> Kept:
    """A second copy, and no backup."""
    with open_rich(kept.root) as store:
        store.detach_backups(kept.backups)
        store.drain()
        store.sync_replica()
    shutil.rmtree(kept.backups)
    return kept


def said_of(root: str, agent: str) -> tuple[object, ...]:
    """What a MANIFEST says of what counts."""
    with open_rich(root, read_only=True) as store:
        manifest = store._engine.builder.manifest(agent)
        assert manifest is not None
        return manifest.day_files, manifest.packed, manifest.trash, manifest.hidden.ids, manifest.ingested


@pytest.mark.parametrize("line", range(7))
def test_lines_of_a_manifest_are_made_up_for_by_what_the_second_copy_says(twice: Kept, line: int) -> None:
    (path,) = files_named(twice.root, "a/MANIFEST")
    before = said_of(twice.root, "a")
    whole = content(path).split(b"\n")
    line = min(line, len(whole) - 2)
    overwrite(path, sum(len(each) + 1 for each in whole[:line]) + 40, b"????")
    report = mend(twice.root)
    (step,) = report.steps
    assert step.kind == "write_manifest"
    assert sources(report) == {"the second"}
    assert "from the files and lanes" not in step.sentence, "nothing had to be guessed"
    assert said_of(twice.root, "a") == before
    assert lines_in(twice.root) == twice.lines


def test_lines_that_came_behind_what_the_second_copy_knows_count(twice: Kept) -> None:
    (path,) = files_named(twice.root, "a/MANIFEST")
    known = len(content(path))
    os.rename(twice.volume, f"{twice.volume}.away")
    with open_rich(twice.root, read_only=True) as store:
        assert store.replica_status()["state"] == "away"  # type: ignore[index]
    os.rename(f"{twice.volume}.away", twice.volume)
    with open_rich(twice.root) as store:
        late = store.append_many({"agent_id": "a", "content": n} for n in range(3))
        store._replicator.close()  # no pass behind the merge
        store.drain()
        forgotten = late.pop()
        store.forget(forgotten)
    assert len(content(path)) > known
    before = said_of(twice.root, "a")
    overwrite(path, 300, b"????")
    report = mend(twice.root)
    assert report.steps[0].kind == "write_manifest"
    assert "from the files and lanes" not in report.steps[0].sentence
    assert said_of(twice.root, "a") == before
    with open_rich(twice.root) as store:
        assert all(record is not None for record in store.get_many(late))
        assert store.get(forgotten) is None


@pytest.mark.parametrize("how", ["cut", "empty", "missing", "wiped"])
def test_a_manifest_that_is_gone_comes_back_with_the_files_that_went_with_it(twice: Kept, how: str) -> None:
    (path,) = files_named(twice.root, "a/MANIFEST")
    whole = content(path)
    before = said_of(twice.root, "a")
    for each in [each for kind in ("hot", "warm", "cold") for each in of_kind(twice.root, kind) if "/a/" in each][::2]:
        os.unlink(each)
    if how == "missing":
        os.unlink(path)
    else:
        changed = {"cut": b"\n".join(whole.split(b"\n")[:3]) + b"\n", "empty": b"", "wiped": bytes(len(whole))}[how]
        with open(path, "wb") as file:
            file.write(changed)
    report = mend(twice.root)
    assert "restore_file" in kinds(report)
    assert lines_in(twice.root) == twice.lines
    assert said_of(twice.root, "a") == before


def test_what_is_gone_here_and_damaged_there_is_told(twice: Kept) -> None:
    (path,) = files_named(twice.root, "a/20250203.11.jsonl")
    overwrite(twice.same_in_copy(path), 0, bytes(os.path.getsize(path)))
    for each in (path, files_named(twice.root, "a/MANIFEST")[0]):
        os.unlink(each)
    report = mend(twice.root)
    assert "take_out" in kinds(report)
    missing = len(twice.lines["a"]) - len(lines_in(twice.root)["a"])
    assert 0 < missing <= report.records_lost <= missing + 3, "some of what is lost was forgotten before"


def test_an_agent_of_which_nothing_is_left_comes_back(twice: Kept) -> None:
    before = said_of(twice.root, "a")
    shutil.rmtree(os.path.dirname(files_named(twice.root, "a/MANIFEST")[0]))
    shutil.rmtree(os.path.join(twice.root, "memory", "archive", "a"))
    plan = mend(twice.root, plan_only=True)
    report = mend(twice.root)
    assert kinds(plan) == kinds(report)
    assert lines_in(twice.root) == twice.lines
    assert said_of(twice.root, "a") == before
    assert mend(twice.root).steps == []


def test_an_agent_that_was_erased_does_not_come_back(twice: Kept) -> None:
    away = shutil.copytree(twice.copy, f"{twice.copy}.before")
    with open_rich(twice.root) as store:
        store.remove_hold("case")
        assert store.erase(agent="a").verified
    for name in ("memory", "lanes"):  # as if the copy had never heard of it
        shutil.rmtree(os.path.join(twice.copy, name))
        shutil.copytree(os.path.join(away, name), os.path.join(twice.copy, name))
    assert mend(twice.root).steps == []
    assert "a" not in lines_in(twice.root)


def test_records_that_were_erased_do_not_come_back_with_an_older_state_of_the_copy(twice: Kept) -> None:
    away = shutil.copytree(twice.copy, f"{twice.copy}.before")
    gone = sorted(twice.lines["a"])[-12:-4]
    with open_rich(twice.root) as store:
        assert store.erase(ids=gone).verified
    for name in ("memory", "lanes"):
        shutil.rmtree(os.path.join(twice.copy, name))
        shutil.copytree(os.path.join(away, name), os.path.join(twice.copy, name))
    shutil.rmtree(os.path.dirname(files_named(twice.root, "a/MANIFEST")[0]))
    mend(twice.root)
    found = lines_in(twice.root)
    assert found["a"] == {i: line for i, line in twice.lines["a"].items() if i not in gone}
    everything = b"".join(content(str(each)) for each in Path(twice.root, "memory").rglob("*") if each.is_file())
    assert not any(memory_id.encode() in everything for memory_id in gone)


# -- what is gone stays gone


@pytest.mark.parametrize("how", ["day files", "day files and MANIFEST", "all but the backup"])
def test_what_was_forgotten_or_erased_since_the_backup_does_not_come_back(kept: Kept, how: str) -> None:
    listed = sorted(kept.lines["a"])
    erased, forgotten = listed[-12:-9], listed[-9:-6]
    with open_rich(kept.root) as store:
        assert not store.erase(ids=erased).pending
        store.forget(forgotten)
        if how == "all but the backup":
            store.remove_replica()
    for path in files_named(kept.root, "a/MANIFEST") if "MANIFEST" in how else []:
        os.unlink(path)
    for path in [path for path in of_kind(kept.root, "hot") if "/a/" in path]:
        spoil(path)
    report = mend(kept.root)
    with open_rich(kept.root) as store:
        assert all(store.get(memory_id) is None for memory_id in (*erased, *forgotten))
        there = {record.memory_id for record in store.agent("a").range()}
    assert there <= kept.lines["a"].keys() - {*erased, *forgotten}
    if how != "day files and MANIFEST":
        lost = len(kept.lines["a"]) - len(erased) - len(forgotten) - len(there)
        assert lost <= report.records_lost
    everything = b"".join(content(str(each)) for each in Path(kept.root, "memory").rglob("*") if each.is_file())
    assert not any(memory_id.encode() in everything for memory_id in erased)


def test_records_that_came_after_the_backup_and_are_intact_stay(kept: Kept) -> None:
    with open_rich(kept.root) as store:
        store.remove_replica()
        late = store.append_many({"agent_id": "a", "content": n} for n in range(3))
        store.drain()
    (path,) = files_named(kept.root, "a/20250203.11.jsonl")
    spoil(path)
    mend(kept.root)
    with open_rich(kept.root) as store:
        assert all(record is not None for record in store.get_many(late))
        assert store.agent("a").count() == len(kept.lines["a"]) + len(late)


# -- small files


def test_holds_that_only_an_older_copy_has_are_kept_and_everything_else_is_held_too(kept: Kept) -> None:
    path = os.path.join(kept.root, "HOLDS.json")
    with open_rich(kept.root) as store:
        store.add_hold("since", agent="new")
    overwrite(path, os.path.getsize(path) - 12, b"????")
    report = mend(kept.root)
    assert kinds(report) == ["hold_everything"]
    assert "any that was added since is not among them" in report.steps[0].sentence
    with open_rich(kept.root) as store:
        assert [hold.name for hold in store.holds()] == ["case", "repair"]


def test_lines_of_forgotten_come_from_a_copy(kept: Kept) -> None:
    path = os.path.join(kept.root, "FORGOTTEN")
    before = content(path)
    overwrite(path, 40, b"????")
    report = mend(kept.root)
    assert kinds(report) == ["mend_line"]
    assert sources(report) == {"the second"}
    assert content(path) == before + b"\n"


@pytest.mark.parametrize("where", ["damaged", "missing"])
def test_a_store_that_has_lost_its_first_file_finds_its_second_copy_again(kept: Kept, where: str) -> None:
    path = os.path.join(kept.root, "STORE.json")
    settings: dict[str, Any] = dict(SETTINGS)
    if where == "damaged":
        overwrite(path, 12, b"????")
    else:
        os.unlink(path)
        settings |= {"storage.sharding.replication_factor": 2, "storage.sharding.replica_volume": kept.volume}
    report = repair(kept.root, settings=settings, clock=clock_of_rich_store())
    assert report.is_clean
    assert kinds(report)[0] == "write_store_file"
    assert lines_in(kept.root) == kept.lines
    with open_rich(kept.root) as store:
        thread = store._replicator._thread
        if thread is not None:  # it joins by itself
            thread.join()
        assert store.sync_replica()["state"] == "ok"


def test_a_search_index_that_is_damaged_is_no_matter_to_a_repair(kept: Kept) -> None:
    with open_rich(kept.root) as store:
        expected = {hit.record.memory_id for hit in store.search("late", limit=50)}
    assert expected
    index = [each for each in Path(kept.root, "memory", "cache", "search").rglob("*") if each.is_file()]
    for each in index:
        if each.stat().st_size > 20:
            spoil(str(each))
    (path,) = files_named(kept.root, "a/20250203.11.jsonl")
    spoil(path)
    mend(kept.root)
    with open_rich(kept.root) as store:
        assert {hit.record.memory_id for hit in store.search("late", limit=50)} == expected
