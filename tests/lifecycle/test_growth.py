import pytest

from memstore.config import GIB
from memstore.config_load import load_settings
from memstore.lifecycle.action import AddShard, MoveAgent, Withheld
from memstore.lifecycle.growth import plan_growth


def settings(**sharding):
    given = {"auto_scale": True, "agents_per_shard": 10, "max_shard_size_gb": 10, **sharding}
    return load_settings({"storage": {"sharding": given}}, environ={}, user_file=None).settings


def shard(number, sizes_gb=(), *, agents=None, pinned=()):
    """A shard as ``MemStore.shards`` has it, of agents of these GB, named by shard and place."""
    sized = sorted(((size, f"s{number}-a{place}") for place, size in enumerate(sizes_gb)), reverse=True)
    return {
        "name": f"shard_{number:03d}",
        "path": "/somewhere",
        "agents": len(sized) if agents is None else agents,
        "bytes": int(sum(size for size, _ in sized) * GIB),
        "heaviest": [{"agent": agent, "bytes": int(size * GIB)} for size, agent in sized[:5]],
        "pinned": list(pinned),
        "misplaced": 0,
    }


@pytest.mark.parametrize(("agents", "adds"), [([10, 10], False), ([15, 5], False), ([11, 10], True), ([100, 0], True)])
def test_a_shard_is_added_when_the_mean_number_of_agents_is_too_large(agents, adds):
    actions = plan_growth([shard(number, agents=count) for number, count in enumerate(agents)], settings())
    assert [type(action) for action in actions] == ([AddShard] if adds else [])
    if adds:
        assert "storage.sharding.agents_per_shard = 10" in actions[0].sentence


@pytest.mark.parametrize(
    ("sizes", "moved"),
    [
        ([(4, 3, 3), (1,)], None),
        ([(4, 4, 3), (1,)], "s0-a2"),
        ([(6, 3, 2), (1,)], "s0-a2"),
        ([(8, 4), (1,)], "s0-a1"),
        ([(8, 8, 7), (0.5,)], "s0-a2"),
        ([(3, 5, 4), (6,), (2,)], "s0-a0"),
    ],
)
def test_of_a_shard_that_is_too_large_the_agent_that_best_relieves_it_moves_to_the_lightest(sizes, moved):
    shards = [shard(number, each) for number, each in enumerate(sizes)]
    actions = plan_growth(shards, settings())
    if moved is None:
        assert actions == []
        return
    assert [type(action) for action in actions] == [MoveAgent]
    lightest = min(shards, key=lambda each: each["bytes"])["name"]
    assert (actions[0].agent, actions[0].shard) == (moved, lightest)
    assert actions[0].needs_bytes > 0


def test_where_no_shard_has_room_another_is_added():
    actions = plan_growth([shard(0, (6, 5)), shard(1, (4, 4))], settings())
    assert [type(action) for action in actions] == [AddShard]
    assert "shard_000 has 11.0 GB" in actions[0].reason


@pytest.mark.parametrize(
    "shards",
    [
        [shard(0, (12,)), shard(1)],
        [shard(0, (12,)), shard(1, (3,))],
        [shard(0, (9, 9)), shard(1)],
        [shard(0, (6, 5), pinned=["s0-a0", "s0-a1"]), shard(1)],
        [shard(0, (12,))],
    ],
)
def test_what_no_shard_could_mend_is_said_and_no_shard_is_added_for_it(shards):
    actions = plan_growth(shards, settings())
    assert [type(action) for action in actions] == [Withheld]
    assert "raise storage.sharding.max_shard_size_gb" in actions[0].sentence


def test_two_large_shards_do_not_both_fill_the_lightest():
    actions = plan_growth([shard(0, (7, 5)), shard(1, (6, 5)), shard(2, (1,))], settings())
    assert [type(action) for action in actions] == [MoveAgent, AddShard]


def test_without_auto_scale_the_plan_says_which_command_would_do_it():
    shards = [shard(0, (4, 4, 3), agents=50), shard(1, (1,))]
    actions = plan_growth(shards, settings(auto_scale=False))
    assert all(isinstance(action, Withheld) for action in actions)
    said = " ".join(action.sentence for action in actions)
    assert "memstore shards pin s0-a2 shard_001" in said
    assert "memstore shards add" in said


def test_a_store_that_is_to_have_one_shard_never_gets_another():
    assert plan_growth([shard(0, (20, 20), agents=5000)], settings(enabled=False)) == []


@pytest.mark.parametrize(
    "sizes",
    [[(4, 4, 3), (1,)], [(8, 8, 7), (0.5,)], [(6, 5, 4, 3, 2, 1), (1,), (2,), (7, 0.5)], [(9, 3), (8, 3), (), ()]],
)
def test_plans_that_are_carried_out_come_to_an_end_and_nobody_moves_twice(sizes):
    homes = {f"s{n}-a{place}": (n, size) for n, each in enumerate(sizes) for place, size in enumerate(each)}
    pinned, count = {}, len(sizes)
    for _ in range(20):
        shards = []
        for number in range(count):
            there = sorted(((size, agent) for agent, (home, size) in homes.items() if home == number), reverse=True)
            shards.append(
                {
                    "name": f"shard_{number:03d}",
                    "agents": len(there),
                    "bytes": int(sum(size for size, _ in there) * GIB),
                    "heaviest": [{"agent": agent, "bytes": int(size * GIB)} for size, agent in there[:5]],
                    "pinned": [agent for agent, home in pinned.items() if home == number],
                }
            )
        actions = [each for each in plan_growth(shards, settings()) if not isinstance(each, Withheld)]
        if not actions:
            return
        for action in actions:
            if isinstance(action, AddShard):
                count += 1
                continue
            assert action.agent not in pinned, "an agent moved twice"
            target = int(action.shard[-3:])
            homes[action.agent] = (target, homes[action.agent][1])
            pinned[action.agent] = target
    pytest.fail("the plan never came to an end")
