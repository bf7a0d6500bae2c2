"""One record and those about it: parent, children, and what its agent did just before and after.

Nothing in a store says who follows from a record, so children are looked for in what the agent did next: its lines
are walked through from the record on, and those that hold its id are decoded. That costs some microseconds a line, and
is bounded; whoever shows the answer says how far it reaches. Children of other agents are not looked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from memstore.agent import AgentMemory
from memstore.errors import CorruptionError, UsageError
from memstore.ids import parse_id
from memstore.record import MemoryRecord, decode_record
from memstore.store import MemStore

NEIGHBOURS = 3
"""On each side."""
CHILD_LINES_MAX = 20_000
"""Lines that are looked through for children: a tenth of a second or so."""
CHILDREN_MAX = 20


@dataclass(frozen=True, slots=True)
class Family:
    """A record among others.

    Attributes:
        record: it.
        parent: the record it says it follows from, where that is in this store.
        parent_id: what it says.
        children: records of the agent that say they follow from it, oldest first.
        looked_through: how many of the agent's later records were looked at for children.
        reached_end: whether that was all of them.
        before: the agent's records just before, oldest first.
        after: those just after, oldest first.
    """

    record: MemoryRecord
    parent: MemoryRecord | None
    parent_id: str | None
    children: tuple[MemoryRecord, ...]
    looked_through: int
    reached_end: bool
    before: tuple[MemoryRecord, ...]
    after: tuple[MemoryRecord, ...]


def family(store: MemStore, memory_id: str) -> Family | None:
    """See `Family`; None where there is no such record.

    Raises:
        UsageError: no id of this form.
        StorageError: the record cannot be read. What is damaged beside it is left out.
    """
    record = store.get(memory_id)
    if record is None:
        return None
    parts = parse_id(memory_id)
    agent = store.agent(parts.agent_id)
    parent_id = None if record.relationships is None else record.relationships.parent_memory_id
    children, looked_through, reached_end = _children(agent, memory_id, parts.time_us)
    return Family(
        record,
        _parent(store, parent_id),
        parent_id,
        children,
        looked_through,
        reached_end,
        _neighbours(agent, memory_id, parts.time_us, newest_first=True)[::-1],
        _neighbours(agent, memory_id, parts.time_us, newest_first=False),
    )


def _parent(store: MemStore, parent_id: str | None) -> MemoryRecord | None:
    if parent_id is None:
        return None
    try:
        return store.get(parent_id)
    except (UsageError, CorruptionError):  # no id of ours, as of a record that was never imported; or damaged
        return None


def _children(agent: AgentMemory, memory_id: str, time_us: int) -> tuple[tuple[MemoryRecord, ...], int, bool]:
    needle = memory_id.encode()
    found: list[MemoryRecord] = []
    looked_through = 0
    for line in agent.lines(since=time_us, on_damage="skip"):
        if looked_through == CHILD_LINES_MAX or len(found) == CHILDREN_MAX:
            return tuple(found), looked_through, False
        looked_through += 1
        if needle in line:
            record = decode_record(line)
            if record.relationships is not None and record.relationships.parent_memory_id == memory_id:
                found.append(record)
    return tuple(found), looked_through, True


def _neighbours(agent: AgentMemory, memory_id: str, time_us: int, *, newest_first: bool) -> tuple[MemoryRecord, ...]:
    """The records next to it in the order of ids, which is that of time."""
    bounds = {"until": time_us + 1} if newest_first else {"since": time_us}
    near = agent.range(newest_first=newest_first, on_damage="skip", **bounds)  # type: ignore[arg-type] # one of the two
    beyond = (each for each in near if (each.memory_id < memory_id if newest_first else each.memory_id > memory_id))
    return tuple(islice(beyond, NEIGHBOURS))
