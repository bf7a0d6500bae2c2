"""Stores of every version that was ever written are read, written on, packed, and give back the same bytes."""

import json
import shutil
from pathlib import Path

import pytest

from memstore import MemStore, VersionError
from memstore.clock import ManualClock
from memstore.format.checked import decode_checked, encode_checked
from memstore.format.forgotten import Erased, Erasure, ForgottenRecords, encode_forgotten, text_hash
from memstore.format.frames import SeekEntry, encode_seek_table
from memstore.format.holds_file import Hold, encode_holds_file
from memstore.format.lane import Seal, Slice, encode_commit, encode_header, encode_seal, encode_slice
from memstore.format.lifecycle_file import ClockNote, encode_lifecycle_file
from memstore.format.lines import agent_prefix
from memstore.format.manifest import (
    Block,
    Chunk,
    Frame,
    KindCount,
    Move,
    PackedFile,
    State,
    TrashedFile,
    decode_manifest_line,
    encode_hide,
    encode_manifest_header,
    encode_merge,
    encode_move,
    encode_show,
    encode_state,
)
from memstore.format.repeats import encode_repeat, expand_repeat
from memstore.format.store_file import Placement, ShardEntry, StoreFile, decode_store_file, encode_store_file
from memstore.format.version import FORMAT_VERSION
from memstore.timestamps import YEAR_10000_US

HERE = Path(__file__).parent
VERSIONS = sorted(p.name for p in HERE.iterdir() if (p / "expected.ndjson").exists())
AGENTS = ["bot", "Agent Smith/7"]
PACKED = {"v1": (1_741_600_000_000_000, {"cold": 80}), "v2": (1_745_000_000_000_000, {"warm": 24, "cold": 192})}
"""When everything in a golden store is due to be packed (2025-03-10 and 2025-04-18), and what that gives."""
QUIET = {"storage.ballast_bytes": 0, "storage.lifecycle.reserve_bytes": 0, "storage.lifecycle.keep_read_days": 0}


def everything(store):
    return [line for agent in AGENTS for line in store.agent(agent).lines()]


def version_of(root):
    return decode_checked((root / "STORE.json").read_bytes().rstrip(b"\n"))[1]["version"]


@pytest.fixture(params=VERSIONS)
def golden(request, tmp_path):
    shutil.copytree(HERE / request.param / "store", tmp_path / request.param)
    return tmp_path / request.param, (HERE / request.param / "expected.ndjson").read_bytes().splitlines()


@pytest.fixture
def tiered(tmp_path):
    """The golden store of version 2, and what it holds."""
    shutil.copytree(HERE / "v2" / "store", tmp_path / "v2")
    return tmp_path / "v2", (HERE / "v2" / "expected.ndjson").read_bytes().splitlines()


def test_there_is_a_golden_store_of_the_current_version():
    assert f"v{FORMAT_VERSION}" in VERSIONS


def test_an_old_store_is_read_byte_for_byte_without_being_changed(golden):
    root, expected = golden
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    with MemStore(root, read_only=True) as store:
        assert everything(store) == expected
        assert [store.get(json.loads(line)["memory_id"]).memory_id for line in expected[::7]]
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


def test_an_old_store_gets_the_new_version_with_its_first_write_and_reads_the_same(golden):
    root, expected = golden
    with MemStore(root, settings=QUIET) as store:
        assert everything(store) == expected
        assert version_of(root) == int(root.name[1:])  # reading raises nothing
        new = store.append(agent_id="new", content="x")
        assert version_of(root) == FORMAT_VERSION
        assert everything(store) == expected
        assert store.get(new).content == "x"


def test_an_old_store_is_packed_and_reads_the_same(golden):
    root, expected = golden
    now_us, tiers = PACKED[root.name]
    with MemStore(root, settings=QUIET, clock=ManualClock(now_us)) as store:
        report = store.maintain()
        assert report.failed == []
        assert everything(store) == expected
        assert {each["tier"]: each["records"] for each in store.tiers()["tiers"] if each["records"]} == tiers
    assert version_of(root) == FORMAT_VERSION
    with MemStore(root, read_only=True) as store:
        assert everything(store) == expected


