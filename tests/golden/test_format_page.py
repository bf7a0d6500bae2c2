"""What docs/FORMAT.md shows is true of the bytes, and the commands it gives say what memstore says."""

import json
import re
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from lifecycle_support import LIVELY, at, failures, iso

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.codec.checksum import checksum
from memstore.format.frames import FOOTER_BYTES, SeekEntry, decode_seek_table, seek_table_bytes
from memstore.format.lines import agent_prefix
from memstore.format.manifest import decode_manifest_line
from memstore.format.version import FORMAT_VERSION
from memstore.fs.local import LocalStorage
from memstore.packed.reader import verify_packed

PAGE = (Path(__file__).parents[2] / "docs" / "FORMAT.md").read_text()
AGENTS = ["bot", "Agent Smith/7"]


def blocks(section, language=""):
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


# -- the worked example


@pytest.fixture
def packed_example(tmp_path):
    """The file of the hex dump, and the MANIFEST lines that follow on it."""
    dump, lines = blocks("A worked example")[2:4]
    data = b""
    for row in dump.splitlines():
        assert int(row[:3]) == len(data)
        data += bytes.fromhex(row[4:])
    path = tmp_path / "20250115-20250116.2.jsonl.zst"
    path.write_bytes(data)
    return path, [decode_manifest_line(line.encode(), "MANIFEST") for line in lines.splitlines()]


def test_the_packed_file_of_the_worked_example_is_what_its_move_line_says(packed_example):
    path, (moved, *_) = packed_example
    (packed,) = moved.move.to
    assert packed.file == path.name
    file = LocalStorage().open_read(str(path))
    assert verify_packed(file, packed, prefix_bytes=len(agent_prefix("bot"))) == 2
    data = path.read_bytes()
    assert decode_seek_table(data[-seek_table_bytes(1) :], file_bytes=225) == [SeekEntry(196, 355, 0x45C0F283)]
    assert seek_table_bytes(1) == 17 + 12
    assert FOOTER_BYTES == 9


@pytest.mark.skipif(shutil.which("zstdcat") is None, reason="zstdcat is not installed")
def test_the_packed_file_of_the_worked_example_holds_its_two_records(packed_example):
    path, (moved, *_) = packed_example
    lines = subprocess.run(["zstdcat", path], capture_output=True, check=True).stdout
    first = next(line[4:] for line in blocks("A worked example")[0].splitlines() if "memory_id" in line)
    (second,) = re.findall(r'`(\{"memory_id":"bot_20250116.*?\})`', PAGE)
    assert lines.decode() == f"{first}\n{second}\n"
    assert checksum(lines) == moved.move.to[0].xxh3


def test_the_compacted_manifest_of_the_worked_example_says_what_its_lines_said(packed_example):
    _, (moved, hidden, header, state) = packed_example
    assert header.manifest.id
    assert state.state.packed == moved.move.to
    assert state.state.hidden == hidden.hide.ids


def test_the_page_is_of_the_version_that_is_written():
    assert PAGE.startswith(f"# The format of a store, version {FORMAT_VERSION}\n")
    versions = PAGE.split("\n## Versions\n")[1]
    assert re.findall(r"^\| (\d+) \|", versions, flags=re.MULTILINE) == [str(n + 1) for n in range(FORMAT_VERSION)]


# -- without memstore


@pytest.fixture(scope="module")
def tiered(tmp_path_factory):
    """A store of three tiers, repeats collapsed: its root, and each record as JSON by its id."""
    root = tmp_path_factory.mktemp("tiered")
    settings = {**LIVELY, "storage.lifecycle.deduplication_enabled": True}
    with MemStore(root, settings=settings, clock=ManualClock(at(0))) as store:
        for agent in AGENTS:
            for day in (-60, -59, -20, 0):
                store.append_many(_reports(agent, day))
                store.append_many(
                    {
                        "agent_id": agent,
                        "memory_type": "GOAL",
                        "content": f"é\n{n}",
                        "timestamp_utc": iso(day + n / 1e3),
                    }
                    for n in range(30)
                )
        assert failures(store.maintain()) == []
        assert store.tiers()["repeats"]["records"] > 100
        yield root, {json.loads(line)["memory_id"]: json.loads(line) for a in AGENTS for line in store.agent(a).lines()}


def _reports(agent, day):
    """Records that repeat; each has what is its own where a repeat can have it, and what is none where it cannot."""
    for n in range(90):
        content = {"source_id": "nested", "cpu": 0.5, "none": None, "list": [1, None, "é"], "text": "quiet. " * 20}
        yield {
            "agent_id": agent,
            "memory_type": ("SYSTEM_STATE", "PERFORMANCE")[n % 2],
            "importance": ("LOW", "MEDIUM")[n % 2],
            "content": content,
            "tags": ["x", "y"],
            "context": {"session_id": f"s{n % 2}"},
            "timestamp_utc": iso(day + 0.1 + n / 86400),
            **({"source_id": f'{day} "{n}"'} if n % 2 else {}),
            **({"timestamp_local": f"{n} past noon"} if n % 4 == 1 else {}),
        }


