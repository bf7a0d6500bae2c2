import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.config_load import load_settings
from memstore.format.holds_file import Hold
from memstore.format.names import cold_file_name, day_file_name, parse_cold_file_name, warm_file_name
from memstore.lifecycle.action import (
    Action,
    AddShard,
    CleanUp,
    Compact,
    Digest,
    DropTombstones,
    Expire,
    MergeLanes,
    MoveAgent,
    Pack,
    Purge,
    Withheld,
    days_of,
    order_actions,
)
from memstore.lifecycle.holds import Holds
from memstore.lifecycle.policy import AgentState, HotFile, plan_agent
from memstore.lifecycle.retention import Rules
from memstore.timestamps import US_PER_DAY, day_start_us, day_text
from tests.lifecycle.file_values import HOUR_US, KIB, at, hot, kind, packed, trashed

TODAY = "20250320"
NOW = at(TODAY, 12)


def plan(state: AgentState, now=NOW, *, holds=(), doubt="", retention=None, **lifecycle) -> list[Action]:
    loaded = load_settings(
        {"storage": {"lifecycle": lifecycle, "retention": retention or {}}}, environ={}, user_file=None
    ).settings
    return plan_agent(state, now_us=now, settings=loaded, rules=Rules(loaded), holds=Holds(holds), clock_doubt=doubt)


def hot_days(*days, **fields):
    return {day_file_name(day, number): hot(day, **fields) for number, day in enumerate(days, 1)}


def warm(first, last, number, **fields):
    name = warm_file_name(first, last, number)
    return {name: packed(name, kind(at(first), at(last, 23)), **fields)}


def cold(month, number, *kinds, **fields):
    name = cold_file_name(month, number)
    return {name: packed(name, *(kinds or [kind(at(f"{month}01"), at(f"{month}28", 23))]), **fields)}


def packs(state, now=NOW, **options):
    """Reason, tier and the days or months of the sources of each pack."""
    found = plan(state, now, **options)
    assert all(isinstance(action, Pack) for action in found), found
    return [(each.reason, each.tier, [name.split(".")[0] for name in each.sources]) for each in found]


# --- hot to warm ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "hot_storage_days", "goes"),
    [
        ("20250312", 7, True),
        ("20250313", 7, False),
        ("20250320", 7, False),
        ("20250401", 7, False),
        ("20250319", 0, True),
        ("20250320", 0, False),
        ("20250312", 8, False),
    ],
)
def test_a_day_stays_hot_up_to_its_age_in_days(day, hot_storage_days, goes):
    found = packs(AgentState("bot", hot=hot_days(day)), hot_storage_days=hot_storage_days)
    assert found == ([("warm", "warm", [day])] if goes else [])


def test_days_are_packed_together_until_they_are_worth_a_frame():
    days = hot_days("20250303", "20250305", "20250306", "20250307", bytes=100 * KIB)
    assert packs(AgentState("bot", hot=days)) == [
        ("warm", "warm", ["20250307"]),
        ("warm", "warm", ["20250303", "20250305", "20250306"]),
    ]


def test_a_big_day_is_a_file_of_its_own():
    state = AgentState("bot", hot={**hot_days("20250303", "20250304", bytes=70_000 * KIB)})
    assert packs(state) == [("warm", "warm", ["20250304"]), ("warm", "warm", ["20250303"])]


def test_no_file_holds_two_months():
    state = AgentState("bot", hot=hot_days("20250227", "20250228", "20250301", "20250302"))
    assert packs(state) == [
        ("warm", "warm", ["20250301", "20250302"]),
        ("warm", "warm", ["20250227", "20250228"]),
    ]


def test_a_small_warm_file_is_joined_by_its_neighbours_and_a_large_one_is_not():
    small = {**warm("20250301", "20250303", 7, raw_bytes=20 * KIB), **hot_days("20250304")}
    large = {**warm("20250301", "20250303", 7, raw_bytes=256 * KIB), **hot_days("20250304")}
    for files, joined in ((small, True), (large, False)):
        state = AgentState(
            "bot",
            hot={name: each for name, each in files.items() if isinstance(each, HotFile)},
            packed={name: each for name, each in files.items() if not isinstance(each, HotFile)},
        )
        expected = ["20250301-20250303", "20250304"] if joined else ["20250304"]
        assert packs(state) == [("warm", "warm", expected)]


