import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memstore.config_load import load_settings
from memstore.format.holds_file import Hold
from memstore.lifecycle.holds import Holds
from memstore.lifecycle.retention import Expiry, Period, Rules, judge_file
from memstore.timestamps import US_PER_DAY, iso_text
from tests.lifecycle.file_values import HOUR_US, at, id_of, kind, packed

NO_HOLDS = Holds()


def rules_of(*rules, **lifecycle) -> Rules:
    given_settings = {"storage": {"retention": {"rules": list(rules)}, "lifecycle": lifecycle}}
    return Rules(load_settings(given_settings, environ={}, user_file=None).settings)


# --- periods ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("months", "now", "cutoff"),
    [
        (12, ("20260115", 10), "2025-01-15T10:00:00.000000Z"),
        (1, ("20250228", 23), "2025-01-28T23:00:00.000000Z"),
        (1, ("20250301", 0), "2025-02-01T00:00:00.000000Z"),
        (1, ("20250330", 5), "2025-02-28T23:59:59.999999Z"),
        (1, ("20240330", 5), "2024-02-29T23:59:59.999999Z"),
        (12, ("20240229", 5), "2023-02-28T23:59:59.999999Z"),
        (12, ("20250228", 5), "2024-02-28T05:00:00.000000Z"),
        (25, ("20250115", 0), "2022-12-15T00:00:00.000000Z"),
    ],
)
def test_months_are_calendar_months_and_what_a_month_lacks_counts_as_the_next(months, now, cutoff):
    assert iso_text(Period(None, months).cutoff_us(at(*now))) == cutoff


@settings(deadline=None)
@given(st.integers(at("19990101"), at("20800101")), st.integers(0, 90 * US_PER_DAY), st.integers(1, 40))
def test_what_has_ended_stays_ended_and_no_month_is_shorter_than_it_is(now_us, more_us, months):
    period = Period(None, months)
    cutoff = period.cutoff_us(now_us)
    assert cutoff <= period.cutoff_us(now_us + more_us)
    days = (now_us - cutoff) / US_PER_DAY
    assert period.days_min <= days <= months * 31


def test_a_period_longer_than_the_calendar_ends_never():
    assert Period(None, 12_000 * 3).cutoff_us(at("20250101")) < at("20250101") - 10**17
    assert Period(0.5, None).cutoff_us(at("20250101", 12)) == at("20250101")
    assert (Period(1, None).text, Period(0.5, None).text, Period(None, 12).text) == ("1 day", "0.5 days", "12 months")


# --- rules ------------------------------------------------------------------------------------


def text(rules, agent, memory_type, importance):
    period = rules.kept(agent, memory_type, importance).period
    return "for ever" if period is None else period.text


@pytest.mark.parametrize(
    ("agent", "memory_type", "importance", "kept"),
    [
        ("bot_1", "ERROR", "LOW", "90 days"),
        ("bot_1", "ERROR", "MEDIUM", "24 months"),
        ("bot_1", "GOAL", "MEDIUM", "12 months"),
        ("cat", "ERROR", "LOW", "24 months"),
        ("cat", "ERROR", "CRITICAL", "for ever"),
        ("cat", "PLAN", "CRITICAL", "48 months"),
        ("cat", "LEARNING", "HIGH", "for ever"),
        ("cat", "LEARNING", "MEDIUM", "12 months"),
        ("bot_1", "SOMETHING", "NEW", "for ever"),
    ],
)
def test_the_first_rule_that_matches_counts_and_then_the_default(agent, memory_type, importance, kept):
    rules = rules_of(
        {"agent": "bot_*", "importance": "LOW", "keep_days": 90},
        {"memory_type": "ERROR", "keep_months": 24},
        {"memory_type": ["LEARNING", "BELIEF"], "importance": ["CRITICAL", "HIGH"], "keep_forever": True},
        {"memory_type": "PLAN", "importance": "CRITICAL", "keep_months": 48},
    )
    assert text(rules, agent, memory_type, importance) == kept


def test_a_rule_says_which_it_is():
    rules = rules_of({"agent": "bot_*", "keep_days": 90}, cold_retention_months=6)
    assert rules.kept("bot_1", "GOAL", "LOW").rule == "storage.retention.rules, rule 1 (bot_*)"
    assert rules.kept("cat", "GOAL", "LOW").rule == "storage.lifecycle.cold_retention_months = 6"
    assert rules.period_us("cat", "GOAL", "LOW") == 6 * 31 * US_PER_DAY
    assert rules.period_us("bot_1", "GOAL", "LOW") == 90 * US_PER_DAY
    assert rules.period_us("cat", "GOAL", "CRITICAL") is None


