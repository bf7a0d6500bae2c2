"""The commands that let memories age, go and stay."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os

import pytest

from memstore import MemStore

OLD_DAYS = (10, 20, 70, 75)
"""Ages of records: two are due for warm, two for cold; and one agent has records of today, too."""


@pytest.fixture
def aged(root):
    """Two agents with five records a day of four old days, and one of them with today's."""
    now = dt.datetime.now(dt.UTC)
    with MemStore(root, durability="os", settings={"storage.ballast_bytes": 0}) as store:
        store.append_many(
            {
                "agent_id": agent,
                "content": {"n": n, "text": "the market was quiet " * 20},
                "timestamp_utc": (now - dt.timedelta(days=days, seconds=n)).isoformat(),
            }
            for agent in ("bot_1", "bot_2")
            for days in OLD_DAYS
            for n in range(5)
        )
        store.append_many({"agent_id": "bot_1", "content": n} for n in range(3))
    return root


def rows(result):
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def document(result, code=0):
    assert result.code == code, (result.code, result.err)
    return json.loads(result.out)


def ids(memstore, *arguments):
    return [row["memory_id"] for row in rows(memstore("range", *arguments))]


# --- maintain -------------------------------------------------------------------------------------


def test_a_plan_lists_what_is_due_and_changes_nothing(memstore, aged):
    before = {path: os.path.getsize(path) for path in _files(aged)}
    planned = rows(memstore("maintain", "--plan"))
    assert {row["kind"] for row in planned} == {"pack"}
    assert {row["agent"] for row in planned} == {"bot_1", "bot_2"}
    assert all(row["bytes_before"] > row["bytes_after"] >= 0 for row in planned)
    assert "warm file" in memstore("maintain", "--plan", "-o", "table").out.replace("\n", " ")
    assert {path: os.path.getsize(path) for path in _files(aged)} == before


def _files(root):
    return [
        os.path.join(place, name)
        for place, _, names in os.walk(root)
        for name in names
        if name != "lifecycle"  # a lock file
    ]


def test_maintaining_does_what_was_planned_and_no_record_is_lost(memstore, aged):
    before = ids(memstore)
    planned = rows(memstore("maintain", "--plan"))
    done = document(memstore("maintain", "-o", "json"))
    assert (done["done"], done["failed"], done["finished"]) == (len(planned), 0, True)
    assert done["freed_bytes"] == done["bytes_before"] - done["bytes_after"] > 0
    assert [action["kind"] for action in done["done_actions"]] == ["pack"] * len(planned)
    assert ids(memstore) == before
    assert rows(memstore("maintain", "--plan")) == []
    nothing = memstore("maintain", "--plan", "-o", "table")
    assert (nothing.out, nothing.err) == ("", "memstore: nothing is due\n")
    assert "done" in memstore("maintain", "-o", "table").out


def test_a_plan_for_later_shows_what_will_be_due(memstore, aged):
    memstore("maintain")
    assert rows(memstore("maintain", "--plan", "--now", "2100-01-01")) != []
    past = memstore("maintain", "--plan", "--now", "7d")
    assert past.code == 2
    assert "has passed" in past.err


def test_a_time_limit_ends_a_run_early_and_the_next_goes_on(memstore, aged, monkeypatch):
    from memstore.lifecycle.manager import Manager

    maintain = Manager.maintain
    monkeypatch.setattr(
        Manager, "maintain", lambda self, *args, **kwargs: maintain(self, *args, **{**kwargs, "time_limit_s": 0.0})
    )
    result = memstore("maintain", "--time-limit", "1", "-o", "json")
    assert document(result)["finished"] is False
    assert "the time is up" in result.err
    monkeypatch.undo()
    assert document(memstore("maintain", "-o", "json"))["done"] > 0


