"""What the proofs of the lifecycle share: settings that move everything soon, comparisons, looks at a disk."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import zstandard
from support import T0_US

from memstore import MemStore
from memstore.engine.engine import Engine
from memstore.exporters.ndjson import export_ndjson
from memstore.format.names import MANIFEST, SHARD_LOCK, parse_day_file_name, tier_of
from memstore.lifecycle.action import Action, Withheld
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.timestamps import US_PER_DAY, iso_text

LIVELY: dict[str, Any] = {
    "storage.ballast_bytes": 0,
    "storage.shards": 2,
    "merging.background": False,
    "storage.lifecycle.reserve_bytes": 0,
    "storage.lifecycle.warm_frame_bytes": 4096,
    "storage.lifecycle.cold_frame_bytes": 8192,
    "storage.lifecycle.warm_level": 1,
    "storage.lifecycle.cold_level": 1,
    "storage.lifecycle.keep_read_days": 0,
}
"""Small frames, quick levels; reading keeps nothing up."""
HOUR_S = 3600.0
DAY_S = 86_400.0

Lines = dict[str, dict[str, bytes]]
"""By agent and memory id: the line of each record that must be there."""


def at(days: float) -> int:
    """So many days after `T0_US` (before it, where negative), in microseconds."""
    return T0_US + int(days * US_PER_DAY)


def iso(days: float) -> str:
    """`at` as text."""
    return iso_text(at(days))


def lines_of(store: MemStore, agent: str, ids: Iterable[str]) -> dict[str, bytes]:
    """The stored lines of records, which are all there."""
    listed = list(ids)
    found = store._engine.reader.get_lines(listed)
    assert None not in found, [i for i, line in zip(listed, found, strict=True) if line is None][:5]
    assert all(line.startswith(b'{"memory_id"') for line in found if line)
    return {i: line for i, line in zip(listed, found, strict=True) if line is not None}


def remember(store: MemStore, records: Iterable[Mapping[str, Any]]) -> Lines:
    """Append records, and give the lines that they became."""
    listed = list(records)
    ids = store.append_many(listed)
    by_agent: dict[str, list[str]] = {}
    for record, memory_id in zip(listed, ids, strict=True):
        by_agent.setdefault(record["agent_id"], []).append(memory_id)
    return {agent: lines_of(store, agent, listed_ids) for agent, listed_ids in by_agent.items()}


def assert_holds(store: MemStore, expected: Lines, *, told: str = "") -> None:
    """Every way to ask gives these lines, byte for byte, and no others."""
    __tracebackhide__ = True
    for agent, records in expected.items():
        bot = store.agent(agent)
        wanted = [line for _, line in sorted(records.items())]
        up = list(bot.lines())
        if up != wanted:
            missing = [i for i, line in records.items() if line not in set(up)]
            extra = [line[:90] for line in up if line not in set(wanted)]
            raise AssertionError(
                f"{told}: {agent}: {len(up)} lines, {len(wanted)} expected; lost {missing[:3]} ({len(missing)}), "
                f"unknown {extra[:3]} ({len(extra)}), in order: {up == sorted(up)}"
            )
        assert list(bot.lines(newest_first=True)) == wanted[::-1], f"{told}: {agent}: newest first"
        ids = sorted(records, reverse=True)
        assert [r.memory_id for r in bot.recent(20)] == ids[:20], f"{told}: {agent}: recent"
        assert bot.count() == len(ids), f"{told}: {agent}: count"
        if ids:
            times = sorted(json.loads(line)["timestamp_utc"] for line in wanted)
            middle = times[len(times) // 2]
            assert bot.count(until=middle) == sum(time < middle for time in times), f"{told}: {agent}: count until"
        for memory_id in ids[:: max(len(ids) // 10, 1)]:
            assert store._engine.reader.get_line(memory_id) == records[memory_id], f"{told}: get {memory_id}"
        assert store._engine.reader.get_lines(ids) == [records[i] for i in ids], f"{told}: {agent}: get_many"
        assert store._engine.reader.existing(agent, {}) == {}
    agents = sorted(agent for agent, records in expected.items() if records)
    assert [a for a in store.agents() if store.agent(a).count()] == agents, told
    stats = store.stats()
    assert stats["records"] == sum(map(len, expected.values())), told
    assert stats["damage"] == [], told


def assert_gone(store: MemStore, ids: Iterable[str], *, told: str = "") -> None:
    """None of these can be had by its id, from no cache either."""
    listed = list(ids)
    assert [i for i in listed if store.get(i) is not None] == [], told
    assert [r for r in store.get_many(listed) if r is not None] == [], told


def exported(store: MemStore) -> bytes:
    """The whole store as NDJSON."""
    out = io.BytesIO()
    export_ndjson(store, out)
    return out.getvalue()


def agent_files(root: str) -> dict[str, list[str]]:
    """Paths of the files of agents by what they are: ``hot, warm, cold, trash, temporary, manifest, other``."""
    found: dict[str, list[str]] = {
        kind: [] for kind in ("hot", "warm", "cold", "trash", "temporary", "manifest", "other")
    }
    for directory, _, names in os.walk(os.path.join(root, "memory")):
        for name in names:
            path = os.path.join(directory, name)
            if name == SHARD_LOCK:
                continue
            if name == MANIFEST:
                kind = "manifest"
            elif name.startswith(".tmp-"):
                kind = "temporary"
            elif os.path.basename(directory) == ".trash":
                kind = "trash"
            else:
                kind = tier_of(name) or "other"
            found[kind].append(path)
    return {kind: sorted(paths) for kind, paths in found.items()}


def assert_no_orphans(store: MemStore, *, told: str = "") -> None:
    """What lies in the agents' directories is what their MANIFESTs list, each file where it belongs, and no other."""
    found = agent_files(store.root)
    there = {path: os.path.getsize(path) for kind, paths in found.items() if kind != "manifest" for path in paths}
    compare_files(store._engine, there, told=told)


