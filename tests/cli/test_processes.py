"""The command line as a real process: pipes, signals, start-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from memstore import MemStore

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")


@pytest.fixture
def filled(root):
    with MemStore(root, durability="os") as store:
        store.append_many({"agent_id": "bot", "content": "x" * 1000} for _ in range(2000))
    return root


def test_a_module_run_appends_and_reads(run_process):
    appended = run_process("append", "--agent", "bot", "--input", "hello", stdin=subprocess.DEVNULL)
    assert appended.returncode == 0, appended.stderr
    read = run_process("recent", "--agent", "bot")
    assert appended.stdout.strip() in read.stdout


def test_standard_input_is_stored_as_it_comes(root):
    """The id of a line is printed while the producer still has its pipe open."""
    command = [sys.executable, "-m", "memstore", "--root", root, "append", "--agent", "bot"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for number in range(2):
            process.stdin.write(b'{"content": %d}\n' % number)
            process.stdin.flush()
            assert process.stdout.readline().startswith(b"bot_")
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


@pytest.mark.parametrize("form", ["ndjson", "json", "csv", "table"])
def test_a_closed_pipe_ends_quietly(filled, form):
    command = [sys.executable, "-m", "memstore", "--root", filled, "range", "-o", form]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert err == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["agents"], ["--help"], ["search", "--help"], ["--version"]], ids=" ".join)
def test_a_full_disk_behind_standard_output_is_told(filled, arguments):
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "memstore", "--root", filled, *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 6
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c_exits_with_130_and_keeps_what_was_acknowledged(root):
    command = [sys.executable, "-m", "memstore", "--root", root, "append", "--agent", "bot", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(b'{"content": 1}\n')
        process.stdin.flush()
        memory_id = process.stdout.readline().decode().strip()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.decode().startswith("memstore: interrupted")
    with MemStore(root) as store:
        assert store.get(memory_id) is not None


def test_starting_imports_nothing_heavy():
    code = (
        "import sys; from memstore.cli.main import main; main(['--help']);"
        "sys.exit(bool({'rich', 'shtab', 'yaml', 'multiprocessing', 'apscheduler'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
