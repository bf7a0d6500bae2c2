"""Whoever asks for something now does not wait for a whole run of maintenance."""

import threading

from support import QUIET, T0_US

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.fs.local import LocalStorage
from memstore.lifecycle.turn import is_wanted, own_turn, try_turn

DAY_S = 86_400


def old_store(root):
    clock = ManualClock(T0_US)
    store = MemStore(root, settings=QUIET, clock=clock)
    ids = []
    for agent in ("ant", "bee", "cat", "dog"):
        ids += [store.append(agent_id=agent, content=f"{agent} {n}") for n in range(3)]
    clock.advance(20 * DAY_S)
    return store, ids


def test_a_run_gives_way_after_the_action_in_hand_and_the_next_one_goes_on(tmp_path):
    store, ids = old_store(tmp_path / "store")
    manager = store._lifecycle.manager
    erased = []
    waiting = threading.Thread(target=lambda: erased.append(store.erase(ids=ids[0])))

    def on_done(_):
        if not waiting.ident:
            waiting.start()
            while not is_wanted(LocalStorage(), store._engine.paths):
                pass

    report = manager.maintain(on_done=on_done)
    waiting.join()
    assert not report.finished
    assert len(report.done) == 1
    assert erased[0].verified
    rest = store.maintain()
    assert rest.finished
    assert store.plan() == []
    assert [store.get(i) is not None for i in ids] == [False] + [True] * 11
    store.close()


def test_nobody_maintains_while_somebody_has_a_turn_of_their_own(tmp_path):
    store, _ = old_store(tmp_path / "store")
    storage, paths = LocalStorage(), store._engine.paths
    with own_turn(storage, paths):
        assert try_turn(storage, paths) is None
        report = store.maintain()
        assert not report.finished
        assert report.done == []
    assert store.maintain().finished
    store.close()


def test_a_hook_for_analytics_is_called_by_a_store_that_maintains_itself(tmp_path):
    called = threading.Event()
    seen = []

    def analytics(store):
        seen.append(store.agents())
        called.set()

    settings = {**QUIET, "scheduling": {"analytics_s": 0.05}}
    with MemStore(tmp_path / "store", settings=settings, maintain=True, analytics=analytics) as store:
        store.append(agent_id="ant", content=1)
        assert called.wait(30)
    assert seen[0] in ([], ["ant"])
