"""What the simulated years share: who writes what, the retention rules, and the rules written a second time."""

from __future__ import annotations

import random
from typing import Any

from lifecycle_support import LIVELY

BUSY, MACHINE, HELD = "busy", "Machine/7", "held"
QUIET_ONES = ("quiet-1", "quiet-2", "Über quiet")
TYPES = ("INTERACTION", "ERROR", "GOAL", "PERFORMANCE")
RULES: list[dict[str, Any]] = [
    {"agent": "Machine*", "importance": ["LOW"], "keep_days": 45},
    {"agent": "busy", "memory_type": "PERFORMANCE", "keep_days": 20},
    {"memory_type": "ERROR", "importance": ["CRITICAL"], "keep_months": 5},
    {"memory_type": "GOAL", "keep_forever": True},
    {"agent": "held", "keep_days": 30},
]
SETTINGS: dict[str, Any] = {
    **LIVELY,
    "storage.lifecycle.cold_retention_months": 7,
    "storage.lifecycle.deduplication_enabled": True,
    "storage.retention.rules": RULES,
}


def period_days(agent: str, fields: dict[str, Any]) -> tuple[float, float] | None:
    """At least and at most how many days a record is kept; None: for ever."""
    own = fields.get("metadata", {}).get("retention_days")
    if own is not None:
        return own, own
    kind, importance = fields["memory_type"], fields["importance"]
    if agent == MACHINE and importance == "LOW":
        return 45, 45
    if agent == BUSY and kind == "PERFORMANCE" and importance != "CRITICAL":
        return 20, 20
    if kind == "ERROR" and importance == "CRITICAL":
        return 5 * 28, 5 * 31
    if importance == "CRITICAL" or kind == "GOAL":
        return None
    return (30, 30) if agent == HELD else (7 * 28, 7 * 31)


def make_record(chance: random.Random, agent: str, **fields: Any) -> dict[str, Any]:
    """Something that an agent remembers; now and then it says itself how long."""
    made = {
        "agent_id": agent,
        "memory_type": chance.choice(TYPES),
        "importance": chance.choices(("LOW", "MEDIUM", "HIGH", "CRITICAL"), (4, 4, 2, 1))[0],
        "content": {"n": chance.randrange(10**9), "text": "words and " * chance.randrange(1, 40)},
    }
    if chance.random() < 0.05:
        made["metadata"] = {"retention_days": chance.choice([3, 15, 60, 400])}
    return {**made, **fields}


def make_state(chance: random.Random, day: int, importance: str) -> dict[str, Any]:
    """What a machine says of itself, most days the same."""
    state = {"status": "all is well", "disk": "12 %"} if chance.random() < 0.8 else {"status": day}
    return make_record(chance, MACHINE, memory_type="SYSTEM_STATE", importance=importance, content=state)
