"""The pure parts: what is typed, what could be meant, what is asked, how it is drawn and written down."""

import datetime as dt
import os
import shlex
import stat
import sys

import pytest

from memstore.explore.asking import Asking, Walk
from memstore.explore.command_line import command_line
from memstore.explore.completion import Vocabulary, candidates, quoted
from memstore.explore.facets_view import facet_lines
from memstore.explore.histogram import histogram
from memstore.explore.history import history_path, prepared
from memstore.explore.hits_view import Look
from memstore.explore.python_call import python_call
from memstore.explore.session import AskPage, Open, Quit, Save, Session, Tell, step
from memstore.explore.timeline import Timeline, bar_width_us, timeline
from memstore.explore.typed import COMMANDS, Typed, parse_typed
from memstore.search.result import FacetCount

DAY = 86_400_000_000
KNOWN = Vocabulary(agents=("bdi_1", "Agent Smith"), tags=("market",), context_keys=("region",))


# --- what is typed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("market AND timeout", Typed("ask", "market AND timeout")),
        ("", Typed("nothing")),
        ("3", Typed("narrow", "3")),
        ("404", Typed("ask", "404")),
        ("#3", Typed("open", "3")),
        ("#c1", Typed("open", "c1")),
        ("/n", Typed("next")),
        ("/p", Typed("previous")),
        ("/Q", Typed("quit")),
        ("/save a b.csv", Typed("save", "a b.csv")),
        ("/?", Typed("help")),
    ],
)
def test_text_is_a_question_a_number_or_a_command(text, wanted):
    assert parse_typed(text, choices=5) == wanted


def test_a_misspelt_command_is_told_with_what_was_meant():
    assert "did you mean /narrow?" in parse_typed("/narow 3").argument


def test_every_command_is_known_by_its_whole_name_and_does_something():
    for name in COMMANDS:
        assert parse_typed(f"/{name}").name == name
        step(Session(), parse_typed(f"/{name}"))


# --- the state ------------------------------------------------------------------------------------


def test_the_state_changes_by_values_alone():
    begun = Session()
    asked, effect = step(begun, Typed("ask", "x"))
    assert (effect, asked.asking.query, begun.asking.query) == (AskPage(), "x", "")
    assert step(asked, Typed("quit"))[1] == Quit()
    assert isinstance(step(asked, Typed("next"))[1], Tell)
    assert step(asked, Typed("save", "my hits.csv 7"))[1] == Save("my hits.csv", 7)
    assert step(asked, Typed("save", "2025 7.csv"))[1] == Save("2025 7.csv", None)
    whole = "bot_20250115_143000_1234560000000100000000"
    assert step(begun, Typed("open", whole))[1] == Open(whole)


# --- completion -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("ag", "agent:"),
        ("market -ag", "agent:"),
        ("(ty", "type:"),
        ("type:er", "ERROR"),
        ("agent:smi", '"Agent Smith"'),
        ("tag:", "market"),
        ("context", "context.region:"),
        ("/na", "/narrow"),
        ("/agent bd", "bdi_1"),
        ("/sort n", "newest"),
        ("/min-importance c", "CRITICAL"),
        ("after:", "1h"),
    ],
)
def test_what_is_begun_is_completed(text, first):
    found = candidates(text, KNOWN)
    assert found[0].text == first
    assert text.endswith(text[len(text) - found[0].replaces_chars :])


@pytest.mark.parametrize("text", ["", "market ", "nothing:x", "zzz", "/zzz ", "\x00", '"', ":::", "-"])
def test_where_nothing_is_meant_nothing_is_offered(text):
    assert candidates(text, KNOWN) == []


def test_values_that_are_no_plain_words_are_quoted():
    assert quoted('a "b"') == '"a \\"b\\""'
    assert quoted("a-b.c*") == "a-b.c*"


# --- questions written down -----------------------------------------------------------------------


def test_narrowing_by_each_kind_of_facet_is_a_filter():
    asking = Asking()
    for facet, value, wanted in (
        ("type", "ERROR", {"memory_type": "ERROR"}),
        ("agent", "bot", {"agent": "bot"}),
        ("success", False, {"success": False}),
        ("tags", "x", {"tags_all": ["x"]}),
        ("session_id", "s", {"session": "s"}),
        ("user", "7", {"context": {"user_id": "7"}}),
        ("context.region", 3, {"context": {"region": 3}}),
    ):
        assert asking.narrowed(facet, value).filters == wanted
    twice = asking.narrowed("tag", "a").narrowed("tag", "b").narrowed("model", "m").narrowed("task", "t")
    assert twice.filters == {"tags_all": ["a", "b"], "context": {"model": "m", "task_id": "t"}}


def test_the_command_line_is_quoted_for_a_shell():
    asking = Asking(
        "it's -x",
        {"agent": ["a b", "c"], "tags_all": ["t"], "context": {"n": 3, "k": "v"}, "success": False},
        "oldest",
        7,
    )
    assert shlex.split(command_line("/my data", asking)) == [
        *("memstore", "search", "--root", "/my data", "--tag", "t", "--all-tags", "--agent", "a b", "--agent", "c"),
        *("--context", "n:=3", "--context", "k=v", "--success", "no", "--sort", "oldest", "-n", "7", "it's -x"),
    ]
    assert command_line("r", Asking("-x")).endswith("-- -x")
    both = command_line("r", Asking("a OR b", {"tags": ["x"], "tags_all": ["y z"]}))
    assert shlex.split(both)[-1] == '(a OR b) tag:"y z"'