def test_a_small_warm_file_alone_stays_as_it_is():
    assert packs(AgentState("bot", packed=warm("20250301", "20250303", 7))) == []


def test_two_small_warm_neighbours_become_one():
    both = {**warm("20250301", "20250303", 7), **warm("20250304", "20250305", 8)}
    assert packs(AgentState("bot", packed=both)) == [("warm", "warm", ["20250301-20250303", "20250304-20250305"])]


def test_a_day_that_stays_hot_parts_its_neighbours():
    days = hot_days("20250303", "20250304", "20250305")
    state = AgentState("bot", hot=days, reads={"20250304.2.jsonl": NOW - US_PER_DAY})
    assert packs(state) == [("warm", "warm", ["20250305"]), ("warm", "warm", ["20250303"])]


@pytest.mark.parametrize(
    ("read_us", "keep_read_days", "goes"),
    [
        (NOW - 2 * US_PER_DAY, 3, False),
        (NOW - 3 * US_PER_DAY, 3, True),
        (NOW + US_PER_DAY, 3, False),
        (NOW + 400 * US_PER_DAY, 3, True),
        (NOW, 0, True),
    ],
)
def test_what_was_read_lately_stays_a_tier_up(read_us, keep_read_days, goes):
    reads = {"20250303.1.jsonl": read_us}
    state = AgentState("bot", hot=hot_days("20250303"), reads=reads)
    assert bool(packs(state, keep_read_days=keep_read_days)) is goes


def test_two_files_of_one_day_go_together():
    files = {"20250303.1.jsonl": hot("20250303", bytes=300 * KIB), "20250303.4.jsonl": hot("20250303")}
    assert packs(AgentState("bot", hot=files)) == [("warm", "warm", ["20250303", "20250303"])]


def test_a_short_retention_period_makes_days_warm_sooner_even_if_they_are_read():
    state = AgentState("bot", hot=hot_days("20250316", "20250318"), reads={"20250316.1.jsonl": NOW})
    short = {"rules": [{"memory_type": "ERROR", "keep_days": 2}]}
    assert packs(state) == []
    assert packs(state, retention=short) == [("warm", "warm", ["20250316"])]


# --- to cold ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("today", "goes"), [("20250330", False), ("20250331", True)])
def test_a_month_goes_cold_when_its_last_day_is_old_enough(today, goes):
    files = warm("20250201", "20250203", 7, raw_bytes=300 * KIB)
    found = packs(AgentState("bot", packed=files), at(today))
    assert found == ([("cold", "cold", ["20250201-20250203"])] if goes else [])


def test_all_of_a_month_becomes_one_cold_file():
    state = AgentState(
        "bot",
        hot=hot_days("20241202", "20241220"),
        packed={**warm("20241210", "20241215", 7, raw_bytes=300 * KIB), **warm("20241216", "20241217", 8)},
    )
    assert packs(state) == [
        ("cold", "cold", ["20241202", "20241210-20241215", "20241216-20241217", "20241220"]),
    ]


def test_a_month_that_goes_cold_takes_late_records_along_at_once():
    late = {"20241212.9.jsonl": hot("20241212", ingested=NOW)}
    state = AgentState("bot", hot=late, packed=warm("20241210", "20241215", 7))
    assert packs(state) == [("cold", "cold", ["20241210-20241215", "20241212"])]


def test_a_cold_file_alone_stays_as_it_is():
    assert packs(AgentState("bot", packed=cold("202412", 7))) == []


def test_a_month_waits_for_a_file_of_it_that_is_read():
    files = {**warm("20241210", "20241215", 7, raw_bytes=300 * KIB), **warm("20241216", "20241217", 8)}
    state = AgentState("bot", packed=files, reads={"20241210-20241215.7.jsonl.zst": NOW})
    assert packs(state) == []
    later = {"20241220.9.jsonl": hot("20241220")}
    state = AgentState("bot", hot=later, packed=files, reads=state.reads)
    assert packs(state) == [("warm", "warm", ["20241216-20241217", "20241220"])]


def test_months_come_newest_first():
    state = AgentState("bot", hot=hot_days("20241202", "20241102", "20250102"))
    assert [sources for _, _, sources in packs(state)] == [["20250102"], ["20241202"], ["20241102"]]