def test_a_store_that_another_process_maintains_is_left_to_it(memstore, aged):
    with open(os.path.join(aged, "locks", "lifecycle"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = memstore("maintain", "-o", "json")
    assert result.code == 8
    assert result.err == ("memstore: Not done: maintenance, because another process is maintaining this store.\n")


def test_no_room_is_told_and_exits_with_10(memstore, aged, tmp_path):
    settings = tmp_path / "greedy.toml"
    settings.write_text(f"storage.ballast_bytes = 0\n[storage.lifecycle]\nreserve_bytes = {2**50}\n")
    result = memstore("maintain", "--config", str(settings), "-o", "json")
    found = document(result, code=10)
    assert (found["done"], found["failed"]) == (0, 0)
    assert found["skipped"] > 0
    assert "no room: it needs" in result.err
    assert ids(memstore)


def test_damage_keeps_one_agent_back_and_is_the_exit_code(memstore, aged):
    directory = next(place for place, _, names in os.walk(aged) if place.endswith("bot_1") and "MANIFEST" in names)
    name = min(name for name in os.listdir(directory) if name.endswith(".jsonl"))
    with open(os.path.join(directory, name), "r+b") as file:
        file.seek(10)
        file.write(b"\x00")
    result = memstore("maintain", "-o", "json")
    found = document(result, code=7)
    assert found["failed"] >= 1
    assert {action["agent"] for action in found["done_actions"]} >= {"bot_2"}
    assert "Failed: " in result.err


@pytest.mark.parametrize("flags", [["--time-limit", "3"], ["--trust-clock"]])
def test_flags_that_mean_nothing_to_a_plan_are_refused(memstore, aged, flags):
    assert memstore("maintain", "--plan", *flags).code == 2


# --- tiers, shards --------------------------------------------------------------------------------


def test_tiers_are_shown_by_tier_and_agent(memstore, aged):
    memstore("maintain")
    found = document(memstore("tiers", "-o", "json"))
    by_tier = {row["tier"]: row for row in found["tiers"]}
    assert [by_tier[tier]["records"] for tier in ("hot", "warm", "cold", "trash")] == [3, 20, 20, 0]
    assert by_tier["cold"]["bytes"] < by_tier["cold"]["raw_bytes"] / 4
    assert [row["agent"] for row in found["agents"]] == ["bot_1", "bot_2"]
    for figure in ("files", "records", "bytes"):
        for tier in ("hot", "warm", "cold", "trash"):
            assert sum(row[f"{tier}_{figure}"] for row in found["agents"]) == by_tier[tier][figure]
        assert sum(row[figure] for row in found["agents"]) == sum(row[figure] for row in found["tiers"][:4])
    assert all(0 < row["ratio"] < 1 for row in found["agents"])
    assert [row["agent"] for row in document(memstore("tiers", "--agents", "1", "-o", "json"))["agents"]] == ["bot_1"]
    table = memstore("tiers", "-o", "table").out
    assert "warm" in table
    assert "free; full in" in table
    assert memstore("tiers", "-o", "csv").out.startswith("tier,files,records,bytes,raw_bytes,ratio\r\nhot,1,3,")


def test_tiers_of_an_empty_store_are_no_error(memstore, root):
    MemStore(root).close()
    assert "it does not fill" in memstore("tiers", "-o", "table").out


def test_shards_show_how_full_they_are_and_what_would_move(memstore, root, tmp_path):
    with MemStore(root, settings={"storage.shards": 1}) as store:
        store.append_many({"agent_id": f"bot_{n}", "content": "x" * 2000} for n in range(3))
    plain = memstore("shards", "-o", "table").out
    assert "3.0 agents a shard; storage.sharding.agents_per_shard = 100" in plain
    assert "storage.sharding.max_shard_size_gb = 50" in plain
    assert "nothing would move" in plain
    settings = tmp_path / "small.toml"
    settings.write_text("[storage.sharding]\nagents_per_shard = 2\nmax_shard_size_gb = 0.000001\n")
    full = memstore("shards", "--config", str(settings))
    assert [row["bytes_share"] > 1 for row in rows(full)] == [True]
    assert "a shard would be added" in full.err
    shown = memstore("shards", "--config", str(settings), "-o", "table").out
    assert "memstore shards add" in shown.replace("\n", " ")


# --- retention, holds -----------------------------------------------------------------------------


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(
        "[[storage.retention.rules]]\nagent = 'bot_1'\nkeep_days = 1\n"
        "[[storage.retention.rules]]\nmemory_type = 'ERROR'\nimportance = ['LOW']\nkeep_forever = true\n"
    )
    return str(path)


def test_retention_is_shown_in_the_order_of_its_rules(memstore, aged, rules):
    found = document(memstore("retention", "show", "--config", rules, "-o", "json"))
    shown = [(row["rule"], row["agent"], row["keep"]) for row in found["rules"]]
    assert shown == [
        ("metadata.retention_days", "*", "as the record says"),
        ("1", "bot_1", "1 day"),
        ("2", "*", "for ever"),
        ("storage.lifecycle.cold_retention_months", "*", "12 months"),
    ]
    assert found["rules"][1]["origin"] == f"file {rules}"
    assert found["rules"][3]["origin"] == "default"
    assert found["rules"][2]["importance"] == ["LOW"]
    assert "CRITICAL is kept" in memstore("retention", "--config", rules, "-o", "table").out.replace("\n", " ")
    assert memstore("retention", "-o", "csv").out.startswith("rule,agent,")


def test_a_rule_says_what_would_go_and_a_hold_keeps_it(memstore, aged, rules, monkeypatch):
    from memstore.clock import WallClock

    assert memstore("maintain").code == 0
    now_us = WallClock().now_us()
    monkeypatch.setattr(WallClock, "now_us", lambda self: now_us + 5 * 86_400_000_000)
    monkeypatch.setattr(WallClock, "boot_s", lambda self, before=WallClock.boot_s: before(self) + 5 * 86_400)
    found = document(memstore("retention", "--config", rules, "-o", "json"))
    assert found["rules"][1]["goes_records"] == 20
    assert memstore("hold", "add", "case", "--agent", "bot_1", "--reason", "court").code == 0
    held = document(memstore("retention", "--config", rules, "-o", "json"))
    assert held["rules"][1]["goes_records"] == 0
    assert [hold["name"] for hold in held["holds"]] == ["case"]
    assert any("case" in sentence for sentence in held["withheld"])
    assert memstore("hold", "remove", "case").code == 0
    before = len(ids(memstore))
    done = document(memstore("maintain", "--config", rules, "-o", "json"))
    assert done["done_by_kind"]["expire"] >= 1
    assert ids(memstore, "--agent", "bot_1") == [], "today's were packed and removed as well"
    back = memstore("undelete", "--agent", "bot_1", "-o", "json")
    assert document(back)["records"] == 23
    assert "memstore hold remove" in back.err
    assert len(ids(memstore)) == before


def test_holds_are_added_listed_and_removed(memstore, aged):
    assert rows(memstore("hold")) == []
    (first,) = ids(memstore, "--limit", "1")
    added = document(
        memstore(
            *("hold", "add", "case-1", "--agent", "bot_*", "--ids", first, "--type", "error", "GOAL"),
            *("--since", "2020-01-01", "--until", "2030-01-01", "--reason", "a court asked", "-o", "json"),
        )
    )
    assert added["ids"] == [first]
    assert added["memory_types"] == ["ERROR", "GOAL"]
    assert (added["since"], added["until"]) == ("2020-01-01T00:00:00.000000Z", "2030-01-01T00:00:00.000000Z")
    assert memstore("hold", "add", "all", "--reason", "everything").code == 0
    assert [row["name"] for row in rows(memstore("hold", "list"))] == ["case-1", "all"]
    assert "a court asked" in memstore("hold", "list", "-o", "table").out
    assert memstore("hold", "add", "all", "--reason", "again").code == 2
    assert memstore("hold", "add", "no reason").code == 2
    assert document(memstore("hold", "remove", "all", "-o", "json")) == {"removed": "all"}
    missing = memstore("hold", "remove", "case-2")
    assert missing.code == 5
    assert "case-1" in missing.err


# --- forget, undelete -----------------------------------------------------------------------------


def test_what_is_forgotten_is_hidden_and_can_be_taken_back(memstore, aged):
    before = ids(memstore)
    result = memstore("forget", before[3], before[7], "-o", "json")
    assert document(result) == {"hidden": [before[3], before[7]], "unknown": []}
    assert "undelete" in result.err
    assert set(before) - set(ids(memstore)) == {before[3], before[7]}
    assert memstore("get", before[3]).code == 1
    again = memstore("forget", before[3])
    assert again.code == 1
    assert "is not in this store" in again.err
    assert document(memstore("undelete", before[3], before[7], "-o", "json"))["records"] == 2
    assert ids(memstore) == before


def test_what_is_rewritten_cannot_be_taken_back(memstore, aged):
    before = ids(memstore)
    memstore("forget", before[0])
    assert memstore("maintain").code == 0
    gone = memstore("undelete", before[0])
    assert gone.code == 1
    assert "cannot be brought back" in gone.err
    assert memstore("undelete", "--agent", "bot_2").code == 5


def test_a_held_record_may_not_be_forgotten(memstore, aged):
    (first,) = ids(memstore, "--limit", "1")
    memstore("hold", "add", "case", "--ids", first, "--reason", "court")
    result = memstore("forget", first)
    assert result.code == 13
    assert "case" in result.err
    assert memstore("get", first).code == 0


@pytest.mark.parametrize(
    "command",
    [["forget", "no-id"], ["undelete"], ["undelete", "--agent", "bot_1", "x"], ["forget"], ["erase", "--yes"]],
)
def test_commands_without_a_proper_object_are_refused(memstore, aged, command):
    assert memstore(*command).code == 2


@pytest.mark.parametrize("command", [["forget", "a_20250115_143000_1234560000000100000000"], ["maintain"], ["tiers"]])
def test_a_store_that_is_not_there_is_told_and_not_made(memstore, root, command):
    assert memstore(*command).code == 5
    assert not os.path.exists(root)


# --- erase ----------------------------------------------------------------------------------------


def test_an_erased_agent_is_gone_and_the_receipt_says_so(memstore, aged, tmp_path):
    memstore("maintain")
    receipt = tmp_path / "receipt.json"
    result = memstore("erase", "--agent", "bot_1", "--yes", "--receipt", str(receipt), "-o", "json")
    found = document(result)
    assert found["pending"] == []
    assert json.loads(receipt.read_text()) == found
    assert rows(memstore("agents")) == [{"agent_id": "bot_2"}]
    taken = memstore("erase", "--agent", "bot_2", "--yes", "--receipt", str(receipt))
    assert taken.code == 2
    assert rows(memstore("agents")) == [{"agent_id": "bot_2"}], "a receipt that cannot be written is told before"


def test_erased_records_are_named_one_by_one_or_in_a_file(memstore, aged, tmp_path):
    before = ids(memstore)
    assert memstore("erase", "--ids", before[0], before[1], "--yes").code == 0
    named = tmp_path / "ids.txt"
    named.write_text(f"{before[2]}\n\n{before[2]}\n")
    assert memstore("erase", "--ids-from", str(named), "--yes").code == 0
    lines = memstore("get", before[3]).out.encode()
    assert memstore("erase", "--ids-from", "-", "--yes", stdin=lines).code == 0
    assert ids(memstore) == before[4:]
    again = memstore("erase", "--ids", before[0], "--yes")
    assert again.code == 1
    assert "is not in this store" in again.err
    empty = memstore("erase", "--ids-from", "-", "--yes", stdin=b"\n")
    assert empty.code == 2
    wrong = memstore("erase", "--ids-from", "-", "--yes", stdin=b'{"content": 1}\n')
    assert "line 1" in wrong.err
    assert memstore("erase", "--ids-from", str(tmp_path / "none"), "--yes").code == 6


def test_nothing_is_erased_without_a_yes(memstore, aged, monkeypatch):
    before = ids(memstore)
    refused = memstore("erase", "--agent", "bot_1", stdin=b"")
    assert refused.code == 2
    assert "--yes" in refused.err
    monkeypatch.setattr("memstore.cli.erase._is_somebody_there", lambda: True)
    monkeypatch.setattr("memstore.cli.erase._ask", lambda what: "no")
    assert memstore("erase", "--agent", "bot_1").code == 2
    assert ids(memstore) == before
    monkeypatch.setattr("memstore.cli.erase._ask", lambda what: "yes")
    assert memstore("erase", "--agent", "bot_1").code == 0
    assert len(ids(memstore)) == 20
