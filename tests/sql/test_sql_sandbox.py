"""What SQL may not do: reach a file, the network or the program around it, write anywhere, or change its own limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from memstore import MemStore, UsageError
from memstore.sql import ask, connect

duckdb = pytest.importorskip("duckdb")
pytest.importorskip("fsspec")

SECRET = "must not be seen"


@pytest.fixture
def place(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A directory of somebody else's, which is the working directory and the home."""
    directory = tmp_path / "place"
    directory.mkdir()
    (directory / "secret.csv").write_text(f"a\n{SECRET}\n")
    monkeypatch.chdir(directory)
    monkeypatch.setenv("HOME", str(directory))
    return directory


@pytest.fixture
def connection(store: MemStore, place: Any) -> Iterator[Any]:
    store.append(agent_id="a", content="x")
    store.drain()
    with connect(store) as opened:
        yield opened


def contents(directory: str) -> dict[str, bytes]:
    found = {}
    for path, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                found[os.path.join(path, name)] = file.read()
    return found


HOSTILE = [
    "SELECT * FROM read_csv('{place}/secret.csv')",
    "SELECT * FROM read_csv('secret.csv')",
    "SELECT * FROM read_text('{place}/secret.csv')",
    "SELECT * FROM read_blob('{root}/STORE.json')",
    "SELECT * FROM read_ndjson('{root}/memory/shards/*/*/MANIFEST')",
    "SELECT * FROM sniff_csv('{place}/secret.csv')",
    "SELECT * FROM '{place}/secret.csv'",
    "SELECT * FROM glob('{place}/*')",
    "SELECT * FROM read_csv('memstore://../../{place}/secret.csv')",
    "SELECT * FROM read_parquet('https://localhost:1/x.parquet')",
    "SELECT * FROM read_csv('s3://bucket/x.csv')",
    "SELECT * FROM parquet_metadata('{place}/secret.csv')",
    "SELECT getenv('HOME')",
    "SELECT * FROM SECRET_FRAME",
    "COPY memories TO '{place}/out.csv'",
    "COPY memories TO '{root}/memory/out.csv'",
    "COPY memories TO 'memstore://records.ndjson'",
    "COPY memories TO 'memstore://out.csv'",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "EXPORT DATABASE '{place}/exported'",
    "IMPORT DATABASE '{place}'",
    "ATTACH '{place}/other.db'",
    "ATTACH '{root}/other.db' AS other",
    "ATTACH 'memstore://other.db' AS other",
    "INSTALL httpfs",
    "INSTALL 'httpfs' FROM community",
    "LOAD httpfs",
    "LOAD '{place}/x.duckdb_extension'",
    "SET enable_external_access = true",
    "SET GLOBAL enable_external_access = true",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET allowed_directories = ['/']",
    "SET allowed_paths = ['{place}/secret.csv']",
    "SET temp_directory = '{place}'",
    "PRAGMA temp_directory = '{place}'",
    "SET log_query_path = '{place}/log'",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA profiling_output = '{place}/profile'",
    "SET profiling_output = '{place}/profile'",
    "SET secret_directory = '{place}'",
    "SET extension_directory = '{place}'",
    "SET home_directory = '{place}'",
    "SET memory_limit = '100GB'",
    "SET python_enable_replacements = true",
    "CREATE PERSISTENT SECRET s (TYPE http)",
    "CALL enable_logging(storage = 'file', storage_config = {{'path': '{place}/log'}})",
]


@pytest.mark.parametrize("statement", HOSTILE)
def test_a_connection_refuses(connection: Any, store: MemStore, place: Any, statement: str) -> None:
    before = {**contents(str(place)), **contents(store.root)}
    SECRET_FRAME = [{"a": SECRET}]  # noqa: N806, F841 - what DuckDB looks for in the program around it
    with pytest.raises(duckdb.Error) as caught:
        print(connection.execute(statement.format(place=place, root=store.root)).fetchall())
    assert SECRET not in str(caught.value)
    assert {**contents(str(place)), **contents(store.root)} == before
    assert connection.execute("SELECT count(*) FROM memories").fetchall() == [(1,)]


@pytest.mark.parametrize("statement", HOSTILE)
def test_a_question_refuses(store: MemStore, place: Any, statement: str) -> None:
    store.append(agent_id="a", content="x")
    store.drain()
    before = {**contents(str(place)), **contents(store.root)}
    with pytest.raises(UsageError) as caught:
        ask(store, statement.format(place=place, root=store.root)).close()
    assert SECRET not in str(caught.value)
    assert {**contents(str(place)), **contents(store.root)} == before


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW memories",
        "DROP VIEW memories",
        "CREATE TABLE t AS SELECT * FROM memories",
        "INSERT INTO memories VALUES (1)",
        "DELETE FROM memories",
        "EXPLAIN ANALYZE COPY memories TO 'x.csv'",
        "EXPLAIN (FORMAT json) COPY memories TO 'x.csv'",
        "PRAGMA version",
        "SET threads = 1",
        "CHECKPOINT",
    ],
)
def test_a_question_is_one_select(store: MemStore, place: Any, statement: str) -> None:
    with pytest.raises(UsageError, match="one SELECT over the view memories"):
        ask(store, statement)
    assert os.listdir(place) == ["secret.csv"]


def test_the_directory_for_what_does_not_fit_into_memory_is_gone_afterwards(
    store: MemStore, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(place))
    many = "SELECT hash(range) AS h, repeat('x', 100) || range FROM range(2000000)"
    query = f"SELECT count(*) FROM ({many} ORDER BY h LIMIT 1999999)"
    with ask(store, query, memory_bytes_max=100 << 20) as answer:
        assert list(answer) == [(1_999_999,)]
        assert len(os.listdir(place)) == 2
    assert os.listdir(place) == ["secret.csv"]
    with pytest.raises(UsageError):
        ask(store, "SELECT nothing FROM memories")
    assert os.listdir(place) == ["secret.csv"]
