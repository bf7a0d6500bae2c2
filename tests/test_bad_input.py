"""Bad input gets a clear error and changes nothing: every line of the list in the issue."""

from __future__ import annotations

import datetime as dt
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from support import QUIET, T0_US, assert_exactly, files_named, flip

from memstore import (
    CorruptionError,
    InvalidRecordError,
    MemoryRecord,
    MemStore,
    NotFoundError,
    ReadOnlyError,
    StoreClosedError,
    UsageError,
    VersionError,
)
from memstore.clock import ManualClock
from memstore.format.checked import decode_checked, encode_checked

GOOD = {"agent_id": "a", "content": "good"}


@pytest.fixture
def root(tmp_path: Any) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def store(root: str) -> Iterator[MemStore]:
    with MemStore(
        root, settings={**QUIET, "storage": {**QUIET["storage"], "record_bytes_max": 100_000}}, clock=ManualClock(T0_US)
    ) as opened:
        yield opened


def tree(root: str) -> dict[str, bytes | None]:
    """Every path below a directory, with the content of files."""
    found: dict[str, bytes | None] = {}
    for directory, names, files in os.walk(root):
        found.update(dict.fromkeys((os.path.join(directory, name) for name in names), None))
        for name in files:
            with open(os.path.join(directory, name), "rb") as file:
                found[os.path.join(directory, name)] = file.read()
    return found


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)

BAD_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown type": ({"memory_type": "DREAM"}, "DREAM.*INTERACTION"),
    "type in lower case": ({"memory_type": "error"}, "error"),
    "unknown importance": ({"importance": "URGENT"}, "URGENT.*CRITICAL"),
    "importance as a number": ({"importance": 1}, "1"),
    "NaN": ({"content": {"x": [1, math.nan]}}, "NaN"),
    "infinity": ({"content": -math.inf}, "NaN or infinite"),
    "NaN in context": ({"context": {"x": math.nan}}, "NaN"),
    "set": ({"content": {1, 2}}, "not JSON"),
    "bytes": ({"content": b"raw"}, "not JSON"),
    "bytes in a list": ({"content": ["a", b"raw"]}, "not JSON"),
    "datetime": ({"content": dt.datetime(2025, 1, 1)}, "not JSON"),
    "object": ({"content": object()}, "not JSON"),
    "key that is no text": ({"content": {1: "x"}}, "not JSON"),
    "circle": ({"content": CIRCLE}, "not JSON"),
    "lone surrogate": ({"content": "\ud800"}, "not JSON"),
    "context that is no object": ({"context": ["x"]}, "context"),
    "tags that are one text": ({"tags": "market"}, "tags"),
    "tags that are no text": ({"tags": [1]}, "tags"),
    "metadata that is no object": ({"metadata": 3}, "metadata"),
    "retention that is no number": ({"metadata": {"retention_days": "long"}}, "retention_days"),
    "input with an unknown part": ({"input": {"contents": "x"}}, "content"),
    "confidence that is no number": ({"response": {"content": "x", "confidence": "high"}}, "confidence"),
    "too large": ({"content": "x" * 100_001}, "limit is 100000"),
    "too large in many parts": ({"content": ["x" * 1000] * 101}, "limit is 100000"),
}
BAD_TIMES: dict[str, tuple[Any, str]] = {
    "before 1970": ("1969-12-31T23:59:59Z", "before 1970"),
    "microseconds before 1970": (-1, "before 1970"),
    "an age before 1970": ("9999w", "before 1970"),
    "more than a day ahead": ("2025-01-16T00:00:01Z", "more than a day ahead"),
    "far ahead": (2**62, "more than a day ahead"),
    "year 9999": ("9999-12-31T23:59:59Z", "more than a day ahead"),
    "no time": ("yesterday", "not a time"),
    "no calendar day": ("2025-02-30", "not a time"),
    "a float": (1.5, "time"),
    "a bool": (True, "time"),
}
BAD_AGENTS: dict[str, Any] = {
    "empty": "",
    "over-long": "x" * 201,
    "over-long in bytes": "ü" * 101,
    "NUL": "a\0b",
    "newline": "a\nb",
    "surrogate": "\udcff",
    "number": 7,
    "None": None,
    "bytes": b"a",
}


