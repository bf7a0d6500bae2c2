"""A second reader, written from docs/FORMAT.md alone, finds what the engine finds."""

import subprocess
import sys
from pathlib import Path

import pytest

from memstore import MemStore

TOOL = Path(__file__).parents[2] / "tools" / "read_store.py"


def read(root, agent):
    return subprocess.run([sys.executable, TOOL, str(root), agent], capture_output=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("agent", ["bot", "Agent Smith/7"])
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
        assert read(tmp_path, "nobody") == []


def test_the_second_reader_refuses_damage(tmp_path):
    with MemStore(tmp_path, settings={"storage.ballast_bytes": 0}) as store:
        store.append(agent_id="bot", content="x")
    (path,) = tmp_path.glob("memory/shards/*/bot/*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"x"', b'"y"'))
    with pytest.raises(subprocess.CalledProcessError) as failed:
        read(tmp_path, "bot")
    assert b"damaged" in failed.value.stderr
