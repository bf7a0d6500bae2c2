"""Packed files stay open: the usual tools read every line of them, seek table or not, without memstore."""

import shutil
import subprocess

import pytest
from packing import line_of, packed

from memstore.fs.local import LocalStorage

RECORDS = 500


@pytest.fixture(scope="module", params=[3, 12])
def files(request, tmp_path_factory):
    """Paths of two packed files of several frames whose records do not have the same fields, and all of their lines."""
    directory = tmp_path_factory.mktemp("packed")
    paths, lines = [], []
    for number, extra in enumerate([b'"tags":["x"]', b'"context":{"session_id":"s"}']):
        kinds = b'"agent_id":"a","memory_type":"ERROR","importance":"LOW",' + extra
        some = [line_of(number * RECORDS + index, size=300 + index, fields=kinds) for index in range(RECORDS)]
        path = str(directory / f"2025011{number}-2025011{number}.1.jsonl.zst")
        file = LocalStorage().create(path)
        _, whole = packed(some, frame_bytes_max=16_384, level=request.param, threads=2, file=file)
        file.close()
        assert len(whole.frames) > 10
        paths.append(path)
        lines += some
    return paths, lines


def test_zstdcat_gives_every_line(files):
    zstdcat = shutil.which("zstdcat")
    if zstdcat is None:
        pytest.skip("zstdcat is not installed")
    paths, lines = files
    assert subprocess.run([zstdcat, *paths], check=True, capture_output=True).stdout == b"".join(lines)


def test_duckdb_counts_every_record(files):
    duckdb = pytest.importorskip("duckdb")
    paths, lines = files
    with duckdb.connect() as connection:
        for each in paths:
            assert connection.execute("SELECT count(*) FROM read_ndjson(?)", [each]).fetchall() == [(RECORDS,)]
        counts = "count(*), count(DISTINCT memory_id), count(tags), count(context)"
        query = f"SELECT {counts} FROM read_ndjson(?, union_by_name = true)"
        assert connection.execute(query, [paths]).fetchall() == [(len(lines), len(lines), RECORDS, RECORDS)]


def test_polars_counts_every_record(files):
    polars = pytest.importorskip("polars")
    paths, lines = files
    counts = [polars.scan_ndjson(path).select(polars.len()).collect().item() for path in paths]
    assert counts == [RECORDS, RECORDS]
    ids = polars.concat([polars.scan_ndjson(path).select("memory_id") for path in paths]).collect()
    assert ids.n_unique() == len(lines)


def test_pandas_reads_every_record(files):
    pandas = pytest.importorskip("pandas")
    paths, lines = files
    frames = [pandas.read_json(path, lines=True) for path in paths]
    assert [len(frame) for frame in frames] == [RECORDS, RECORDS]
    assert sum(frame["memory_id"].nunique() for frame in frames) == len(lines)
