"""What a search must find: what reading finds."""

from __future__ import annotations

from typing import Any

from oracle import EVERYTHING, memory_id_of
from search_support import all_ids

from memstore.engine.engine import Engine
from memstore.finder import Finder
from memstore.search.result import SearchResult

INDEX = "the search index of"
"""How notes of months begin that were scanned, for their part of the index could not be used."""


def check_search(engine: Engine, finder: Finder) -> tuple[str, ...]:
    """See that a search finds what reading finds: no more, no less, none twice; what it says of the index."""
    there = [
        memory_id_of(line)
        for agent in engine.inventory.agents()
        for line, _ in engine.reader.lines(agent, EVERYTHING, newest_first=False, on_damage="raise")
    ]
    page = finder.search("", {}, own=None, sort="oldest", limit=1, cursor=None, highlight=False, facets=["type"])
    assert not [note for note in page.notes if "damage" in note and not note.startswith(INDEX)], page.notes
    found = all_ids(Asked(finder), sort="oldest", limit=1000)
    missed, more = sorted(set(there) - set(found)), sorted(set(found) - set(there))
    assert not missed, f"a search does not find {missed[:5]}"
    assert not more, f"a search finds what is not there: {more[:5]}"
    counted = sum(each.count for each in page.facets["type"])
    assert counted == len(there), f"{counted} records are counted, and there are {len(there)}"
    return page.notes


class Asked:
    """A search that is asked as `memstore.MemStore` is."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    def search(self, query: str, **asked: Any) -> SearchResult:
        return self._finder.search(query, {}, own=None, highlight=False, facets=(), **asked)