def compare_files(engine: Engine, there: Mapping[str, int], *, told: str = "") -> None:
    """Every file that counts is among those that are there, with its size, and there is no other."""
    expected: dict[str, int] = {}
    for agent in engine.inventory.agents():
        manifest = engine.builder.manifest(agent)
        if manifest is None:
            continue
        for name, committed in manifest.day_files.items():
            expected[engine.pieces.path_of(manifest, name)] = committed
        for name in (*manifest.packed, *manifest.trash):
            expected[engine.pieces.path_of(manifest, name)] = manifest.packed_file(name).size
    nobodys, missing = sorted(there.keys() - expected.keys()), sorted(expected.keys() - there.keys())
    assert not nobodys, f"{told}: nobody's: {nobodys}"
    assert not missing, f"{told}: missing: {missing}"
    wrong = [(path, size, there[path]) for path, size in expected.items() if there[path] != size]
    assert not wrong, f"{told}: path, size by the MANIFEST, size on disk: {wrong}"


def lines_in(path: str) -> list[bytes]:
    """What standard tools see in a file."""
    if parse_day_file_name(os.path.basename(path)) is not None:
        with open(path, "rb") as file:
            return file.read().splitlines()
    with open(path, "rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read().splitlines()


def tiers(store: MemStore) -> dict[str, int]:
    """Records by tier."""
    return {each["tier"]: each["records"] for each in store.tiers()["tiers"] if each["records"]}


def real(actions: Iterable[Action]) -> list[str]:
    """Sentences of what there is to do, without what is only said."""
    return [action.sentence for action in actions if not isinstance(action, Withheld)]


def failures(report: Any) -> list[str]:
    """What failed in a run of maintenance."""
    return [f"{action.sentence} {type(error).__name__}: {error}" for action, error in report.failed]


def lifecycle_of(engine: Engine) -> Lifecycle:
    """What a store's face has, of a bare engine."""
    return Lifecycle(engine)
