"""What a pass of the second copy did, and what it knows while it is under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from memstore.errors import MemstoreError


@dataclass(slots=True)
class PassReport:
    """What a pass did.

    Attributes:
        agents: how many were looked at.
        changed: how many had something new.
        bytes: copied.
        lanes: of the copy that went, for its files hold what was in them.
        failed: agents that could not be copied, and why.
        stopped: it was told to stop before the end.
        erased: agents that were removed, for the store erased them.
    """

    agents: int = 0
    changed: int = 0
    bytes: int = 0
    lanes: int = 0
    failed: list[tuple[str, MemstoreError]] = field(default_factory=list)
    stopped: bool = False
    erased: set[str] = field(default_factory=set)


@dataclass(slots=True)
class PassState:
    """A pass under way.

    Attributes:
        stop: asked between two agents.
        cited: by token of each lane of the copy that the store has merged, agents whose MANIFESTs cite it.
        erased: when each agent that was erased as a whole was erased last, by the hash of its id.
        report: what it did so far.
        done: agents of which the copy's files have everything that was merged.
    """

    stop: Callable[[], bool]
    cited: dict[str, set[str]]
    erased: dict[str, int]
    report: PassReport = field(default_factory=PassReport)
    done: set[str] = field(default_factory=set)
