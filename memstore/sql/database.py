"""A DuckDB database in memory that holds one view, and can reach nothing but the records behind it.

Everything by which a query could leave it is switched off and the settings are locked: files other than the view's,
the network, extensions, secrets, variables of the program around it. What remains is tables and views of the
connection's own, in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from memstore.engine.engine import Engine
from memstore.engine.record_reader import OnDamage
from memstore.errors import UsageError
from memstore.filters import TimeArgument, build_filter
from memstore.sql.columns import SCHEME, view_statement
from memstore.sql.plan import Scope, agent_patterns, make_plan
from memstore.sql.record_file import RecordFile
from memstore.store import MemStore, engine_of

if TYPE_CHECKING:  # an optional dependency, and 40 ms to import
    import duckdb

MEMORY_BYTES_MAX = 1 << 30
"""What DuckDB may take for a query. It needs some 100 MB to read, the rest is for sorting, grouping and joining."""
_DUCKDB_MAJOR_MIN = 2
"""Before it, statements could write a log file with everything locked, and answers were held in memory whole."""
_LINE_BYTES_MIN = 1 << 20
_LOCKED = (
    "SET TimeZone = 'UTC'",
    "SET python_enable_replacements = false",
    "SET allow_persistent_secrets = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    f"SET allowed_directories = ['{SCHEME}://']",
    "SET enable_external_access = false",
)


def connect(
    store: MemStore,
    *,
    agents: str | Iterable[str] | None = None,
    since: TimeArgument | None = None,
    until: TimeArgument | None = None,
    on_damage: OnDamage = "raise",
    memory_bytes_max: int = MEMORY_BYTES_MAX,
    spill_directory: str | None = None,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the store's records as the view ``memories``, each once, as of now.

    It sees the store as it is when it is made, for as long as it is open: files that are moved or removed meanwhile
    stay readable, and their space stays taken. Make another one to see what came since. `memstore.sql.ask` does all
    of this for one query, and gives memstore's errors for DuckDB's.

    Args:
        store: any open store; read-only does.
        agents: ids or patterns (``bdi_*``); only their files are read.
        since: leave out records before; files that hold none later are not read.
        until: leave out records from here on.
        on_damage: ``raise`` a `CorruptionError`, or ``skip`` what is damaged and log it (all files are then read once
            before the first query).
        memory_bytes_max: of DuckDB.
        spill_directory: where DuckDB may put what does not fit into memory. Statements can write there, and nowhere
            else.

    Raises:
        UsageError: DuckDB is not installed, or an argument is wrong.
        CorruptionError: the index of the store is damaged; records that are damaged show when they are read, as a
            ``duckdb.Error`` that names file and bytes.
    """
    scope = scope_of(engine_of(store), agents=agents, since=since, until=until, on_damage=on_damage)
    return open_database(engine_of(store), scope, memory_bytes_max=memory_bytes_max, spill_directory=spill_directory)[0]


def scope_of(
    engine: Engine,
    *,
    agents: str | Iterable[str] | None,
    since: TimeArgument | None,
    until: TimeArgument | None,
    on_damage: OnDamage,
) -> Scope:
    """The records that these arguments mean.

    Raises:
        UsageError: one of them is wrong.
    """
    if on_damage not in ("raise", "skip"):
        raise UsageError(f"on_damage is 'raise' or 'skip', not {on_damage!r}")
    times = build_filter(now_us=engine.clock.now_us(), since=since, until=until)
    return Scope(agent_patterns(agents), times.since_us, times.until_us, skip_damage=on_damage == "skip")


def open_database(
    engine: Engine, scope: Scope, *, memory_bytes_max: int, spill_directory: str | None
) -> tuple[duckdb.DuckDBPyConnection, RecordFile]:
    """The connection, and the file behind its view."""
    duckdb = load_duckdb()
    from memstore.sql.filesystem import RecordFileSystem  # noqa: PLC0415 - fsspec is as optional as DuckDB

    file = RecordFile(make_plan(engine, scope))
    connection = duckdb.connect(":memory:", config={"temp_directory": spill_directory or ""})
    with closed_on_error(connection):
        connection.register_filesystem(RecordFileSystem(file))
        connection.execute(f"SET memory_limit = '{memory_bytes_max // 1000}kB'")
        for statement in _LOCKED:
            connection.execute(statement)
        connection.execute(
            view_statement(
                since_us=scope.since_us,
                until_us=scope.until_us,
                line_bytes_max=max(file.line_bytes_max + 1, _LINE_BYTES_MIN),
            )
        )
        connection.execute("SET lock_configuration = true")
    return connection, file


def load_duckdb() -> ModuleType:
    """DuckDB, if it can be had.

    Raises:
        UsageError: it, or fsspec through which it reads, is not installed, or is too old.
    """
    try:
        import duckdb  # noqa: PLC0415 - an optional dependency
        import fsspec  # noqa: F401, PLC0415 - likewise
    except ImportError as error:
        raise UsageError(
            f"SQL needs DuckDB and fsspec, and {error.name or 'one of them'} is not installed: "
            "pip install 'memstore[sql]'"
        ) from error
    if int(duckdb.__version__.partition(".")[0]) < _DUCKDB_MAJOR_MIN:
        raise UsageError(
            f"SQL needs DuckDB {_DUCKDB_MAJOR_MIN} or newer, not {duckdb.__version__}: pip install -U 'memstore[sql]'"
        )
    return duckdb


@contextlib.contextmanager
def closed_on_error(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Close it if what follows fails."""
    try:
        yield
    except BaseException:
        connection.close()
        raise
