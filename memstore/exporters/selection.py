"""Whose records an export takes, and the walk over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from memstore.errors import NotFoundError
from memstore.store import MemStore

Progress = Callable[[int, int], None]
"""Called with (agents done, agents in all)."""


def selected_lines(
    store: MemStore, agents: str | Iterable[str] | None, filters: dict[str, Any], progress: Progress | None
) -> Iterator[bytes]:
    """The stored lines of the chosen agents, one agent after the other by id, each oldest first.

    Args:
        store: where from.
        agents: one id or several; None for all.
        filters: as ``AgentMemory.lines`` takes them.
        progress: called before each agent and at the end.

    Raises:
        NotFoundError: the store has no such agent; raised before the first line.
    """
    known = store.agents()
    wanted = known
    if agents is not None:
        wanted = sorted({agents} if isinstance(agents, str) else set(agents))
        unknown = set(wanted).difference(known)
        if unknown:
            raise NotFoundError(f"the store has no agent {min(unknown)!r}; `memstore agents` lists those it has")
    for done, agent in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        yield from store.agent(agent).lines(**filters)
    if progress is not None:
        progress(len(wanted), len(wanted))
