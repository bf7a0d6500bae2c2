"""Ids route themselves, sort by time, and agent ids become safe directories."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.errors import InvalidRecordError, UsageError
from memstore.ids import (
    ID_TAIL_CHARS,
    agent_directory,
    check_agent_id,
    derived_id,
    directory_agent,
    minted_number,
    number_suffix,
    parse_id,
)
from memstore.timestamps import YEAR_10000_US, iso_and_id_stamp

agent_ids = st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=50)
times = st.integers(min_value=0, max_value=YEAR_10000_US - 1)


def minted(agent, time_us, writer=1, sequence=0):
    return f"{agent}_{iso_and_id_stamp(time_us)[1]}{number_suffix(minted_number(writer, sequence))}"


@given(agent_ids, times, st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1))
def test_an_id_says_whose_it_is_and_when(agent, time_us, writer, sequence):
    parts = parse_id(minted(agent, time_us, writer, sequence))
    assert (parts.agent_id, parts.time_us) == (agent, time_us)
    assert parts.day == iso_and_id_stamp(time_us)[1][:8]


@given(agent_ids, times, times)
def test_ids_of_one_agent_sort_by_time(agent, one, other):
    if one != other:
        assert (one < other) == (minted(agent, one).encode() < minted(agent, other).encode())


def test_an_agent_id_that_looks_like_an_id_is_read_from_the_end():
    agent = minted("bot", 1_000_000)
    assert parse_id(minted(agent, 2_000_000)).agent_id == agent


def test_minted_and_derived_ids_never_meet():
    assert number_suffix(minted_number(2**31 - 1, 2**32 - 1)) == "7fffffffffffffff"
    assert all(derived_id("a", f"s{i}", 0)[-16] in "89abcdef" for i in range(1000))


def test_a_derived_id_depends_on_agent_source_and_time_alone():
    assert derived_id("a", "s", 5) == derived_id("a", "s", 5)
    assert (
        len({derived_id("a", "s", 5), derived_id("b", "s", 5), derived_id("a", "t", 5), derived_id("a", "s", 6)}) == 4
    )
    assert derived_id("bot", "28e1a13c618a7d5d", 1738791637146015) == "bot_20250205_214037_146015ccfb3f1bfaf5a87c"


@pytest.mark.parametrize(
    "bad", ["", "x", "a_20250115", "a_20251315_000000_000000" + "0" * 16, "_20250115_000000_000000" + "0" * 16, 7]
)
def test_what_is_no_id_is_refused_with_its_form(bad):
    with pytest.raises(UsageError):
        parse_id(bad)


def test_the_tail_has_the_width_that_parsing_assumes():
    assert len(minted("a", 0)) == 1 + ID_TAIL_CHARS


@pytest.mark.parametrize("bad", ["", "a\0b", "line\nbreak", "x" * 201, "é" * 101, 5, None, "\ud800"])
def test_agent_ids_that_cannot_be_are_refused(bad):
    with pytest.raises(InvalidRecordError):
        check_agent_id(bad)


@pytest.mark.parametrize(
    "good", ["a", "bdi_agent_001", "é" * 100, "Agent Smith", "../../etc/passwd", "a/b", "CON", "🤖"]
)
def test_any_other_text_is_an_agent_id(good):
    assert check_agent_id(good) == good


@given(agent_ids)
def test_every_agent_has_a_directory_that_cannot_escape(agent):
    name = agent_directory(agent)
    assert name not in {"", ".", ".."}
    assert not name.startswith(".")
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789_-~")
    assert len(name) <= 80
    assert directory_agent(name) in {agent, None}


@given(agent_ids, agent_ids)
def test_two_agents_never_share_a_directory_even_case_blind(one, other):
    if one != other:
        assert agent_directory(one).lower() != agent_directory(other).lower()


def test_a_plain_id_cannot_imitate_a_hashed_one():
    hashed = agent_directory("A")
    assert agent_directory(hashed) != hashed
    assert directory_agent(agent_directory("plain-agent_1")) == "plain-agent_1"
    assert directory_agent(hashed) is None
    assert agent_directory("con") != "con"
