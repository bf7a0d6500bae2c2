"""A second reader, written from docs/FORMAT.md alone, finds what the engine finds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_support import DAY_S, LIVELY, agent_files, at, failures, iso

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.format.checked import decode_checked, encode_checked
from memstore.ids import agent_directory

TOOL = Path(__file__).parents[2] / "tools" / "read_store.py"
GOLDEN = Path(__file__).parents[1] / "golden"
AGENTS = ["bot", "Agent Smith/7"]
SETTINGS = {
    **LIVELY,
    "storage.lifecycle.deduplication_enabled": True,
    "storage.retention.rules": [{"memory_type": "PLAN", "keep_days": 20}],
}


def read(root, agent):
    return subprocess.run([sys.executable, TOOL, str(root), agent], capture_output=True, check=True).stdout.splitlines()


def refusal(root, agent, **environment):
    run = subprocess.run(
        [sys.executable, TOOL, str(root), agent],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    return run.stderr


def bots(root, kind):
    """Paths of bot's files of a kind."""
    return [Path(path) for path in agent_files(str(root))[kind] if "/bot/" in path]


def states(agent, day, count=80):
    """What a machine reports again and again, with ids of its own."""
    return [
        {
            "agent_id": agent,
            "memory_type": "SYSTEM_STATE",
            "importance": "LOW",
            "content": {
                "source_id": "nested",
                "all": ["is", {"well": None}],
                "text": "quiet as ever. " * 9,
                "n": n % 3,
            },
            "source_id": f'{day}-"{n}"',
            "timestamp_local": f"day {day}, \\ {n}",
            "timestamp_utc": iso(day + n / 86400),
        }
        for n in range(count)
    ]


