"""tantivy's errors, translated where they enter.

It raises ValueError for nearly everything, and a panic of its own reaches Python as a BaseException that no ``except
Exception`` catches. Its writes are not ours to retry: what fails is given up and built again.
"""

from __future__ import annotations

from memstore.errors import StorageError, UsageError


class IndexFailedError(StorageError):
    """The search index, or a part of it, cannot be used; it is derived and can be built again."""

    @property
    def is_disks(self) -> bool:
        """Whether the disk refused (it is full, say, or read-only), and the index may be sound."""
        return any(sign in str(self) for sign in _DISKS)


class QueryRefusedError(IndexFailedError):
    """The index is sound, and refuses to look for what was asked."""


class TooMuchAskedError(UsageError):
    """The index is sound, and its answer would be larger than it gives one."""


_DISKS = ("os error", "IoError(Os {")
"""How tantivy tells what the system told it."""
_TOO_MUCH = "Aborting aggregation because"
_REFUSALS = ("An invalid argument was passed", "Schema error", "The field does not exist")


class translated:  # noqa: N801 - it reads as a verb where it is used
    """Turn whatever tantivy raises into an `IndexFailedError` that names ``what``; a context.

    A class, for a search enters dozens of these, and a generator costs four times as much.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, _NOT_TANTIVYS):
            return
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            return
        message = f"{self._what}: {error}"
        if isinstance(error, ValueError) and str(error).startswith(_TOO_MUCH):
            raise TooMuchAskedError("there are too many groups or values; group by less, or filter more") from error
        refused = isinstance(error, ValueError) and str(error).startswith(_REFUSALS)
        raise (QueryRefusedError if refused else IndexFailedError)(message) from error


_NOT_TANTIVYS = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, IndexFailedError, TooMuchAskedError)
