"""A cache bounded in bytes and time."""

import hypothesis.strategies as st
from hypothesis import given

from memstore.cache.sieve import ENTRY_BYTES, SieveCache
from memstore.clock import ManualClock


def cache(entries, ttl_s=60.0):
    clock = ManualClock(0)
    return SieveCache[str](clock, bytes_max=entries * (100 + ENTRY_BYTES), ttl_s=ttl_s), clock


def test_what_nobody_has_asked_for_again_goes_first():
    kept, _ = cache(2)
    kept.put("a", "A", 100)
    kept.put("b", "B", 100)
    assert kept.get("a") == "A"
    kept.put("c", "C", 100)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == ("A", None, "C")


def test_what_is_asked_for_once_does_not_push_out_what_is_asked_for_often():
    kept, _ = cache(10)
    for name in "abcde":
        kept.put(name, name.upper(), 100)
    for number in range(1000):
        assert all(kept.get(name) for name in "abcde"), number
        kept.put(str(number), "x", 100)


def test_the_hand_goes_on_where_it_stopped_and_begins_again_at_the_oldest():
    kept, _ = cache(3)
    for name in "abc":
        kept.put(name, name.upper(), 100)
        kept.get(name)
    kept.put("d", "D", 100)  # all are marked: it passes them, begins again, and the oldest goes
    kept.put("e", "E", 100)  # the hand stands at b
    assert [kept.get(name) for name in "abcde"] == [None, None, "C", "D", "E"]


def test_where_everything_is_asked_for_something_goes_all_the_same():
    kept, _ = cache(500)
    for number in range(500):
        kept.put(number, "x", 100)
        kept.get(number)
    kept.put("new", "N", 100)
    assert kept.get("new") == "N"
    assert kept.stats()["entries"] == 500


@given(st.lists(st.tuples(st.sampled_from(["get", "put", "discard"]), st.integers(0, 9), st.integers(0, 150))))
def test_it_never_holds_more_than_its_budget_nor_anything_else_than_was_put(steps):
    kept, _ = cache(4)
    model = {}
    for step, key, size in steps:
        if step == "get":
            assert kept.get(key) in (None, model.get(key))
        elif step == "put":
            model[key] = f"{key}/{size}"
            kept.put(key, model[key], size)
            assert kept.get(key) == model[key]
        else:
            model.pop(key, None)
            kept.discard(key)
            assert kept.get(key) is None
        assert kept.stats()["bytes"] <= kept.stats()["bytes_max"]


def test_the_budget_holds_and_what_is_over_it_is_not_kept():
    kept, _ = cache(2)
    kept.put("huge", "H", 10_000)
    assert kept.get("huge") is None
    for number in range(100):
        kept.put(str(number), "x", 100)
    assert kept.stats()["bytes"] <= kept.stats()["bytes_max"]


def test_an_entry_ends_with_its_time():
    kept, clock = cache(2, ttl_s=10)
    kept.put("a", "A", 1)
    clock.advance(9)
    assert kept.get("a") == "A"
    clock.advance(2)
    assert kept.get("a") is None
    assert kept.stats()["bytes"] == 0


def test_replacing_discarding_and_clearing_keep_the_sum_right():
    kept, _ = cache(3)
    kept.put("a", "A", 100)
    kept.put("a", "B", 50)
    assert kept.stats()["bytes"] == 50 + ENTRY_BYTES
    kept.discard("a")
    kept.discard("a")
    assert kept.stats()["bytes"] == 0
    kept.put("a", "A", 1)
    kept.clear()
    assert kept.get("a") is None


def test_hits_are_counted_and_no_budget_switches_it_off():
    kept, _ = cache(1)
    kept.put("a", "A", 1)
    kept.get("a")
    kept.get("b")
    assert kept.stats()["hit_rate"] == 0.5
    off, _ = cache(0)
    off.put("a", "A", 1)
    assert off.get("a") is None
    assert off.stats()["misses"] == 0
