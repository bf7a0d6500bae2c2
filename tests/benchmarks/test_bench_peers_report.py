"""What memstore and its peers took becomes one table and one shape; who is missing stands there with the reason."""

import json

import pytest

from benchmarks.peers import PEERS
from benchmarks.peers.contest import Entry, ours, results
from benchmarks.peers.registry import Found
from benchmarks.peers.report import PeersReport
from benchmarks.peers.result import PeerResult

[SQLITE] = [kind for kind in PEERS if kind.name == "sqlite"]
[LMDB] = [kind for kind in PEERS if kind.name == "lmdb"]


def _entry(found, durability="fsync", **figures):
    return Entry(found, found.kind.name, durability, **figures)


def _report(entries):
    report = PeersReport("peers_fill_batch", ".", "fsync", 100, 78_000)
    report.question, report.results = "fill_batch", results(entries)
    return report


def test_a_ratio_is_record_for_record_and_over_one_where_memstore_is_faster():
    mine = _entry(ours(), records=100, seconds=[1.0, 1.0, 1.0])
    theirs = _entry(Found(SQLITE, None, "3"), records=10, seconds=[0.5, 0.2, 0.3])
    assert results([mine, theirs])[-1].ratio == pytest.approx(3)


def test_reads_are_compared_by_their_median_calls():
    mine = _entry(ours(), records=2, seconds=[9.0], medians=[5.0])
    theirs = _entry(Found(SQLITE, None, "3"), records=2, seconds=[1.0], medians=[20.0])
    assert results([mine, theirs])[-1].ratio == pytest.approx(4)


def test_writes_to_the_system_are_not_compared_with_writes_to_the_disk():
    mine = [_entry(ours(), "fsync", records=1, seconds=[4.0]), _entry(ours(), "os", records=1, seconds=[1.0])]
    theirs = _entry(Found(SQLITE, None, "3"), "os", records=1, seconds=[2.0])
    assert results([*mine, theirs])[-1].ratio == pytest.approx(2)


def test_who_is_missing_stands_there_with_the_reason():
    mine = _entry(ours(), records=1, seconds=[1.0])
    report = _report([mine, _entry(Found(LMDB, "lmdb is not installed", ""))])
    assert "no figure: lmdb is not installed" in report.text()
    [_, missing] = json.loads(json.dumps(report.as_dict()))["peers"]
    assert (missing["peer"], missing["missing"]) == ("lmdb", "lmdb is not installed")


def test_every_key_of_the_shape_is_always_there():
    report = _report([_entry(ours(), records=1, seconds=[1.0], acknowledged=[0.5])])
    told = report.as_dict()
    assert (told["question"], told["better"]) == ("fill_batch", "faster")
    assert [each["peer"] for each in told["peers"]] == ["memstore", "memstore, merges not waited for"]
    for each in told["peers"]:
        assert set(each) == set(PeerResult.__dataclass_fields__)
