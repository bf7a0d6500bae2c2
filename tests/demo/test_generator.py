from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from memstore.demo.generator import Plan, memory
from memstore.demo.writer import Job
from memstore.draft import draft_record
from memstore.record import Importance, MemoryType

NOW_US = 1_760_000_000_000_000
PLAN = Plan(seed=1, agents=100, records=10_000, days=60, now_us=NOW_US)


@pytest.fixture(scope="module")
def records():
    return [PLAN.record(agent, index) for agent in range(PLAN.agents) for index in range(PLAN.count_of(agent))]


def test_the_same_seed_gives_the_same_records_in_another_process():
    wanted = [memory(3, agent, index) for agent in range(3) for index in range(20)]
    code = (
        "import json; from memstore.demo.generator import memory;"
        "print(json.dumps([memory(3, a, i) for a in range(3) for i in range(20)]))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True).stdout
    assert json.loads(other) == wanted


def test_a_record_is_the_same_whatever_was_made_before_it():
    first = memory(1, 4, 9)
    memory(1, 5, 0)
    assert memory(1, 4, 9) == first
    assert memory(2, 4, 9) != first


def test_the_plan_has_as_many_records_as_it_says(records):
    assert len(records) == PLAN.records
    assert min(Counter(record["agent_id"] for record in records).values()) >= 1
    assert len({record["agent_id"] for record in records}) == PLAN.agents


@pytest.mark.parametrize(("agents", "count"), [(1, 1), (1, 50), (2, 2), (7, 7), (100, 100), (100, 101)])
def test_small_plans_add_up(agents, count):
    plan = Plan(seed=1, agents=agents, records=count, days=1, now_us=NOW_US)
    counts = [plan.count_of(agent) for agent in range(agents)]
    assert sum(counts) == count
    assert min(counts) >= 1


def test_sizes_have_the_shape_of_real_memories(records):
    sizes = sorted(len(draft_record(record).body) + 150 for record in records)
    median, p90, p99 = (sizes[int(len(sizes) * share)] for share in (0.5, 0.9, 0.99))
    assert 450 <= median <= 700
    assert 5_500 <= p90 <= 9_500
    assert 60_000 <= p99 <= 115_000
    assert sizes[-1] <= 120_000
    assert 3_500 <= sum(sizes) / len(sizes) <= 6_000


def test_one_agent_is_heavy_and_all_kinds_occur(records):
    ((agent, count), *_) = Counter(record["agent_id"] for record in records).most_common(1)
    assert agent == PLAN.agent_id(0)
    assert 0.38 <= count / PLAN.records <= 0.42
    assert {record["memory_type"] for record in records} == {*MemoryType}
    assert {record["importance"] for record in records} == {*Importance}
    assert all(record["context"].keys() == {"session_id", "user_id", "model"} and record["tags"] for record in records)


def test_about_half_of_the_records_repeat_anothers_content(records):
    contents = {json.dumps([record.get(part) for part in ("input", "response", "content")]) for record in records}
    assert 0.35 <= 1 - len(contents) / len(records) <= 0.65


def test_times_lie_in_the_days_before_now_in_order():
    for agent in (0, 1, 99):
        times = [PLAN.time_us(agent, index) for index in range(PLAN.count_of(agent))]
        assert times == sorted(times)
        assert NOW_US - PLAN.days * 86_400_000_000 <= times[0]
        assert times[-1] < NOW_US


def test_writers_share_all_records_and_none_twice():
    shares = [Job("", PLAN, writer, 3, "os").share() for writer in range(3)]
    together = [(agent, index) for share in shares for _, agent, index in share]
    assert len(together) == len(set(together)) == PLAN.records
    assert all(share == sorted(share) for share in shares)
