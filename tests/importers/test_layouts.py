import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.draft import draft_record, draft_stored_form
from memstore.importers.parsing import parse_source
from memstore.layouts.mapping import map_sources, memory_id_of
from memstore.layouts.rebuild import source_files
from memstore.layouts.source import DamagedError, Hints, Source, layout_of
from memstore.timestamps import iso_text

MEMORY_PATH = "archive/bot/20250916/2025-09-16T15-05-48.909393.system_state.memory.json"
MEMORY = {
    "timestamp": "2025-09-16T15:05:48.909393",
    "memory_type": "system_state",
    "importance": 3,
    "agent_id": "bot",
    "content": {"decision": "SELF_REPAIR"},
    "context": {"agent_id": "bot"},
    "tags": ["process_log"],
    "parent_memory_id": None,
    "memory_id": "48bf6ae17ad2661b",
}
MEM_PATH = "stm/mindx_agint/steps/20260205062732_979828.mindx_agint_steps.mem.json"
MEM = {
    "timestamp_utc": "2026-02-05T13:27:32.985367",
    "memory_type": "STM",
    "category": "mindx_agint/steps",
    "metadata": {"component": "cognitive_loop"},
    "data": {"cycle": 1},
}


def mapped(path, value, hints=None, layout=None):
    return map_sources(layout or layout_of(path), (Source(path, value, None, 10),), hints or Hints())


def stored(fields):
    """The line a store would hold, as JSON."""
    draft = draft_stored_form(fields)
    assert draft == draft_record(fields), "what a layout maps is in its stored form already"
    body = json.loads(draft.body)
    stamp = iso_text(fields["timestamp_utc"])
    return {"memory_id": memory_id_of(fields), "timestamp_utc": stamp, "agent_id": fields["agent_id"], **body}


def way_back(fields):
    return [(file.path, file.value if file.text is None else file.text) for file in source_files(stored(fields))]


def assert_comes_back(path, value, hints=None):
    assert way_back(mapped(path, value, hints)) == [(path, value)]


def test_a_memory_becomes_a_record_field_by_field():
    fields = mapped(MEMORY_PATH, MEMORY)
    assert fields == {
        "agent_id": "bot",
        "source_id": "48bf6ae17ad2661b",
        "timestamp_utc": 1758035148909393,
        "memory_type": "SYSTEM_STATE",
        "importance": "MEDIUM",
        "content": {"decision": "SELF_REPAIR"},
        "context": {"agent_id": "bot"},
        "tags": ["process_log"],
        "metadata": {"import": {"layout": "memory", "in": "archive"}},
    }
    assert_comes_back(MEMORY_PATH, MEMORY)


def test_a_mem_record_takes_its_agent_from_its_metadata_else_from_its_directory():
    fields = mapped(MEM_PATH, MEM)
    assert (fields["agent_id"], fields["memory_type"], fields["source_id"]) == ("mindx_agint", "SYSTEM_STATE", MEM_PATH)
    assert fields["context"] == {"component": "cognitive_loop", "category": "mindx_agint/steps"}
    assert fields["content"] == {"cycle": 1}
    assert fields["metadata"] == {"import": {"layout": "mem"}}
    assert_comes_back(MEM_PATH, MEM)
    named = {**MEM, "metadata": {"agent_id": "other"}}
    assert mapped(MEM_PATH, named)["agent_id"] == "other"
    assert_comes_back(MEM_PATH, named)


@pytest.mark.parametrize(
    ("path", "root_is_tier", "agent"),
    [
        ("stm/complete_output/1.complete_output.mem.json", False, "complete_output"),
        ("stm/bot/steps/1.bot_steps.mem.json", False, "bot"),
        ("bot/steps/1.bot_steps.mem.json", True, "bot"),
        ("anything/bot/steps/1.bot_steps.mem.json", False, "bot"),
        ("steps/1.steps.mem.json", False, "steps"),
    ],
)
def test_the_first_directory_under_the_tier_is_the_agent(path, root_is_tier, agent):
    assert mapped(path, {**MEM, "category": "x"}, Hints(root_is_tier=root_is_tier))["agent_id"] == agent


@pytest.mark.parametrize(
    ("category", "memory_type"),
    [
        ("a/interactions", "INTERACTION"),
        ("performance", "PERFORMANCE"),
        ("a/errors", "ERROR"),
        ("steps", "SYSTEM_STATE"),
    ],
)
def test_a_category_says_the_type(category, memory_type):
    assert mapped(MEM_PATH, {**MEM, "category": category})["memory_type"] == memory_type