def test_the_golden_store_of_version_2_holds_what_the_version_can_write(tiered):
    root, expected = tiered
    with MemStore(root, read_only=True) as store:
        tiers = {each["tier"]: each for each in store.tiers()["tiers"]}
        assert [tiers[tier]["files"] for tier in ("hot", "warm", "cold", "trash")] == [6, 2, 2, 1]
        assert store.tiers()["repeats"]["records"] == 44
        assert [hold.name for hold in store.holds()] == ["case-7"]
    kinds = {
        decode_checked(line)[0]
        for path in root.glob("memory/shards/*/*/MANIFEST")
        for line in path.read_bytes().splitlines()
    }
    assert kinds == {"manifest", "state", "merge", "move", "hide", "show"}
    assert decode_checked((root / "FORGOTTEN").read_bytes().splitlines()[0])[0] == "forgotten"
    assert not any(b'"repeat_of"' in line for line in expected)


def test_what_was_forgotten_or_has_expired_in_a_golden_store_comes_back(tiered):
    root, expected = tiered
    with MemStore(root, settings=QUIET) as store:
        report = store.undelete(agent="bot")
        assert report.records == 2 + 10  # tombstones, and a file of the trash
        lines = everything(store)
        assert len(lines) == len(expected) + 12
        assert set(expected) < set(lines)
        assert sum(b'"PLAN"' in line for line in lines) == 10


def test_what_was_forgotten_for_good_is_not_imported_again(tiered):
    root, _ = tiered
    with MemStore(root, settings=QUIET) as store:
        gone = {"agent_id": "bot", "source_id": "old-72", "timestamp_utc": "2025-01-13T10:12:00.000072Z"}
        assert store.import_many([gone]).added == [False]


def test_an_agent_of_a_golden_store_is_erased(tiered):
    root, expected = tiered
    with MemStore(root, settings=QUIET) as store:
        store.remove_hold("case-7")
        receipt = store.erase(agent="Agent Smith/7")
        assert receipt.verified, receipt
        assert everything(store) == [line for line in expected if b'"agent_id":"bot"' in line]


PACKED_FILE = PackedFile(
    file="202501.7.jsonl.zst",
    size=150,
    xxh3="00000000000000aa",
    frames=[Frame(50, 400, 2, 5, 6, 9, "00000000000000bb"), Frame(59, 300, 1, 7, 7, 8, "00000000000000cc")],
    kinds=[KindCount("ERROR", "LOW", 1, 5, 5), KindCount("PLAN", "HIGH", 2, 6, 7)],
)
RICH_FILE = PackedFile(
    file="20250106-20250108.4.jsonl.zst",
    size=90,
    xxh3="00000000000000dd",
    frames=[Frame(61, 700, 3, 5, 7, 9, "00000000000000ee")],
    kinds=[KindCount("GOAL", "MEDIUM", 3, 5, 7)],
    own=(1, 11, 12),
    judged=("0000000000000099", 13),
    repeats=2,
    saved=300,
    digests=1,
    digested_until=6,
)
TRASHED = TrashedFile(packed=PACKED_FILE, at=10, purge_at=20, reason="a rule")
PACKED_BYTES = (
    b'{"file":"202501.7.jsonl.zst","size":150,"xxh3":"00000000000000aa","frames":[[50,400,2,5,6,9,"00000000000000bb"],'
    b'[59,300,1,7,7,8,"00000000000000cc"]],"kinds":[["ERROR","LOW",1,5,5],["PLAN","HIGH",2,6,7]]}'
)
RICH_BYTES = (
    b'{"file":"20250106-20250108.4.jsonl.zst","size":90,"xxh3":"00000000000000dd","frames":[[61,700,3,5,7,9,"00000000000000ee"]],'
    b'"kinds":[["GOAL","MEDIUM",3,5,7]],"own":[1,11,12],"judged":["0000000000000099",13],'
    b'"repeats":2,"saved":300,"digests":1,"digested_until":6}'
)