def others(agent, day, memory_type="ERROR"):
    return [
        {"agent_id": agent, "memory_type": memory_type, "content": f"é\n{n}" * 30, "timestamp_utc": iso(day + n / 1e4)}
        for n in range(60)
    ]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A store with all that the format has, and what the engine reads in it."""
    root = tmp_path_factory.mktemp("all") / "store"
    clock = ManualClock(at(0))
    with MemStore(root, settings=SETTINGS, clock=clock) as store:
        live(store, clock, root)
        yield root, {agent: list(store.agent(agent).lines()) for agent in AGENTS}


def live(store, clock, root):
    for agent in AGENTS:
        store.import_many(states(agent, -45) + states(agent, -44))
        for day in (-45, -44, -2):
            store.append_many(others(agent, day))
        store.append_many(others(agent, -2, "PLAN"))
    store.maintain()
    clock.advance(25 * DAY_S)
    for agent in AGENTS:
        store.append_many(others(agent, -2.2))  # late
        store.append_many(others(agent, 24))
    store.pin("bot", "shard_000")
    store.pin("Agent Smith/7", "shard_001")
    store.add_shard()
    store.drain()
    for agent in AGENTS:
        (manifest,) = root.rglob(f"{agent_directory(agent)}/MANIFEST")
        (manifest.parent / ".tmp-left").write_bytes(b"x")  # its clean-up compacts the MANIFEST
    report = store.maintain(trust_clock=True)
    assert failures(report) == []
    store.undelete(agent="Agent Smith/7")  # what the rule had taken
    for agent in AGENTS:
        listed = [record.memory_id for record in store.agent(agent).range()]
        store.forget([listed[0], listed[3], listed[200], listed[-1]])  # the first is the original of repeats
        store.undelete(ids=listed[3])
        store.append(agent_id=agent, content="only in a lane yet")


def test_the_store_of_these_tests_has_everything(everything):
    root, _ = everything
    files = agent_files(str(root))
    assert all(files[kind] for kind in ("hot", "warm", "cold", "trash"))
    text = b"".join(Path(path).read_bytes() for path in files["manifest"])
    for said in (b'"hide":', b'"show":', b'"state":', b'"repeats":', b'"retention"', b'"undelete"', b'"cold"'):
        assert said in text, said


@pytest.mark.parametrize("agent", AGENTS)
def test_the_second_reader_sees_the_same_lines_in_every_tier(everything, agent):
    root, expected = everything
    assert len(expected[agent]) > 400
    assert read(root, agent) == expected[agent]
    assert read(root, "nobody") == []


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir() if path.name.startswith("v")))
def test_the_second_reader_reads_every_golden_store(version):
    lines = [line for agent in AGENTS for line in read(GOLDEN / version / "store", agent)]
    assert lines == (GOLDEN / version / "expected.ndjson").read_bytes().splitlines()


@pytest.mark.parametrize("agent", AGENTS)
def test_the_second_reader_sees_the_same_lines(tmp_path, agent):
    with MemStore(tmp_path, settings={"storage.ballast_bytes": 0}) as store:
        for day in ("2025-01-15", "2025-01-14", "2025-01-15"):
            store.append_many(
                [{"agent_id": a, "content": "é\n" * 50, "timestamp_utc": day} for a in (agent, "x") for _ in range(900)]
            )
            store.drain()
        store.add_shard()
        store.pin(agent, "shard_003")
        store.append(agent_id=agent, content="only in a lane yet")
        expected = list(store.agent(agent).lines())
        assert len(expected) == 2701
        assert read(tmp_path, agent) == expected


def test_the_second_reader_finds_a_file_that_a_crash_left_in_the_trash(everything, tmp_path):
    root = shutil.copytree(everything[0], tmp_path / "store")
    for path in [Path(path) for kind in ("warm", "cold") for path in agent_files(str(root))[kind]]:
        (path.parent / ".trash").mkdir(exist_ok=True)
        path.rename(path.parent / ".trash" / path.name)
    for agent in AGENTS:
        assert read(root, agent) == everything[1][agent]


def test_the_second_reader_ignores_a_torn_last_line_and_refuses_one_that_said_what_is_gone(everything, tmp_path):
    root = shutil.copytree(everything[0], tmp_path / "store")
    (manifest,) = root.rglob("bot/MANIFEST")
    with manifest.open("ab") as file:
        file.write(b'{"move":{"at":1,"reason":"wa')
    assert read(root, "bot") == everything[1]["bot"]
    with manifest.open("ab") as file:
        file.write(b'rm"' + b'"%b"' % (b"0" * 32))
    assert "damaged" in refusal(root, "bot")


@pytest.mark.parametrize("kind", ["hot", "warm", "cold", "manifest"])
def test_the_second_reader_refuses_damage_in_every_kind_of_file(everything, tmp_path, kind):
    root = shutil.copytree(everything[0], tmp_path / "store")
    path = bots(root, kind)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "damaged" in refusal(root, "bot")


def test_the_second_reader_refuses_a_damaged_seek_table_and_a_file_that_was_cut(everything, tmp_path):
    root = shutil.copytree(everything[0], tmp_path / "store")
    path = bots(root, "cold")[0]
    data = path.read_bytes()
    path.write_bytes(data[:-6] + bytes([data[-6] ^ 1]) + data[-5:])
    assert "seek table" in refusal(root, "bot")
    path.write_bytes(data[:-1])
    assert "damaged" in refusal(root, "bot")
    path.unlink()
    assert "missing" in refusal(root, "bot")


def test_the_second_reader_says_what_it_needs_where_zstandard_is_not_installed(everything, tmp_path):
    (tmp_path / "zstandard.py").write_text("raise ImportError")
    assert "pip install zstandard" in refusal(everything[0], "bot", PYTHONPATH=str(tmp_path))


def test_the_second_reader_refuses_a_newer_store(everything, tmp_path):
    root = shutil.copytree(GOLDEN / "v2" / "store", tmp_path / "store")
    line = (root / "STORE.json").read_bytes()
    (root / "STORE.json").write_bytes(line.replace(b'"version":2', b'"version":3'))
    assert "does not verify" in refusal(root, "bot")
    kind, value = decode_checked(line.rstrip(b"\n"))
    (root / "STORE.json").write_bytes(encode_checked(kind, {**value, "version": 3}))
    assert "format 3" in refusal(root, "bot")


def test_the_second_reader_imports_nothing_of_memstore():
    assert "import memstore" not in TOOL.read_text()
    assert "from memstore" not in TOOL.read_text()
