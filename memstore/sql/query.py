"""Ask one question of a store in SQL, and take the answer row by row.

DuckDB works in a thread of its own, and whoever asks waits for it: so Ctrl-C ends a query at once, whatever DuckDB is
at. Rows are taken in batches, so that an answer of any size passes through bounded memory. Where a file gave other
bytes than the index says before the first row was out, the store is looked at once more (a writer may have cut off what
it could not make durable); damage is what is still there at the second look.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from memstore.engine.engine import Engine
from memstore.engine.record_reader import OnDamage
from memstore.errors import CorruptionError, MemstoreError, StorageError, UsageError
from memstore.filters import TimeArgument
from memstore.sql.columns import PATH, VIEW
from memstore.sql.database import MEMORY_BYTES_MAX, load_duckdb, open_database, scope_of
from memstore.sql.interruptible import InterruptibleThread
from memstore.sql.plan import Scope
from memstore.sql.record_file import RecordFile
from memstore.store import MemStore, engine_of

if TYPE_CHECKING:  # an optional dependency, and 40 ms to import
    import duckdb

_log = logging.getLogger(__name__)
T = TypeVar("T")
_Row = tuple[Any, ...]
ROWS_PER_BATCH = 2048
"""What DuckDB works with at a time."""
_LOOKS_MAX = 2
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?:ANALYZE\s+|\([^()]*\)\s*)?", re.IGNORECASE)
_PLACE_IN_QUERY = re.compile(r"\n+LINE (\d+):.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AnswerColumn:
    """A column of an answer.

    Attributes:
        name: as the query says; no two of an answer have the same.
        type: DuckDB's.
    """

    name: str
    type: str


class Answer:
    """The rows of a query, in a ``with`` or to be closed. Not thread-safe.

    Attributes:
        columns: of each row.
    """

    def __init__(self, columns: list[AnswerColumn], rows: Iterator[list[_Row]], close: Callable[[], None]) -> None:
        self.columns = columns
        self._rows = rows
        self._close = close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[_Row]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[list[_Row]]:
        """The rows that have not been taken yet, up to `ROWS_PER_BATCH` at a time.

        Raises:
            CorruptionError: a record that the query needs is damaged.
            StorageError: a file of the store was moved away while the query read it.
            UsageError: a value is not what the query takes it for.
        """
        return self._rows

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        self._close()


def ask(
    store: MemStore,
    query: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    agents: str | Iterable[str] | None = None,
    since: TimeArgument | None = None,
    until: TimeArgument | None = None,
    on_damage: OnDamage = "raise",
    memory_bytes_max: int = MEMORY_BYTES_MAX,
) -> Answer:
    """Run one query over the view ``memories`` of a store.

    Args:
        store: any open store; read-only does. Nothing in it is changed.
        query: one SELECT (or FROM, WITH, VALUES, DESCRIBE, SUMMARIZE, EXPLAIN) in DuckDB's SQL.
        parameters: values of ``$name`` in it.
        agents: ids or patterns (``bdi_*``); only their files are read.
        since: leave out records before; files that hold none later are not read.
        until: leave out records from here on.
        on_damage: ``raise`` a `CorruptionError`, or ``skip`` what is damaged and log it.
        memory_bytes_max: of DuckDB. What does not fit goes to temporary files, outside the store.

    Raises:
        UsageError: DuckDB is not installed, or the query is wrong or more than a question.
        CorruptionError: a record that the query needs is damaged.
    """
    engine = engine_of(store)
    scope = scope_of(engine, agents=agents, since=since, until=until, on_damage=on_damage)
    _check_question(query)
    for look in range(_LOOKS_MAX):
        running = _Running(engine, scope, memory_bytes_max=memory_bytes_max)
        try:
            return running.start(query, parameters)
        except (CorruptionError, _MovedError) as error:
            running.close()
            if look + 1 == _LOOKS_MAX:
                raise
            _log.debug("looking at the store once more: %s", error)
            engine.builder.forget_lanes()
        except BaseException:
            running.close()
            raise
    raise AssertionError("the last look returns or raises")


class _MovedError(StorageError):
    """A file was moved away before it was read; there were more than may be held open."""


def _check_question(query: str) -> None:
    """Raises: UsageError: it is no statement, several, or one that is more than a question."""
    duckdb = load_duckdb()
    explained = _EXPLAIN.match(query)
    try:
        query.encode()
    except UnicodeEncodeError as error:  # bytes of the command line that are none
        raise UsageError(f"the query is no text in UTF-8: {error.reason} at character {error.start}") from error
    try:
        statements = duckdb.extract_statements(query[explained.end() :] if explained else query)
    except duckdb.Error as error:
        raise UsageError(_message(error)) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise UsageError(
            f"a store is asked one question at a time and never changed: give one SELECT over the view {VIEW}"
        )


class _Running:
    """One query under way, in a thread of its own."""

    def __init__(self, engine: Engine, scope: Scope, *, memory_bytes_max: int) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._file: RecordFile | None = None
        self._thread: InterruptibleThread | None = None
        self._spill = tempfile.mkdtemp(prefix="memstore-sql-")
        self._database: Callable[[], tuple[duckdb.DuckDBPyConnection, RecordFile]] = lambda: open_database(
            engine, scope, memory_bytes_max=memory_bytes_max, spill_directory=self._spill
        )

    def start(self, query: str, parameters: Mapping[str, Any] | None) -> Answer:
        """Run it up to its first rows."""
        self._thread = InterruptibleThread("memstore-sql", interrupt=self._interrupt)
        connection = self._call(self._open)
        self._call(lambda: connection.execute(query, dict(parameters) if parameters else None))
        first = self._next_rows()
        columns = _distinct((str(name), str(kind)) for name, kind, *_ in connection.description or ())
        return Answer(columns, self._batches(first), self.close)

    def _open(self) -> duckdb.DuckDBPyConnection:
        self._connection, self._file = self._database()
        return self._connection

    def _interrupt(self) -> None:
        if self._connection is not None:
            self._connection.interrupt()

    def _batches(self, first: list[_Row]) -> Iterator[list[_Row]]:
        batch = first
        while batch:
            yield batch
            batch = self._next_rows()

    def _next_rows(self) -> list[_Row]:
        connection = self._connection
        if connection is None:
            raise UsageError("the answer was closed before all of its rows were taken")
        return self._call(lambda: connection.fetchmany(ROWS_PER_BATCH))

    def close(self) -> None:
        """Idempotent."""
        if self._thread is not None:
            self._thread.stop()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def _call(self, work: Callable[[], T]) -> T:
        """Let the thread do it.

        Raises:
            MemstoreError: what went wrong, in memstore's words.
        """
        assert self._thread is not None
        try:
            return self._thread.call(work)
        except MemstoreError:
            raise
        except Exception as error:
            raise self._translated(error) from error
        except BaseException:
            self.close()  # the thread has been stopped, and nothing more can be asked
            raise

    def _translated(self, error: Exception) -> Exception:
        """DuckDB's error, or the one of memstore that is behind it, as an error of memstore's."""
        duckdb = load_duckdb()
        cause = None if self._file is None else self._file.failure
        if isinstance(cause, FileNotFoundError):
            return _MovedError(
                f"{cause.filename or cause}: moved away while the query read it; run it again, with a higher limit of "
                "open files (`ulimit -n`)"
            )
        if cause is not None:
            return cause
        message = _message(error)
        if isinstance(error, (duckdb.OutOfMemoryException, duckdb.IOException)):
            return StorageError(f"{message}; give the query more memory, or make room for temporary files in TMPDIR")
        if isinstance(error, UnicodeError):
            return UsageError(f"a value of the query is no text in UTF-8: {error}")
        if not isinstance(error, duckdb.Error):
            return error
        if isinstance(error, duckdb.CatalogException) and "Table with name" in message:
            message = f"{message}; records are in the view {VIEW}: `memstore sql --schema` lists its columns"
        return (
            StorageError(message)
            if PATH in message or isinstance(error, duckdb.InternalException)
            else UsageError(message)
        )


def _message(error: Exception) -> str:
    """What DuckDB says, on one line, without the picture of the query."""
    text = str(error)
    place = _PLACE_IN_QUERY.search(text)
    if place is None:
        return " ".join(text.split())
    return f"{' '.join(text[: place.start()].split())} (in line {place[1]} of the query)"


def _distinct(columns: Iterable[tuple[str, str]]) -> list[AnswerColumn]:
    """Columns with a number behind each name that was there before, as DuckDB counts them in a subquery."""
    seen: set[str] = set()
    found = []
    for name, kind in columns:
        unique, number = name, 0
        while unique in seen:
            number += 1
            unique = f"{name}_{number}"
        seen.add(unique)
        found.append(AnswerColumn(unique, kind))
    return found