@pytest.mark.parametrize(
    ("number", "name"),
    [(1, "CRITICAL"), (2, "HIGH"), (3, "MEDIUM"), (4, "LOW"), (9, "MEDIUM"), (True, "MEDIUM"), ("high", "HIGH")],
)
def test_importance_numbers_become_names_and_unknown_ones_are_kept(number, name):
    value = {**MEMORY, "importance": number}
    assert mapped(MEMORY_PATH, value)["importance"] == name
    back = way_back(mapped(MEMORY_PATH, value))[0][1]
    assert back == value
    assert type(back["importance"]) is type(number)


def test_an_unknown_type_becomes_a_system_state_and_is_kept():
    fields = mapped(MEMORY_PATH, {**MEMORY, "memory_type": "dream"})
    assert fields["memory_type"] == "SYSTEM_STATE"
    assert fields["metadata"]["import"]["keep"] == {"memory_type": "dream"}


def test_unknown_keys_go_to_context_without_hiding_what_is_there():
    value = {**MEMORY, "mood": "calm", "agent": 1, "context": {"mood": "old"}}
    fields = mapped(MEMORY_PATH, value)
    assert fields["context"] == {"mood": "old", "imported_mood": "calm", "agent": 1}
    assert_comes_back(MEMORY_PATH, value)


@pytest.mark.parametrize("key", sorted(MEMORY))
@pytest.mark.parametrize("wrong", [None, 7, "text", [1, "a"], {"a": None}, 1.5, False, ""])
def test_a_memory_with_a_wrong_value_is_not_lost_and_comes_back(key, wrong):
    assert_comes_back(MEMORY_PATH, {**MEMORY, key: wrong})


@pytest.mark.parametrize("key", sorted(MEMORY))
def test_a_memory_without_a_key_comes_back_without_it(key):
    assert_comes_back(MEMORY_PATH, {name: item for name, item in MEMORY.items() if name != key})


@pytest.mark.parametrize("key", sorted(MEM))
@pytest.mark.parametrize("wrong", [None, 7, "text", [1, "a"], {"a": None, "category": 1}, False])
def test_a_mem_record_with_a_wrong_value_comes_back(key, wrong):
    assert_comes_back(MEM_PATH, {**MEM, key: wrong})
    assert_comes_back(MEM_PATH, {name: item for name, item in MEM.items() if name != key})


free_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(
        [
            (MEMORY_PATH, MEMORY),
            (MEM_PATH, MEM),
            ("bot/20250916/performance/2025-09-16T15-05-48.perf.json", {"agent_id": "bot"}),
            ("bot/20250916/errors/2025-09-16T15-05-48.error.json", {"error": "x"}),
            ("bot/20250916/interactions/2025-09-16T15-05-48.interaction.json", {"input": "x"}),
            (
                "a/20250916/2025-09-16T15-05-48.memory.json",
                {"timestamp_utc": "2025-09-16T15:05:48Z", "memory_type": "GOAL"},
            ),
        ]
    ),
    st.dictionaries(
        st.sampled_from([*MEMORY, *MEM, "input", "response", "relationships", "shard_id", "source_id", "import"])
        | st.text(max_size=5),
        free_json,
        max_size=5,
    ),
)
def test_whatever_a_source_holds_comes_back(source, changes):
    path, value = source
    assert_comes_back(path, {**value, **changes})


def test_times_without_a_zone_are_utc_unless_told():
    berlin = dt.timezone(dt.timedelta(hours=2))
    assert mapped(MEMORY_PATH, MEMORY, Hints(tz=berlin))["timestamp_utc"] == 1758035148909393 - 7_200_000_000
    assert_comes_back(MEMORY_PATH, MEMORY, Hints(tz=berlin))
    zoned = {**MEMORY, "timestamp": "2025-09-16T15:05:48.909393+02:00"}
    assert mapped(MEMORY_PATH, zoned)["timestamp_utc"] == 1758035148909393 - 7_200_000_000


