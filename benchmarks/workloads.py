"""Seeded records, agents and orders of access. Pure: the same seed gives the same bytes on every machine.

A record's line on disk is 780 bytes, the size the design's measurements were made with.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

LINE_BYTES = 780
SEED = 20250115
_ID_TAIL = "_20250115_143000_"
_TYPES = ("INTERACTION", "INTERACTION", "INTERACTION", "CONTEXT", "LEARNING", "PERFORMANCE", "ERROR", "GOAL")
_IMPORTANCES = ("MEDIUM", "MEDIUM", "LOW", "HIGH", "CRITICAL")
_TAGS = ("market", "analysis", "retry", "user", "plan", "billing", "search", "report")
_TEXT = """
    the agent asked for clusters in order data and found three that hold while one drifts with season
    price volume region customer invoice failed after timeout retry succeeded belief revised goal kept
    plan step done next measure latency memory
"""
_WORDS = tuple(_TEXT.split())


@dataclass(frozen=True, slots=True)
class Memory:
    """One record, twice over.

    Attributes:
        fields: what an agent hands to ``append``.
        stored: the same with id and time in place, as floor and peers write it.
    """

    fields: dict[str, Any]
    stored: dict[str, Any]


def agent_names(count: int) -> list[str]:
    """``bdi_agent_0000`` and so on."""
    return [f"bdi_agent_{index:04d}" for index in range(count)]


def memories(count: int, *, agents: int, seed: int = SEED) -> list[Memory]:
    """Records of agents chosen at random, each 780 bytes as a line.

    Args:
        count: how many.
        agents: over how many agents they are spread.
        seed: of all choices.
    """
    choose = random.Random(seed)
    names = agent_names(agents)
    return [_memory(choose, choose.choice(names), sequence) for sequence in range(count)]


def batches(records: list[Memory], *, size: int, total: int) -> Iterator[list[Memory]]:
    """``total`` records in batches of ``size``, going through ``records`` again and again; the last may be shorter."""
    endless = itertools.cycle(records)
    for start in range(0, total, size):
        yield list(itertools.islice(endless, min(size, total - start)))


def tree_object(memory: Memory, sequence: int) -> tuple[str, dict[str, Any]]:
    """Path and content of a record in a tree of ``TIER/AGENT/YYYYMMDD/STAMP.TYPE.memory.json``, one file per memory.

    Args:
        memory: the record.
        sequence: decides its time: one a minute from 2025-01-01 on.
    """
    day, minute = divmod(sequence, 1440)
    date = f"202501{day % 28 + 1:02d}"
    clock = f"{minute // 60:02d}{minute % 60:02d}{day // 28 % 60:02d}"
    stamp = f"{date}{clock}{sequence % 1_000_000:06d}"
    iso = f"2025-01-{date[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}.{stamp[-6:]}"
    fields = memory.fields
    content = {
        "memory_id": f"{fields['agent_id']}_{stamp}",
        "timestamp": iso,
        "memory_type": str(fields["memory_type"]).lower(),
        "importance": sequence % 4 + 1,
        "agent_id": fields["agent_id"],
        "content": {"input": fields["input"], "response": fields["response"]},
        "context": fields["context"],
        "tags": fields["tags"],
        "parent_memory_id": None,
    }
    path = f"stm/{fields['agent_id']}/{date}/{stamp}.{content['memory_type']}.memory.json"
    return path, content


def _memory(choose: random.Random, agent: str, sequence: int) -> Memory:
    fields: dict[str, Any] = {
        "agent_id": agent,
        "memory_type": choose.choice(_TYPES),
        "importance": choose.choice(_IMPORTANCES),
        "input": {"content": _text(choose, 90), "source": "benchmark"},
        "response": {"content": "", "success": choose.random() < 0.97, "confidence": round(choose.random(), 3)},
        "context": {"session_id": f"s{choose.randrange(10_000):05d}", "model": "model-a"},
        "tags": choose.sample(_TAGS, 2),
    }
    stored = {
        "memory_id": f"{agent}{_ID_TAIL}{sequence % 1_000_000:06d}{sequence:016x}",
        "timestamp_utc": f"2025-01-15T14:30:00.{sequence % 1_000_000:06d}Z",
        **fields,
    }
    missing = LINE_BYTES - 1 - len(orjson.dumps(stored))
    fields["response"]["content"] = _text(choose, missing)
    return Memory(fields, stored)


def _text(choose: random.Random, length: int) -> str:
    """Words, cut to a length."""
    words: list[str] = []
    size = 0
    while size < length:
        word = choose.choice(_WORDS)
        words.append(word)
        size += len(word) + 1
    return " ".join(words)[:length].ljust(length, ".")