def test_move_lines_are_these_bytes_and_come_back():
    least = Move(at=5, reason="purge", sources=["202501.7.jsonl.zst"])
    assert (
        encode_move(least)
        == b'{"move":{"at":5,"reason":"purge","from":["202501.7.jsonl.zst"]},"xxh3":"5699f9fc9f0a5f12"}\n'
    )
    most = Move(at=5, reason="cold", sources=["a", "b"], to=[RICH_FILE], trash=[TRASHED], purged=["x_1"])
    assert encode_move(most) == (
        b'{"move":{"at":5,"reason":"cold","from":["a","b"],"to":[%b],"trash":[{"packed":%b,"at":10,"purge_at":20,'
        b'"reason":"a rule"}],"purged":["x_1"]},"xxh3":"09add431df32f5ee"}\n' % (RICH_BYTES, PACKED_BYTES)
    )
    for move in (least, most):
        assert decode_manifest_line(encode_move(move)[:-1], "MANIFEST").move == move


def test_tombstone_lines_are_these_bytes_and_come_back():
    assert encode_hide(at=5, ids=["é_1"]) == '{"hide":{"at":5,"ids":["é_1"]},"xxh3":"b7454ca962beb9f9"}\n'.encode()
    assert encode_show(at=6, ids=["a", "b"]) == b'{"show":{"at":6,"ids":["a","b"]},"xxh3":"4dc89dc146fbd8e8"}\n'
    assert decode_manifest_line(encode_hide(at=5, ids=["é_1"])[:-1], "MANIFEST").hide.ids == ["é_1"]
    assert decode_manifest_line(encode_show(at=5, ids=["b"])[:-1], "MANIFEST").show.ids == ["b"]


def test_the_lines_of_a_compacted_manifest_are_these_bytes_and_come_back():
    assert encode_manifest_header(agent="bot", at=5, compaction_id="00ff") == (
        b'{"manifest":{"version":2,"agent":"bot","at":5,"id":"00ff"},"xxh3":"6ce0d05a6a9af7f6"}\n'
    )
    least = State(at=5, next_version=1)
    assert encode_state(least) == b'{"state":{"at":5,"next_version":1},"xxh3":"0dfd48015cff3c1f"}\n'
    most = State(
        at=5,
        next_version=8,
        lanes=["t"],
        days=[Chunk("20250115.1.jsonl", 0, [Block(10, 1, 5, 6, "00000000000000ff")])],
        ingested={"20250115.1.jsonl": 7},
        packed=[RICH_FILE],
        trash=[TRASHED],
        hidden=["h"],
        purged=["p"],
        dropped={"20250116.1.jsonl": 4},
    )
    assert encode_state(most) == (
        b'{"state":{"at":5,"next_version":8,"lanes":["t"],"days":[{"file":"20250115.1.jsonl","offset":0,"blocks":'
        b'[[10,1,5,6,"00000000000000ff"]]}],"ingested":{"20250115.1.jsonl":7},"packed":[%b],"trash":[{"packed":%b,"at":10,'
        b'"purge_at":20,"reason":"a rule"}],"hidden":["h"],"purged":["p"],"dropped":{"20250116.1.jsonl":4}},'
        b'"xxh3":"bd0e8212e678ddc5"}\n' % (RICH_BYTES, PACKED_BYTES)
    )
    for state in (least, most):
        assert decode_manifest_line(encode_state(state)[:-1], "MANIFEST").state == state


def test_lines_of_forgotten_are_these_bytes():
    assert text_hash("é") == "90326970ab18793af7940a006cf10cb3"
    noted = ForgottenRecords(at=5, act="retention", agent="aa", records=3)
    assert encode_forgotten(noted) == (
        b'{"forgotten":{"at":5,"act":"retention","agent":"aa","records":3},"xxh3":"c8f223af20252b31"}\n'
    )
    assert encode_forgotten(Erasure(id="i", at=5, agent="aa")) == (
        b'{"erasure":{"id":"i","at":5,"agent":"aa"},"xxh3":"b99f325a934516b7"}\n'
    )
    assert encode_forgotten(Erasure(id="i", at=5, agent="aa", ids=["bb"])) == (
        b'{"erasure":{"id":"i","at":5,"agent":"aa","ids":["bb"]},"xxh3":"1039081b391c6887"}\n'
    )
    assert encode_forgotten(Erased(id="i", at=6, records=2, pending=1)) == (
        b'{"erased":{"id":"i","at":6,"records":2,"pending":1},"xxh3":"fc0606194b299e0d"}\n'
    )


