"""Asking: kinds of questions, mistakes, parameters, what is missing, and the end of a query that is interrupted."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from typing import Any

import pytest

from memstore import MemStore, StorageError, StoreClosedError, UsageError
from memstore.errors import CorruptionError
from memstore.sql import ask, connect
from memstore.sql.database import open_database
from memstore.sql.record_file import RecordFile


@pytest.fixture
def filled(store: MemStore) -> MemStore:
    pytest.importorskip("duckdb")
    pytest.importorskip("fsspec")
    store.append_many({"agent_id": "a", "content": number, "tags": ["t"]} for number in range(10))
    return store


def rows(store: MemStore, query: str, *given: Any, **options: Any) -> list[Any]:
    with ask(store, query, *given, **options) as answer:
        return list(answer)


@pytest.mark.parametrize(
    "query",
    [
        "FROM memories",
        "TABLE memories",
        "VALUES (1)",
        "WITH m AS (SELECT * FROM memories) SELECT count(*) FROM m -- a remark",
        "DESCRIBE memories",
        "SUMMARIZE memories",
        "SHOW TABLES",
        "EXPLAIN SELECT * FROM memories",
        "explain analyze SELECT * FROM memories;",
        "SELECT * FROM memories PIVOT (count(*) FOR memory_type IN ('ERROR'))",
    ],
)
def test_everything_that_asks_is_a_question(filled: MemStore, query: str) -> None:
    assert rows(filled, query)


def test_columns_have_names_that_differ_and_types(filled: MemStore) -> None:
    with ask(filled, "SELECT 1 AS a, 2 AS a, content FROM memories LIMIT 0") as answer:
        assert [column.name for column in answer.columns] == ["a", "a_1", "content"]
        assert answer.columns[2].type == "JSON"
        assert list(answer) == []


def test_parameters_are_values_and_never_sql(filled: MemStore) -> None:
    query = "SELECT count(*) FROM memories WHERE agent_id = $who AND content::INT >= $least"
    assert rows(filled, query, {"who": "a", "least": 8}) == [(2,)]
    assert rows(filled, query, {"who": "' OR true --", "least": 8}) == [(0,)]
    with pytest.raises(UsageError, match="least"):
        rows(filled, query, {"who": "a"})
    with pytest.raises(UsageError, match="other"):
        rows(filled, query, {"who": "a", "least": 8, "other": 1})


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELEC 1", r"Parser Error: .*SELEC.* \(in line 1 of the query\)"),
        ("SELECT\n nothing FROM memories", r"Binder Error: .*nothing.* \(in line 2 of the query\)"),
        ("SELECT * FROM elsewhere", "Catalog Error: .*elsewhere.*view memories: `memstore sql --schema`"),
        ("SELECT agent_id::INT FROM memories", "Conversion Error"),
    ],
)
def test_a_mistake_is_told_on_one_line(filled: MemStore, query: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        rows(filled, query)
    assert "\n" not in str(caught.value)


def test_a_mistake_that_shows_behind_the_first_rows_is_told_there(filled: MemStore) -> None:
    with ask(filled, "SELECT CASE WHEN range > 99999998 THEN error('too far') END FROM range(100000000)") as answer:
        batches = answer.batches()
        assert next(batches)
        with pytest.raises(UsageError, match="too far"):
            sum(map(len, batches))


def test_damage_behind_the_first_rows_is_told_there(filled: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.append_many({"agent_id": "b", "content": "x" * 20_000} for _ in range(8000))
    read, armed = RecordFile._read, threading.Event()

    def damaged(self: RecordFile, position: int, stop: int) -> bytes:
        if armed.is_set():
            raise CorruptionError("some.lane", offset_bytes=position, length_bytes=1, reason="a test", records=3)
        return read(self, position, stop)

    monkeypatch.setattr(RecordFile, "_read", damaged)
    with ask(filled, "SELECT * FROM memories") as answer:
        batches = answer.batches()
        assert next(batches)
        armed.set()
        with pytest.raises(CorruptionError, match="3 records affected"):
            list(batches)


def test_a_query_that_needs_more_memory_than_it_may_have_is_told_so(filled: MemStore) -> None:
    with pytest.raises(StorageError, match="more memory"):
        rows(
            filled,
            "SELECT length(list(range || repeat('x', 100))::VARCHAR) FROM range(5000000)",
            memory_bytes_max=60 << 20,
        )


def test_an_answer_that_was_closed_gives_no_more_rows(filled: MemStore) -> None:
    answer = ask(filled, "SELECT * FROM range(1000000)")
    batches = answer.batches()
    next(batches)
    answer.close()
    answer.close()
    with pytest.raises(UsageError, match="closed"):
        list(batches)


def test_a_closed_store_is_not_asked(filled: MemStore) -> None:
    filled.close()
    with pytest.raises(StoreClosedError):
        ask(filled, "SELECT 1")
    with pytest.raises(StoreClosedError):
        connect(filled)


def test_what_is_no_text_is_refused(filled: MemStore) -> None:
    with pytest.raises(UsageError, match="no text"):
        ask(filled, "SELECT '\udcff'")
    with pytest.raises(UsageError, match="UTF-8"):
        ask(filled, "SELECT $a", {"a": "\udcff"})


@pytest.mark.parametrize("wrong", [{"on_damage": "ignore"}, {"since": "yesterday-ish"}, {"agents": "nobody"}])
def test_wrong_arguments_are_told(filled: MemStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ask(filled, "SELECT 1", **wrong)


@pytest.mark.parametrize("missing", ["duckdb", "fsspec"])
def test_a_library_that_is_not_installed_is_named_with_what_to_do(
    store: MemStore, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    told = rf"SQL needs DuckDB and fsspec, and {missing} is not installed: pip install 'memstore\[sql\]'"
    for call in (lambda: ask(store, "SELECT 1"), lambda: connect(store)):
        if missing == "fsspec":
            pytest.importorskip("duckdb")
        with pytest.raises(UsageError, match=told):
            call()


def test_a_duckdb_that_is_too_old_is_told(filled: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duckdb.__version__", "1.4.4")
    with pytest.raises(UsageError, match=r"DuckDB 2 or newer, not 1\.4\.4"):
        ask(filled, "SELECT 1")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM memories, range(1000000) a, range(1000000) b WHERE a.range * b.range = -3",
        "SELECT a.range FROM memories, range(1000000) a, range(1000000) b WHERE a.range * b.range = -3",
    ],
)
def test_ctrl_c_ends_a_query_whatever_duckdb_is_at(
    filled: MemStore, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    read, main = RecordFile._read, threading.main_thread().ident

    def and_interrupt(self: RecordFile, position: int, stop: int) -> bytes:
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        return read(self, position, stop)

    monkeypatch.setattr(RecordFile, "_read", and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        rows(filled, query)
    monkeypatch.setattr(RecordFile, "_read", read)
    assert rows(filled, "SELECT count(*) FROM memories") == [(10,)]


class HardOfHearing:
    """A connection that hears the sixth interrupt, as DuckDB does not hear one that comes before a query has begun.

    While it is told the first times, Ctrl-C is pressed again.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.interrupts = 0

    def execute(self, *given: Any) -> Any:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        return self._connection.execute(*given)

    def interrupt(self) -> None:
        self.interrupts += 1
        if self.interrupts < 4:
            raise KeyboardInterrupt
        if self.interrupts > 5:
            self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()


def test_ctrl_c_that_comes_again_while_a_query_is_being_stopped_does_not_leave_it_at_work(
    filled: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[HardOfHearing] = []

    def open_hard_of_hearing(*given: Any, **options: Any) -> tuple[HardOfHearing, RecordFile]:
        connection, file = open_database(*given, **options)
        connections.append(HardOfHearing(connection))
        return connections[0], file

    monkeypatch.setattr("memstore.sql.query.open_database", open_hard_of_hearing)
    with pytest.raises(KeyboardInterrupt):
        rows(filled, "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = -3")
    assert connections[0].interrupts >= 6
    assert "memstore-sql" not in {thread.name for thread in threading.enumerate()}


def test_an_answer_that_is_let_go_of_ends_its_thread(filled: MemStore) -> None:
    left = ask(filled, "SELECT range FROM range(100000)")
    (thread,) = [each for each in threading.enumerate() if each.name == "memstore-sql"]
    assert left.columns
    del left
    gc.collect()
    thread.join()