def assert_refused_everywhere(store: MemStore, fields: dict[str, Any], match: str) -> None:
    """By each way of appending, with nothing changed on disk and the place in the batch named."""
    kept = store.append(**GOOD)
    before = tree(store.root)
    record = {**GOOD, **fields}
    bot = store.agent("a")
    single = {("timestamp" if key == "timestamp_utc" else key): value for key, value in record.items()}
    with pytest.raises(InvalidRecordError, match=match) as caught:
        store.append(**single)
    assert caught.value.index is None
    calls = [lambda: store.append_many([GOOD, GOOD, record, GOOD])]
    if record["agent_id"] == "a":
        own = {key: value for key, value in single.items() if key != "agent_id"}
        with pytest.raises(InvalidRecordError, match=match):
            bot.append(**own)
        calls.append(lambda: bot.append_many([GOOD, GOOD, record]))
    if "timestamp_utc" not in fields:
        foreign = {"source_id": "s", "timestamp_utc": "2025-01-01"}
        calls.append(lambda: store.import_many([{**GOOD, **foreign}, {**GOOD, **foreign}, {**record, **foreign}]))
    for call in calls:
        with pytest.raises(InvalidRecordError, match=match) as caught:
            call()
        assert caught.value.index == 2
        assert "record 2 of the batch" in str(caught.value)
    after = tree(store.root)
    assert {path for path in after if not path.endswith("locks/import")} == set(before)
    assert all(after[path] == content for path, content in before.items())
    assert_exactly(store, {"a": [kept]})


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_record_with_a_bad_field_is_refused_and_nothing_changes(store: MemStore, case: str) -> None:
    fields, match = BAD_FIELDS[case]
    assert_refused_everywhere(store, fields, match)


@pytest.mark.parametrize("case", BAD_TIMES)
def test_record_with_a_bad_timestamp_is_refused_and_nothing_changes(store: MemStore, case: str) -> None:
    value, match = BAD_TIMES[case]
    assert_refused_everywhere(store, {"timestamp_utc": value}, match)


def test_timestamp_of_a_day_ahead_and_of_the_first_microsecond_are_taken(store: MemStore) -> None:
    ids = [store.append(agent_id="a", timestamp=T0_US + 86_400_000_000), store.append(agent_id="a", timestamp=0)]
    ids.append(store.append(agent_id="a", timestamp=dt.datetime(1970, 1, 1, tzinfo=dt.UTC)))
    assert_exactly(store, {"a": ids})
    store.drain()
    assert_exactly(store, {"a": ids})


@pytest.mark.parametrize("case", BAD_AGENTS)
def test_agent_id_that_cannot_be_one_is_refused_and_nothing_changes(store: MemStore, case: str) -> None:
    assert_refused_everywhere(store, {"agent_id": BAD_AGENTS[case]}, "agent_id")
    with pytest.raises(InvalidRecordError):
        store.agent(BAD_AGENTS[case])
    with pytest.raises(InvalidRecordError):
        store.pin(BAD_AGENTS[case], None)


def test_longest_and_oddest_agent_ids_are_taken_and_kept_apart(store: MemStore) -> None:
    agents = [
        "x" * 200,
        "ü" * 100,
        "..",
        ".",
        "a/b",
        "a\\b",
        "A",
        "a",
        "con",
        " ",
        "a_20250115",
        ".lock",
        "~",
        "MANIFEST",
        "-",
        "'\"{}",
    ]
    ids = {agent: [store.append(agent_id=agent, content=agent)] for agent in agents}
    assert_exactly(store, ids)
    store.drain()
    assert_exactly(store, ids)
    assert store.agents() == sorted(agents)


