import os

import pytest

from memstore import MemStore
from memstore.errors import NotFoundError, UsageError
from memstore.exporters.tree import export_tree
from memstore.importers import loader
from memstore.importers.tree import import_tree
from memstore.timestamps import iso_text


def memory(number=0, **changes):
    stamp = iso_text(1_758_035_148_000_000 + number)[:-1]
    return {
        "timestamp": stamp,
        "memory_type": "system_state",
        "importance": 3,
        "agent_id": "bot",
        "content": {"n": number},
        "context": {},
        "tags": [],
        "parent_memory_id": None,
        "memory_id": f"id{number}",
    } | changes


def path_of(value, tier="stm"):
    stamp = value["timestamp"].replace(":", "-")
    return f"{tier}/{value['agent_id']}/{stamp[:10].replace('-', '')}/{stamp}.{value['memory_type']}.memory.json"


def write(tree, value, tier="stm"):
    tree(path_of(value, tier), value)


def test_a_second_import_adds_nothing(store, tree):
    for number in range(30):
        write(tree, memory(number))
    first = import_tree(store, tree.root)
    assert (first.files, first.imported, first.already_present, first.records, first.damaged) == (30, 30, 0, 30, 0)
    again = import_tree(store, str(tree.root))
    assert (again.files, again.imported, again.already_present, again.records) == (30, 0, 30, 30)
    assert store.agent("bot").count() == 30


def test_every_damaged_file_is_listed_and_the_import_goes_on(store, tree):
    write(tree, memory(1))
    tree("stm/bot/20250916/a.memory.json", b"")
    tree("stm/bot/20250916/b.memory.json", b'{"agent_id": "bot", "conte')
    tree("stm/bot/20250916/c.mem.json", b"[1]")
    report = import_tree(store, tree.root)
    assert (report.files, report.imported, report.damaged) == (4, 1, 3)
    assert [entry["path"] for entry in report.damaged_files] == [
        f"stm/bot/20250916/{n}" for n in ("a.memory.json", "b.memory.json", "c.mem.json")
    ]
    assert all(entry["reason"] for entry in report.damaged_files)


def test_files_that_are_not_ours_are_named(store, tree):
    tree("stm/bot/notes.txt", b"hello")
    os.symlink("/etc/hostname", tree.root / "stm/bot/x.memory.json")
    os.mkfifo(tree.root / "stm/bot/y.memory.json")
    report = import_tree(store, tree.root)
    assert (report.files, report.skipped, report.damaged, report.records) == (3, 3, 0, 0)
    reasons = {entry["path"]: entry["reason"] for entry in report.skipped_files}
    assert "layout" in reasons["stm/bot/notes.txt"]
    assert "symbolic link" in reasons["stm/bot/x.memory.json"]
    assert "regular" in reasons["stm/bot/y.memory.json"]


def test_a_linked_directory_is_not_entered(store, tree, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "2025-09-16T15-05-48.memory.json").write_text("{}")
    os.symlink(outside, tree.root / "linked")
    report = import_tree(store, tree.root)
    assert (report.records, report.skipped) == (0, 1)


def test_a_dry_run_counts_and_writes_nothing(store, tree):
    write(tree, memory(1))
    write(tree, memory(2, agent_id="other"))
    tree("stm/bot/20250916/a.memory.json", b"")
    report = import_tree(store, tree.root, dry_run=True)
    assert (report.imported, report.damaged, report.dry_run) == (2, 1, True)
    assert store.agents() == []
    import_tree(store, tree.root)
    assert import_tree(store, tree.root, dry_run=True).already_present == 2


def test_one_id_with_two_contents_keeps_both(store, tree):
    write(tree, memory(1), "archive")
    write(tree, memory(1, content="other"), "stm")
    write(tree, memory(1), "ltm")  # a copy
    for imported, present in ((2, 1), (0, 3)):
        report = import_tree(store, tree.root)
        assert (report.imported, report.already_present) == (imported, present)
    assert sorted(str(r.content) for r in store.agent("bot").range()) == ["other", "{'n': 1}"]


def test_a_file_changed_since_the_last_import_is_kept_beside_it(store, tree):
    for round_number in range(4):
        write(tree, memory(1, content=round_number))
        assert import_tree(store, tree.root).imported == 1
        assert import_tree(store, tree.root).imported == 0
    assert store.agent("bot").count() == 4


def test_an_interrupted_import_goes_on_where_it_stopped(tmp_path, tree, monkeypatch):
    for number in range(30):
        write(tree, memory(number))

    class InterruptionError(Exception):
        pass

    with MemStore(tmp_path / "store", settings={"performance.batch_size": 7}) as store:
        original, calls = loader.start_import, []

        def failing(store, drafts):
            calls.append(len(drafts))
            if len(calls) == 3:
                raise InterruptionError
            return original(store, drafts)

        with monkeypatch.context() as patched:
            patched.setattr(loader, "start_import", failing)
            with pytest.raises(InterruptionError):
                import_tree(store, tree.root)
        report = import_tree(store, tree.root)
        assert (report.imported, report.already_present) == (16, 14)
        assert store.agent("bot").count() == 30


def test_parents_are_mapped_wherever_they_lie_in_the_tree(store, tree):
    write(tree, memory(1, parent_memory_id="id5"))
    write(tree, memory(5))
    write(tree, memory(7, parent_memory_id="nowhere"))
    import_tree(store, tree.root)
    child, parent, orphan = store.agent("bot").range()
    assert child.relationships.parent_memory_id == parent.memory_id
    assert orphan.relationships.parent_memory_id == "nowhere"
    assert child.metadata["import"]["keep"] == {"parent_memory_id": "id5"}


