import json
import os

import pytest

from memstore.errors import NotFoundError, UsageError
from memstore.exporters.tree import export_tree, is_inside
from memstore.importers.tree import import_tree

MEMORY = {
    "timestamp": "2025-09-16T15:05:48.909393",
    "memory_type": "system_state",
    "importance": 2,
    "agent_id": "bot",
    "content": {"a": [1, 2.5, "ä"]},
    "context": {},
    "tags": ["x"],
    "parent_memory_id": None,
    "memory_id": "abc",
}


def contents(root):
    return {str(path.relative_to(root)): json.loads(path.read_bytes()) for path in root.rglob("*.json")}


def test_what_came_from_a_tree_goes_back_to_its_place(store, tree, tmp_path):
    tree("stm/bot/20250916/2025-09-16T15-05-48.909393.system_state.memory.json", MEMORY)
    tree("odd/place/2025.memory.json", {**MEMORY, "memory_id": "def", "extra": None})
    tree(
        "stm/bot/steps/1.bot_steps.mem.json",
        {"timestamp_utc": "2025-09-16T15:05:48", "memory_type": "LTM", "category": "bot/steps", "data": []},
    )
    tree("bot/20250916/interactions/2025-09-16T15-05-48.interaction.json", {"input": "a"})
    tree("bot/20250916/interactions/2025-09-16T15-05-48.response.json", {"response": "b", "success": True})
    tree("bot/20250916/errors/2025-09-16T15-05-48.error.json", {"code": 1, "context": {"a": 1}})
    assert import_tree(store, tree.root).imported == 5
    store.drain()
    assert export_tree(store, tmp_path / "out") == 5
    assert contents(tmp_path / "out") == contents(tree.root)


def test_a_file_that_holds_nan_comes_back_as_it_was(store, tree, tmp_path):
    name = "stm/bot/20250916/x.memory.json"
    text = json.dumps({**MEMORY, "content": float("nan"), "n": 10**30}).encode()
    tree(name, text)
    import_tree(store, tree.root)
    export_tree(store, tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == text


def test_other_records_get_a_file_of_their_own(store, tmp_path):
    memory_id = store.agent("../Evil").append(content=1, timestamp="2025-01-15T14:30:00Z")
    assert export_tree(store, tmp_path / "out") == 1
    ((path, value),) = contents(tmp_path / "out").items()
    assert value["memory_id"] == memory_id
    assert path.split("/")[1] == "20250115"
    assert path.endswith(".memory.json")


@pytest.mark.parametrize("path", ["../x.json", "/etc/x", "a/../../x", "a//b", "", ".", "a/..", "a\0b", "x" * 300])
def test_a_path_that_leads_outside_is_never_written(store, tmp_path, path):
    assert not is_inside(path)
    for content in ({"a": 1}, 1):
        store.agent("bot").append(
            content=content, metadata={"import": {"layout": "perf", "path": path}}, memory_type="PERFORMANCE"
        )
    out = tmp_path / "deep" / "out"
    before = {p for p in tmp_path.rglob("*") if "store" not in p.parts}
    assert export_tree(store, out) == 2
    made = {p for p in tmp_path.rglob("*") if "store" not in p.parts} - before
    assert all(p == out or out in p.parents or p in out.parents for p in made)
    assert len([p for p in made if p.is_file()]) == 2


def test_two_records_of_one_path_are_both_written(store, tree, tmp_path):
    name = "stm/bot/20250916/2025-09-16T15-05-48.909393.system_state.memory.json"
    for content in (1, 2):
        tree(name, {**MEMORY, "content": content})
        import_tree(store, tree.root)
    assert export_tree(store, tmp_path / "out") == 2
    assert sorted(value["content"] for value in contents(tmp_path / "out").values()) == [1, 2]


def test_a_directory_that_holds_something_is_refused(store, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        export_tree(store, tmp_path)
    with pytest.raises(UsageError, match="no directory"):
        export_tree(store, tmp_path / "x")
    with pytest.raises(NotFoundError):
        export_tree(store, tmp_path / "new", agents="nobody")
    assert not os.path.exists(tmp_path / "new")


def test_agents_and_filters_choose(store, tmp_path):
    store.agent("a").append(content=1, tags=["t"])
    store.agent("a").append(content=2)
    store.agent("b").append(content=3, tags=["t"])
    assert export_tree(store, tmp_path / "out", agents=["a"], tags="t") == 1
    assert [value["content"] for value in contents(tmp_path / "out").values()] == [1]