def test_files_that_came_back_from_the_trash_become_one_again():
    back = {**cold("202412", 7), **cold("202412", 9)}
    assert packs(AgentState("bot", packed=back)) == [("fold", "cold", ["202412", "202412"])]
    overlapping = {
        **warm("20250301", "20250305", 7, raw_bytes=300 * KIB),
        **warm("20250303", "20250304", 8, raw_bytes=300 * KIB),
    }
    assert packs(AgentState("bot", packed=overlapping)) == [
        ("fold", "warm", ["20250301-20250305", "20250303-20250304"])
    ]


# --- late records -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "day", "tier"),
    [
        (warm("20250301", "20250303", 7), "20250302", "warm"),
        (warm("20250301", "20250303", 7, raw_bytes=300 * KIB), "20250303", "warm"),
        (cold("202412", 7), "20241231", "cold"),
    ],
)
@pytest.mark.parametrize(("hours_ago", "folded"), [(1, False), (23, False), (24, True), (-1, True)])
def test_late_records_are_folded_in_when_no_more_have_come_for_a_day(files, day, tier, hours_ago, folded):
    name = day_file_name(day, 20)
    state = AgentState("bot", hot={name: hot(day, ingested=NOW - hours_ago * HOUR_US)}, packed=files)
    (spanning,) = files
    expected = [("fold", tier, [spanning.split(".")[0], day])] if folded else []
    assert packs(state) == expected


def test_late_records_of_several_days_are_folded_in_at_once():
    late = {
        "20241201.8.jsonl": hot("20241201"),
        "20241205.9.jsonl": hot("20241205", ingested=NOW),
        "20241209.10.jsonl": hot("20241209"),
    }
    assert packs(AgentState("bot", hot=late, packed=cold("202412", 7))) == [
        ("fold", "cold", ["202412", "20241201", "20241209"])
    ]


def test_late_records_do_not_hold_up_their_neighbours():
    late = {"20250302.8.jsonl": hot("20250302", ingested=NOW), "20250305.9.jsonl": hot("20250305")}
    assert packs(AgentState("bot", hot=late, packed=warm("20250301", "20250303", 7))) == [
        ("warm", "warm", ["20250301-20250303", "20250305"])
    ]


# --- what else there is -----------------------------------------------------------------------


def only(kind_of, actions):
    return [action for action in actions if isinstance(action, kind_of)]


def test_without_compression_nothing_is_packed_and_the_plan_says_what_that_keeps():
    state = AgentState("bot", hot=hot_days("20250303"), packed=cold("202301", 7))
    found = plan(state, compression_enabled=False)
    assert [type(action) for action in found] == [Expire]
    (said,) = plan(AgentState("bot", hot=hot_days("20230303")), compression_enabled=False)
    assert isinstance(said, Withheld)
    assert "compression_enabled is false" in said.sentence


def test_expired_files_go_whole_and_expired_records_by_a_rewrite():
    files = {**cold("202301", 7), **cold("202403", 8, ingested=at("20240301"))}
    first, second = plan(AgentState("bot", packed=files))
    assert (first.file, first.whole, first.needs_bytes) == ("202301.7.jsonl.zst", True, 0)
    assert (second.file, second.whole) == ("202403.8.jsonl.zst", False)
    assert second.needs_bytes >= files["202403.8.jsonl.zst"].size
    assert "cold_retention_months = 12" in second.sentence


def test_a_file_that_goes_whole_is_not_packed_and_one_that_is_packed_is_not_rewritten():
    month = {**warm("20230101", "20230103", 7), **warm("20230110", "20230111", 8, ingested=at("20250101"))}
    found = plan(AgentState("bot", packed=month, hidden_times=(at("20230110", 1),)))
    assert [(type(action), action.touched) for action in found] == [
        (Expire, ("20230101-20230103.7.jsonl.zst",)),
        (Pack, ("20230110-20230111.8.jsonl.zst",)),
    ]


def test_the_trash_is_purged_when_its_time_has_come():
    file = packed("202301.7.jsonl.zst", kind(at("20230101"), at("20230102")))
    due, waiting = trashed(file, NOW), trashed(file, NOW + 1)
    found = plan(AgentState("bot", trash={"202301.7.jsonl.zst": due, "202302.8.jsonl.zst": waiting}))
    assert found == [Purge(agent="bot", files=("202301.7.jsonl.zst",), frees_bytes=file.size)]


