"""What tests of the search share: settings, a look at everything that a search finds, and a store that ages."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from memstore import MemStore
from memstore.search.result import SearchResult

SEARCHING: dict[str, Any] = {
    "storage.ballast_bytes": 0,
    "storage.shards": 2,
    "merging.background": False,
    "search.background": False,
}
"""Nothing is merged or indexed unless a test asks for it."""
KEYS = ["latency", "when", "a.b", "back\\slash", 'q"uote', "two words", "ключ", "", "x:y", "mixed"]


def all_ids(store: Any, query: str = "", *, sort: str = "newest", limit: int = 7, **asked: Any) -> list[str]:
    """Ids of every hit, page by page; each page says the same total, which is how many there are."""
    found: list[str] = []
    cursor = None
    totals = set()
    while True:
        page: SearchResult = store.search(query, sort=sort, limit=limit, cursor=cursor, **asked)
        assert len(page) <= limit
        found += [record.memory_id for record in page.records]
        totals.add(page.total)
        cursor = page.cursor
        if cursor is None:
            break
    doubled = [memory_id for memory_id, count in Counter(found).items() if count > 1]
    assert not doubled, f"found twice: {doubled[:5]}"
    assert totals == {len(found)}, f"{len(found)} were found, and the totals say {totals}"
    return found


def index_files(root: str | os.PathLike[str]) -> list[str]:
    """Paths of all files of the search index, sorted."""
    top = os.path.join(root, "memory", "cache", "search")
    return sorted(os.path.join(directory, name) for directory, _, names in os.walk(top) for name in names)


def index_directories(root: str | os.PathLike[str]) -> list[str]:
    """Names of the partitions' directories, sorted."""
    top = os.path.join(root, "memory", "cache", "search")
    return sorted(os.listdir(top)) if os.path.isdir(top) else []


def reopened(store: MemStore, **settings: Any) -> MemStore:
    """Another opening of the same store, as another process would have it."""
    return MemStore(store.root, settings={**SEARCHING, **settings}, clock=store._engine.clock)
