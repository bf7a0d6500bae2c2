"""Stores of every version that was ever written are read, written on, and give back the same bytes."""

import shutil
from pathlib import Path

import pytest

from memstore import MemStore, VersionError
from memstore.format.checked import decode_checked, encode_checked
from memstore.format.lane import Seal, Slice, encode_commit, encode_header, encode_seal, encode_slice
from memstore.format.manifest import Block, encode_manifest_header, encode_merge
from memstore.format.store_file import Placement, ShardEntry, StoreFile, decode_store_file, encode_store_file
from memstore.format.version import FORMAT_VERSION
from memstore.timestamps import YEAR_10000_US

HERE = Path(__file__).parent
VERSIONS = sorted(p.name for p in HERE.iterdir() if (p / "expected.ndjson").exists())
AGENTS = ["bot", "Agent Smith/7"]


def everything(store):
    return [line for agent in AGENTS for line in store.agent(agent).lines()]


@pytest.fixture(params=VERSIONS)
def golden(request, tmp_path):
    shutil.copytree(HERE / request.param / "store", tmp_path / "store")
    return tmp_path / "store", (HERE / request.param / "expected.ndjson").read_bytes().splitlines()


def test_there_is_a_golden_store_of_the_current_version():
    assert f"v{FORMAT_VERSION}" in VERSIONS


def test_an_old_store_is_read_byte_for_byte_without_being_changed(golden):
    root, expected = golden
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    with MemStore(root, read_only=True) as store:
        assert everything(store) == expected
        assert store.agents() == sorted(AGENTS)
        assert store.stats()["lanes"]["open"] == 1
        assert store.stats()["lanes"]["sealed"] == 1
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


def test_an_old_store_is_drained_and_written_on(golden):
    root, expected = golden
    with MemStore(root, settings={"storage.ballast_bytes": 0}) as store:
        report = store.drain()
        assert (report.merged_lanes, report.pending) == (2, [])
        assert everything(store) == expected
        again = {"agent_id": "bot", "source_id": "old-70", "timestamp_utc": "2025-01-13T10:10:00.000070Z"}
        assert store.import_many([again]).added == [False]
        store.append(agent_id="bot", content="new")
        assert len(everything(store)) == len(expected) + 1


def test_a_store_of_a_newer_version_is_refused(golden):
    root, _ = golden
    kind, value = decode_checked((root / "STORE.json").read_bytes().rstrip(b"\n"))
    value["version"] = FORMAT_VERSION + 1
    value["from_the_future"] = True
    (root / "STORE.json").write_bytes(encode_checked(kind, value))
    with pytest.raises(VersionError, match="upgrade memstore"):
        MemStore(root)


def test_lane_lines_are_these_bytes():
    item = Slice("é", "20250115", 10, 20, 3, 5, 7, "00000000000000ff")
    assert encode_header(store="ab", writer=7, at=5, durability="os") == (
        b'{"lane":{"version":1,"store":"ab","writer":7,"at":5,"durability":"os"},"xxh3":"a063912f4f4ffd4f"}\n'
    )
    assert encode_commit(at=5, body_bytes=20, slices=[item]) == (
        '{"commit":{"at":5,"bytes":20,"slices":[["é","20250115",10,20,3,5,7,"00000000000000ff"]]},"xxh3":"c1ef1024651596ed"}\n'.encode()
    )
    assert encode_slice(item) == (
        '{"slice":["é","20250115",10,20,3,5,7,"00000000000000ff"],"xxh3":"7a8e6229d8f910eb"}\n'.encode()
    )
    assert encode_seal(Seal(at=1, footer=2, commits=3, records=4, slices=5, agents=6)) == (
        b'{"seal":{"at":1,"footer":2,"commits":3,"records":4,"slices":5,"agents":6},"xxh3":"c32bd83965b2f488"}\n'
    )
    assert encode_seal(Seal(at=1, footer=2, commits=3, records=4, slices=5, agents=6, damaged=[(1, 2)])) == (
        b'{"seal":{"at":1,"footer":2,"commits":3,"records":4,"slices":5,"agents":6,"damaged":[[1,2]]},"xxh3":"4c2328fa0fd802c6"}\n'
    )


def test_manifest_lines_are_these_bytes():
    assert encode_manifest_header(agent="bot", at=5) == (
        b'{"manifest":{"version":1,"agent":"bot","at":5},"xxh3":"299655cc5e995b2d"}\n'
    )
    chunks = [("20250115.1.jsonl", 0, [Block(10, 1, 5, 6, "00000000000000ff")])]
    assert encode_merge(merge_id="m", at=5, lanes=["t"], chunks=chunks) == (
        b'{"merge":{"id":"m","at":5,"lanes":["t"],"chunks":[{"file":"20250115.1.jsonl","offset":0,"blocks":[[10,1,5,6,"00000000000000ff"]]}]},"xxh3":"55f580ca203380a2"}\n'
    )


def test_the_store_file_is_these_bytes_and_comes_back():
    content = StoreFile(
        id="ab",
        created=1,
        epoch=2,
        next_writer=3,
        shards=[ShardEntry(index=0), ShardEntry(index=1, path="/v/shard_001")],
        placement=Placement(shards=[0, 1], pins={"bot": 1}),
        previous=Placement(shards=[0]),
    )
    encoded = encode_store_file(content)
    assert encoded == (
        b'{"store":{"version":1,"id":"ab","created":1,"epoch":2,"next_writer":3,"shards":[{"index":0},{"index":1,"path":"/v/shard_001"}],"placement":{"shards":[0,1],"pins":{"bot":1}},"previous":{"shards":[0]}},"xxh3":"9381c193dc14c924"}\n'
    )
    assert decode_store_file(encoded, "STORE.json") == content


def test_times_fit_their_fixed_width():
    assert YEAR_10000_US == 253_402_300_800_000_000
