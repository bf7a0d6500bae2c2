"""What the command line exits with: one fixed number per class of error, the most specific class wins.

Scripts rely on these numbers: they are part of the interface (docs/CLI.md) and never change their meaning.
"""

from __future__ import annotations

from memstore.errors import (
    ConfigError,
    CorruptionError,
    HeldError,
    InvalidRecordError,
    LockedError,
    MemstoreError,
    NotFoundError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    StoreClosedError,
    UnsupportedError,
    UsageError,
    VersionError,
    WriterBrokenError,
)

OK = 0
NOTHING_FOUND = 1
BUG = 70
"""``EX_SOFTWARE`` of sysexits.h."""
INTERRUPTED = 130
"""What a shell reports for a process that SIGINT ended: 128 + 2."""
PIPE_CLOSED = 141
"""What a shell reports for a process that SIGPIPE ended: 128 + 13."""

_USAGE = 2
_STORAGE = 6
EXIT_CODES: dict[type[BaseException], int] = {
    UsageError: _USAGE,
    ConfigError: 3,
    InvalidRecordError: 4,
    NotFoundError: 5,
    StorageError: _STORAGE,
    CorruptionError: 7,
    LockedError: 8,
    VersionError: 9,
    UnsupportedError: 9,
    StorageFullError: 10,
    WriterBrokenError: 11,
    ReadOnlyError: 12,
    StoreClosedError: 12,
    HeldError: 13,
    MemstoreError: _STORAGE,
    # A file outside the store (an export's destination, standard output on a full disk): the disk said no.
    OSError: _STORAGE,
    BrokenPipeError: PIPE_CLOSED,
    KeyboardInterrupt: INTERRUPTED,
}


def exit_code(error: BaseException) -> int:
    """The number for this error; 70 where it is none that memstore knows, which is a bug of ours."""
    return exit_code_of(type(error))


def exit_code_of(kind: type[BaseException]) -> int:
    """The number for errors of this class."""
    for each in kind.__mro__:
        if each in EXIT_CODES:
            return EXIT_CODES[each]
    return BUG