def test_the_shortest_period_of_an_agent_is_known():
    rules = rules_of({"agent": "bot_*", "importance": "LOW", "keep_days": 2}, cold_retention_months=1)
    assert rules.shortest_days("bot_1") == 2
    assert rules.shortest_days("cat") == 28
    everything = ["CRITICAL", "HIGH", "MEDIUM", "LOW"]
    assert rules_of({"importance": everything, "keep_forever": True}).shortest_days("cat") is None


# --- one record -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("importance", "made", "came", "own_days", "expired"),
    [
        ("LOW", "20240601", "20240601", None, True),
        ("LOW", "20240601", "20250601", None, False),
        ("LOW", "20250601", "20240601", None, False),
        ("LOW", "20240602", "20240602", None, False),
        ("CRITICAL", "20000101", "20000101", None, False),
        ("CRITICAL", "20240601", "20240601", 30, True),
        ("LOW", "20240601", "20240601", 365, True),
        ("LOW", "20240601", "20240601", 366, False),
        ("LOW", "20250530", "20250530", 2, True),
        ("LOW", "20250530", "20250531", 2, False),
        ("LOW", "20250530", "20250530", 1e300, False),
    ],
)
def test_a_record_has_expired_when_its_period_has_ended_by_both_of_its_times(importance, made, came, own_days, expired):
    expiry = Expiry(rules_of(), NO_HOLDS, "bot", at("20250601"))
    verdict = expiry.expired("GOAL", importance, at(made), at(came), own_days, id_of("bot", at(made)))
    assert verdict is expired


def test_a_held_record_never_expires():
    made = at("20200101")
    held = Hold(name="h", at=0, ids=(id_of("bot", made),))
    expiry = Expiry(rules_of(), Holds([held]), "bot", at("20250601"))
    assert not expiry.expired("GOAL", "LOW", made, made, None, id_of("bot", made))
    assert not expiry.expired("GOAL", "LOW", made, made, 1, id_of("bot", made))
    assert expiry.expired("GOAL", "LOW", made, made, None, id_of("bot", made, 2))


def test_a_kind_that_this_version_does_not_know_never_expires():
    expiry = Expiry(rules_of(), NO_HOLDS, "bot", at("20250601"))
    assert not expiry.expired("RIDDLE", "LOW", 0, 0, None, id_of("bot", 0))


# --- one file ---------------------------------------------------------------------------------

MARCH = (at("20240301"), at("20240331", 23))


def judged(file, now, *holds, rules=None, slack_days=1):
    return judge_file(
        file,
        agent="bot",
        rules=rules or rules_of(),
        holds=Holds(holds),
        now_us=at(now),
        slack_us=slack_days * US_PER_DAY,
    )


@pytest.mark.parametrize(
    ("now", "records", "whole"),
    [
        ("20250228", 0, False),
        ("20250301", 0, False),
        ("20250302", 10, False),
        ("20250331", 10, False),
        ("20250401", 10, True),
        ("20300101", 10, True),
    ],
)
def test_a_file_is_looked_at_when_its_oldest_record_is_overdue_and_goes_whole_when_all_are(now, records, whole):
    verdict = judged(packed("202403.1.jsonl.zst", kind(*MARCH), ingested=MARCH[0]), now)
    assert (verdict.records, verdict.whole) == (records, whole)


def test_what_came_late_is_kept_by_its_arrival():
    file = packed("202403.1.jsonl.zst", kind(*MARCH), ingested=at("20240601"))
    assert judged(file, "20250401").records == 0
    assert judged(file, "20250602").whole


def test_critical_records_keep_a_file_from_going_whole():
    file = packed("202403.1.jsonl.zst", kind(*MARCH), kind(*MARCH, 2, importance="CRITICAL"))
    verdict = judged(file, "20300101")
    assert (verdict.records, verdict.whole) == (10, False)
    assert verdict.rules == ("storage.lifecycle.cold_retention_months = 12",)
    assert judged(packed("202403.1.jsonl.zst", kind(*MARCH, importance="CRITICAL")), "20300101").records == 0


def test_each_kind_goes_by_its_own_rule():
    rules = rules_of({"memory_type": "ERROR", "keep_days": 10})
    file = packed("202403.1.jsonl.zst", kind(*MARCH, 4, "ERROR"), kind(*MARCH, 5), ingested=MARCH[0])
    verdict = judged(file, "20240401", rules=rules)
    assert (verdict.records, verdict.whole, verdict.rules) == (4, False, ("storage.retention.rules, rule 1",))


