"""What is found in a second copy, told as of one: it is mended from the store, and not as a store would be."""

from __future__ import annotations

import dataclasses

from memstore.engine.leftovers import UNKNOWN_RECORDS
from memstore.manifest.torn import LINES_MISSING, ONLY_DAY_FILES
from memstore.ops.agent_look import ONLY_PACKED_FILES
from memstore.ops.check_surplus import UNEXPLAINED
from memstore.ops.finding import Finding

TAKE_ANEW = "`memstore repair --copy` takes it anew from the store"
JOINS = "`memstore replica sync`"
BEFORE_ITS_LINE = frozenset({UNEXPLAINED, UNKNOWN_RECORDS, LINES_MISSING, ONLY_DAY_FILES, ONLY_PACKED_FILES})
"""What a pass leaves behind in the middle of an agent, whose files it copies before the lines of its MANIFEST. Whether
lines are missing that were there is told by what the store has and the copy does not (`memstore.ops.check_copy`)."""


def as_of_copy(finding: Finding) -> Finding:
    """What a look at the copy by itself has found, with what to do about it there."""
    if finding.reason in BEFORE_ITS_LINE:
        reason = "a pass has begun to write there, or was stopped; the next one writes over it"
        return dataclasses.replace(finding, severity="note", reason=reason, repair=JOINS)
    if finding.severity == "damage":
        return dataclasses.replace(finding, repair=TAKE_ANEW)
    return dataclasses.replace(finding, repair=JOINS) if finding.repair else finding
