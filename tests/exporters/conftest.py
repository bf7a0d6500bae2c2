import json

import pytest

from memstore import MemStore


@pytest.fixture
def store(tmp_path):
    with MemStore(tmp_path / "store", settings={"merging.background": False}) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path):
    """A function that writes a file of a tree; its ``root`` is the tree."""
    root = tmp_path / "tree"
    root.mkdir()

    def write(path, value):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())

    write.root = root
    return write
