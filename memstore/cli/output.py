"""Standard output as the commands see it: bytes out, a format, a width.

Everything is written as bytes through one buffer, so that stored lines pass unchanged whatever the locale, and so that
a closed pipe is an ordinary ``BrokenPipeError`` (rich would end the process itself).
"""

from __future__ import annotations

import argparse
import copy
import shutil
import sys
from typing import BinaryIO, Self, TextIO

PIPE_WIDTH_CHARS = 120
"""Width of a table that goes into a pipe or file, where there is no terminal to ask; ``COLUMNS`` overrides it."""


class Output:
    """One command's standard output. Not thread-safe; flush before the command ends.

    Attributes:
        format: ``table``, ``json``, ``ndjson`` or ``csv``.
        chosen: whether the user named the format.
        is_terminal: whether a person is looking.
        width_chars: columns of the terminal.
    """

    def __init__(self, chosen: str | None, stream: TextIO | None = None) -> None:
        stream = sys.stdout if stream is None else stream
        self._buffer: BinaryIO = stream.buffer
        self.is_terminal = stream.isatty()
        self.chosen = chosen is not None
        self.format = chosen or ("table" if self.is_terminal else "ndjson")
        self.width_chars = shutil.get_terminal_size((PIPE_WIDTH_CHARS, 24)).columns
        self._encoding = stream.encoding or "utf-8"

    @classmethod
    def of(cls, args: argparse.Namespace) -> Output:
        """The output that ``-o`` asks for."""
        return cls(args.output)

    def into(self, file: BinaryIO, form: str) -> Self:
        """The same into a file, in a format."""
        other = copy.copy(self)
        other._redirect(file)  # noqa: SLF001 - its own class
        other.format = form
        return other

    def _redirect(self, file: BinaryIO) -> None:
        self._buffer, self._encoding, self.is_terminal = file, "utf-8", False

    def descriptor(self) -> int | None:
        """The system's number of it, where it has one."""
        try:
            return self._buffer.fileno()
        except (OSError, ValueError):
            return None

    @property
    def is_unicode(self) -> bool:
        """Whether block characters and the like can be written."""
        return self._encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf16", "utf32")

    def write_bytes(self, data: bytes) -> None:
        """Write as they are."""
        self._buffer.write(data)

    def write_text(self, text: str) -> None:
        """Write in the stream's encoding; what it cannot say is escaped."""
        self._buffer.write(text.encode(self._encoding, "backslashreplace"))

    def flush(self) -> None:
        """Hand everything to the system.

        Raises:
            OSError: whoever reads is gone, or the disk behind a redirection is full.
        """
        self._buffer.flush()
