"""The cache by the name that it had before it was SIEVE's."""

from __future__ import annotations

from memstore.cache.sieve import SieveCache as LruCache

__all__ = ["LruCache"]
