"""What FORGOTTEN says of an agent's records: which must not come back, whatever is found of them.

An index that is lost takes its tombstones with it, and a file that had been replaced may be found again. FORGOTTEN
holds hashes of the ids that were forgotten or erased; so a repair knows such a record when it sees it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memstore.format.forgotten import ForgottenLine, text_hash
from memstore.ids import is_derived_id, parse_id
from memstore.lifecycle.needles import line_id


@dataclass(frozen=True, slots=True)
class RemovedRecords:
    """Of one agent.

    Attributes:
        erased: hashes of ids that were erased, or are to be.
        erased_until: all that the agent had up to this time was erased, or is to be; 0: never.
        forgotten: hashes of ids that were forgotten and not brought back.
        untold: how many records were forgotten by acts that do not say which.
    """

    erased: frozenset[str] = frozenset()
    erased_until: int = 0
    forgotten: frozenset[str] = frozenset()
    untold: int = 0

    def was_erased(self, line: bytes) -> bool:
        """Whether a line is that of an erased record.

        Of a record that came from elsewhere, its time does not say when it came: only its id tells.
        """
        if not self.erased and not self.erased_until:
            return False
        memory_id = line_id(line)
        if self.erased_until and not is_derived_id(memory_id) and parse_id(memory_id).time_us <= self.erased_until:
            return True
        return text_hash(memory_id) in self.erased


def forgotten_by_agent(entries: Iterable[ForgottenLine]) -> dict[str, frozenset[str]]:
    """By hash of the agent, `RemovedRecords.forgotten` of every agent that has any."""
    by_agent: dict[str, list[ForgottenLine]] = {}
    for entry in entries:
        of_agent = entry.changing or entry.forgotten or entry.erasure
        if of_agent is not None:
            by_agent.setdefault(of_agent.agent, []).append(entry)
    found = {whose: _replayed(listed, whose).forgotten for whose, listed in by_agent.items()}
    return {whose: forgotten for whose, forgotten in found.items() if forgotten}


def removed_records(entries: Iterable[ForgottenLine], agent: str) -> RemovedRecords:
    """What all entries together say of an agent, oldest first."""
    return _replayed(entries, text_hash(agent))


def _replayed(entries: Iterable[ForgottenLine], wanted: str) -> RemovedRecords:
    erased: set[str] = set()
    forgotten: set[str] = set()
    until = untold = 0
    about_to_go: dict[int, tuple[str, ...]] = {}
    for entry in entries:
        erasure, act, change = entry.erasure, entry.forgotten, entry.changing
        if change is not None and change.agent == wanted:
            about_to_go[change.at] = (*about_to_go.get(change.at, ()), *change.ids)
        elif erasure is not None and erasure.agent == wanted:
            erased.update(erasure.ids)
            if erasure.ids:
                forgotten.difference_update(erasure.ids)
            else:  # of the whole agent: what comes after it is another one's
                until = max(until, erasure.at)
                forgotten.clear()
        elif act is not None and act.agent == wanted and act.act == "forget":
            ids = about_to_go.pop(act.at, ())
            forgotten.update(ids)
            untold += 0 if ids else act.records
        elif act is not None and act.agent == wanted and act.act == "undelete":
            forgotten.difference_update(act.ids)
    return RemovedRecords(frozenset(erased), until, frozenset(forgotten), untold)
