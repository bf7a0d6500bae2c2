"""What a repair does, step by step, as values: a plan is the list of them, and so is the report of what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

StepKind = Literal[
    "restore_file",
    "salvage_file",
    "take_out",
    "keep_once",
    "adopt",
    "merge_again",
    "write_manifest",
    "release_lane",
    "restore_lane",
    "pin_agent",
    "write_store_file",
    "hold_everything",
    "mend_line",
    "clear_line",
    "start_anew",
    "copy_again",
    "withheld",
]


@dataclass(frozen=True, slots=True)
class CopiedRange:
    """Bytes that are taken from a good copy.

    Attributes:
        offset_bytes: where in the file.
        length_bytes: how many.
        source: what people call the source.
    """

    offset_bytes: int
    length_bytes: int
    source: str


def sources_of(copied: Iterable[CopiedRange]) -> str:
    """Where ranges come from, in words: "2 from the second copy at /b, 1 from the backup /c"."""
    counts = Counter(each.source for each in copied)
    return ", ".join(f"{count} from {source}" for source, count in counts.items())


@dataclass(frozen=True, slots=True)
class RepairStep:
    """One thing to do, or done.

    Attributes:
        kind: what.
        path: the file or directory that is changed.
        sentence: in words.
        agent: whose; None where it concerns no single agent, or nobody can tell.
        records_kept: how many records stay, or come back.
        records_lost: how many cannot be saved, as far as that is known; the bytes of all are in the quarantine.
        copied: what of it is taken from good copies, in the order of the file.
    """

    kind: StepKind
    path: str
    sentence: str
    agent: str | None = None
    records_kept: int = 0
    records_lost: int = 0
    copied: tuple[CopiedRange, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)
