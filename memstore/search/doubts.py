"""What the index must not be believed about: records that were hidden, shown again or changed since its watermark.

FORGOTTEN says so before it happens, by hashes. Until the indexer has carried an entry out, a search looks for itself:
an agent's time span is read from the store instead, and single ids are read to see whether they are still there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memstore.format.forgotten import ForgottenLine


@dataclass(frozen=True, slots=True)
class Span:
    """Some of an agent's records; the agent by hash, times in microseconds, ``until_us`` exclusive."""

    agent: str
    since_us: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Doubts:
    """What is in doubt.

    Attributes:
        spans: agents and times, disjoint for each agent.
        ids: hashes of ids that may be gone, with the span they lie in.
    """

    spans: tuple[Span, ...] = ()
    ids: tuple[tuple[str, Span], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.spans or self.ids)


def doubts_of(entries: Iterable[ForgottenLine]) -> Doubts:
    """What some entries of FORGOTTEN put in doubt."""
    spans: dict[str, list[tuple[int, int]]] = {}
    ids: dict[str, Span] = {}
    for entry in entries:
        changing = entry.changing
        if changing is None:
            continue
        span = Span(changing.agent, changing.since, changing.until)
        if changing.ids:
            ids.update((each, span) for each in changing.ids)
        else:
            spans.setdefault(changing.agent, []).append((changing.since, changing.until))
    joined = tuple(
        Span(agent, since_us, until_us) for agent, found in spans.items() for since_us, until_us in _joined(found)
    )
    return Doubts(joined, tuple(ids.items()))


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for since_us, until_us in sorted(spans):
        if joined and since_us <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], until_us))
        else:
            joined.append((since_us, until_us))
    return joined
