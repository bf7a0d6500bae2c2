import os

import pytest

from memstore.errors import CorruptionError, HeldError, NotFoundError, UsageError, VersionError
from memstore.format.checked import encode_checked
from memstore.format.holds_file import Hold, decode_holds_file, encode_holds_file
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.lifecycle.holds import HOLD_IDS_MAX, Holds, HoldsFile
from tests.lifecycle.file_values import at, id_of

MARCH = (at("20250301"), at("20250401"))


def hold(name="case-7", **fields) -> Hold:
    return Hold(name=name, at=at("20250601"), **fields)


@pytest.fixture
def file(tmp_path):
    os.mkdir(tmp_path / "locks")
    return HoldsFile(LocalStorage(), StorePaths(str(tmp_path)))


# --- what a hold covers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "covered"),
    [
        ({}, True),
        ({"agent": "bot_1"}, True),
        ({"agent": "bot_*"}, True),
        ({"agent": "bot_[2-9]"}, False),
        ({"agent": "BOT_1"}, False),
        ({"memory_types": ("ERROR", "GOAL")}, True),
        ({"memory_types": ("GOAL",)}, False),
        ({"since_us": at("20250310", 12)}, True),
        ({"since_us": at("20250310", 12) + 1}, False),
        ({"until_us": at("20250310", 12) + 1}, True),
        ({"until_us": at("20250310", 12)}, False),
        ({"ids": (id_of("bot_1", at("20250310", 12)),)}, True),
        ({"ids": (id_of("bot_1", at("20250310", 12), 2),)}, False),
        ({"ids": (id_of("bot_1", at("20250310", 12)),), "agent": "cat_*"}, False),
        ({"ids": (id_of("bot_1", at("20250310", 12)),), "memory_types": ("GOAL",)}, False),
        ({"agent": "bot_1", "memory_types": ("ERROR",), "since_us": MARCH[0], "until_us": MARCH[1]}, True),
    ],
)
def test_a_hold_covers_a_record_for_which_all_that_it_says_is_true(fields, covered):
    time_us = at("20250310", 12)
    holds = Holds([hold("other", agent="nobody"), hold(**fields)])
    assert holds.covers_record("bot_1", id_of("bot_1", time_us), "ERROR", time_us) is covered
    assert holds.covering("bot_1", id_of("bot_1", time_us), "ERROR", time_us) == (("case-7",) if covered else ())


def test_an_agent_id_that_looks_like_a_pattern_is_held_by_its_own_name():
    holds = Holds([hold(agent="a[1]")])
    assert holds.may_cover("a[1]", *MARCH)
    assert holds.may_cover("a1", *MARCH)


@pytest.mark.parametrize(
    ("fields", "may"),
    [
        ({}, True),
        ({"since_us": MARCH[1]}, True),
        ({"since_us": MARCH[1] + 1}, False),
        ({"until_us": MARCH[0]}, False),
        ({"until_us": MARCH[0] + 1}, True),
        ({"memory_types": ("GOAL",)}, True),
        ({"ids": (id_of("bot_1", MARCH[0]),)}, True),
        ({"ids": (id_of("bot_1", MARCH[0] - 1), id_of("bot_1", MARCH[1] + 1))}, False),
        ({"ids": (id_of("bot_2", MARCH[0]),)}, False),
        ({"ids": (id_of("bot_1", MARCH[0]),), "since_us": MARCH[0] + 1}, False),
    ],
)
def test_a_stretch_of_time_may_be_covered_unless_that_is_certainly_not_so(fields, may):
    assert Holds([hold(**fields)]).may_cover("bot_1", *MARCH) is may
    assert Holds([hold(**fields)]).names_over("bot_1", *MARCH) == (("case-7",) if may else ())


def test_no_holds_cover_nothing():
    assert not Holds()
    assert not Holds().may_cover("bot_1", *MARCH)
    assert Holds().first_free_us("bot_1", "ERROR", *MARCH) == MARCH[0]


