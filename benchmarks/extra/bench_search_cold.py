"""search_cold: what search_filtered asks, of a store whose records are all in cold files."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from benchmarks.bench_search import search_of
from benchmarks.library import Library
from benchmarks.measure import Bench
from benchmarks.searching import QUESTIONS
from benchmarks.tiers import copied, tier_all

pytestmark = pytest.mark.extra


def bench_search_cold(bench: Bench, library: Library) -> None:
    """Ten frames to unpack for ten hits, in the worst case."""
    searched = library.searched
    root = copied(searched.root, os.path.join(bench.scratch, "cold"))
    tier_all(root, "cold")
    search_of(bench, replace(searched, root=root), "search_cold", QUESTIONS)