def test_nothing_is_removed_by_age_while_the_clock_is_in_doubt():
    state = AgentState(
        "bot",
        hot=hot_days("20250303"),
        packed=cold("202301", 7, kind(at("20230101"), at("20230128"), 10, "SYSTEM_STATE")),
        trash={"202201.3.jsonl.zst": trashed(packed("x", kind(at("20220101"), at("20220102"))), NOW)},
        leftovers=(".tmp-1",),
    )
    found = plan(state, doubt="the clock was set", digest_after_days=5)
    assert {type(action) for action in found} == {Withheld, Pack, CleanUp}
    said = only(Withheld, found)
    assert len(said) == 3
    assert all("the clock was set" in each.sentence for each in said)


def test_what_is_held_stays_and_the_plan_says_which_rule_and_which_hold():
    file = packed("202201.3.jsonl.zst", kind(at("20220101"), at("20220102")))
    state = AgentState(
        "bot",
        packed=cold("202301", 7, kind(at("20230101"), at("20230128"), 10, "SYSTEM_STATE")),
        trash={"202201.3.jsonl.zst": trashed(file, NOW)},
        hidden_times=(at("20230105"),),
    )
    found = plan(state, holds=[Hold(name="case-7", at=0, agent="b*")], digest_after_days=5)
    assert {type(action) for action in found} == {Withheld}
    said = [each.sentence for each in found]
    assert len(said) == 4
    assert all("hold case-7" in sentence for sentence in said)
    assert any("storage.lifecycle.cold_retention_months = 12" in sentence for sentence in said)


def test_tombstones_are_carried_out_where_their_records_may_be():
    files = {**cold("202412", 7), **warm("20250301", "20250303", 8)}
    found = plan(AgentState("bot", packed=files, hidden_times=(at("20241205"), at("20241206"), at("20250310"))))
    assert [(type(action), action.touched, action.ids) for action in found] == [
        (DropTombstones, ("202412.7.jsonl.zst",), 2)
    ]


def test_tombstones_of_late_records_wait_until_these_are_folded_in():
    late = {"20241205.9.jsonl": hot("20241205", ingested=NOW)}
    state = AgentState("bot", hot=late, packed=cold("202412", 7), hidden_times=(at("20241205", 1),))
    assert plan(state) == []
    assert [type(action) for action in plan(state, compression_enabled=False)] == [DropTombstones]


@pytest.mark.parametrize(
    ("memory_type", "importance", "until", "after_days", "due"),
    [
        ("PERFORMANCE", "LOW", 0, 30, True),
        ("PERFORMANCE", "LOW", 0, 0, False),
        ("PERFORMANCE", "LOW", 0, 90, False),
        ("PERFORMANCE", "LOW", at("20250101"), 30, False),
        ("PERFORMANCE", "MEDIUM", 0, 30, False),
        ("LEARNING", "LOW", 0, 30, False),
    ],
)
def test_digests_are_for_old_routine_records_of_low_importance(memory_type, importance, until, after_days, due):
    month = kind(at("20241201"), at("20241231"), 6, memory_type, importance)
    files = cold("202412", 7, month, digested_until=until)
    found = plan(AgentState("bot", packed=files), digest_after_days=after_days)
    assert [(type(action), action.records) for action in found] == ([(Digest, 6)] if due else [])


def test_leftovers_are_cleaned_up_and_a_manifest_about_gone_files_is_compacted():
    state = AgentState("bot", leftovers=(".tmp-1", "x"), manifest_bytes=100 * KIB, manifest_useful_bytes=40 * KIB)
    assert plan(state) == [
        CleanUp(agent="bot", names=(".tmp-1", "x")),
        Compact(agent="bot", manifest_bytes=100 * KIB, needs_bytes=40 * KIB, frees_bytes=60 * KIB),
    ]
    for size, useful in ((60 * KIB, 0), (100 * KIB, 50 * KIB)):
        assert plan(AgentState("bot", manifest_bytes=size, manifest_useful_bytes=useful)) == []


# --- estimates, order, words ------------------------------------------------------------------


def test_room_is_asked_for_by_what_the_agent_packed_before():
    days = hot_days("20250303", bytes=1000 * KIB)
    (unknown,) = plan(AgentState("bot", hot=days))
    assert (unknown.needs_bytes, unknown.frees_bytes) == (500 * KIB, 500 * KIB)
    (known,) = plan(AgentState("bot", hot=days, packed=cold("202412", 7, raw_bytes=10_000 * KIB)))
    assert known.needs_bytes == pytest.approx(150 * KIB, rel=0.01)
    assert known.frees_bytes == pytest.approx(900 * KIB, rel=0.01)
    (small,) = plan(AgentState("bot", hot=hot_days("20250303", bytes=10)))
    assert (small.needs_bytes, small.records, small.raw_bytes) == (64 * KIB, 3, 10)