def test_holds_and_the_note_of_the_clock_are_these_bytes():
    holds = [
        Hold(name="a", at=1),
        Hold(name="b", at=2, agent="bot*", ids=("x",), memory_types=("ERROR",), since_us=3, until_us=4, reason="why"),
    ]
    assert encode_holds_file(holds) == (
        b'{"holds":{"version":2,"list":[{"name":"a","at":1},{"name":"b","at":2,"agent":"bot*","ids":["x"],'
        b'"memory_types":["ERROR"],"since_us":3,"until_us":4,"reason":"why"}]},"xxh3":"ffcf81a3a50c5f2b"}\n'
    )
    assert encode_lifecycle_file(ClockNote(wall_us=1, boot_s=2.5, boot_id="b", last_us=3)) == (
        b'{"lifecycle":{"clock":{"wall_us":1,"boot_s":2.5,"boot_id":"b","last_us":3}},"xxh3":"00fec170adf3c354"}\n'
    )
    assert encode_lifecycle_file(ClockNote(wall_us=1, boot_s=2.5, boot_id="b", last_us=3, doubt="it jumped")) == (
        b'{"lifecycle":{"clock":{"wall_us":1,"boot_s":2.5,"boot_id":"b","last_us":3,"doubt":"it jumped"}},'
        b'"xxh3":"23729bd838be6e4e"}\n'
    )


def test_a_seek_table_is_these_bytes():
    table = encode_seek_table([SeekEntry(0x0102, 0x030405, 0x0A0B0C0D), SeekEntry(1, 2, 3)])
    assert table.hex(" ", -4) == (
        "5e2a4d18 21000000 02010000 05040300 0d0c0b0a 01000000 02000000 03000000 02000000 80b1ea92 8f"
    )


def test_a_repeat_is_these_bytes_and_comes_back():
    head = b'{"memory_id":"a_20250115_100000_%b","timestamp_utc":"2025-01-15T10:00:00.%bZ",'
    body = b'"agent_id":"a","timestamp_local":"%b","source_id":"%b","content":{"source_id":"n","t":"a long text"}}'
    original = (head + body) % (b"000001" + b"0" * 16, b"000001", b"noon", b"s1")
    line = (head + body) % (b"000002" + b"1" * 16, b"000002", b"later", b"s2")
    repeat = b'%b"repeat_of":"a_20250115_100000_0000010000000000000000","source_id":"s2","timestamp_local":"later"}' % (
        head % (b"000002" + b"1" * 16, b"000002")
    )
    width = len(agent_prefix("a"))
    assert encode_repeat(line, original, width) == repeat
    assert expand_repeat(repeat, original, width) == line


def test_lane_lines_are_these_bytes():
    item = Slice("é", "20250115", 10, 20, 3, 5, 7, "00000000000000ff")
    assert encode_header(store="ab", writer=7, at=5, durability="os") == (
        b'{"lane":{"version":2,"store":"ab","writer":7,"at":5,"durability":"os"},"xxh3":"9bf29c0b5f1b5239"}\n'
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
        b'{"manifest":{"version":2,"agent":"bot","at":5},"xxh3":"14803b02617ffd15"}\n'
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
        b'{"store":{"version":2,"id":"ab","created":1,"epoch":2,"next_writer":3,"shards":[{"index":0},{"index":1,"path":"/v/shard_001"}],"placement":{"shards":[0,1],"pins":{"bot":1}},"previous":{"shards":[0]}},"xxh3":"fd7d7efbd552e956"}\n'
    )
    assert decode_store_file(encoded, "STORE.json") == content


def test_a_store_file_that_names_an_archive_is_these_bytes_and_comes_back():
    content = StoreFile(
        id="ab", created=1, epoch=2, next_writer=3, shards=[], placement=Placement(shards=[]), archive="/v/archive"
    )
    encoded = encode_store_file(content)
    assert encoded == (
        b'{"store":{"version":2,"id":"ab","created":1,"epoch":2,"next_writer":3,"shards":[],"placement":{"shards":[]},"archive":"/v/archive"},"xxh3":"8adc766f0dca84f9"}\n'
    )
    assert decode_store_file(encoded, "STORE.json") == content


def test_times_fit_their_fixed_width():
    assert YEAR_10000_US == 253_402_300_800_000_000
