"""What looks at one agent find, gathered; and the words for what puts it right that more than one of them uses."""

from __future__ import annotations

from dataclasses import dataclass, field

from memstore.manifest.index import Manifest
from memstore.ops.finding import Finding, Kind, Severity
from memstore.ops.reading_files import FileResult, IdRun
from memstore.ops.report import Checked

REBUILD = "write it anew from the files and lanes of the agent"
CLEAN_UP = "`memstore maintain` removes it"


@dataclass(slots=True)
class AgentResult:
    """What one agent's directory turned out to be; ``manifest`` is None where nobody can tell what it says."""

    findings: list[Finding] = field(default_factory=list)
    checked: Checked = field(default_factory=Checked)
    manifest: Manifest | None = None


class AgentFindings:
    """What one look has found so far. Used by one thread.

    Attributes:
        agent: whose, once that is known.
        result: what is told.
        runs: whole pieces of its files, for those who look for ids that stand in several.

    Args:
        path: of its MANIFEST: what a finding concerns that names no other.
        agent: whose, by the name of its directory; None where that does not say.
    """

    def __init__(self, path: str, agent: str | None) -> None:
        self._path = path
        self.agent = agent
        self.result = AgentResult()
        self.runs: list[IdRun] = []

    def find(
        self,
        kind: Kind,
        reason: str,
        place: tuple[int, int] = (0, 0),
        *,
        path: str | None = None,
        severity: Severity = "damage",
        records: int | None = 0,
        repair: str = "",
    ) -> None:
        """Add a finding; ``place`` is offset and length. See `Finding`."""
        self.result.findings.append(
            Finding(
                kind,
                severity,
                path or self._path,
                reason,
                *place,
                records=records,
                agent=self.agent,
                repair=repair,
            )
        )

    def take(self, found: FileResult) -> None:
        """Add what one file turned out to be."""
        self.result.findings += found.findings
        self.result.checked.records += found.records
        self.runs += found.runs
