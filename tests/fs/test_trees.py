"""Directories as wholes: what lies below them, and in which order they go."""

import os

import pytest

from memstore.fs.local import LocalStorage
from memstore.fs.trees import files_below, remove_tree


class Watched(LocalStorage):
    """Says what is removed and synced, in order, relative to a root."""

    def __init__(self, root):
        super().__init__()
        self.root, self.calls = root, []

    def _note(self, kind, path):
        self.calls.append((kind, os.path.relpath(path, self.root)))

    def unlink(self, path):
        self._note("unlink", path)
        super().unlink(path)

    def remove_directory(self, path):
        self._note("remove", path)
        super().remove_directory(path)

    def sync_directory(self, path):
        self._note("sync", path)
        super().sync_directory(path)


@pytest.fixture
def tree(tmp_path):
    for name in ("t/MANIFEST", "t/z", "t/b/MANIFEST", "t/b/c", "t/b/z", "t/a"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return Watched(str(tmp_path))


def test_files_are_listed_in_order_of_their_names(tree):
    found = [os.path.relpath(path, tree.root) for path in files_below(tree, os.path.join(tree.root, "t"))]
    assert found == ["t/MANIFEST", "t/a", "t/b/MANIFEST", "t/b/c", "t/b/z", "t/z"]
    assert list(files_below(tree, os.path.join(tree.root, "nowhere"))) == []


def test_a_tree_goes_with_one_name_last_in_every_directory_and_each_step_is_durable(tree):
    remove_tree(tree, os.path.join(tree.root, "t"), last="MANIFEST")
    assert os.listdir(tree.root) == []
    below = [call for call in tree.calls if os.path.dirname(call[1]) == "t/b" or call == ("remove", "t/b")]
    assert below[-2:] == [("unlink", "t/b/MANIFEST"), ("remove", "t/b")]
    assert tree.calls[tree.calls.index(("remove", "t/b")) + 1] == ("sync", "t")
    assert tree.calls[-3:] == [("unlink", "t/MANIFEST"), ("remove", "t"), ("sync", ".")]


def test_a_tree_that_nobody_counts_on_goes_without_a_sync(tree):
    remove_tree(tree, os.path.join(tree.root, "t"), durably=False)
    assert os.listdir(tree.root) == []
    assert "sync" not in {kind for kind, _ in tree.calls}
    remove_tree(tree, os.path.join(tree.root, "nowhere"))
