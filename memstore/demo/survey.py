"""Read a demo's store back: is everything there that was acknowledged, and how fast does it come?

Nothing here is taken on trust: every line of the store is read and counted, sampled records are compared with what the
generator makes again, and the first disagreement is an error. Everything is read twice: as it was written, and after
maintenance has packed what is older than a week.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from memstore.agent import AgentMemory
from memstore.codec.checksum import RunningChecksum
from memstore.demo.generator import Plan
from memstore.demo.writer import Report
from memstore.errors import StorageError
from memstore.record import MemoryRecord, decode_record
from memstore.store import MemStore

RECENT_RECORDS = 50
T = TypeVar("T")


@dataclass(slots=True)
class Findings:
    """What reading back found.

    Attributes:
        records_of: records per agent id.
        bytes_of: bytes of their lines per agent id.
        kinds: records per (type, importance).
        latencies_s: operation to the seconds each call took.
        scan_s: reading and decoding every record.
        drain_s: merging all lanes.
        maintain_s: packing what is old.
        moves: how many moves that took.
        tiers: what lies in which tier afterwards, as ``MemStore.tiers`` has it.
        stats: the store's own.
        found: question to number of records.
    """

    records_of: Counter[str] = field(default_factory=Counter)
    bytes_of: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    latencies_s: dict[str, list[float]] = field(default_factory=dict)
    scan_s: float = 0.0
    drain_s: float = 0.0
    maintain_s: float = 0.0
    moves: int = 0
    tiers: list[dict[str, Any]] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)


def survey(root: str, plan: Plan, reports: Sequence[Report], *, progress: Callable[[int, int], None]) -> Findings:
    """Read everything, check it against the writers' reports, and time the usual reads.

    Raises:
        StorageError: what is read is not what was acknowledged.
    """
    findings = Findings()
    with MemStore(root) as store:
        before = time.monotonic()
        pending = store.drain().pending
        findings.drain_s = time.monotonic() - before
        if pending:
            raise StorageError(f"demo: lanes could not be merged: {', '.join(pending)}")
        before = time.monotonic()
        as_written = _scan(store, findings, lambda done: progress(done, 2 * plan.records))
        findings.scan_s = time.monotonic() - before
        _check_counts(findings, reports)
        _maintain(store, findings)
        packed = _scan(store, Findings(), lambda done: progress(plan.records + done, 2 * plan.records))
        if packed != as_written:
            raise StorageError("demo: records read back from the tiers differ from what was written")
        _time_reads(store, plan, findings, reports)
        _ask(store, plan, findings)
        findings.stats = store.stats()
    return findings


def _scan(store: MemStore, findings: Findings, progress: Callable[[int], None]) -> dict[str, str]:
    """Read every record; the checksum over each agent's lines."""
    checksums: dict[str, str] = {}
    for agent_id in store.agents():
        last = ""
        checksum = RunningChecksum()
        for line in store.agent(agent_id).lines():
            record = decode_record(line)
            if record.agent_id != agent_id or record.memory_id <= last:
                raise StorageError(f"demo: {record.memory_id} comes after {last} in the range of {agent_id}")
            last = record.memory_id
            checksum.update(line)
            findings.records_of[agent_id] += 1
            findings.bytes_of[agent_id] += len(line) + 1
            findings.kinds[record.memory_type.value, record.importance.value] += 1
        checksums[agent_id] = checksum.text()
        progress(findings.records_of.total())
    return checksums


def _maintain(store: MemStore, findings: Findings) -> None:
    """Let the lifecycle take what is old down its tiers."""
    before = time.monotonic()
    report = store.maintain()
    findings.maintain_s = time.monotonic() - before
    for _, error in report.failed:
        raise error
    findings.moves = len(report.done)
    findings.tiers = store.tiers()["tiers"]


def _check_counts(findings: Findings, reports: Sequence[Report]) -> None:
    written: Counter[str] = sum((report.records_of for report in reports), Counter())
    kinds: Counter[tuple[str, str]] = sum((report.kinds for report in reports), Counter())
    for agent_id in sorted(written.keys() | findings.records_of.keys()):
        found = findings.records_of[agent_id]
        if written[agent_id] != found:
            raise StorageError(f"demo: {agent_id} has {found} records, but {written[agent_id]} were acknowledged")
    if kinds != findings.kinds:
        raise StorageError(f"demo: types and importances differ from what was written: {kinds} became {findings.kinds}")


def _time_reads(store: MemStore, plan: Plan, findings: Findings, reports: Sequence[Report]) -> None:
    samples = [sample for report in reports for sample in report.samples]
    for name in ("get", "get again"):
        for agent, index, memory_id in samples:
            record = _timed(findings, name, functools.partial(store.get, memory_id))
            _check_same(record, plan.record(agent, index), memory_id)
    for agent in range(plan.agents):
        handle = store.agent(plan.agent_id(agent))
        newest = _timed(findings, f"recent({RECENT_RECORDS})", functools.partial(handle.recent, RECENT_RECORDS))
        ids = [record.memory_id for record in newest]
        wanted = min(RECENT_RECORDS, plan.count_of(agent))
        if len(ids) != wanted or ids != sorted(ids, reverse=True):
            raise StorageError(
                f"demo: recent of {handle.agent_id} gave {len(ids)} of {wanted} records, or not newest first"
            )
        _timed(findings, "range(since='7d')", functools.partial(_read_week, handle))
        counted = _timed(findings, "count()", handle.count)
        if counted != plan.count_of(agent):
            raise StorageError(
                f"demo: count of {handle.agent_id} is {counted}, but {plan.count_of(agent)} were acknowledged"
            )


def _read_week(agent: AgentMemory) -> int:
    return sum(1 for _ in agent.range(since="7d"))


def _timed(findings: Findings, name: str, call: Callable[[], T]) -> T:
    before = time.perf_counter()
    result = call()
    findings.latencies_s.setdefault(name, []).append(time.perf_counter() - before)
    return result


def _check_same(record: MemoryRecord | None, wanted: dict[str, Any], memory_id: str) -> None:
    """A record is what the generator makes again."""
    if record is None:
        raise StorageError(f"demo: {memory_id} was acknowledged and is not found")
    same = (
        record.memory_id == memory_id
        and record.timestamp_utc == wanted["timestamp_utc"]
        and record.memory_type == wanted["memory_type"]
        and record.importance == wanted["importance"]
        and record.content == wanted.get("content")
        and record.context == wanted["context"]
        and record.tags == wanted["tags"]
        and (record.input is None or record.input.content == wanted["input"]["content"])
        and (record.response is None or record.response.content == wanted["response"]["content"])
        and (record.input is None) == ("input" not in wanted)
    )
    if not same:
        raise StorageError(f"demo: {memory_id} came back different from what was written")


def _ask(store: MemStore, plan: Plan, findings: Findings) -> None:
    """A few questions a person would ask, over all agents or the heaviest."""
    heavy = store.agent(plan.agent_id(0))
    questions: dict[str, dict[str, Any]] = {
        "errors, last 7 days": {"memory_type": "ERROR", "since": "7d"},
        "at least HIGH, last 7 days": {"min_importance": "HIGH", "since": "7d"},
        "tagged incident, last 30 days": {"tags": ["incident"], "since": "30d"},
        "of one session": {"session": f"session_001_{plan.count_of(0) // 50:05d}"},
    }
    for question, filters in questions.items():
        name = f"{heavy.agent_id}: {question}"
        findings.found[name] = _timed(findings, "filtered count", functools.partial(heavy.count, **filters))


def percentile_s(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of the values are below; interpolated."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
