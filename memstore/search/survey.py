"""What the store holds, month by month, as the index has to know it: which months, which agents."""

from __future__ import annotations

from collections.abc import Iterator

from memstore.engine.engine import Engine
from memstore.engine.reading import Reading
from memstore.errors import CorruptionError, MemstoreError
from memstore.format.forgotten import text_hash
from memstore.search.months import month_span_us
from memstore.search.omissions import Omissions


def agents_of(engine: Engine, left_out: Omissions | None = None) -> list[str]:
    """Every agent whose name can be read; what does not say whose it is goes to ``left_out``."""
    if left_out is None:
        return engine.inventory.agents(skip_damaged=True)
    return engine.inventory.agents(skip_damaged=True, on_damage=left_out.add)


def months_of(engine: Engine, left_out: Omissions) -> set[str]:
    """Every month that has a record, in files or in lanes; what may tell of more and is damaged: ``left_out``."""
    found: set[str] = set()
    for lane in engine.feed.lanes():
        for commit in engine.feed.commits(lane):
            found.update(item.day[:6] for item, _ in commit.slices)
    for agent in agents_of(engine, left_out):
        found.update(agent_months(engine, agent, left_out))
    return found


def agent_months(engine: Engine, agent: str, left_out: Omissions) -> set[str]:
    """Months that an agent's files have records of; lanes aside."""
    try:
        snapshot = engine.builder.snapshot(agent)
    except MemstoreError as error:
        left_out.add(error)
        return set()
    for damage in snapshot.damage:
        left_out.add(damage)
    return set() if snapshot.manifest is None else {day[:6] for day in snapshot.manifest.days}


def agent_by_hash(engine: Engine, wanted: str) -> str | None:
    """The agent whose hash stands in FORGOTTEN; None where it has nothing any more."""
    return next((agent for agent in agents_of(engine) if text_hash(agent) == wanted), None)


def is_gone(engine: Engine, memory_id: str) -> bool:
    """Whether a record that was indexed cannot be had any more; what is damaged cannot either."""
    try:
        return engine.reader.get_line(memory_id) is None
    except CorruptionError:
        return True


def stored_lines(
    engine: Engine, agents: list[str], since_us: int, until_us: int, left_out: Omissions
) -> Iterator[bytes]:
    """Lines of these agents in ``[since_us, until_us)`` as reads give them; what is damaged goes to ``left_out``."""
    for agent in agents:
        for lines in stored_portions(engine, agent, since_us, until_us, left_out):
            yield from lines


def stored_portions(
    engine: Engine, agent: str, since_us: int, until_us: int, left_out: Omissions
) -> Iterator[list[bytes]]:
    """`stored_lines` of one agent, as many at a time as come at once."""
    try:
        reading = Reading(engine.builder, agent, left_out.add)
        yield from reading.portions(since_us=since_us, until_us=until_us, newest_first=False)
    except MemstoreError as error:
        left_out.add(error)


def month_lines(engine: Engine, agents: list[str], month: str, left_out: Omissions) -> Iterator[bytes]:
    """`stored_lines` of a month."""
    return stored_lines(engine, agents, *month_span_us(month), left_out)