def test_actions_come_newest_first_and_short_of_space_what_frees_most():
    state = AgentState(
        "bot",
        hot={**hot_days("20250102", bytes=50 * KIB), "20241202.5.jsonl": hot("20241202", bytes=5000 * KIB)},
        packed=cold("202301", 7),
        trash={"202201.3.jsonl.zst": trashed(packed("x", kind(at("20220101"), at("20220102"))), NOW)},
    )
    found = [*plan(state), MergeLanes(lanes=2, bytes=10, needs_bytes=10), Withheld(what="a", why="b")]
    random.Random(1).shuffle(found)
    kinds = ["merge_lanes", "purge", "pack", "pack", "expire", "withheld"]
    newest = order_actions(found, short_of_space=False)
    assert [each.kind for each in newest] == kinds
    assert [each.month for each in only(Pack, newest)] == ["202501", "202412"]
    short = order_actions(found, short_of_space=True)
    assert [each.kind for each in short] == ["purge", "expire", "pack", "pack", "merge_lanes", "withheld"]
    assert [each.month for each in only(Pack, short)] == ["202412", "202501"]


def test_every_action_speaks_to_people_and_to_machines():
    every = [
        MergeLanes(lanes=1, bytes=2048),
        *plan(AgentState("bot", hot=hot_days("20250303"))),
        Pack(
            agent="bot",
            reason="fold",
            tier="cold",
            month="202412",
            sources=("202412.1.jsonl.zst", "20241203.2.jsonl"),
            records=5,
            raw_bytes=10,
            stored_bytes=10,
        ),
        Expire(agent="bot", file="202412.1.jsonl.zst", records=1, whole=True, why="w"),
        Expire(agent="bot", file="202412.1.jsonl.zst", records=5, whole=False, why="w"),
        DropTombstones(agent="bot", file="202412.1.jsonl.zst", ids=1200),
        Purge(agent="bot", files=("202412.1.jsonl.zst",), frees_bytes=5 * 2**30),
        Digest(agent="bot", file="202412.1.jsonl.zst", records=2),
        CleanUp(agent="bot", names=("x",)),
        Compact(agent="bot", manifest_bytes=5),
        AddShard(reason="r"),
        MoveAgent(agent="bot", shard="shard_001", reason="r"),
        Withheld(what="a", why="b"),
        Withheld(agent="bot", what="a", why="b"),
    ]
    for action in every:
        told = action.as_dict()
        assert told["kind"] == action.kind
        assert told["sentence"] == action.sentence
        assert {"agent", "needs_bytes", "frees_bytes"} <= told.keys()
        assert action.sentence.endswith(".")
        assert "  " not in action.sentence
        assert action.agent in action.sentence
    said = {action.sentence for action in every}
    assert "Merge 1 lane (2.0 KiB) into day files." in said
    assert "Write 202412.1.jsonl.zst of bot anew without up to 1,200 forgotten records." in said
    assert len({action.kind for action in every}) == 11


# --- plans that are carried out ---------------------------------------------------------------


class Model:
    """An agent's files, and what packing makes of them; counts records by day."""

    def __init__(self):
        self.hot = {}
        self.packed = {}
        self.days = {}
        self.version = 0
        self.reads = {}

    @property
    def state(self):
        return AgentState("bot", hot=dict(self.hot), packed=dict(self.packed), reads=self.reads)

    def _next(self):
        self.version += 1
        return self.version

    def arrive(self, day, records, now_us, record_bytes):
        for name, there in self.hot.items():
            if there.day == day:
                more = hot(
                    day, bytes=there.bytes + records * record_bytes, records=there.records + records, ingested=now_us
                )
                self.hot[name] = more
                self.days[name][day] += records
                return
        name = day_file_name(day, self._next())
        self.hot[name] = hot(day, bytes=records * record_bytes, records=records, ingested=now_us)
        self.days[name] = {day: records}

    def apply(self, pack):
        counts = {}
        for name in pack.sources:
            for day, records in self.days.pop(name).items():
                counts[day] = counts.get(day, 0) + records
        sources = [self.hot.pop(name, None) or self.packed.pop(name) for name in pack.sources]
        first, last = min(counts), max(counts)
        version = self._next()
        name = cold_file_name(pack.month, version) if pack.tier == "cold" else warm_file_name(first, last, version)
        self.packed[name] = packed(
            name,
            kind(at(first), at(last, 23.9), sum(counts.values())),
            raw_bytes=pack.raw_bytes,
            ingested=max(source.ingested for source in sources),
        )
        self.days[name] = counts

    def total(self):
        return sum(sum(counts.values()) for counts in self.days.values())