@pytest.mark.parametrize(
    ("own", "now", "records", "whole"),
    [
        ((10, at("20240401"), at("20240501")), "20240401", 0, False),
        ((10, at("20240401"), at("20240501")), "20240402", 10, False),
        ((10, at("20240401"), at("20240501")), "20240501", 10, True),
        ((10, at("20290401"), at("20290501")), "20280101", 0, False),
        ((3, at("20290401"), at("20290501")), "20280101", 10, False),
        ((3, at("20240401"), at("20240501")), "20240601", 3, False),
        ((3, at("20240401"), at("20240501")), "20250501", 10, True),
    ],
)
def test_periods_of_their_own_count_beside_the_rules(own, now, records, whole):
    verdict = judged(packed("202403.1.jsonl.zst", kind(*MARCH), own=own), now)
    assert (verdict.records, verdict.whole) == (records, whole)


@pytest.mark.parametrize(
    ("fields", "now", "records"),
    [
        ({}, "20300101", 0),
        ({"agent": "other"}, "20300101", 10),
        ({"memory_types": ("ERROR",)}, "20300101", 10),
        ({"since_us": at("20240310")}, "20250401", 10),
        ({"until_us": at("20240310")}, "20250310", 0),
        ({"until_us": at("20240310")}, "20250402", 10),
        ({"ids": (id_of("bot", MARCH[0]),)}, "20300101", 10),
        ({"ids": tuple(id_of("bot", MARCH[0] + step) for step in range(10))}, "20300101", 0),
    ],
)
def test_what_a_hold_covers_is_not_due_and_what_it_leaves_free_is(fields, now, records):
    file = packed("202403.1.jsonl.zst", kind(*MARCH), ingested=MARCH[0])
    verdict = judged(file, now, Hold(name="case", at=0, **fields))
    assert verdict.records == records
    covers = fields.get("agent") != "other" and "memory_types" not in fields
    if covers:
        assert not verdict.whole
        assert verdict.held == ("case",)
        assert verdict.held_rules == ("storage.lifecycle.cold_retention_months = 12",)


def test_a_file_whose_index_does_not_say_what_it_holds_is_left_alone():
    file = packed("202403.1.jsonl.zst", kind(*MARCH))
    assert judged(type(file)(file=file.file, size=1, xxh3="", frames=file.frames, kinds=[]), "20300101").records == 0


IMPORTANCES = st.sampled_from(["LOW", "CRITICAL"])
DRAWN = st.tuples(st.integers(0, 700), st.integers(0, 60), IMPORTANCES, st.none() | st.integers(1, 500))


@settings(deadline=None)
@given(
    st.lists(DRAWN, min_size=1, max_size=12),
    st.integers(300, 1500),
    st.none() | st.tuples(st.integers(0, 700), st.integers(1, 400)),
)
def test_a_verdict_on_a_file_agrees_with_its_records(drawn, now_day, held):
    """Whole only if every record has expired; and no record is long overdue where the file is said to hold none."""
    base, now_us = at("20240101"), at("20240101") + now_day * US_PER_DAY
    rules = rules_of({"importance": "LOW", "keep_days": 90})
    holds = Holds(
        [Hold(name="h", at=0, since_us=base + held[0] * US_PER_DAY, until_us=base + sum(held) * US_PER_DAY)]
        if held
        else []
    )
    records = [(base + day * US_PER_DAY, late, importance, own) for day, late, importance, own in drawn]
    ingested = max(time + late * HOUR_US for time, late, _, _ in records)
    kinds = []
    for importance in ("CRITICAL", "LOW"):
        times = [time for time, _, each, _ in records if each == importance]
        if times:
            kinds.append(kind(min(times), max(times), len(times), "GOAL", importance))
    ends = [max(time, ingested) + own * US_PER_DAY for time, _, _, own in records if own is not None]
    file = packed("x", *kinds, ingested=ingested, own=(len(ends), min(ends), max(ends)) if ends else None)
    verdict = judge_file(file, agent="bot", rules=rules, holds=holds, now_us=now_us, slack_us=US_PER_DAY)

    def gone(when_us):
        expiry = Expiry(rules, holds, "bot", when_us)
        return [
            expiry.expired("GOAL", importance, time, ingested, own, id_of("bot", time))
            for time, _, importance, own in records
        ]

    overdue = sum(gone(now_us - US_PER_DAY))
    if verdict.whole:
        assert all(gone(now_us))
    if overdue:
        assert verdict.records >= overdue, "what is overdue is never overlooked"
    if not ends and not any(gone(now_us)):
        assert held or verdict.records == 0


@given(
    st.integers(0, 4_000_000_000_000_000),
    st.one_of(st.builds(Period, st.floats(0.001, 4000), st.none()), st.builds(Period, st.none(), st.integers(1, 500))),
)
@example(47_952_180_052, Period(3257.2572283634727, None))
def test_a_period_ends_at_the_first_moment_whose_cutoff_reaches_its_beginning(begun_us, period):
    end_us = period.end_us(begun_us)
    assert period.cutoff_us(end_us) >= begun_us
    assert period.cutoff_us(end_us - 1) < begun_us or period.days is not None
