"""Collapsing and expanding: every record comes back byte for byte, whatever was fed in whatever pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.errors import CorruptionError, StorageError
from memstore.format.lines import agent_prefix, line_time_us
from memstore.format.repeats import is_repeat, line_needle, original_needle
from memstore.lifecycle import collapse
from memstore.lifecycle.collapse import EXPANSION_BURST_BYTES, Collapser, Expander, OwnRepeatFieldError
from tests.format.test_repeats import AGENT, BIG, PREFIX, line_of, twins

TYPES = ["SYSTEM_STATE", "PERFORMANCE"]
IMPORTANCES = ["LOW", "MEDIUM"]


def never(needle: bytes) -> bytes:
    raise AssertionError(needle)


def make(**options: Any) -> Collapser:
    return Collapser(PREFIX, AGENT, **{"types": TYPES, "importances": IMPORTANCES, **options})


def file_of(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def lines_of(file: bytes) -> list[bytes]:
    return file.split(b"\n")[:-1]


def there_and_back(lines: list[bytes], collapser: Collapser, cuts: list[int], **options: Any) -> list[bytes]:
    """Collapse in pieces, expand in other pieces; the stored lines."""
    edges = [0, *sorted(cut % (len(lines) + 1) for cut in cuts), len(lines)]
    stored = lines_of(b"".join(collapser.feed(file_of(lines[a:b])) for a, b in pairwise(edges)))
    expander = Expander(PREFIX, never, **options)
    middle = len(stored) // 2
    assert expander.expand(stored[:middle]) + expander.expand(stored[middle:]) == lines
    expander = Expander(PREFIX, never, **options)
    assert [whole for line in stored for whole in expander.expand([line])] == lines
    repeats = [line for line in stored if is_repeat(line, PREFIX)]
    assert collapser.repeats == len(repeats) == sum(kind.records for kind in collapser.kinds())
    assert collapser.saved == len(file_of(lines)) - len(file_of(stored))
    originals = {line_needle(line, PREFIX) for line in stored if not is_repeat(line, PREFIX)}
    assert all(original_needle(repeat, PREFIX) in originals for repeat in repeats)
    return stored


records = st.lists(
    st.one_of(
        twins().map(lambda pair: pair[0]),
        st.builds(
            lambda text, kind, own: {**BIG, "memory_type": kind, "source_id": own, "content": text * 150},
            st.sampled_from("ab"),
            st.sampled_from([*TYPES, "ERROR"]),
            st.text(max_size=3),
        ),
    ),
    max_size=12,
)


@given(records, records, st.lists(st.integers(0, 30), max_size=5))
def test_every_record_comes_back_in_any_chunking(
    some: list[dict[str, Any]], others: list[dict[str, Any]], cuts: list[int]
) -> None:
    fields = [f for f in some + others + some if "repeat_of" not in f]
    lines = [line_of(f, number) for number, f in enumerate(fields)]
    whole = there_and_back(lines, make(), [])
    assert there_and_back(lines, make(), cuts) == whole


@given(records, st.integers(0, 2**60))
def test_hashes_that_collide_never_give_wrong_bytes(some: list[dict[str, Any]], seed: int) -> None:
    lines = [line_of(f, number) for number, f in enumerate(f for f in some + some if "repeat_of" not in f)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collapse, "hash_content", lambda content: b"%d" % (len(content) % (1 + seed % 3)))
        there_and_back(lines, make(), [])


def test_repeats_are_counted_by_kind_with_their_times() -> None:
    kinds = [("SYSTEM_STATE", "LOW"), ("PERFORMANCE", "MEDIUM"), ("SYSTEM_STATE", "HIGH"), ("ERROR", "LOW")]
    fields = [{**BIG, "memory_type": t, "importance": i} for _ in range(4) for t, i in kinds]
    lines = [line_of(f, number) for number, f in enumerate(fields)]
    collapser = make()
    stored = there_and_back(lines, collapser, [3])
    assert [number for number, line in enumerate(stored) if is_repeat(line, PREFIX)] == [4, 5, 8, 9, 12, 13]
    times = [line_time_us(line, PREFIX) for line in lines]
    assert [tuple(kind) for kind in collapser.kinds()] == [
        ("PERFORMANCE", "MEDIUM", 3, times[5], times[13]),
        ("SYSTEM_STATE", "LOW", 3, times[4], times[12]),
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f,
        lambda f: dict(reversed(f.items())),
        lambda f: {**f, "shard_id": "s"},
        lambda f: {name: f'esc"aped\\{value}' if name == "source_id" else value for name, value in f.items()},
    ],
)
def test_the_usual_order_of_fields_and_any_other_are_collapsed_alike(
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    for own in ({}, {"source_id": "s"}, {"timestamp_local": "t"}, {"timestamp_local": "t", "source_id": "s"}):
        kind = {name: BIG[name] for name in ("agent_id", "memory_type", "importance")}
        for in_front in (True, False):
            lines = []
            for number in range(3):
                said = {name: f"{value}{number}" for name, value in own.items()}
                lines.append(line_of(change({**kind, **said, **BIG} if in_front else {**BIG, **said}), number))
            collapser = make()
            there_and_back(lines, collapser, [])
            assert collapser.repeats == 2


def test_the_kind_that_counts_stands_at_the_top_level() -> None:
    nested = {"agent_id": AGENT, "content": {"memory_type": "SYSTEM_STATE", "importance": "LOW", "x": "x" * 300}}
    fields = {**nested, "memory_type": "GOAL", "importance": "LOW"}
    collapser = make()
    there_and_back([line_of(fields, number) for number in range(3)], collapser, [])
    assert collapser.repeats == 0


def test_a_record_with_a_retention_of_its_own_stays_whole() -> None:
    lines = [line_of({**BIG, "metadata": {"retention_days": 9}}, number) for number in range(3)]
    assert make().feed(file_of(lines)) == file_of(lines)


@pytest.mark.parametrize("fields", [{"repeat_of": "bot_x", **BIG}, {**BIG, "memory_type": "GOAL", "repeat_of": None}])
def test_a_file_with_a_record_that_looks_like_a_repeat_is_not_collapsed(fields: dict[str, Any]) -> None:
    with pytest.raises(OwnRepeatFieldError, match="without collapsing"):
        make().feed(file_of([line_of(BIG, 1), line_of(fields, 2)]))


def test_a_repeat_is_never_further_from_its_original_than_the_window() -> None:
    fields = [{**BIG, "content": f"{number:04}" * 100} for number in range(40)]
    lines = [line_of(f, number) for number, f in enumerate(fields + fields[::-1] + fields)]
    window = 12 * (len(lines[0]) + collapse.LINE_OVERHEAD_BYTES)
    for cuts in ([5, 50, 70], []):
        collapser = make(window_bytes=window)
        there_and_back(lines, collapser, cuts, window_bytes=window)  # never asks: the originals are in its window
        assert 0 < collapser.repeats < len(fields)
        assert collapser.held <= 13
    expander = Expander(PREFIX, never, window_bytes=window)
    for line in lines:
        expander.expand([line])
    assert expander.held <= 13


def test_no_more_originals_are_held_than_allowed() -> None:
    lines = [line_of({**BIG, "content": f"{number:04}" * 100}, number) for number in range(50)]
    collapser = make(entries_max=7)
    collapser.feed(file_of(lines))
    assert collapser.held == 7


def test_a_stretch_of_repeats_never_stands_for_much_more_than_itself() -> None:
    original = {**BIG, "content": "x" * 1_000_000}
    lines = [line_of(original, number) for number in range(60)]
    collapser = make()
    stored = there_and_back(lines, collapser, [])
    assert collapser.repeats > 40
    run = 0
    for line, whole in zip(stored, lines, strict=True):
        run = 0 if line is whole or line == whole else run + len(whole)
        assert run <= EXPANSION_BURST_BYTES + 1_000_000


def test_who_begins_in_the_middle_asks_for_originals_once() -> None:
    lines = [line_of(BIG, number) for number in range(6)]
    stored = lines_of(make().feed(file_of(lines)))
    asked: list[bytes] = []

    def fetch(needle: bytes) -> bytes:
        asked.append(needle)
        return next(line for line in stored if line.startswith(needle))

    expander = Expander(PREFIX, fetch)
    assert expander.expand(stored[3:]) == lines[3:]
    assert expander.expand(stored[1:3]) == lines[1:3]
    assert asked == [original_needle(stored[3], PREFIX)]


def test_an_original_that_is_missing_or_no_record_is_an_error() -> None:
    stored = lines_of(make().feed(file_of(line_of(BIG, number) for number in range(2))))

    def missing(needle: bytes) -> bytes:
        raise CorruptionError("f", offset_bytes=0, length_bytes=1, reason="a line repeats a record that is not there")

    with pytest.raises(CorruptionError):
        Expander(PREFIX, missing).expand(stored[1:])
    for wrong in (stored[1], line_of(BIG, 7), b""):
        with pytest.raises(StorageError, match="cannot be expanded"):
            Expander(PREFIX, lambda needle, wrong=wrong: wrong).expand(stored[1:])  # type: ignore[misc]


def test_agents_whose_names_are_patterns_are_collapsed() -> None:
    agent = 'a.*"[\\'
    prefix = len(agent_prefix(agent))
    lines = [line_of({**BIG, "agent_id": agent}, number, agent) for number in range(3)]
    collapser = Collapser(prefix, agent, types=TYPES, importances=IMPORTANCES)
    stored = collapser.feed(file_of(lines))
    assert collapser.repeats == 2
    assert Expander(prefix, never).expand(lines_of(stored)) == lines


def test_nothing_in_nothing_out_and_lines_without_layout_pass() -> None:
    assert make().feed(b"") == b""
    odd = [b"", b"x", b'{"memory_id":"bot_', orjson.dumps(BIG), orjson.dumps(BIG)]
    assert make().feed(file_of(odd)) == file_of(odd)
