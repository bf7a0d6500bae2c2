"""When the power goes, and which calls fail before it does.

Every call that changes something, or makes it durable, is counted before it is carried out. A test names the calls
by these counts: the power is cut instead of the n-th, or the n-th of a kind is refused.
"""

from __future__ import annotations

import enum
import fnmatch
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from memstore.errors import StorageError

SYNC_KINDS = frozenset({"sync_data", "sync_directory", "sync_file_system"})


class PowerCut(BaseException):
    """The machine has no power. Not an `Exception`, so that no handler takes it for one of its own."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is to become of a call, and the error that it raises.

    Attributes:
        verdict: whether it is carried out.
        error: raised after that.
        written_bytes: of a write that fails: how much of it reaches the file.
    """

    verdict: Verdict
    error: Exception | None = None
    written_bytes: int = 0


class Verdict(enum.Enum):
    """What is to become of a call."""

    CARRY_OUT = "carry out"
    PRETEND = "say that it was done"
    LOSE = "lose what it was to make durable, and raise"


@dataclass(slots=True)
class _Failure:
    kinds: frozenset[str]
    path: str
    passing: int
    error: Callable[[str], Exception]
    loses_data: bool
    written_bytes: int = 0


def refused(path: str) -> StorageError:
    """What a failing disk says, unless another error is asked for."""
    return StorageError(f"{path}: input/output error (injected)")


class Power:
    """The power of one machine. Not thread-safe: its storage's lock guards it.

    Attributes:
        calls: how many calls there were that change something or make it durable; refused ones too.
        counts: how many of each kind (the name of the protocol's method).
        last_call: kind and path of the last of them.
        on: whether there is power.
        ignores_sync: asked with kind and path of each sync; where it says yes, the sync does nothing and says that it
            did, as broken drives do.
        on_cut: called once, by the thread that meets the power cut.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.counts: Counter[str] = Counter()
        self.last_call = ("", "")
        self.on = True
        self.ignores_sync: Callable[[str, str], bool] | None = None
        self.on_cut: Callable[[], None] | None = None
        self._cut_at = 0
        self._failures: list[_Failure] = []

    def at_call(self, call: int) -> None:
        """Cut the power instead of the ``call``-th changing call from now; 1 is the next."""
        self._cut_at = self.calls + call

    def cut(self) -> None:
        """Cut it now."""
        if self.on:
            self.on = False
            if self.on_cut is not None:
                self.on_cut()

    def fail(
        self,
        *kinds: str,
        call: int = 1,
        path: str = "*",
        error: Callable[[str], Exception] = refused,
        written_bytes: int = 0,
    ) -> None:
        """Refuse one call: the ``call``-th changing one from now of these kinds (none given: of any) and this path.

        A write is cut short: its first ``written_bytes`` reach the file.
        """
        failure = _Failure(frozenset(kinds), path, call - 1, error, loses_data=False, written_bytes=written_bytes)
        self._failures.append(failure)

    def heal(self) -> None:
        """No call is refused any more."""
        self._failures.clear()

    def fail_sync(self, *, call: int = 1, path: str = "*", error: Callable[[str], Exception] = refused) -> None:
        """Refuse one sync; what was written before it is still read back and never durable, whatever later syncs say.

        So does Linux: pages whose write-back has failed count as clean.
        """
        self._failures.append(_Failure(SYNC_KINDS, path, call - 1, error, loses_data=True))

    def check(self) -> None:
        """Raises: PowerCut: there is none."""
        if not self.on:
            raise PowerCut("the power is off")

    def judge(self, kind: str, path: str) -> Ruling:
        """Count a changing call before it is carried out, and say what is to become of it.

        Raises:
            PowerCut: there is no power, from this call on.
        """
        self.check()
        self.calls += 1
        self.counts[kind] += 1
        self.last_call = (kind, path)
        if self.calls == self._cut_at:
            self.cut()
            raise PowerCut(f"call {self.calls}: {kind} {path}")
        struck: _Failure | None = None
        for failure in self._failures:
            if (failure.kinds and kind not in failure.kinds) or not fnmatch.fnmatch(path, failure.path):
                continue
            failure.passing -= 1
            if failure.passing < 0 and struck is None:
                struck = failure
        if struck is not None:
            self._failures.remove(struck)
            verdict = Verdict.LOSE if struck.loses_data else Verdict.CARRY_OUT
            return Ruling(verdict, struck.error(path), struck.written_bytes)
        if kind in SYNC_KINDS and self.ignores_sync is not None and self.ignores_sync(kind, path):
            return Ruling(Verdict.PRETEND)
        return Ruling(Verdict.CARRY_OUT)
