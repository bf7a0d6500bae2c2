"""Counts what the proofs have tried, crash states, kills and so on (docs/RELIABILITY.md).

Every process adds lines to one file: that of ``TALLY``, which goes on from run to run, or one of this test run alone.
The sums stand at the end of the run. ``python tests/tally.py FILE`` sums a file up, while it grows, too.
"""

from __future__ import annotations

import os
import sys
from collections import Counter

FILE = "TALLY"
CRASH_STATES = "crash states"
KILLS = "real kills"
POWER_CUTS = "power cuts"
FLIPS = "damages"
FAULTS = "failed calls"
INTERRUPTS = "interrupts by Ctrl-C"


def tally(what: str, count: int = 1) -> None:
    """So many more of these were tried and came out well."""
    path = os.environ.get(FILE)
    if path and count:
        with open(path, "a", encoding="utf-8") as file:  # lines this short are appended whole
            file.write(f"{count} {what}\n")


def sums(path: str) -> Counter[str]:
    """What a file counts, by kind."""
    found: Counter[str] = Counter()
    with open(path, encoding="utf-8") as file:
        for line in file:
            count, _, what = line.rstrip("\n").partition(" ")
            found[what] += int(count)
    return found


def sentences(path: str) -> list[str]:
    """What a file counts, to be printed."""
    return [f"{count:>9,} {what}" for what, count in sorted(sums(path).items())]


if __name__ == "__main__":
    print("\n".join(sentences(sys.argv[1])))
