"""The ring is the same everywhere, spreads evenly, and moves little."""

from collections import Counter

from memstore.ring import build_ring

AGENTS = [f"agent_{i:05d}" for i in range(10_000)]


def test_the_ring_is_the_same_on_every_machine():
    ring = build_ring(range(4))
    assert [ring.shard_of(a) for a in ("a", "bdi_agent_001", "coordinator", "é", "🤖")] == [1, 3, 2, 2, 2]


def test_shards_get_about_the_same_number_of_agents():
    sizes = Counter(build_ring(range(8)).shard_of(a) for a in AGENTS)
    assert len(sizes) == 8
    assert max(sizes.values()) < 1.4 * len(AGENTS) / 8
    assert min(sizes.values()) > 0.6 * len(AGENTS) / 8


def test_a_new_shard_takes_its_share_and_nobody_else_moves():
    before, after = build_ring(range(7)), build_ring(range(8))
    moved = [a for a in AGENTS if before.shard_of(a) != after.shard_of(a)]
    assert all(after.shard_of(a) == 7 for a in moved)
    assert 0.6 / 8 < len(moved) / len(AGENTS) < 1.4 / 8