def test_interactions_are_joined_with_their_responses(store, tree):
    base = "bot/20250115/interactions/2025-01-15T14-30-0"
    tree(f"{base}0.interaction.json", {"input": "What?"})
    tree(f"{base}0.response.json", {"response": "That."})
    tree(f"{base}1.response.json", {"response": "Alone."})
    tree(f"{base}2.interaction.json", {"input": "Nobody answers"})
    tree(f"{base}2.response.json", b"")
    tree("bot/20250115/performance/2025-01-15T14-30-03.perf.json", {"cpu": 3})
    tree("bot/20250115/errors/2025-01-15T14-30-04.error.json", {"code": 502})
    report = import_tree(store, tree.root)
    assert (report.files, report.imported, report.damaged) == (7, 5, 1)
    joined, alone, unanswered, perf, error = store.agent("bot").range()
    assert (joined.input.content, joined.response.content) == ("What?", "That.")
    assert (alone.input, alone.response.content) == (None, "Alone.")
    assert (unanswered.input.content, unanswered.response) == ("Nobody answers", None)
    assert (perf.memory_type, perf.content) == ("PERFORMANCE", {"cpu": 3})
    assert (error.memory_type, error.content) == ("ERROR", {"code": 502})


def test_a_response_that_comes_later_is_not_lost(store, tree):
    base = "bot/20250115/interactions/2025-01-15T14-30-00"
    tree(f"{base}.interaction.json", {"input": "What?"})
    import_tree(store, tree.root)
    tree(f"{base}.response.json", {"response": "That."})
    assert import_tree(store, tree.root).imported == 1
    assert [r.response and r.response.content for r in store.agent("bot").range()].count("That.") == 1


def test_lines_in_a_tree_are_records(store, tree):
    tree("dump.jsonl", b'{"agent_id": "a", "timestamp_utc": "2025-01-01T00:00:00Z", "content": 1}\n{broken\n')
    report = import_tree(store, tree.root)
    assert (report.files, report.imported, report.damaged) == (1, 1, 1)
    assert report.damaged_files[0]["path"] == "dump.jsonl:2"


def test_what_the_store_refuses_is_reported_and_its_neighbours_are_stored(store, tree):
    for number in range(5):
        write(tree, memory(number))
    write(tree, memory(1, timestamp="2999-01-01T00:00:00.000000"))
    big = memory(2)
    tree(
        path_of(big),
        b'{"content": 123456789012345678901234567890,'
        + __import__("json").dumps(big).encode()[1:].replace(b'"content": {"n": 2}, ', b""),
    )
    report = import_tree(store, tree.root)
    assert (report.imported, report.damaged) == (5, 1)
    assert "stored" in report.damaged_files[0]["reason"]
    assert [r.content for r in store.agent("bot").range()][2] == "123456789012345678901234567890"


def test_the_zone_of_naive_times_can_be_told(store, tree):
    import datetime as dt

    write(tree, memory(0))
    import_tree(store, tree.root, tz=dt.timezone(dt.timedelta(hours=2)))
    (record,) = store.agent("bot").range()
    assert record.timestamp_utc == "2025-09-16T13:05:48.000000Z"


def test_the_source_is_left_as_it_was(store, tree):
    write(tree, memory(1))
    target = tree.root / path_of(memory(1))
    before = (target.read_bytes(), target.stat().st_mtime_ns, sorted(p.name for p in tree.root.rglob("*")))
    import_tree(store, tree.root)
    assert before == (target.read_bytes(), target.stat().st_mtime_ns, sorted(p.name for p in tree.root.rglob("*")))


def test_progress_ends_at_the_number_of_files(store, tree):
    for number in range(5):
        write(tree, memory(number))
    told = []
    import_tree(store, tree.root, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5)


def test_a_store_inside_the_tree_is_not_imported(tree):
    write(tree, memory(1))
    with MemStore(tree.root / "zz") as store:
        report = import_tree(store, tree.root)
        assert (report.files, report.imported) == (1, 1)


def test_no_directory_is_a_clear_error(store, tmp_path):
    with pytest.raises(NotFoundError):
        import_tree(store, tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="ndjson"):
        import_tree(store, tmp_path / "file")


def test_a_native_export_comes_back_with_the_same_ids(store, tmp_path):
    first = store.agent("Some/Agent").append(input="hi", response="ho", tags=["a"])
    store.agent("Some/Agent").append(content=1, parent=first)
    export_tree(store, tmp_path / "out")
    again = import_tree(store, tmp_path / "out")
    assert (again.imported, again.already_present) == (0, 2)
    with MemStore(tmp_path / "other") as other:
        assert import_tree(other, tmp_path / "out").imported == 2
        parent, child = other.agent("Some/Agent").range()
        assert (parent.source_id, parent.input.content) == (first, "hi")
        assert child.relationships.parent_memory_id == parent.memory_id


def test_times_far_ahead_are_damaged_and_the_rest_of_the_batch_goes_in(store, tree):
    for number in range(1, 7):
        year = "2999" if number in (2, 3, 6) else "2025"
        write(tree, memory(number, timestamp=f"{year}-01-01T00:00:0{number}.000000"))
    for imported, present in ((3, 0), (0, 3)):
        report = import_tree(store, tree.root)
        assert (report.imported, report.already_present, report.damaged) == (imported, present, 3)
        assert all("day ahead" in entry["reason"] for entry in report.damaged_files)
    assert store.agent("bot").count() == 3
