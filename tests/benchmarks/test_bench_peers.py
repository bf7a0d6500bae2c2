"""What memstore is measured against is asked the same: each peer gives back what it was given."""

import os

import msgspec
import orjson
import pytest

from benchmarks.peers import PEERS, Question, UnsupportedError, found_peers
from benchmarks.peers.ours import MemstorePeer
from benchmarks.peers.postgres_server import where_served
from benchmarks.workloads import memories

RECORDS, AGENTS = 50, 5
KINDS = [MemstorePeer, *PEERS]
pytestmark = pytest.mark.filterwarnings("ignore")  # what peers warn of is not memstore's


def _plain(found):
    return found if isinstance(found, dict) else msgspec.to_builtins(found)


def _same(found, record):
    return {key: _plain(found)[key] for key in ("agent_id", "input", "tags")} == {
        key: record[key] for key in ("agent_id", "input", "tags")
    }


def _answer(ask, *arguments):
    try:
        return ask(*arguments)
    except UnsupportedError:
        return None  # it has no such question, which its report says


@pytest.mark.parametrize(
    ("kind", "reach"),
    [pytest.param(kind, reach, id=f"{kind.name}-{reach}") for kind in KINDS for reach in kind.reaches],
)
def test_a_peer_gives_back_what_it_was_given(kind, reach, tmp_path):
    missing = kind.missing()
    if missing is not None:
        assert missing.strip()  # it says why
        pytest.skip(missing)
    made = memories(RECORDS, agents=AGENTS)
    records, given = [memory.stored for memory in made], kind.form(made)
    peer = kind(str(tmp_path / "peer"), reach=reach, searchable=kind.searches is not None)
    try:
        ids = [*peer.write(given[:-1]), *peer.write(given[-1:])]
        peer.settle()
        assert len(set(ids)) == peer.count() == RECORDS
        assert peer.bytes_on_disk() > 0
        for memory_id, record in zip(ids, records, strict=True):
            found = _answer(peer.get, memory_id)
            assert found is None or _same(found, record)
        newest = [record for record in records if record["agent_id"] == records[0]["agent_id"]][::-1][:3]
        found = _answer(peer.recent, records[0]["agent_id"], 3)
        if found is not None:
            assert len(found) == len(newest)
            assert "arbitrary" in kind.caveat or all(map(_same, found, newest))
        question = Question(("timeout",), agent_id=records[0]["agent_id"])
        if kind.searches is None:
            with pytest.raises(UnsupportedError):
                peer.search(question, RECORDS)
        else:
            expected = [
                record
                for record in records
                if record["agent_id"] == question.agent_id and b"timeout" in orjson.dumps(record)
            ]
            assert len(peer.search(question, RECORDS)) == len(expected) > 0
    finally:
        peer.close()


def test_every_peer_is_there_or_says_why_it_is_not():
    found = list(found_peers())
    assert [each.kind for each in found] == list(PEERS)
    assert all(each.missing or each.version or not each.kind.packages for each in found)


def test_a_postgresql_of_ones_own_leaves_nothing_behind(tmp_path):
    kind = next(kind for kind in PEERS if kind.name == "postgresql")
    if kind.missing():
        pytest.skip(kind.missing())
    peer = kind(str(tmp_path))
    data = peer._server.data
    assert os.path.isdir(data)
    other = kind(str(tmp_path))  # a second process connects to the server of the first
    other.close()
    assert peer.count() == 0
    peer.close()
    assert not os.path.exists(data)
    assert where_served(str(tmp_path)) is None
