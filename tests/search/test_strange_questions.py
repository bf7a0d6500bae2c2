"""Text that tantivy would refuse, and text that says nothing."""

import pytest

from memstore import MemStore, UsageError


@pytest.fixture
def store(tmp_path):
    settings = {"merging.background": False, "storage.ballast_bytes": 0, "search.background": False}
    with MemStore(tmp_path / "store", durability="os", settings=settings) as opened:
        opened.append(agent_id="bot", content="older", timestamp="2025-01-01")
        opened.append(agent_id="bot", content="newer", timestamp="2025-01-02")
        yield opened


@pytest.mark.parametrize(
    "filters",
    [{"session": "\ud800"}, {"tags": ["a", "\udfff"]}, {"agent": "\ud800*"}, {"context": {"user_id": "\ud800"}}],
)
def test_a_filter_that_is_no_valid_text_is_refused(store, filters):
    for ask in (store.search, store.aggregate, store.follow):
        with pytest.raises(UsageError, match="no valid text"):
            ask("x", **filters)


@pytest.mark.parametrize("query", ["(((", '"', "!!", "''"])
def test_a_text_that_says_nothing_finds_everything_newest_first_and_has_no_scores(store, query):
    found = store.search(query)
    assert [record.content for record in found.records] == ["newer", "older"]
    assert [hit.score for hit in found] == [None, None]
