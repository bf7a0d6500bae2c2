"""What must not come back with a backup: erasures, always; what was forgotten, up to the moment that is restored.

FORGOTTEN names nothing, only hashes. It is read from every later point and from the store that is there, and what the
point that is restored does not know yet is done again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from memstore.backup.repository import Repository
from memstore.format.forgotten import Erasure, ForgottenLine, decode_forgotten, text_hash
from memstore.fs.atomic import read_file
from memstore.fs.storage import Storage

FORGOTTEN = "FORGOTTEN"


@dataclass(slots=True)
class Gone:
    """Acts that a point does not know.

    Attributes:
        erasures: of agents (without ``ids``) and of single records, by hash.
        interrupted: erasures that the point knows of, and that were not carried out when it was taken.
        hidden: by hash of the agent: hashes of ids that were forgotten.
        spans: by hash of the agent: record times between which those are, microseconds.
        undeletes: how many acts brought records back that nobody can name.
    """

    erasures: list[Erasure] = field(default_factory=list)
    interrupted: list[Erasure] = field(default_factory=list)
    hidden: dict[str, set[str]] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    undeletes: int = 0

    def erased_from(self, agent: str) -> list[Erasure]:
        """Erasures that concern an agent, by id."""
        hashed = text_hash(agent)
        return [each for each in (*self.erasures, *self.interrupted) if each.agent == hashed]


def read_gone(known: bytes, later: Iterable[bytes], *, at_us: int) -> Gone:
    """What later notes say and an earlier one does not.

    Args:
        known: FORGOTTEN of the point.
        later: FORGOTTEN of later points, and of the store.
        at_us: forgetting and undeleting count up to this time; erasing counts whenever it was.
    """
    seen: set[bytes] = set()
    before = _unseen(known, seen)
    lines = [line for data in later for line in _unseen(data, seen)]
    ended = {line.erased.id for line in before if line.erased is not None}
    gone = Gone(
        erasures=[line.erasure for line in lines if line.erasure is not None],
        interrupted=[e for line in before if (e := line.erasure) is not None and e.id not in ended],
    )
    # A `changing` line says what may be hidden; the `forgotten` line of the same moment, that it was.
    done = {(each.agent, each.at) for line in lines if (each := line.forgotten) is not None and each.act == "forget"}
    for entry in lines:
        change, act = entry.changing, entry.forgotten
        if change is not None and change.ids and change.at <= at_us:
            if (change.agent, change.at) in done:
                gone.hidden.setdefault(change.agent, set()).update(change.ids)
                low, high = gone.spans.get(change.agent, (change.since, change.until))
                gone.spans[change.agent] = (min(low, change.since), max(high, change.until))
        elif act is not None and act.act == "undelete":
            # One that brings single records back is announced first, as of no records.
            gone.undeletes += act.at <= at_us and act.records > 0
    return gone


def _unseen(data: bytes, seen: set[bytes]) -> list[ForgottenLine]:
    """Lines that verify and were not seen before."""
    found: list[ForgottenLine] = []
    for line in data.split(b"\n"):
        if line not in seen:
            seen.add(line)
            decoded = decode_forgotten(line)
            if decoded is not None:
                found.append(decoded)
    return found


def forgotten_of(storage: Storage, root: str) -> bytes:
    """FORGOTTEN of a store; empty where there is none."""
    return read_file(storage, os.path.join(root, FORGOTTEN)) or b""


def forgotten_of_points(repository: Repository, after: str) -> list[bytes]:
    """FORGOTTEN of every point behind one."""
    storage = repository.storage
    return [forgotten_of(storage, repository.paths.point(name)) for name in repository.points() if name > after]
