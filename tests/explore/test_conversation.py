"""What an analyst types, and what is shown for it."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from rich.cells import cell_len

from memstore import StorageError
from memstore.explore import conversation
from memstore.explore.conversation import Conversation, Place


def test_words_show_hits_counts_and_hits_over_time(talk):
    shown = talk("timeout")
    assert "a **timeout**" in shown
    assert "1-5 of 20 records, by relevance" in shown
    assert "type" in shown
    assert "ERROR" not in shown.split("importance")[0], "errors have even numbers, timeouts odd ones"
    assert "a bar is 12 hours" in shown
    assert " 2025-01-02 " in shown
    assert "█" in shown


def test_pages_are_turned_both_ways_and_numbers_go_on(talk, ids):
    talk("timeout")
    second = talk("")
    assert "6-10 of 20" in second
    assert "\n 6 " in second
    assert "[1]" not in second, "counts are shown once"
    assert "11-15 of 20" in talk("/next")
    assert "6-10 of 20" in talk("/prev")
    assert "1-5 of 20" in talk("/p")
    assert "this is the first page" in talk("/p")
    for _ in range(3):
        talk("/n")
    assert "this is the last page" in talk("/n")


def test_a_number_narrows_and_undo_takes_it_back(talk):
    shown = talk("market")
    choices = talk.of.session.choices
    number = choices.index(("type", "ERROR")) + 1
    assert f"[{number}] ERROR 10" in shown
    assert "1-5 of 10 records" in talk(str(number))
    assert talk.of.session.asking.filters == {"memory_type": "ERROR"}
    odd = talk.of.session.choices.index(("tag", "even")) + 1
    assert "of 10 records" in talk(f"/narrow {odd}")
    assert talk.of.session.asking.filters == {"memory_type": "ERROR", "tags_all": ["even"]}
    talk("/undo")
    assert "of 40 records" in talk("/undo")
    assert talk.of.session.asking.filters == {}
    talk("/undo")
    assert "nothing to undo" in talk("/undo")


def test_filters_are_set_and_taken_away(talk):
    talk("market")
    assert "of 14 records" in talk("/agent bdi_0")
    assert "of 5 records" in talk("/since 2025-01-28")
    talk("/type error")
    assert talk.of.session.asking.filters["memory_type"] == ["ERROR"]
    talk("/success yes")
    assert talk.of.session.asking.filters["success"] is True
    talk("/agent")
    assert "agent" not in talk.of.session.asking.filters
    assert "of 41 records" in talk("/clear")


def test_what_is_refused_leaves_the_question_as_it_was(talk):
    talk("timeout")
    before = talk.of.session
    assert "is not a time" in talk("/since yesterday")
    assert "there is no field 'nonsense'" in talk("/facets nonsense")
    assert "unknown" in talk("/type nonsense")
    assert "yes or no" in talk("/success maybe")
    assert "relevance, newest or oldest" in talk("/sort up")
    assert "from 1 to" in talk("/size 100000")
    assert talk.of.session == before
    assert "6-10 of 20" in talk("")


def test_a_record_is_opened_with_those_about_it(talk, ids):
    talk("type:ERROR")
    first = talk(f"/open {ids[0]}")
    assert "Analyze the market, part 0" in first
    assert '"user_id": 0' in first
    assert "what followed" in first.split("children")[1].split("just after")[0]
    assert "all children among this agent's later records" in first
    assert "just before" not in first, "it is the first one"
    child = talk("#c1")
    assert "parent" in child
    assert "Analyze the market, part 0" in child.split("parent")[1]
    assert "b1 2025-01-01 12:00:00" in child
    assert ids[0] in talk("/open p")
    assert "just after" in talk("#a2")


def test_a_hit_is_opened_by_its_number_on_any_page_so_far(talk):
    talk("timeout")
    talk("")
    seventh = talk.of.session.shown[6]
    assert seventh in talk("#7")
    assert talk.of.session.shown[1] in talk("/open 2")
    assert "a number from 1 to 10" in talk("/open 11")
    assert "a number from 1 to 10" in talk("#x")


@pytest.mark.parametrize("ending", ["csv", "ndjson", "json", "html", "parquet"])
def test_the_result_is_saved_in_the_format_of_the_ending(talk, tmp_path, ending):
    talk("timeout")
    assert f"20 of 20 records are in hits.{ending}" in talk(f"/save hits.{ending}")
    data = (tmp_path / f"hits.{ending}").read_bytes()
    if ending == "csv":
        rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
        assert [row["highlights"] for row in rows] == ["a **timeout**"] * 20
    elif ending == "ndjson":
        assert {json.loads(line)["_highlights"][0] for line in data.splitlines()} == {"a **timeout**"}
    elif ending == "json":
        assert len(json.loads(data)["hits"]) == json.loads(data)["total"] == 20
    elif ending == "html":
        assert data.count(b"<article") == 20
    else:
        assert data.startswith(b"PAR1")


def test_some_hits_are_saved_where_a_number_is_given_and_nothing_under_a_strange_name(talk, tmp_path):
    talk("timeout")
    assert "3 of 20 records" in talk("/save three.ndjson 3")
    assert len((tmp_path / "three.ndjson").read_bytes().splitlines()) == 3
    assert "the ending says the format" in talk("/save hits.docx")
    assert "/save takes a file" in talk("/save")


def test_the_python_that_is_shown_runs_and_finds_the_same(talk, store):
    talk("timeout OR well")
    talk("/agent bdi_*, other")
    talk(str(talk.of.session.choices.index(("importance", "HIGH")) + 1))
    talk("/since 2025-01-03")
    shown = talk("/sort oldest")
    code = talk("/python")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    total, *hits = run.stdout.splitlines()
    assert f"of {total} records" in shown
    assert [line.split()[0] for line in hits] == list(talk.of.session.shown)


def test_the_command_that_is_shown_finds_the_same(talk, store):
    talk('market -part "it\'s"~2')
    talk("/tag even odd")
    talk("/session s1")
    words = talk("/command")
    run = subprocess.run(
        f"{sys.executable} -m {words}", shell=True, capture_output=True, text=True, timeout=60, check=True
    )
    found = [json.loads(line)["memory_id"] for line in run.stdout.splitlines()]
    assert found == list(talk.of.session.shown)


def test_groups_are_counted_with_figures(talk):
    talk("market")
    shown = talk("/by type p50(ms) week")
    assert shown.splitlines()[0].split("\t") == ["time", "type", "count", "p50(ms)"]
    assert "groups of 40 records" in shown
    assert "no field" in talk("/by nonsense")
    assert "/by takes fields" in talk("/by")


def test_similar_records_can_be_opened(talk):
    talk("timeout")
    assert "records like it" in talk("/similar 1")
    opened = talk("#s1")
    assert dict(talk.of.session.related)["a1" if "a1" in dict(talk.of.session.related) else "b1"]
    assert "Analyze the market" in opened


def test_a_histogram_fills_the_screen_and_help_says_how(talk):
    talk("market")
    assert len(talk("/histogram").splitlines()) > 20
    shown = talk("/help")
    assert all(f"/{name}" in shown for name in conversation.COMMANDS)
    assert "context.user_id:456" in shown


@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_is_wider_than_the_screen(talk, screen, width):
    screen.width = width
    for text in ("market", "/list", "#1", "/help", "/histogram", "/similar 1"):
        assert max(cell_len(line) for line in talk(text).splitlines()) <= width, text


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "/", "//", "#", "##", "#1", "1", "0", "99999999999", "/open", "/open ²", "/narrow", "/narrow x", "²",
        "/size", "((((", '"', "a" * 100_000, "[" * 500, "\x1b[31mred", "/save /", "/save .csv", "/save nowhere/x.csv",
        "\ud800", "/by (", "/by 5x", "/undo", "/prev", "/similar", "/similar x", "/xyz", "/agent \x00", "/list",
        "/session \ud800", "/agent \udfff*", "/tag \ud800", "/since", "/facets ,", "/tag ,", "/python", "/command",
        "/histogram", "field:", "::", "/sort", "/until 0001-01-01", "\n", "/by ,",
    ],
)  # fmt: skip
def test_nothing_that_is_typed_ends_it_or_is_a_bug(talk, text):
    for line in (text, "market", text):
        shown = talk(line)
        assert "a bug of memstore" not in shown
        assert "\x1b" not in shown
    assert talk.of.toolbar().isprintable()


def test_quit_and_the_end_of_the_input_leave(store, ids, screen):
    made = Conversation(store, screen, Place(store.root))
    lines = iter(["market", KeyboardInterrupt(), "/quit", "never read"])

    def read_line():
        item = next(lines)
        if isinstance(item, BaseException):
            raise item
        return item

    made.run(read_line)
    assert next(lines) == "never read"

    def ends():
        raise EOFError

    made.run(ends, ask_first=True)
    assert "of 40 records" in screen.take()


def test_names_are_learned_for_completion(store, ids, screen):
    made = Conversation(store, screen, Place(store.root))

    def read_line():
        for thread in threading.enumerate():
            if thread.name == "memstore-names":
                thread.join(30)
        raise EOFError

    made.run(read_line)
    assert made.vocabulary.agents == ("bdi_0", "bdi_1", "bdi_2")
    assert set(made.vocabulary.tags) == {"market", "even", "odd"}


@pytest.mark.parametrize("hears", ["the thread that waits", "another thread"])
def test_ctrl_c_gives_a_running_question_up_whichever_thread_the_system_tells(talk, store, monkeypatch, hears):
    talk("timeout")
    before = talk.of.session
    begun, hold, answered = threading.Event(), threading.Event(), threading.Event()
    main = threading.get_ident()

    def slow(*_, **__):
        begun.set()
        hold.wait(60)
        answered.set()
        raise StorageError("nobody waits for this")

    def press():
        begun.wait(60)
        threading.Event().wait(0.3)  # so that the main thread waits by now, and is not woken by the signal itself
        signal.pthread_kill(main if hears == "the thread that waits" else threading.get_ident(), signal.SIGINT)

    monkeypatch.setattr(store, "search", slow)
    presser = threading.Thread(target=press)
    presser.start()
    assert "given up" in talk("something slow")
    assert not answered.is_set()
    assert talk.of.session == before
    hold.set()
    presser.join()
    monkeypatch.undo()
    assert "6-10 of 20" in talk("")


def test_errors_of_the_store_are_told_and_the_conversation_goes_on(talk, store, monkeypatch):
    talk("timeout")

    def fails(*_, **__):
        raise StorageError("the disk is gone")

    monkeypatch.setattr(store, "search", fails)
    assert "the disk is gone" in talk("again")

    def bug(*_, **__):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(store, "search", bug)
    assert "a bug of memstore: ZeroDivisionError: oops" in talk("again")
    monkeypatch.undo()
    assert "of 20 records" in talk("/list")


def test_what_is_not_understood_is_told_above_the_hits(talk):
    shown = talk("typ:ERROR timeout")
    assert "there is no field 'typ'" in shown
    assert "did you mean type:?" in shown


def test_matches_are_followed_until_ctrl_c(talk, store, screen):
    talk("timeout")
    shown = []

    def append_and_interrupt():
        while "new matches appear" not in "\n".join(screen.lines):
            threading.Event().wait(0.01)
        store.append(agent_id="new", content="a timeout that has just happened")
        while "just happened" not in "\n".join(screen.lines):
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=append_and_interrupt, daemon=True)
    other.start()
    shown = talk("/follow")
    other.join()
    assert "a **timeout** that has just happened" in shown
    assert "no longer followed" in shown
