"""tantivy's errors, translated where they enter.

It raises ValueError for nearly everything, and a panic of its own reaches Python as a BaseException that no ``except
Exception`` catches. Its writes are not ours to retry: what fails is given up and built again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from memstore.errors import StorageError, UsageError


class IndexFailedError(StorageError):
    """The search index, or a part of it, cannot be used; it is derived and can be built again."""

    @property
    def is_disks(self) -> bool:
        """Whether the disk refused (it is full, say), and the index may be sound."""
        return "os error" in str(self)


class QueryRefusedError(IndexFailedError):
    """The index is sound, and refuses to look for what was asked."""


class TooMuchAskedError(UsageError):
    """The index is sound, and its answer would be larger than it gives one."""


_TOO_MUCH = "Aborting aggregation because"
_REFUSALS = ("An invalid argument was passed", "Schema error", "The field does not exist")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever tantivy raises into an `IndexFailedError` that names ``what``."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, IndexFailedError, TooMuchAskedError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            if isinstance(error, ValueError) and str(error).startswith(_TOO_MUCH):
                raise TooMuchAskedError("there are too many groups or values; group by less, or filter more") from error
            refused = isinstance(error, ValueError) and str(error).startswith(_REFUSALS)
            raise (QueryRefusedError if refused else IndexFailedError)(f"{what}: {error}") from error
        raise