def shell(command, root, agent="bot"):
    command = command.replace("<root>", str(root)).replace("AGENT", agent)
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=True, cwd=root).stdout


def sql(query, root):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        return connection.execute(query.replace("<root>", str(root))).fetchall()


def test_duckdb_counts_what_memstore_counts(tiered):
    root, records = tiered
    assert sql(blocks("Without memstore", "sql")[0], root) == [(len(records),)]


def test_one_query_gives_every_record_of_the_archive_as_it_was(tiered):
    root, records = tiered
    found = [json.loads(text) for (text,) in sql(blocks("Without memstore", "sql")[1], root)]
    archived = {i: record for i, record in records.items() if record["timestamp_utc"] < iso(-30)}
    assert len(found) == len(archived) == 2 * 2 * 120
    assert {record["memory_id"]: record for record in found} == archived


def test_one_query_gives_every_record_of_every_tier_as_it_was(tiered):
    root, records = tiered
    everywhere = "['<root>/memory/shards/*/*/*.jsonl*', '<root>/memory/archive/*/*.jsonl.zst']"
    query = blocks("Without memstore", "sql")[1].replace("'<root>/memory/archive/*/*.jsonl.zst'", everywhere)
    assert {json.loads(text)["memory_id"]: json.loads(text) for (text,) in sql(query, root)} == records


def test_one_query_gives_the_archive_as_a_table(tiered):
    root, records = tiered
    rows = sql(f"SELECT to_json(whole) FROM ({blocks('Without memstore', 'sql')[2]}) whole", root)
    found = {json.loads(text)["memory_id"]: json.loads(text) for (text,) in rows}
    archived = {i: record for i, record in records.items() if record["timestamp_utc"] < iso(-30)}
    assert {i: _as_table(record) for i, record in found.items()} == {i: _as_table(r) for i, r in archived.items()}


def _as_table(value):
    """A value with what a table cannot tell apart: nothing and null, and a time in one form or another."""
    if isinstance(value, dict):
        told = {key: _as_table(each) for key, each in value.items() if each is not None}
        if "timestamp_utc" in told:
            told["timestamp_utc"] = datetime.fromisoformat(told["timestamp_utc"]).timestamp()
        return told
    return [_as_table(each) for each in value] if isinstance(value, list) else value


def test_the_query_for_a_table_works_where_nothing_was_collapsed(tmp_path):
    with MemStore(tmp_path, settings=LIVELY, clock=ManualClock(at(0))) as store:
        store.append_many({"agent_id": "bot", "content": f"{n}", "timestamp_utc": iso(-60)} for n in range(9))
        assert failures(store.maintain()) == []
    query = blocks("Without memstore", "sql")[2]
    assert sql(f"SELECT count(content), count(source_id) FROM ({query})", tmp_path) == [(9, 0)]


@pytest.mark.skipif(not (shutil.which("zstdcat") and shutil.which("jq")), reason="zstdcat or jq is not installed")
def test_shell_commands_give_an_agents_records_in_order(tiered):
    root, records = tiered
    lines = shell(blocks("Without memstore", "sh")[1], root).splitlines()
    assert [json.loads(line)[0] for line in lines] == sorted(i for i in records if i.startswith("bot_"))


@pytest.mark.skipif(not (shutil.which("zstdcat") and shutil.which("jq")), reason="zstdcat or jq is not installed")
def test_shell_commands_leave_out_what_is_hidden(tmp_path):
    root = shutil.copytree(Path(__file__).parent / "v2" / "store", tmp_path / "store")
    expected = (Path(__file__).parent / "v2" / "expected.ndjson").read_text().splitlines()
    hidden, ordered = blocks("Without memstore", "sh")
    shell(hidden, root)
    assert len((root / "hidden").read_text().splitlines()) == 2
    stored = shell(ordered.split("| sort")[0] + "| grep -vFf hidden", root, agent="*").splitlines()
    (command,) = re.findall(r"`(grep -h .*?lane)`", PAGE)
    waiting = shell(command, root).splitlines()
    assert {json.loads(line)["memory_id"] for line in stored + waiting} == {
        json.loads(line)["memory_id"] for line in expected
    }
    assert len(stored + waiting) == len(expected)


def test_polars_and_pandas_count_what_memstore_counts(tiered):
    pytest.importorskip("polars")
    pytest.importorskip("pandas")
    root, records = tiered
    (code,) = blocks("Without memstore", "python")
    code = code.replace("<root>", str(root)) + "print(count, len(frame), frame.memory_id.nunique())\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.split() == [str(len(records))] * 3, run.stderr
