"""A cache bounded in bytes and time."""

from memstore.cache.lru import ENTRY_BYTES, LruCache
from memstore.clock import ManualClock


def cache(entries, ttl_s=60.0):
    clock = ManualClock(0)
    return LruCache[str](clock, bytes_max=entries * (100 + ENTRY_BYTES), ttl_s=ttl_s), clock


def test_the_least_recently_used_goes_first():
    lru, _ = cache(2)
    lru.put("a", "A", 100)
    lru.put("b", "B", 100)
    assert lru.get("a") == "A"
    lru.put("c", "C", 100)
    assert (lru.get("a"), lru.get("b"), lru.get("c")) == ("A", None, "C")


def test_the_budget_holds_and_what_is_over_it_is_not_kept():
    lru, _ = cache(2)
    lru.put("huge", "H", 10_000)
    assert lru.get("huge") is None
    for number in range(100):
        lru.put(str(number), "x", 100)
    assert lru.stats()["bytes"] <= lru.stats()["bytes_max"]


def test_an_entry_ends_with_its_time():
    lru, clock = cache(2, ttl_s=10)
    lru.put("a", "A", 1)
    clock.advance(9)
    assert lru.get("a") == "A"
    clock.advance(2)
    assert lru.get("a") is None
    assert lru.stats()["bytes"] == 0


def test_replacing_discarding_and_clearing_keep_the_sum_right():
    lru, _ = cache(3)
    lru.put("a", "A", 100)
    lru.put("a", "B", 50)
    assert lru.stats()["bytes"] == 50 + ENTRY_BYTES
    lru.discard("a")
    lru.discard("a")
    assert lru.stats()["bytes"] == 0
    lru.put("a", "A", 1)
    lru.clear()
    assert lru.get("a") is None


def test_hits_are_counted_and_no_budget_switches_it_off():
    lru, _ = cache(1)
    lru.put("a", "A", 1)
    lru.get("a")
    lru.get("b")
    assert lru.stats()["hit_rate"] == 0.5
    off, _ = cache(0)
    off.put("a", "A", 1)
    assert off.get("a") is None
    assert off.stats()["misses"] == 0