@pytest.mark.parametrize("timestamp", ["yesterday", None, "1969-12-31T00:00:00", [], float("inf")])
def test_an_unreadable_time_is_taken_from_the_name(timestamp):
    assert mapped(MEMORY_PATH, {**MEMORY, "timestamp": timestamp})["timestamp_utc"] == 1758035148909393
    with pytest.raises(DamagedError, match="timestamp"):
        mapped("a/20250101/x.memory.json", {**MEMORY, "timestamp": timestamp})


def test_epoch_numbers_are_times():
    for number in (1758035148, 1758035148000, 1758035148000000, 1758035148.0):
        assert mapped(MEMORY_PATH, {**MEMORY, "timestamp": number})["timestamp_utc"] == 1758035148000000


def test_a_file_of_nobody_is_damaged_unless_an_agent_is_given():
    value = {name: item for name, item in MEMORY.items() if name != "agent_id"}
    with pytest.raises(DamagedError, match="no agent"):
        mapped("2025-09-16T15-05-48.memory.json", value)
    assert mapped("2025-09-16T15-05-48.memory.json", value, Hints(agent="me"))["agent_id"] == "me"
    assert mapped("deep/bot/20250916/x.memory.json", value)["agent_id"] == "bot"


def test_an_interaction_and_its_response_become_one_record():
    asked = {"agent_id": "bot", "timestamp": "2025-01-15T14:30:00", "input": "What?", "context": {"session_id": "s1"}}
    answered = {"agent_id": "bot", "timestamp": "2025-01-15T14:30:02", "content": {"text": "That."}, "success": True}
    paths = [f"bot/20250115/interactions/143000.{kind}.json" for kind in ("interaction", "response")]
    sources = (Source(paths[0], asked, None, 1), Source(paths[1], answered, None, 1))
    fields = map_sources("pair", sources, Hints())
    assert fields["memory_type"] == "INTERACTION"
    assert fields["input"] == {"content": "What?"}
    assert fields["response"] == {"content": {"text": "That."}, "success": True}
    assert fields["context"] == {"session_id": "s1"}
    assert way_back(fields) == [(paths[0], asked), (paths[1], answered)]
    alone = map_sources("pair", sources[1:], Hints())
    assert way_back(alone) == [(paths[1], answered)]


def test_a_parent_is_mapped_and_the_original_kept():
    value = {**MEMORY, "parent_memory_id": "abc"}
    fields = mapped(MEMORY_PATH, value, Hints(resolve=lambda parent, agent: f"{agent}:{parent}"))
    assert fields["relationships"] == {"parent_memory_id": "bot:abc"}
    assert way_back(fields)[0][1] == value
    assert mapped(MEMORY_PATH, value)["relationships"] == {"parent_memory_id": "abc"}


def test_a_qualifier_gives_another_id_and_the_same_way_back():
    source = (Source(MEMORY_PATH, MEMORY, None, 1),)
    fields = map_sources("memory", source, Hints(), MEMORY_PATH)
    assert fields["source_id"] == f"48bf6ae17ad2661b@{MEMORY_PATH}"
    assert way_back(fields) == [(MEMORY_PATH, MEMORY)]


@pytest.mark.parametrize(
    "text",
    [
        '{"timestamp": "2025-01-01T00:00:00", "agent_id": "a", "content": NaN}',
        '{"timestamp": "2025-01-01T00:00:00", "agent_id": "a", "content": "\\ud800"}',
        '{"timestamp": "2025-01-01T00:00:00", "agent_id": "a", "content": 1e999}',
    ],
)
def test_text_that_no_line_can_hold_is_kept_verbatim(text):
    source = parse_source(MEMORY_PATH, text.encode())
    fields = map_sources("memory", (source,), Hints())
    assert way_back(fields) == [(MEMORY_PATH, text)]
    assert isinstance(fields["content"], str)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \n", "white space"),
        (b"\0" * 40, "NUL"),
        (b'{"a": 1', "cut off"),
        (b'{"a": "b', "cut off"),
        (b"[1]", "no JSON object but list"),
        (b"null", "no JSON object but null"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": "\xff\xfe"}', "not valid text"),
        (b'{"a":' + b"[" * 100_000, "cut off|nested"),
    ],
)
def test_damage_has_a_reason(data, reason):
    with pytest.raises(DamagedError, match=reason):
        parse_source("x", data)


def test_a_byte_order_mark_is_no_damage():
    source = parse_source("x", b'\xef\xbb\xbf{"a": 1}')
    assert (source.value, source.raw) == ({"a": 1}, None)
