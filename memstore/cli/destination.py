"""The file that an export goes to: it appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from memstore.errors import StorageError, StorageFullError, UsageError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def whole_file(path: str, *, force: bool) -> Iterator[BinaryIO]:
    """A file that takes its name when it is whole and on disk; removed if anything goes wrong before.

    It is written beside its name, under a name that nobody else uses. A symbolic link stays, and what it leads to is
    written; a device or named pipe is written into as it is.

    Args:
        path: where to.
        force: replace a file that is there, keeping its permissions.

    Raises:
        UsageError: a file is there and may not be replaced, or it is a directory.
        StorageFullError: no space.
        StorageError: the place cannot be written.
        BrokenPipeError: whoever read the named pipe is gone.
    """
    place = os.path.realpath(path)
    try:
        mode = _mode(path)
        if mode is None or stat.S_ISREG(mode):
            if mode is not None and not force:
                raise UsageError(f"{path} is there already; --force replaces it")
            with _replacing(place, mode) as out:
                yield out
        elif stat.S_ISDIR(mode):
            raise UsageError(f"{path} is a directory: name a file, or use `export tree`")
        else:
            with open(path, "wb") as out:
                yield out
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(f"no space to export to: {path}") from error
        parent = os.path.dirname(place)
        reason = f"there is no directory {parent}" if error.errno == errno.ENOENT else error.strerror or str(error)
        raise StorageError(f"{path} cannot be written: {reason}") from error


def _mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _replacing(place: str, mode: int | None) -> Iterator[BinaryIO]:
    partial = f"{place}.{os.getpid()}.partial"
    with open(partial, "xb") as out:
        try:
            if mode is not None:
                os.fchmod(out.fileno(), stat.S_IMODE(mode))
            yield out
            out.flush()
            os.fsync(out.fileno())
            os.replace(partial, place)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
