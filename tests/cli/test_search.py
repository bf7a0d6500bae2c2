"""``memstore search``: once, in every format; followed; as a conversation; and ``tools/search.py``, the same."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from memstore import MemStore

TOOL = str(Path(__file__).parents[2] / "tools" / "search.py")
PATIENCE_S = 60.0
CANARY = "canary"


def fill(root):
    with MemStore(root, durability="os", settings={"storage.ballast_bytes": 0}) as store:
        ids = store.append_many(
            {
                "agent_id": f"bdi_{number % 2}",
                "memory_type": "ERROR" if number % 3 == 0 else "INTERACTION",
                "importance": "HIGH" if number % 2 else "LOW",
                "input": {"content": f"market report <{number}>"},
                "response": {"content": "a timeout" if number % 2 else "fine", "processing_time_ms": float(number)},
                "tags": ["market", "odd" if number % 2 else "even"],
                "context": {"session_id": "s1", "user_id": number % 5},
                "timestamp_utc": f"2025-01-{number + 1:02d}T00:00:00Z",
            }
            for number in range(30)
        )
        store.index()
    return ids


@pytest.fixture
def ids(root):
    return fill(root)


def ids_of(result):
    assert result.code == 0, result.err
    return [json.loads(line)["memory_id"] for line in result.out.splitlines()]


# --- formats --------------------------------------------------------------------------------------


def test_a_line_of_ndjson_is_the_record_with_score_and_highlights(memstore, ids):
    result = memstore("search", "timeout AND market", "-n", "3")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert len(lines) == 3
    assert "a **timeout**" in lines[0]["_highlights"]
    assert lines[0]["_score"] > 0
    assert set(lines[0]) >= {"memory_id", "input", "tags"}
    assert "3 of 15 records; the next: --cursor " in result.err


def test_pages_go_on_with_the_cursor_that_the_note_names(memstore, ids):
    found, more = [], []
    for _ in range(10):
        result = memstore("search", "market", "--sort", "oldest", "-n", "7", "--since", "2025-01-01", *more)
        found += ids_of(result)
        cursor = re.search(r"--cursor (\S+)", result.err)
        if cursor is None:
            break
        more = ["--cursor", cursor[1]]
    assert found == ids


def test_json_is_the_whole_result(memstore, ids):
    result = memstore("search", "timeout", "--facets", "type,agent", "-o", "json", "-n", "2")
    whole = json.loads(result.out)
    assert (whole["total"], len(whole["hits"])) == (15, 2)
    assert whole["facets"]["agent"] == [{"value": "bdi_1", "count": 15}]
    assert whole["hits"][0]["highlights"][0]["spans"]


def test_csv_has_a_row_for_each_hit(memstore, ids):
    rows = list(csv.DictReader(io.StringIO(memstore("search", "timeout", "-o", "csv", "-n", "all").out, newline="")))
    assert {row["memory_id"] for row in rows} == set(ids[1::2])
    assert all("**timeout**" in row["highlights"] and float(row["score"]) > 0 for row in rows)


def test_a_table_marks_words_and_says_how_many_there_are(memstore, ids):
    result = memstore("search", "timeout", "-o", "table", "-n", "2", "--facets", "type")
    lines = result.out.splitlines()
    assert lines[0].split() == ["#", "score", "time", "(UTC)", "agent", "type", "importance"]
    assert "a **timeout**" in result.out
    assert any(line.startswith("type  ") and "INTERACTION 10" in line and "ERROR 5" in line for line in lines)
    assert "1-2 of 15 records, by relevance" in result.out
    assert "the next: --cursor " in result.out
    assert "\x1b" not in result.out, "no colours where nobody looks"


def test_parquet_is_read_back_by_others(memstore, ids, tmp_path):
    import duckdb

    path = str(tmp_path / "hits.parquet")
    result = memstore("search", "timeout", "--to", path)
    assert "15 of 15 records are in" in result.err
    rows = duckdb.sql(f"SELECT memory_id, timestamp_utc, tags, score, highlights, response FROM '{path}'").fetchall()
    assert {row[0] for row in rows} == set(ids[1::2])
    assert rows[0][1].year == 2025
    assert rows[0][2] == ["market", "odd"]
    assert json.loads(rows[0][5])["content"] == "a timeout"


def test_parquet_without_duckdb_says_what_is_missing(memstore, ids, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    result = memstore("search", "timeout", "--to", str(tmp_path / "hits.parquet"))
    assert (result.code, os.listdir(tmp_path)) == (2, ["store"])
    assert "pip install 'memstore[tool]'" in result.err


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.marked, self.attributes, self._open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._open.append(tag)

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1] == "mark":
            self.marked.append(data)


def test_html_is_one_page_that_loads_nothing(memstore, ids, tmp_path):
    path = tmp_path / "hits.html"
    assert memstore("search", "timeout <b>", "--to", str(path), "--facets", "type").code == 0
    page = _Page()
    page.feed(path.read_text())
    assert page.tags.count("article") == 15
    assert page.tags.count("svg") == 1
    assert page.tags.count("rect") == 15
    assert "timeout" in page.marked
    assert not {"script", "link", "img", "iframe", "b"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in ("src", "href") or "://" in value]
    assert "&lt;29&gt;" in path.read_text()


def test_a_file_that_is_there_is_replaced_only_by_force(memstore, ids, tmp_path):
    path = tmp_path / "hits.ndjson"
    path.write_text("mine")
    assert memstore("search", "timeout", "--to", str(path)).code == 2
    assert path.read_text() == "mine"
    assert memstore("search", "timeout", "--to", str(path), "--force").code == 0
    assert len(path.read_text().splitlines()) == 15


# --- what is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (("--agent", "bdi_0"), range(0, 30, 2)),
        (("--agent", "bdi_*", "--type", "error"), range(0, 30, 3)),
        (("--importance", "HIGH"), range(1, 30, 2)),
        (("--min-importance", "MEDIUM"), range(1, 30, 2)),
        (("--tag", "odd", "--tag", "even"), range(30)),
        (("--tag", "odd", "--tag", "even", "--all-tags"), ()),
        (("--since", "2025-01-28"), range(27, 30)),
        (("--until", "2025-01-03"), range(2)),
        (("--session", "s1", "--context", "user_id:=3"), range(3, 30, 5)),
        (("--context", "user_id=3"), range(3, 30, 5)),
        (("--success", "yes"), ()),
    ],
)
def test_filters_are_flags(memstore, ids, flags, wanted):
    assert ids_of(memstore("search", "", *flags, "--sort", "oldest", "-n", "all")) == [ids[n] for n in wanted]


def test_nothing_found_is_an_empty_answer(memstore, ids):
    result = memstore("search", "unheardof")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert "no record matches" in memstore("search", "unheardof", "-o", "table").out
    assert json.loads(memstore("search", "unheardof", "-o", "json").out)["hits"] == []
    assert memstore("search", "x", "--agent", "bdi_7").err == (
        "memstore: the store has no agent 'bdi_7'; did you mean bdi_1?\n"
    )


def test_what_was_not_understood_is_told_on_standard_error(memstore, ids):
    result = memstore("search", "typ:ERROR timeout")
    assert result.code == 0
    assert "there is no field 'typ', did you mean type:?" in result.err


def test_what_was_appended_a_moment_ago_is_found(memstore, ids):
    assert memstore("append", "--agent", "new", "--input", "just now").code == 0
    assert len(ids_of(memstore("search", '"just now"'))) == 1


def test_facets_go_to_standard_error_beside_records(memstore, ids):
    assert "memstore: type: INTERACTION 20, ERROR 10\n" in memstore("search", "market", "--facets", "type").err


def test_groups_are_rows(memstore, ids):
    result = memstore("search", "--by", "type", "--metric", "max(ms),p50(ms)", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(result.out, newline="")))
    assert [(row["type"], row["count"], row["max(ms)"]) for row in rows] == [
        ("INTERACTION", "20", "29.0"),
        ("ERROR", "10", "27.0"),
    ]
    days = memstore("search", "timeout", "--interval", "day", "-o", "table")
    assert days.out.splitlines()[1].split()[:2] == ["2025-01-02", "1"]
    assert "█" in days.out
    assert json.loads(memstore("search", "--metric", "avg(ms)").out) == {"count": 30, "avg(ms)": 14.5}


def test_similar_records_are_listed(memstore, ids):
    result = memstore("search", "--similar", ids[1], "-n", "3")
    found = ids_of(result)
    assert 0 < len(found) <= 3
    assert ids[1] not in found
    assert memstore("search", "--similar", "nonsense").code == 2
    assert memstore("search", "--similar", f"{ids[0][:-16]}{'0' * 15}f").code == 5


@pytest.mark.parametrize(
    "flags",
    [
        ("timeout", "--type", "INTERACTION", "--since", "2025-01-05", "--sort", "oldest", "-n", "3"),
        ("--by", "type", "--metric", "avg(ms)"),
        ("market", "--context", "user_id:=3", "--tag", "odd"),
    ],
)
def test_the_python_that_is_printed_runs_and_says_the_same(memstore, ids, flags):
    code = memstore("search", *flags, "--python").out
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    if "--by" in flags:
        rows = [json.loads(line) for line in memstore("search", *flags).out.splitlines()]
        assert run.stdout.splitlines() == [str(row) for row in rows]
    else:
        assert [line.split()[0] for line in run.stdout.splitlines()[1:]] == ids_of(memstore("search", *flags))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("x", "--follow", "--by", "type"), "choose one of --by (with --metric and --interval); --follow"),
        (("--by", "type", "--sort", "newest"), "--sort has no effect"),
        (("--similar", "x", "--facets", "type"), "--facets has no effect"),
        (("q", "--similar", "x"), "--similar takes no query"),
        (("x", "-n", "0"), "--limit is 1 or more, or all"),
        (("x", "-n", "many"), "'many' is neither a number nor all"),
        (("x", "--to", "hits.doc"), "the ending says the format"),
        (("x", "--to", "hits", "-o", "table"), "a table is for the screen"),
        (("x", "--force"), "--force goes with --to"),
        (("--by", "type", "-o", "html"), "groups are written as table"),
        (("x", "--facets", "typ"), "there is no field 'typ' to group by; did you mean 'type'?"),
        (("--metric", "p99(duration)"), "there is no number 'duration'"),
        (("x", "--interval", "month"), "is no interval"),
        (("x", "--since", "-7d"), "written --since=-7d"),
        (("x", "--cursor", "nonsense"), "is no cursor"),
        (("x", "-o", "xml"), "'xml' is unknown"),
        (("x", "--follow", "-o", "json"), "has no end"),
        (("--interactive",), "needs a terminal"),
        (("x", "--facet", "type"), "did you mean --facets?"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(memstore, ids, flags, words):
    result = memstore("search", *flags)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert len(result.err.splitlines()) == 1


def test_without_a_store_there_is_nothing_to_search(memstore, root):
    assert memstore("search", "x").code == 5
    assert not os.path.exists(root)


def test_fields_are_listed(memstore):
    assert {"agent", "ms", "after"} <= set(memstore("search", "--fields", with_root=False).out.split())


def test_a_store_that_may_not_be_written_is_searched_all_the_same(memstore, root, ids, monkeypatch):
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != root and allowed(path, mode))
    result = memstore("search", "timeout", "-n", "all")
    assert len(ids_of(result)) == 15
    assert "not writable for you" in result.err


# --- followed -------------------------------------------------------------------------------------


@pytest.fixture
def follow(root):
    """Starts followers, and ends what a failed test leaves."""
    started = []

    def start(*flags):
        command = [sys.executable, "-m", "memstore", "--root", root, "search", "--follow", *flags]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lines_of(process, count):
    """The next so many records that a follower prints."""
    found = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        ready, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"only {len(found)} of {count} came"
        record = json.loads(process.stdout.readline())
        if record["agent_id"] != CANARY:
            found.append(record)
    return found


def until_it_follows(process, root):
    """Append until the follower shows it: what came before it stood is not its to show."""
    deadline = time.monotonic() + PATIENCE_S
    with MemStore(root, durability="os") as store:
        while not select.select([process.stdout], [], [], 0.05)[0]:
            assert time.monotonic() < deadline, "it shows nothing"
            store.append(agent_id=CANARY, content="word timeout")


def test_new_matches_of_several_processes_are_shown_once_each(root, ids, follow):
    process = follow("word", "-n", "0")
    until_it_follows(process, root)
    code = (
        "import sys; from memstore import MemStore\n"
        "for part in range(5):\n"
        "    with MemStore(sys.argv[1], durability='os') as store:\n"  # each is sealed and merged at its close
        "        bot = store.agent(sys.argv[2])\n"
        "        for n in range(10): bot.append(content=f'word {part} {n}', timestamp='2024-05-01')\n"
        "        bot.append(content='other text')\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, root, f"writer{number}"]) for number in range(3)]
    found = lines_of(process, 150)
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len({record["memory_id"] for record in found}) == 150
    for number in range(3):
        said = [record["content"] for record in found if record["agent_id"] == f"writer{number}"]
        assert said == [f"word {part} {n}" for part in range(5) for n in range(10)]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, b"")
    assert all(json.loads(line)["agent_id"] == CANARY for line in out.splitlines())
    assert not os.path.exists(os.path.join(root, "consumers", "follow-1.json"))


def test_the_newest_matches_come_first_oldest_of_them_on_top(root, ids, follow):
    process = follow("timeout", "-n", "2")
    assert [record["memory_id"] for record in lines_of(process, 2)] == [ids[27], ids[29]]
    with MemStore(root, durability="os") as store:
        new = store.append(agent_id="bdi_1", content="timeout at last")
    assert lines_of(process, 1)[0]["memory_id"] == new
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0


def test_a_follower_ends_when_nobody_reads_what_it_says(root, ids, follow):
    process = follow("timeout", "-n", "0")
    until_it_follows(process, root)
    process.stdout.close()
    assert process.wait(PATIENCE_S) == 141
    assert process.stderr.read() == b""
    assert not os.path.exists(os.path.join(root, "consumers", "follow-1.json"))


# --- as a conversation ----------------------------------------------------------------------------


def test_a_conversation_is_held_through_the_prompt(memstore, ids, monkeypatch, tmp_path):
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    from memstore.cli import search

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(search, "_is_interactive", lambda _: True)
    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
        keyboard.send_text(f"timeout\r\r1\r/undo\r#1\r/save {tmp_path}/hits.csv\r/quit\r")
        result = memstore("search")
    assert result.code == 0, result.err
    assert "1-3 of 15 records" in result.out
    assert "just before, same agent" in result.out
    assert "15 of 15 records are in" in result.out
    assert (tmp_path / "hits.csv").exists()
    assert "+timeout" in (tmp_path / "state" / "memstore" / "search-history").read_text()


def test_a_question_on_the_command_line_begins_the_conversation(memstore, ids, monkeypatch):
    from memstore.cli import search

    monkeypatch.setattr(search, "_is_interactive", lambda _: True)
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    result = memstore("search", "-i", "timeout", "--agent", "bdi_1", stdin=b"/command\n")
    assert result.code == 0, result.err
    assert "pip install 'memstore[tool]'" in result.out
    assert "of 15 records" in result.out
    assert "--agent bdi_1" in result.out


def test_on_a_real_terminal_it_starts_and_leaves_at_ctrl_d(root, ids, tmp_path):
    import pty

    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TERM": "xterm",
        "COLUMNS": "80",
        "LINES": "40",
    }
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "memstore", "--root", root, "search"]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    seen = b""

    def wait_for(done):
        nonlocal seen
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, seen
            if select.select([master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    data = os.read(master, 65536)
                    seen += data
                    if b"\x1b[6n" in data:  # where is the cursor?
                        os.write(master, b"\x1b[1;1R")

    try:
        wait_for(lambda: b"search>" in seen)
        os.write(master, b"timeout\r")
        wait_for(lambda: b"of 15 records" in seen and b"search>" in seen.split(b"of 15 records")[1])
        assert b"\x1b[1;33mtimeout" in seen
        os.write(master, b"\x04")
        wait_for(lambda: process.poll() is not None)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)


# --- tools/search.py ------------------------------------------------------------------------------


def test_the_script_is_the_same_from_anywhere(root, ids, memstore, tmp_path):
    run = subprocess.run(
        [sys.executable, TOOL, "--root", root, "timeout", "-n", "2"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert [json.loads(line)["memory_id"] for line in run.stdout.splitlines()] == ids_of(
        memstore("search", "timeout", "-n", "2")
    )
    assert os.access(TOOL, os.X_OK)


def test_a_copy_of_the_script_uses_the_memstore_that_is_installed(root, ids, tmp_path):
    copy = tmp_path / "elsewhere" / "bin" / "search.py"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(Path(TOOL).read_bytes())
    run = subprocess.run(
        [sys.executable, copy, "--root", root, "timeout"], cwd=tmp_path, capture_output=True, timeout=60, check=True
    )
    assert run.stdout.count(b"\n") == 10


def test_an_open_quote_is_told_in_plain_words(memstore, ids):
    assert "near character 6: a quote is not closed" in memstore("search", '"open').err
