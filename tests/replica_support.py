"""What tests of the second copy share."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import Any

from support import make_engine

from memstore.engine.engine import Engine
from memstore.fs.storage import Storage
from memstore.replica.replicator import Replicator
from memstore.replica.setup import add_replica


class InlineExecutor(Executor):
    """Runs what it is given at once, so that the calls of a run have one order."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - as the real ones do
            future.set_exception(error)
        return future


def give_copy(engine: Engine, volume: str) -> str:
    """Give an engine's store a second copy that is up to date; its root."""
    root = add_replica(engine, volume)
    report = Replicator(engine).run()
    assert report is not None
    assert report.state == "ok", report.waiting
    return root


def copied(engine: Engine) -> None:
    """Bring the second copy up to date, whole."""
    report = Replicator(engine).run()
    assert report is not None
    assert report.state == "ok", report.waiting
    assert report.waiting == ()


def copy_state(engine: Engine) -> str:
    """What the store notes of its second copy."""
    entry = engine.catalog.reload().store.replica
    assert entry is not None
    return entry.state


def open_copy(root: str, storage: Storage | None = None, *, settings: dict[str, Any] | None = None) -> Engine:
    """An engine on the second copy alone, as anybody would open it."""
    engine = make_engine(root, storage, settings=settings, create=False)
    assert engine.alone is not None
    return engine
