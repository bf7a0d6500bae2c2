"""Which memory id a source's own id became, for records that name their parent.

Asked for only where a source has a parent at all; then the sources are read once more and their ids noted in a
temporary
database of SQLite's, which lives on disk and takes a bounded part of memory, whatever the size of the tree.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

_ROWS_PER_INSERT = 1000
IdRow = tuple[str, str, str]
"""Source id, agent id, memory id."""


class ParentIndex:
    """Looks parents up; built at the first question. Not thread-safe.

    Args:
        rows: gives the ids of every source there is; of two with the same ids the first counts.
    """

    def __init__(self, rows: Callable[[], Iterable[IdRow]]) -> None:
        self._rows = rows
        self._database: sqlite3.Connection | None = None

    def resolve(self, source_id: str, agent_id: str) -> str | None:
        """The parent's memory id: of the same agent's record, else of any agent's; None: no source has that id."""
        if self._database is None:
            self._database = self._build()
        row = self._database.execute(
            "SELECT memory_id FROM ids WHERE source_id = ? ORDER BY agent_id <> ?, rowid LIMIT 1", (source_id, agent_id)
        ).fetchone()
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Give the temporary file back."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _build(self) -> sqlite3.Connection:
        database = sqlite3.connect("")  # private, temporary, gone when it is closed
        database.execute(
            "CREATE TABLE ids (source_id TEXT, agent_id TEXT, memory_id TEXT, UNIQUE (source_id, agent_id))"
        )
        pending: list[IdRow] = []
        for row in self._rows():
            pending.append(row)
            if len(pending) >= _ROWS_PER_INSERT:
                database.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?, ?)", pending)
                pending.clear()
        database.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?, ?)", pending)
        database.commit()
        return database