def check_pack(pack, model, now_us, hot_days_kept=7):
    today = now_us // US_PER_DAY
    assert len(set(pack.sources)) == len(pack.sources)
    assert pack.records == sum(sum(model.days[name].values()) for name in pack.sources)
    for name in pack.sources:
        assert all(day.startswith(pack.month) for day in model.days[name]), "packed across a month"
        if name in model.hot:
            age = today - day_start_us(model.hot[name].day) // US_PER_DAY
            assert age > hot_days_kept, "a young day was touched"
    if pack.tier == "warm" and len(pack.sources) > 1 and pack.reason == "warm":
        assert pack.raw_bytes <= 2 * 64 * 1024 * KIB


def check_spans(model):
    """What warm files span never overlaps, and nothing stands beside a month's cold file."""
    spans = sorted(days_of(name) for name in model.packed)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans)), spans


def carry_out(model, now_us, **lifecycle):
    """Plan after plan until one is empty; how many it took."""
    for turn in range(6):
        before, actions = model.total(), plan(model.state, now_us, retention=KEEP_ALL, **lifecycle)
        if not actions:
            return turn
        taken = [name for action in actions for name in action.touched]
        assert len(set(taken)) == len(taken), "a file stands in two actions"
        for action in actions:
            assert isinstance(action, Pack), action
            check_pack(action, model, now_us)
            model.apply(action)
        assert model.total() == before, "records were lost or doubled"
        check_spans(model)
    pytest.fail("plans do not come to an end")


KEEP_ALL = {"rules": [{"keep_forever": True}]}

ARRIVALS = st.lists(st.tuples(st.integers(0, 100), st.integers(1, 40), st.integers(0, 120)), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(ARRIVALS, st.sampled_from([200, 20_000, 3_000_000]), st.data())
def test_plans_come_to_an_end_and_lose_nothing(arrivals, record_bytes, data):
    """Records come on some days, for that day or an earlier one; now and then everything that is planned is done."""
    model, start = Model(), at("20250101", 6)
    for days_passed, records, days_late in sorted(arrivals):
        now_us = start + days_passed * US_PER_DAY
        model.arrive(day_text(now_us - days_late * US_PER_DAY), records, now_us, record_bytes)
        if data.draw(st.booleans()):
            files = sorted([*model.hot, *model.packed])
            read = data.draw(st.lists(st.sampled_from(files), max_size=3))
            model.reads = dict.fromkeys(read, now_us - HOUR_US)
            assert carry_out(model, now_us) <= 3
    model.reads = {}
    assert carry_out(model, start + 140 * US_PER_DAY) <= 3
    end = start + 200 * US_PER_DAY
    carry_out(model, end)
    assert not model.hot
    months = [parse_cold_file_name(name)[0] for name in model.packed]
    assert len(set(months)) == len(months), "in the end each month is one cold file"


@pytest.mark.parametrize("seed", range(3))
def test_a_quiet_agent_has_few_files_through_400_days(seed):
    """A few records on most days, some of them late; maintained once a day, a third of the days not at all."""
    drawn, model, start = random.Random(seed), Model(), at("20240101", 3)
    most = 0
    for number in range(400):
        now_us = start + number * US_PER_DAY
        if drawn.random() < 0.8:
            late = 0 if drawn.random() < 0.85 else drawn.randrange(1, 60)
            model.arrive(day_text(now_us - late * US_PER_DAY), drawn.randrange(1, 20), now_us, 700)
        if drawn.random() < 0.66:
            carry_out(model, now_us)
            assert plan(model.state, now_us, retention=KEEP_ALL) == []
            by_month: dict[str, int] = {}
            for name in model.packed:
                month = days_of(name)[0][:6]
                by_month[month] = by_month.get(month, 0) + 1
            most = max(most, *by_month.values(), 0)
            assert most <= 2
            assert len(model.hot) <= 14, "the hot days, and what came late and waits for more"
    assert most >= 1
