"""Which of an agent's records an erasure takes: some ids, some hashes of ids, all up to a time, or all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from memstore.format.forgotten import text_hash
from memstore.ids import is_derived_id, parse_id
from memstore.manifest.index import Hidden


class Selection(Protocol):
    """Which of an agent's records are erased."""

    def may_pick(self, t_min: int, t_max: int) -> bool:
        """Whether it may pick a record of these times, both inclusive; no is certain."""
        ...

    def picks(self, memory_id: str, ingested_us: int) -> bool:
        """Whether it picks a record that reached a day file at a time, at the latest."""
        ...


class Chosen:
    """These ids of one agent."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.hidden = Hidden.of(ids)

    def may_pick(self, t_min: int, t_max: int) -> bool:
        """See `Selection`."""
        return self.hidden.touches(t_min, t_max)

    def picks(self, memory_id: str, ingested_us: int) -> bool:  # noqa: ARG002 - as the protocol has it
        """See `Selection`."""
        return memory_id in self.hidden.ids


class ChosenByHash:
    """Ids of which only the hashes are known: of an erasure that was interrupted."""

    def __init__(self, hashes: Iterable[str]) -> None:
        self._hashes = frozenset(hashes)

    def may_pick(self, t_min: int, t_max: int) -> bool:  # noqa: ARG002
        """See `Selection`."""
        return True

    def picks(self, memory_id: str, ingested_us: int) -> bool:  # noqa: ARG002
        """See `Selection`."""
        return text_hash(memory_id) in self._hashes


class UpTo:
    """All that there was at a time: of an erasure of a whole agent that was interrupted, and the agent wrote on.

    What had reached a day file by then was there, for the erasure began with a drain. Where that left lanes behind, of
    a process that stood still, what was stamped by then and reached a day file later counts too; but the stamp of a
    record that came from elsewhere says nothing of when it came. Where it left none, a stamp of then is one that was
    given to a record which was appended since, and which stays.
    """

    def __init__(self, at_us: int, *, late: bool) -> None:
        self._at_us = at_us
        self._late = late

    def may_pick(self, t_min: int, t_max: int) -> bool:  # noqa: ARG002
        """See `Selection`."""
        return True

    def picks(self, memory_id: str, ingested_us: int) -> bool:
        """See `Selection`."""
        if ingested_us <= self._at_us:
            return True
        return self._late and not is_derived_id(memory_id) and parse_id(memory_id).time_us <= self._at_us


class Everything(UpTo):
    """All of an agent."""

    def __init__(self) -> None:
        super().__init__(0, late=False)

    def picks(self, memory_id: str, ingested_us: int) -> bool:  # noqa: ARG002
        """See `Selection`."""
        return True