def test_record_up_to_the_limit_is_taken_and_one_byte_more_is_not(root: str) -> None:
    with MemStore(root, settings={**QUIET, "storage": {**QUIET["storage"], "record_bytes_max": 1000}}) as store:
        length = 1000
        taken = None
        while taken is None and length > 0:
            try:
                taken = store.append(agent_id="a", content="x" * length)
            except InvalidRecordError:
                length -= 1
        assert taken is not None
        assert length > 700, "the fields around the content are few"
        with pytest.raises(InvalidRecordError):
            store.append(agent_id="a", content="x" * (length + 1))
        store.drain()
        assert_exactly(store, {"a": [taken]})


def test_record_of_the_default_limit_goes_in_and_out(root: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        memory_id = store.append(agent_id="a", content="x" * (16 * 1024 * 1024 - 100))
        small = store.append(agent_id="a", content="y")
        with pytest.raises(InvalidRecordError, match="16777216"):
            store.append(agent_id="a", content="x" * (16 * 1024 * 1024))
        store.drain()
        assert_exactly(store, {"a": [memory_id, small]})


def test_batch_over_its_limit_is_refused_whole(root: str) -> None:
    settings = {"storage": {"record_bytes_max": 1000, "ballast_bytes": 0}, "writing": {"batch_bytes_max": 2000}}
    with MemStore(root, settings=settings) as store:
        with pytest.raises(UsageError, match="batch_bytes_max"):
            store.append_many({"agent_id": "a", "content": "x" * 500} for _ in range(5))
        assert store.agents() == []


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "a_20250115_000000_" + "0" * 21,
        "my-own-id-17",
        "a_20251301_000000_" + "0" * 22,
        "_20250115_000000_" + "0" * 22,
        5,
        None,
        b"x",
        "a_20250115_000000_" + "G" * 22,
    ],
)
def test_id_of_another_form_is_refused(store: MemStore, value: Any) -> None:
    for read in (store.get, store.agent("a").get):
        with pytest.raises(UsageError, match="memory id"):
            read(value)
    with pytest.raises(UsageError):
        store.get_many([value])


def test_id_of_the_right_form_that_nobody_was_given_is_not_there(store: MemStore) -> None:
    assert store.get("a_20250115_000000_000000" + "0" * 16) is None
    memory_id = store.append(agent_id="a", content=1)
    assert store.get(memory_id[:-1] + ("0" if memory_id[-1] != "0" else "1")) is None
    assert store.agent("b").get(memory_id) is None


def test_memory_id_cannot_be_chosen(store: MemStore) -> None:
    with pytest.raises(InvalidRecordError, match="source_id"):
        store.append_many([{**GOOD, "memory_id": "mine"}])
    with pytest.raises(InvalidRecordError, match="source_id"):
        store.append_many([MemoryRecord(agent_id="a", memory_id="mine")])


@pytest.mark.parametrize("records", [5, "text", {"agent_id": "a"}, MemoryRecord(agent_id="a"), [5], [None], ["text"]])
def test_batch_that_is_no_list_of_records_is_refused(store: MemStore, records: Any) -> None:
    for append in (store.append_many, store.agent("a").append_many, store.import_many):
        with pytest.raises(UsageError):
            append(records)
    assert store.agents() == []


def test_import_without_source_or_time_is_refused(store: MemStore) -> None:
    with pytest.raises(InvalidRecordError, match="source_id") as caught:
        store.import_many([{**GOOD, "source_id": "s", "timestamp_utc": 0}, GOOD])
    assert caught.value.index == 1
    with pytest.raises(InvalidRecordError, match="timestamp"):
        store.import_many([{**GOOD, "source_id": "s"}])
    assert store.agents() == []


def test_handle_writes_for_its_own_agent_only(store: MemStore) -> None:
    with pytest.raises(InvalidRecordError, match="'b'") as caught:
        store.agent("a").append_many([GOOD, {"agent_id": "b"}])
    assert caught.value.index == 1
    assert store.agents() == []


