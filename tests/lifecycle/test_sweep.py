"""What dead processes left outside of agents' directories goes; what living ones are making stays."""

import os

from support import make_engine, put

from memstore.fs.lock import locked
from memstore.lifecycle.sweep import sweep


def test_what_was_left_goes_and_what_is_in_the_making_stays(tmp_path):
    engine = make_engine(tmp_path / "store")
    kept = put(engine, "bot", "here")
    root = engine.paths.root
    shard = engine.catalog.state.shard_paths[0]
    for directory in (".trash/bot.0123", ".trash/bot.0123/.trash", ".incoming/bot.4567"):
        os.makedirs(os.path.join(shard, directory))
        open(os.path.join(shard, directory, "MANIFEST"), "w").close()
    for path in (".tmp-0011", "lanes/.tmp-2233", "lanes/.tmp-4455", "lanes/.tmp-6677"):
        with open(os.path.join(root, path), "w") as file:
            file.write("" if path.endswith("6677") else "x")
    living = engine.storage.open_update(os.path.join(root, "lanes/.tmp-4455"))
    assert living.try_lock()
    assert sweep(engine) == 4
    assert os.listdir(os.path.join(shard, ".trash")) == os.listdir(os.path.join(shard, ".incoming")) == []
    left = [name for name in (*os.listdir(root), *os.listdir(os.path.join(root, "lanes"))) if name.startswith(".tmp-")]
    assert sorted(left) == [".tmp-4455", ".tmp-6677"]
    assert engine.reader.get_line(kept) is not None
    living.close()
    engine.close()


def test_agents_that_are_being_moved_are_left_alone(tmp_path):
    engine = make_engine(tmp_path / "store")
    incoming = os.path.join(engine.catalog.state.shard_paths[0], ".incoming", "bot.4567")
    os.makedirs(incoming)
    with locked(engine.storage, engine.paths.lock("rebalance")):
        assert sweep(engine) == 0
    assert os.path.isdir(incoming)
    engine.close()