def test_the_python_is_one_line_where_it_is_short():
    assert "store.search('x', limit=3)" in python_call("data", "search", "x", {"limit": 3})
    long = python_call("data", "search", "x" * 60, {"memory_type": ["ERROR"], "since": "2025-01-01"}, settings="s.toml")
    compile(long, "shown", "exec")
    assert "MemStore('data', settings='s.toml', create=False)" in long


def test_a_walk_reads_as_many_as_are_wanted(store, ids):
    assert [len(page) for page in Walk(store, Asking("market"), 7).pages()] == [7]
    everything = Walk(store, Asking(sort="oldest"), None)
    assert sum(map(len, everything.pages())) == 41
    assert everything.first.total == 41
    assert everything.cursor is None


def test_by_relevance_a_walk_ends_where_the_engine_does(store, monkeypatch):
    from memstore.explore import asking

    monkeypatch.setattr(asking, "PAGE_HITS_MAX", 400)
    store.append_many({"agent_id": "many", "content": f"word {number}"} for number in range(1100))
    store.index()
    walk = Walk(store, Asking("word"), None)
    assert sum(map(len, walk.pages())) == 1000, "the engine pages through so many"
    assert walk.ended_early
    assert sum(map(len, Walk(store, Asking("word", sort="newest"), None).pages())) == 1100


# --- drawings -------------------------------------------------------------------------------------


def test_a_bar_is_as_wide_as_people_say_it():
    assert bar_width_us(0, 39 * DAY, bars_max=40) == DAY
    assert bar_width_us(0, 39 * DAY, bars_max=10) == 7 * DAY
    assert bar_width_us(0, 1, bars_max=10) == 1_000_000
    for years in (1, 30, 800):
        width = bar_width_us(0, years * 365 * DAY, bars_max=8)
        assert years * 365 * DAY // width + 1 <= 8


def test_the_timeline_counts_every_hit_and_shows_gaps(store, ids):
    line = timeline(store, Asking("timeout"), bars_max=60)
    assert sum(line.counts) == 20
    assert line.width_text == "1 day"
    assert line.counts[:3] == (1, 0, 1)
    assert line.day_texts()[0] == "2025-01-02"
    assert timeline(store, Asking("nothingofthekind"), bars_max=60) is None


def test_what_is_there_at_all_is_seen_in_the_histogram():
    line = Timeline(0, DAY, (10_000, 1, 0, 5_000))
    drawn = histogram(line, width_chars=60, height=2)
    assert drawn[1].endswith("████▁▁▁▁    ████")
    assert drawn[0].strip() == "10,000│████"
    plain = histogram(line, width_chars=60, is_unicode=False)
    assert "".join(plain).isascii()


def test_facets_are_cut_to_the_width_and_numbered_through():
    facets = {"type": [FacetCount("ERROR", 3)], "tag": [FacetCount(f"label{n}", 1) for n in range(50)], "none": []}
    lines, choices = facet_lines(facets, Look(60), numbered=True)
    assert len(lines) == 2
    assert all(line.cell_len <= 60 for line in lines)
    assert lines[1].plain.endswith("more")
    assert choices[0] == ("type", "ERROR")
    assert f"[{len(choices)}] {choices[-1][1]} 1" in lines[1].plain


# --- history --------------------------------------------------------------------------------------


def test_history_lies_below_the_state_directory_and_is_private(tmp_path):
    path = history_path({"XDG_STATE_HOME": str(tmp_path / "state")})
    assert path == str(tmp_path / "state" / "memstore" / "search-history")
    assert prepared(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert history_path({"XDG_STATE_HOME": "relative"}).endswith("/.local/state/memstore/search-history")


def test_history_is_bounded(tmp_path):
    path = tmp_path / "history"
    path.write_bytes(b"".join(b"\n# 2025-01-15 %06d\n+question %06d\n" % (n, n) for n in range(20_000)))
    size = path.stat().st_size
    assert prepared(str(path))
    assert path.stat().st_size < size * 0.6
    assert path.read_bytes().startswith(b"\n# ")
    assert path.read_bytes().endswith(b"+question 019999\n")


def test_a_history_that_cannot_be_kept_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    assert not prepared(str(tmp_path / "file" / "below"))


def test_prompt_toolkit_reads_completes_and_remembers(tmp_path):
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    from memstore.explore.prompt import rich_prompt

    path = str(tmp_path / "history")
    with create_pipe_input() as keyboard:
        read = rich_prompt(
            history=path, known=lambda: KNOWN, toolbar=lambda: "bar", keyboard=keyboard, screen=DummyOutput()
        )
        keyboard.send_text("market\r")
        assert read() == "market"
        keyboard.send_text("\x1b[A\r")  # arrow up
        assert read() == "market"
        keyboard.send_text("\x04")
        with pytest.raises(EOFError):
            read()
        keyboard.send_text("abc\x03")
        with pytest.raises(KeyboardInterrupt):
            read()
    assert "+market" in (tmp_path / "history").read_text()


def test_without_prompt_toolkit_python_s_own_prompt_is_used(monkeypatch):
    import io

    from memstore.explore.prompt import plain_prompt, rich_prompt

    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    with pytest.raises(ImportError):
        rich_prompt(history=None, known=Vocabulary, toolbar=str)
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed\n"))
    read = plain_prompt()
    assert read() == "typed"
    with pytest.raises(EOFError):
        read()


def test_times_of_a_timeline_are_as_exact_as_its_bars():
    start = int(dt.datetime(2025, 1, 15, 10, tzinfo=dt.UTC).timestamp()) * 1_000_000
    assert Timeline(start, 3600_000_000, (1, 2)).day_texts() == ("2025-01-15 10:00", "2025-01-15 12:00")
    assert Timeline(start, 1_000_000, (1,)).day_texts()[1] == "2025-01-15 10:00:01"
