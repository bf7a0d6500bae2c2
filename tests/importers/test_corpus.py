"""The tree of a real platform, in and out again; skipped where the shared data is not there."""

import json
import os
import tarfile
from pathlib import Path

import pytest
import zstandard

from memstore import MemStore
from memstore.exporters.tree import export_tree
from memstore.importers.tree import import_tree

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "agent-memory-tree.tar.zst"

pytestmark = pytest.mark.corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    if not CORPUS.exists():
        pytest.skip("the shared corpus ../shared/data/agent-memory-tree.tar.zst is not beside this checkout")
    root = tmp_path_factory.mktemp("corpus")
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**27)
    with (
        CORPUS.open("rb") as packed,
        decompressor.stream_reader(packed) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        tar.extractall(root, filter="data")
    return root


def files_below(root):
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                yield os.path.relpath(path, root), file.read()


def test_the_corpus_goes_in_once_and_comes_back_equal(corpus, tmp_path):
    with MemStore(tmp_path / "store") as store:
        report = import_tree(store, corpus)
        assert (report.files, report.imported, report.already_present) == (34_371, 34_261, 0)
        assert (report.damaged, len(report.damaged_files), report.skipped) == (110, 110, 0)
        assert all(entry["reason"] for entry in report.damaged_files)
        assert sum(store.agent(agent).count() for agent in store.agents()) == 34_261
        store.drain()
        again = import_tree(store, corpus)
        assert (again.imported, again.already_present, again.damaged) == (0, 34_261, 110)
        assert export_tree(store, tmp_path / "out") == 34_261
    damaged = {entry["path"] for entry in report.damaged_files}
    back = dict(files_below(tmp_path / "out"))
    compared = 0
    for path, data in files_below(corpus):
        if path in damaged:
            assert path not in back
        else:
            assert json.loads(back[path]) == json.loads(data), path
            compared += 1
    assert compared == len(back) == 34_261