BAD_FILTERS: list[dict[str, Any]] = [
    {"memory_type": "DREAM"},
    {"memory_type": 5},
    {"importance": "URGENT"},
    {"min_importance": "URGENT"},
    {"since": "some day"},
    {"since": "2025-01-02", "until": "2025-01-01"},
    {"tags": [1]},
    {"tags": 5},
    {"context": ["x"]},
    {"context": 5},
    {"colour": "red"},
    {"on_damage": "ignore"},
]


@pytest.mark.parametrize("filters", BAD_FILTERS, ids=str)
def test_filter_that_means_nothing_is_refused(store: MemStore, filters: dict[str, Any]) -> None:
    bot = store.agent("a")
    bot.append(content=1)
    for read in (
        lambda **f: bot.recent(5, **f),
        lambda **f: list(bot.range(**f)),
        bot.count,
        lambda **f: list(bot.lines(**f)),
    ):
        with pytest.raises(UsageError):
            read(**filters)


@pytest.mark.parametrize(
    "filters",
    [
        {"since": 2**62},
        {"since": -(2**62)},
        {"until": -5},
        {"until": 2**62},
        {"until": "1950-01-01"},
        {"since": "9999-12-31"},
        {"since": 253_402_300_800_000_000},
    ],
    ids=str,
)
def test_times_beyond_the_calendar_of_a_store_are_just_bounds(store: MemStore, filters: dict[str, Any]) -> None:
    bot = store.agent("a")
    memory_id = bot.append(content=1)
    everything = filters.get("since", 0) == -(2**62) or filters.get("until") == 2**62
    for _ in range(2):
        expected = [memory_id] if everything else []
        assert [r.memory_id for r in bot.range(**filters)] == expected
        assert [r.memory_id for r in bot.recent(5, **filters)] == expected
        assert bot.count(**filters) == len(expected)
        store.drain()


def test_limit_below_zero_is_refused(store: MemStore) -> None:
    with pytest.raises(UsageError, match="limit"):
        store.agent("a").recent(-1)


# -- stores that are closed, read-only, or no stores


def test_closed_store_refuses_everything(root: str) -> None:
    store = MemStore(root, settings=QUIET)
    bot = store.agent("a")
    memory_id = bot.append(content=1)
    store.close()
    store.close()
    before = tree(root)
    calls: list[Any] = [
        lambda: store.append(agent_id="a"),
        lambda: store.append_many([GOOD]),
        lambda: store.append_many([]),
        lambda: store.import_many([{**GOOD, "source_id": "s", "timestamp_utc": 0}]),
        lambda: store.get(memory_id),
        lambda: store.get_many([memory_id]),
        lambda: store.agent("a"),
        store.agents,
        store.stats,
        store.drain,
        store.shards,
        store.add_shard,
        lambda: store.pin("a", None),
        lambda: bot.append(content=1),
        lambda: bot.append_many([{"content": 1}]),
        lambda: bot.get(memory_id),
        bot.recent,
        bot.range,
        bot.lines,
        bot.count,
        bot.stats,
    ]
    for call in calls:
        with pytest.raises(StoreClosedError):
            call()
    assert tree(root) == before