def test_the_first_free_time_lies_behind_holds_that_join():
    first, second, later = (
        hold("a", since_us=at("20250201"), until_us=at("20250305")),
        hold("b", since_us=at("20250304"), until_us=at("20250310"), memory_types=("ERROR",)),
        hold("c", since_us=at("20250320")),
    )
    holds = Holds([later, second, first])
    assert holds.first_free_us("bot_1", "ERROR", *MARCH) == at("20250310")
    assert holds.first_free_us("bot_1", "GOAL", *MARCH) == at("20250305")
    assert Holds([hold()]).first_free_us("bot_1", "ERROR", *MARCH) is None
    assert Holds([hold(ids=(id_of("bot_1", MARCH[0]),))]).first_free_us("bot_1", "ERROR", *MARCH) == MARCH[0]


def test_ids_of_several_holds_count_once():
    one, two, outside = (id_of("bot_1", MARCH[0] + step) for step in (0, 5, -1))
    holds = Holds([hold("a", ids=(one, outside)), hold("b", ids=(one, two)), hold("c", ids=(id_of("x", MARCH[0]),))])
    assert holds.ids_within("bot_1", *MARCH) == 2


# --- HOLDS.json -------------------------------------------------------------------------------


def test_holds_are_added_listed_and_removed_and_others_see_it(file, tmp_path):
    assert list(file.load()) == []
    first = file.add(hold("a", reason="lawsuit – §7", ids=(id_of("bot_1", MARCH[0]),), memory_types=("ERROR",)))
    second = file.add(hold("b.2_x-y", agent="bot_*", since_us=MARCH[0], until_us=MARCH[1]))
    assert list(HoldsFile(LocalStorage(), StorePaths(str(tmp_path))).load()) == [first, second]
    assert file.remove("a") == first
    assert list(file.load()) == [second]


def test_a_name_that_is_taken_is_refused_and_one_that_is_not_there_too(file):
    file.add(hold("case-7"))
    with pytest.raises(UsageError, match="a hold named 'case-7' already"):
        file.add(hold("case-7", agent="other"))
    with pytest.raises(NotFoundError, match="no hold named 'case-8'; did you mean 'case-7'"):
        file.remove("case-8")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "is no name for a hold"),
        ({"name": "-x"}, "is no name for a hold"),
        ({"name": "a b"}, "is no name for a hold"),
        ({"name": "a\n"}, "is no name for a hold"),
        ({"name": "x" * 81}, "is no name for a hold"),
        ({"agent": ""}, "the agent is empty"),
        ({"since_us": 5, "until_us": 5}, "ends before it begins"),
        ({"memory_types": ("NOISE",)}, "'NOISE' is no memory type; there are INTERACTION, CONTEXT"),
        ({"ids": ("x",)}, "'x' is not a memory id"),
        ({"ids": ("x",) * (HOLD_IDS_MAX + 1)}, "the limit is"),
    ],
)
def test_a_hold_that_could_cover_nothing_is_refused(file, fields, message):
    with pytest.raises(UsageError, match=message):
        file.add(hold(**{"name": "case-7", **fields}))
    assert list(file.load()) == []


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-9], lambda d: d.replace(b"case", b"cose"), lambda _: b"", lambda d: d + b"x"]
)
def test_a_damaged_file_is_never_taken_for_no_holds(file, tmp_path, damage):
    file.add(hold("case-7"))
    path = tmp_path / "HOLDS.json"
    path.write_bytes(damage(path.read_bytes()))
    for act in (file.load, lambda: file.add(hold("b")), lambda: file.remove("case-7")):
        with pytest.raises(CorruptionError, match=r"HOLDS\.json"):
            act()


def test_a_file_of_another_kind_or_a_newer_format_is_refused():
    with pytest.raises(CorruptionError):
        decode_holds_file(encode_checked("store", {}), "HOLDS.json")
    with pytest.raises(VersionError):
        decode_holds_file(encode_checked("holds", {"version": 99, "list": [{"what": 1}]}), "HOLDS.json")
    assert decode_holds_file(encode_holds_file([hold()]), "HOLDS.json") == [hold()]


def test_what_a_hold_forbids_is_a_usage_error():
    assert issubclass(HeldError, UsageError)
