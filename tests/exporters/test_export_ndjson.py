import io

import pytest

from memstore.errors import NotFoundError
from memstore.exporters.ndjson import export_ndjson
from memstore.record import decode_record


def test_lines_are_the_stored_bytes_agent_by_agent(store):
    for agent in ("b", "a"):
        for number in range(300):
            store.agent(agent).append(content=number)
    store.drain()
    out = io.BytesIO()
    told = []
    assert export_ndjson(store, out, progress=lambda done, total: told.append((done, total))) == 600
    expected = [line for agent in ("a", "b") for line in store.agent(agent).lines()]
    assert out.getvalue() == b"".join(line + b"\n" for line in expected)
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_agents_and_filters_choose(store):
    for agent in ("a", "b"):
        store.agent(agent).append(content=1, memory_type="ERROR")
        store.agent(agent).append(content=2)
    out = io.BytesIO()
    assert export_ndjson(store, out, agents=["a"], memory_type="ERROR") == 1
    record = decode_record(out.getvalue().rstrip())
    assert (record.agent_id, record.content) == ("a", 1)
    assert export_ndjson(store, io.BytesIO(), agents="b", since="1d") == 2
    assert export_ndjson(store, io.BytesIO(), until="2001-01-01") == 0


def test_an_unknown_agent_is_refused_before_anything_is_written(store):
    store.agent("a").append(content=1)
    out = io.BytesIO()
    with pytest.raises(NotFoundError, match="nobody"):
        export_ndjson(store, out, agents=["a", "nobody"])
    assert out.getvalue() == b""


def test_an_empty_store_gives_nothing(store):
    out = io.BytesIO()
    assert export_ndjson(store, out) == 0
    assert out.getvalue() == b""
