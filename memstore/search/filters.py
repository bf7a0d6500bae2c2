"""What must hold beside a query text. Values only: this knows no index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memstore.errors import UsageError
from memstore.filters import RecordFilter


@dataclass(frozen=True, slots=True)
class Filters:
    """What a caller gives beside the text: all of it must hold.

    Attributes:
        record: types, importances, tags, context and times, as every read has them.
        agents: ids, or patterns with ``*`` and ``?``; None: any agent.
        own: the one agent that may be reached, whatever else is asked; None: any.
        success: whether the response was one.
    """

    record: RecordFilter
    agents: tuple[str, ...] | None = None
    own: str | None = None
    success: bool | None = None


def search_filters(
    record: RecordFilter, *, agents: Iterable[str] | str | None, own: str | None, success: bool | None
) -> Filters:
    """Filters of what a caller gives.

    Raises:
        UsageError: an agent is no text, or success no truth value.
    """
    listed = _texts(agents)
    if success is not None and not isinstance(success, bool):
        raise UsageError(f"success is True or False, not {success!r}")
    return Filters(record, listed, own, success)


def _texts(agents: Iterable[str] | str | None) -> tuple[str, ...] | None:
    if agents is None:
        return None
    listed: tuple[object, ...] = (
        (agents,) if isinstance(agents, str) or not isinstance(agents, Iterable) else (*agents,)
    )
    texts = tuple(agent for agent in listed if isinstance(agent, str))
    if len(texts) < len(listed):
        raise UsageError(f"agents are given by id, or by patterns like 'bdi_*', not {agents!r}")
    return texts
