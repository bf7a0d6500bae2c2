"""An erasure that is interrupted, resumed and interrupted again, whose agent writes on into the same day files."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import QUIET, make_engine, put
from test_erase import erased_for_good, eraser, lines

from memstore import StorageError
from memstore.clock import ManualClock
from memstore.engine.engine import Engine
from memstore.fs.local import LocalStorage
from memstore.fs.lock import locked
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.lifecycle.receipt import Receipt
from memstore.testing.faulty import CHANGING_KINDS, Fault, FaultyStorage

DAYS = ("2025-01-13", "2025-01-14", "2025-01-15")


def write(engine: Engine, content: str) -> set[str]:
    """A record of each day, in files."""
    ids = {put(engine, "bot", content, timestamp_utc=f"{day}T10:00:00Z") for day in DAYS}
    engine.drain(timeout_s=0)
    return ids


def resume(engine: Engine) -> list[Receipt]:
    with locked(engine.storage, engine.paths.lock("lifecycle")):
        return eraser(engine).resume()


def test_what_goes_is_told_from_what_was_written_since_whatever_call_of_the_second_try_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(1_736_935_200_000_000)  # noon of the last day
    with closing(make_engine(tmp_path / "model", settings=QUIET, clock=clock)) as engine:
        old = write(engine, "old")
        old |= write(engine, "old too")

        def killed(*_: Any) -> None:
            raise StorageError("killed")

        made = Lifecycle(engine).eraser
        made._drain_wait_s = 0.0
        monkeypatch.setattr(made, "_remove_agent", killed)
        with pytest.raises(StorageError, match="killed"):
            made.erase_agent("bot")
        clock.advance(1)
        since = write(engine, "new")
    failed, call = True, 0
    while failed:
        root = shutil.copytree(tmp_path / "model", tmp_path / f"store-{call}")
        storage = FaultyStorage(LocalStorage())
        with closing(make_engine(root, storage, settings=QUIET, clock=clock)) as engine:
            fault = storage.arm(Fault(CHANGING_KINDS, after=call, times=-1))
            try:
                failed = bool([each for each in resume(engine) if not each.verified])
            except StorageError:
                failed = True
            failed = failed or fault.times < -1
            storage.disarm()
        clock.advance(1)
        with closing(make_engine(root, settings=QUIET, clock=clock)) as engine:
            kept = since | write(engine, "newer")
            resume(engine)
            assert lines(engine, "bot").keys() == kept, f"call {call}"
            assert resume(engine) == []
        erased_for_good(root, old)
        shutil.rmtree(root)
        call += 1
    assert call > 20
