"""A writer process of the demo: appends its share of a plan and reports.

The records of every agent are dealt out to all writers in turn, so that all of them write to all agents at once. Each
writes in time order, mostly in batches, now and then a single record.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from memstore.demo.generator import Plan
from memstore.store import MemStore

BATCH_RECORDS = 500
SINGLE_EVERY = 100
"""One record in so many is appended alone, with a sync of its own."""
SAMPLE_EVERY = 50
"""The id of one record in so many is reported, to be got and compared."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one writer does; immutable, travels to the process.

    Attributes:
        root: the store's directory.
        plan: what all writers together write.
        writer: which one this is, from 0.
        writers: how many there are.
        durability: of its appends.
    """

    root: str
    plan: Plan
    writer: int
    writers: int
    durability: str

    def share(self) -> list[tuple[int, int, int]]:
        """``(time_us, agent, index)`` of this writer's records, in time order."""
        return sorted(
            (self.plan.time_us(agent, index), agent, index)
            for agent in range(self.plan.agents)
            for index in range((self.writer - agent) % self.writers, self.plan.count_of(agent), self.writers)
        )


@dataclass(slots=True)
class Report:
    """What one writer was told is durable.

    Attributes:
        records: all acknowledged records.
        records_of: acknowledged records per agent id.
        kinds: acknowledged records per (type, importance).
        samples: ``(agent, index, memory_id)``.
        single_latencies_s: of each append of one record.
        started_s: monotonic, machine-wide, before the first append.
        finished_s: the same, after the last acknowledgement.
        append_s: time within appends; the rest of the span went into making up memories.
    """

    records: int = 0
    records_of: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    samples: list[tuple[int, int, str]] = field(default_factory=list)
    single_latencies_s: list[float] = field(default_factory=list)
    started_s: float = 0.0
    finished_s: float = 0.0
    append_s: float = 0.0


def write_process(job: Job, channel: Connection) -> None:
    """Entry point of the process: sends numbers of records done, then the `Report`, or a text that says what failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its writers
    try:
        channel.send(write(job, channel))
    except Exception as error:  # noqa: BLE001 - the parent tells it, whatever it is
        channel.send(f"{type(error).__name__}: {error}")
    finally:
        channel.close()


def write(job: Job, channel: Connection | None = None) -> Report:
    """Append a job's records; ``channel`` is told how many are durable after each batch."""
    report = Report()
    share = job.share()
    job.plan.record(0, 0)  # writes the prose before the clock runs
    with MemStore(job.root, durability="os" if job.durability == "os" else "fsync") as store:
        report.started_s = time.monotonic()
        batch: list[tuple[int, int, dict[str, Any]]] = []
        for number, (_, agent, index) in enumerate(share):
            item = (agent, index, job.plan.record(agent, index))
            if number % SINGLE_EVERY == SINGLE_EVERY - 1:
                _append_single(store, item, report)
                continue
            batch.append(item)
            if len(batch) == BATCH_RECORDS:
                _append_batch(store, batch, report)
                batch = []
                if channel is not None:
                    channel.send(report.records)
        if batch:
            _append_batch(store, batch, report)
        report.finished_s = time.monotonic()
    return report


def _append_single(store: MemStore, item: tuple[int, int, dict[str, Any]], report: Report) -> None:
    fields = dict(item[2])
    agent_id, timestamp = fields.pop("agent_id"), fields.pop("timestamp_utc")
    before = time.monotonic()
    memory_id = store.append(agent_id=agent_id, timestamp=timestamp, **fields)
    took = time.monotonic() - before
    report.append_s += took
    report.single_latencies_s.append(took)
    _note(report, item, memory_id)


def _append_batch(store: MemStore, batch: list[tuple[int, int, dict[str, Any]]], report: Report) -> None:
    before = time.monotonic()
    ids = store.append_many([record for _, _, record in batch])
    report.append_s += time.monotonic() - before
    for item, memory_id in zip(batch, ids, strict=True):
        _note(report, item, memory_id)


def _note(report: Report, item: tuple[int, int, dict[str, Any]], memory_id: str) -> None:
    agent, index, record = item
    if report.records % SAMPLE_EVERY == 0:
        report.samples.append((agent, index, memory_id))
    report.records += 1
    report.records_of[record["agent_id"]] += 1
    report.kinds[record["memory_type"], record["importance"]] += 1
