"""The view ``memories``: what its columns are called, what type they have, and where in a record they come from.

Types are stated, never guessed from the first lines: a column means the same whatever the store holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from memstore.timestamps import YEAR_10000_US, iso_text

VIEW = "memories"
SCHEME = "memstore"
PATH = f"{SCHEME}://records.ndjson"
"""What DuckDB opens behind the view; the only thing that it can open."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the view.

    Attributes:
        name: in queries.
        type: DuckDB's.
        meaning: for people.
        expression: how it is made from the fields of a line; empty: it is the field of its name.
    """

    name: str
    type: str
    meaning: str
    expression: str = ""


COLUMNS = (
    Column("memory_id", "VARCHAR", "the record's id; sorts by time within an agent"),
    Column("timestamp_utc", "TIMESTAMP", "when it happened, in UTC, to the microsecond"),
    Column("agent_id", "VARCHAR", "whose it is"),
    Column("memory_type", "VARCHAR", "INTERACTION CONTEXT LEARNING SYSTEM_STATE PERFORMANCE ERROR GOAL BELIEF PLAN"),
    Column("importance", "VARCHAR", "CRITICAL HIGH MEDIUM LOW"),
    Column("input", "JSON", "what was asked: content, source, context_id"),
    Column("response", "JSON", "what was answered: content, success, confidence, processing_time_ms"),
    Column("content", "JSON", "everything that is no question and answer"),
    Column("tags", "VARCHAR[]", "short labels; empty where there are none", "coalesce(tags, [])"),
    Column("context", "JSON", "free data by key"),
    Column("session_id", "VARCHAR", "context.session_id, as text", "context->>'session_id'"),
    Column("user_id", "VARCHAR", "context.user_id, as text", "context->>'user_id'"),
    Column("metadata", "JSON", "about the record: retention_days, digest, ..."),
    Column("relationships", "JSON", "parent_memory_id, related_memories"),
    Column("timestamp_local", "VARCHAR", "the agent's own local time, as it was given"),
    Column("shard_id", "VARCHAR", "as it was given"),
    Column("source_id", "VARCHAR", "the id it had where it was imported from"),
)


def view_statement(*, since_us: int, until_us: int, line_bytes_max: int) -> str:
    """The statement that makes the view over the lines at `PATH`.

    Args:
        since_us: records before are left out.
        until_us: records from here on are left out.
        line_bytes_max: no line is longer.
    """
    fields = ", ".join(f"{column.name}: '{column.type}'" for column in COLUMNS if not column.expression)
    columns = ", ".join(f"{column.expression or column.name} AS {column.name}" for column in COLUMNS)
    limits = []
    if since_us > 0:
        limits.append(f"timestamp_utc >= {_moment(since_us)}")
    if until_us < YEAR_10000_US:
        limits.append(f"timestamp_utc < {_moment(until_us)}")
    where = f" WHERE {' AND '.join(limits)}" if limits else ""
    return (
        f"CREATE VIEW {VIEW} AS SELECT {columns} FROM read_ndjson('{PATH}', columns = {{{fields}, tags: 'VARCHAR[]'}}, "  # noqa: S608 - names and numbers of our own
        f"maximum_object_size = {line_bytes_max}){where}"
    )


def _moment(time_us: int) -> str:
    return f"TIMESTAMP '{iso_text(time_us).removesuffix('Z')}'"
