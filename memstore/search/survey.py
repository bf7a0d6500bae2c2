"""What the store holds, month by month, as the index has to know it: which months, which agents."""

from __future__ import annotations

from collections.abc import Iterator

from memstore.engine.engine import Engine
from memstore.engine.reading import Reading
from memstore.errors import CorruptionError, MemstoreError
from memstore.format.forgotten import text_hash
from memstore.search.months import month_span_us


def agents_of(engine: Engine) -> list[str]:
    """Every agent whose name can be read."""
    return engine.inventory.agents(skip_damaged=True)


def months_of(engine: Engine) -> set[str]:
    """Every month that has a record, in files or in lanes."""
    found: set[str] = set()
    for lane in engine.feed.lanes():
        for commit in engine.feed.commits(lane):
            found.update(item.day[:6] for item, _ in commit.slices)
    for agent in agents_of(engine):
        found.update(agent_months(engine, agent))
    return found


def agent_months(engine: Engine, agent: str) -> set[str]:
    """Months that an agent's files have records of; lanes aside."""
    try:
        manifest = engine.builder.manifest(agent)
    except MemstoreError:
        return set()
    return set() if manifest is None else {day[:6] for day in manifest.days}


def agent_by_hash(engine: Engine, wanted: str) -> str | None:
    """The agent whose hash stands in FORGOTTEN; None where it has nothing any more."""
    return next((agent for agent in agents_of(engine) if text_hash(agent) == wanted), None)


def is_gone(engine: Engine, memory_id: str) -> bool:
    """Whether a record that was indexed cannot be had any more; what is damaged cannot either."""
    try:
        return engine.reader.get_line(memory_id) is None
    except CorruptionError:
        return True


def stored_lines(engine: Engine, agents: list[str], since_us: int, until_us: int) -> Iterator[bytes]:
    """Lines of these agents in ``[since_us, until_us)`` as reads give them; what is damaged is left out.

    Whoever reads those records is told of the damage; the index only has what can be read.
    """
    for agent in agents:
        try:
            reading = Reading(engine.builder, agent, _leave_out)
            yield from reading.scan(since_us=since_us, until_us=until_us, newest_first=False)
        except MemstoreError:
            continue


def month_lines(engine: Engine, agents: list[str], month: str) -> Iterator[bytes]:
    """`stored_lines` of a month."""
    return stored_lines(engine, agents, *month_span_us(month))


def _leave_out(_error: CorruptionError) -> None:
    """Damage is told to those who read records."""
