"""What beginners type: each mistake gives one line that says what, where and what to do; nothing is half done."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from memstore import MemStore
from memstore.cli.destination import whole_file
from memstore.errors import StorageError, StorageFullError, UsageError


@pytest.fixture
def filled(root):
    with MemStore(root) as store:
        store.append_many({"agent_id": f"bot_{number}", "content": number} for number in range(3))
    return root


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("recent", "--agnt", "bot_1"), "no option --agnt; did you mean --agent?"),
        (("--rot", "x", "recent"), "no option --rot; did you mean --root?"),
        (("stats", "--agnt=bot_1"), "no option --agnt; did you mean --agent?"),
        (("import", "tree", "x", "--dryrun"), "did you mean --dry-run?"),
        (("recnt", "--agent", "bot_1"), "'recnt' is unknown; did you mean recent?"),
        (("shards", "pni", "bot_1", "shard_000"), "did you mean pin?"),
        (("range", "--type", "eror"), "'EROR' is unknown; did you mean ERROR?"),
        (("range", "--importance", "1"), "it is one of CRITICAL, HIGH, MEDIUM, LOW"),
        (("range", "--since", "-7d"), "written --since=-7d"),
        (("range", "--context", "n:=x"), "is not JSON"),
        (("append", "--agent", "bot", "hello"), "text goes to --input"),
        (("append", "--agent", "bot", "--input", "x", "--source-id", "s"), "--source-id needs --timestamp"),
    ],
)
def test_a_misspelt_command_is_told_with_what_was_meant(memstore, filled, arguments, words):
    result = memstore(*arguments)
    assert result.code == 2
    assert words in result.err
    assert len(result.err.splitlines()) == 1
    assert "<" not in result.err  # no repr of an enum


@pytest.mark.parametrize("arguments", [("recent",), ("range",), ("stats",)])
def test_an_agent_that_is_not_there_is_an_empty_answer_with_a_note(memstore, filled, arguments):
    result = memstore(*arguments, "--agent", "bott_1")
    assert result.code == 0
    assert result.err == "memstore: the store has no agent 'bott_1'; did you mean bot_1?\n"


def test_text_that_is_no_utf_8_is_told_with_its_flag(memstore, root):
    result = memstore("append", "--agent", "bot", "--tag", "\udcff")
    assert result.code == 4
    assert "--tag is not valid UTF-8" in result.err
    assert not os.path.exists(root)


def test_a_wrong_agent_makes_no_store(memstore, root):
    for agent in ("", "a" * 300, "a\n"):
        assert memstore("append", "--agent", agent, "--input", "x").code == 4
    assert not os.path.exists(root)


def test_a_root_that_is_no_utf_8_can_be_summed_up(tmp_path, run_process):
    root = os.fsencode(tmp_path) + b"/\xff"
    with MemStore(os.fsdecode(root)) as store:
        store.append(agent_id="bot", content=1)
    result = run_process("--root", os.fsdecode(root), "stats", "-o", "json")
    assert result.returncode == 0, result.stderr
    assert os.fsencode(json.loads(result.stdout)["root"]) == root


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_are_no_trouble(memstore):
    lines = b'\xef\xbb\xbf{"agent_id":"a","content":1}\r\n\r\n\n{"agent_id":"a","content":2}'
    result = memstore("append", "-", stdin=lines)
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) == 2


@pytest.mark.parametrize(
    "arguments", [("tree", "{}/nothing"), ("tree", "{}/file"), ("ndjson", "{}"), ("tree", "{}", "--agent", "")]
)
def test_an_import_of_something_else_makes_no_store(memstore, root, tmp_path, arguments):
    (tmp_path / "file").write_text("x")
    result = memstore("import", *(argument.format(tmp_path) for argument in arguments))
    assert result.code in (2, 4, 5)
    assert len(result.err.splitlines()) == 1
    assert not os.path.exists(root)


def test_an_import_of_an_empty_directory_says_so(memstore, tmp_path):
    (tmp_path / "empty").mkdir()
    result = memstore("import", "tree", str(tmp_path / "empty"))
    assert result.code == 0
    assert "no file was found under" in result.err


def test_lines_without_a_time_are_told_without_talk_of_file_names(memstore):
    result = memstore("import", "ndjson", "-", "-o", "json", stdin=b'{"agent_id":"a","content":1}\n')
    assert json.loads(result.out)["damaged_files"] == [{"path": "line:1", "reason": "it holds no timestamp"}]


def test_lines_can_be_imported_from_a_pipe_with_a_name(memstore, filled, tmp_path):
    exported = memstore("export", "ndjson").out
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)

    def feed() -> None:
        with open(pipe, "w", encoding="utf-8") as out:
            out.write(exported)

    feeder = threading.Thread(target=feed)
    feeder.start()
    result = memstore("--root", str(tmp_path / "b"), "import", "ndjson", pipe, "-o", "json", with_root=False)
    feeder.join()
    assert json.loads(result.out)["imported"] == 3


def test_settings_without_effect_are_summed_up_in_one_line(memstore, root, tmp_path):
    file = tmp_path / "platform.json"
    monitoring = {"metrics_retention_days": 8, "health_check_interval_seconds": 5}
    file.write_text(json.dumps({"memory_system": {"monitoring": monitoring}, "database": {"url": "x"}}))
    result = memstore("--config", str(file), "append", "--agent", "bot", "--input", "x")
    assert result.code == 0
    (line,) = result.err.splitlines()
    assert line.startswith("memstore: 3 settings have no effect yet")
    for key in ("monitoring.metrics_retention_days", "monitoring.health_check_interval_seconds", "database"):
        assert key in line
    told = memstore("config", "show", "--config", str(file), with_root=False)
    assert len(told.err.splitlines()) == 3


@pytest.mark.parametrize("stream", ["<&-", "<&- 2>&-"])
def test_a_closed_standard_input_is_an_empty_one(root, stream):
    command = f'"{sys.executable}" -m memstore --root "$1" append - {stream}'
    assert subprocess.run(["sh", "-c", command, "sh", root], capture_output=True, check=False).returncode == 0


def test_a_closed_standard_output_is_an_error_of_the_system(filled):
    command = f'"{sys.executable}" -m memstore --root "$1" agents >&-'
    result = subprocess.run(["sh", "-c", command, "sh", filled], capture_output=True, check=False)
    assert result.returncode == 6
    assert result.stderr.startswith(b"memstore: standard output: ")
    assert len(result.stderr.splitlines()) == 1


# --- where an export goes -------------------------------------------------------------------------


def test_a_named_pipe_is_written_into_and_stays_a_pipe(memstore, filled, tmp_path):
    pipe = str(tmp_path / "pipe")  # a device would do as well, but a mistake here would replace the machine's own
    os.mkfifo(pipe)
    lines = []

    def drink() -> None:
        with open(pipe, encoding="utf-8") as file:
            lines.extend(file)

    reader = threading.Thread(target=drink)
    reader.start()
    result = memstore("export", "ndjson", pipe, "--force")
    reader.join()
    assert result.code == 0, result.err
    assert len(lines) == 3
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)


def test_nobody_elses_file_is_touched(memstore, filled, tmp_path):
    other = tmp_path / "out.csv.partial"
    other.write_text("mine")
    assert memstore("export", "csv", str(tmp_path / "out.csv")).code == 0
    assert other.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "out.csv.partial", "store"]


def test_a_link_stays_and_permissions_are_kept(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    with whole_file(str(link), force=True) as out:
        out.write(b"new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_an_export_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "target"
    target.write_text("old")

    def fail() -> None:
        with whole_file(str(target), force=True) as out:
            out.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageFullError, match="no space"):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["target"]


def test_a_directory_and_a_place_that_is_not_there_are_told(tmp_path):
    with pytest.raises(UsageError, match="is a directory"), whole_file(str(tmp_path), force=True):
        pass
    with pytest.raises(StorageError, match="there is no directory"), whole_file(str(tmp_path / "a" / "b"), force=False):
        pass


# --- the demo -------------------------------------------------------------------------------------


def test_a_second_demo_in_the_same_directory_is_refused(memstore, root, monkeypatch):
    second = []

    def during(*_args, **_options) -> None:
        second.append(memstore("demo"))

    monkeypatch.setattr("memstore.cli.demo._demo", during)
    assert memstore("demo").code == 0
    assert second[0].code == 2
    assert "another demo" in second[0].err


def test_an_interrupted_demo_tells_that_its_store_is_gone(memstore, tmp_path, monkeypatch):
    def interrupt(*_args, **_options) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("memstore.cli.demo._demo", interrupt)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = memstore("demo", with_root=False)
    assert result.code == 130
    assert "removed" in result.err
    assert os.listdir(tmp_path) == []


def test_writers_are_deaf_to_ctrl_c_before_they_begin():
    from memstore.demo.fleet import _deaf_at_birth

    with _deaf_at_birth():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_no_line_of_the_summary_is_broken(memstore, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    out = memstore("demo", "--agents", "2", "--records", "60", "--processes", "1", with_root=False).out
    assert '--response "Files are enough."' in [line[-30:] for line in out.splitlines()]