def test_read_only_store_refuses_every_change_and_touches_nothing(root: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        memory_id = store.append(agent_id="a", content=1)
    before = tree(root)
    with MemStore(root, settings=QUIET, read_only=True) as store:
        for call in (
            lambda: store.append(agent_id="a"),
            lambda: store.append_many([GOOD]),
            lambda: store.import_many([{**GOOD, "source_id": "s", "timestamp_utc": 0}]),
            lambda: store.agent("a").append(content=1),
            store.drain,
            store.add_shard,
            lambda: store.pin("a", None),
        ):
            with pytest.raises(ReadOnlyError):
                call()
        assert_exactly(store, {"a": [memory_id]})
        store.stats()
        store.shards()
    assert tree(root) == before


def test_missing_store_is_not_made_by_reading(root: str) -> None:
    for arguments in ({"read_only": True}, {"create": False}):
        with pytest.raises(NotFoundError):
            MemStore(root, **arguments)
    assert not os.path.exists(root)


def test_root_that_is_a_file_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    for place in (path, path / "below"):
        with pytest.raises((UsageError, Exception), match=str(path)):
            MemStore(place)
    assert path.read_text() == "mine"


def test_root_with_other_files_is_refused(tmp_path: Any) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    before = tree(str(tmp_path))
    with pytest.raises(UsageError, match="not empty"):
        MemStore(tmp_path)
    assert tree(str(tmp_path)) == before


def test_store_whose_making_was_interrupted_is_made_to_the_end(root: str) -> None:
    os.makedirs(os.path.join(root, "locks"))
    with open(os.path.join(root, ".tmp-0123456789abcdef"), "wb") as file:
        file.write(b'{"store":')
    with MemStore(root, settings=QUIET) as store:
        assert_exactly(store, {"a": [store.append(agent_id="a")]})


def test_root_that_is_not_writable_is_refused(tmp_path: Any) -> None:
    with MemStore(tmp_path / "store", settings=QUIET) as store:
        store.append(agent_id="a")
    # In a child, for everything is writable for root: there it becomes nobody first.
    code = (
        "import os, sys\n"
        "from memstore import MemStore, StorageError\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: MemStore(sys.argv[1])\n"
        "except StorageError as error: print(error)\n"
    )
    for path in (tmp_path, *tmp_path.parents):  # so that nobody can look into it
        if os.stat(path).st_uid == os.geteuid() and path != path.parent and str(path).startswith(tempfile.gettempdir()):
            os.chmod(path, 0o755)
    for directory, _, _ in os.walk(tmp_path / "store"):
        os.chmod(directory, 0o555)
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")], capture_output=True, text=True, check=False
    )
    assert "not writable" in run.stdout, run.stderr


# -- what a newer memstore wrote


def rewrite(path: str, kind: str, **changes: Any) -> None:
    """Replace values of a file's first line, which stays valid."""
    with open(path, "rb") as file:
        first, _, rest = file.read().partition(b"\n")
    decoded = decode_checked(first)
    assert decoded is not None
    assert decoded[0] == kind
    with open(path, "wb") as file:
        file.write(encode_checked(kind, {**decoded[1], **changes}) + rest)


def test_store_of_a_newer_format_is_refused_and_left_alone(root: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        store.append(agent_id="a")
    rewrite(os.path.join(root, "STORE.json"), "store", version=99, novelty=True)
    before = tree(root)
    for arguments in ({}, {"read_only": True}):
        with pytest.raises(VersionError, match="99"):
            MemStore(root, **arguments)
    assert tree(root) == before


def test_manifest_and_lane_of_a_newer_format_are_refused_and_left_alone(root: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        store.append(agent_id="a")
        store.drain()
        store.append(agent_id="b")
    rewrite(files_named(root, "a/MANIFEST")[0], "manifest", version=99)
    with MemStore(root, settings=QUIET) as store:
        with pytest.raises(VersionError, match="99"):
            list(store.agent("a").range())
        assert store.agent("b").count() == 1
    (name,) = [name for name in os.listdir(os.path.join(root, "lanes")) if name.endswith(".lane")]
    rewrite(os.path.join(root, "lanes", name), "lane", version=99)
    with MemStore(root, settings=QUIET) as store, pytest.raises(VersionError, match="99"):
        list(store.agent("b").range())


def test_damage_in_the_middle_is_an_error_that_names_its_place(root: str) -> None:
    """In depth in ``crash/test_damage.py``."""
    with MemStore(root, settings=QUIET) as store:
        for _ in range(2):
            store.append(agent_id="a", content="x")
            store.drain()
    path = files_named(root, "a/MANIFEST")[0]
    flip(path, 200)
    with MemStore(root, settings=QUIET) as store, pytest.raises(CorruptionError) as caught:
        list(store.agent("a").range())
    assert caught.value.path == path
