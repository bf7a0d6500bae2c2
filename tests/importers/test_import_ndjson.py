import io
import json

import pytest

from memstore import MemStore
from memstore.errors import NotFoundError
from memstore.exporters.ndjson import export_ndjson
from memstore.importers.ndjson import import_ndjson

LINE = {"agent_id": "bot", "timestamp_utc": "2025-01-15T14:30:00Z", "content": {"a": 1}}


def load(store, *lines, **options):
    text = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return import_ndjson(store, io.BytesIO(text), **options)


def test_a_line_without_any_id_is_stored_once(store):
    assert load(store, LINE).imported == 1
    report = load(store, LINE, b"", LINE)
    assert (report.imported, report.already_present, report.records, report.files) == (0, 2, 2, 1)
    (record,) = store.agent("bot").range()
    assert record.source_id.startswith("line:")
    assert record.metadata == {}


def test_a_foreign_memory_id_becomes_the_source_id(store):
    load(store, {**LINE, "memory_id": "abc"}, {**LINE, "source_id": "def"})
    assert sorted(r.source_id for r in store.agent("bot").range()) == ["abc", "def"]


def test_an_id_of_this_store_is_present_already(store):
    store.agent("bot").append(content=1)
    out = io.BytesIO()
    export_ndjson(store, out)
    report = import_ndjson(store, io.BytesIO(out.getvalue()))
    assert (report.imported, report.already_present) == (0, 1)


def test_records_keep_their_derived_ids_from_store_to_store(store, tmp_path):
    load(store, {**LINE, "memory_id": "abc"})
    out = io.BytesIO()
    export_ndjson(store, out)
    with MemStore(tmp_path / "other") as other:
        assert import_ndjson(other, io.BytesIO(out.getvalue())).imported == 1
        again = io.BytesIO()
        export_ndjson(other, again)
    assert again.getvalue() == out.getvalue()


def test_one_id_with_two_contents_keeps_both(store):
    lines = [{**LINE, "memory_id": "abc", "content": number} for number in (1, 2)]
    assert load(store, *lines).imported == 2
    assert load(store, *lines).already_present == 2


def test_unknown_fields_go_to_context(store):
    load(store, {**LINE, "mood": "calm", "context": {"mood": 1}, "source_id": "x"})
    (record,) = store.agent("bot").range()
    assert record.context == {"mood": 1, "imported_mood": "calm"}


def test_bad_lines_are_listed_by_number(store):
    report = load(
        store, LINE, b"{", b"[]", {"agent_id": "bot"}, {"timestamp_utc": "2025-01-15T14:30:00Z"}, {**LINE, "content": 2}
    )
    assert (report.imported, report.damaged) == (2, 4)
    assert [entry["path"] for entry in report.damaged_files] == ["line:2", "line:3", "line:4", "line:5"]


def test_an_agent_can_be_given_for_lines_without_one(store):
    assert load(store, {"timestamp": "2025-01-15T14:30:00", "content": 1}, agent="me").imported == 1
    assert store.agents() == ["me"]


def test_parents_of_a_file_are_mapped(store, tmp_path):
    path = tmp_path / "dump.ndjson"
    lines = [
        {**LINE, "memory_id": "child", "relationships": {"parent_memory_id": "parent"}},
        {**LINE, "memory_id": "parent", "timestamp_utc": "2025-01-15T14:30:01Z"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert import_ndjson(store, path).imported == 2
    child, parent = store.agent("bot").range()
    assert child.relationships.parent_memory_id == parent.memory_id


def test_a_platform_line_is_read_leniently(store):
    line = {
        "timestamp": "2025-01-15T14:30:00",
        "agent_id": "bot",
        "memory_type": "error",
        "importance": 1,
        "input": "x",
        "memory_id": 7,
    }
    load(store, line)
    (record,) = store.agent("bot").range()
    assert (record.memory_type, record.importance, record.source_id, record.input.content) == (
        "ERROR",
        "CRITICAL",
        "7",
        "x",
    )


def test_a_dry_run_writes_nothing(store):
    assert load(store, LINE, dry_run=True).imported == 1
    assert store.agents() == []


def test_no_file_is_a_clear_error(store, tmp_path):
    with pytest.raises(NotFoundError):
        import_ndjson(store, tmp_path / "none")


def test_progress_of_a_file_is_in_bytes(store, tmp_path):
    path = tmp_path / "dump.ndjson"
    path.write_text(json.dumps(LINE))
    told = []
    import_ndjson(store, path, progress=lambda done, total: told.append((done, total)))
    assert told == [(path.stat().st_size,) * 2]
