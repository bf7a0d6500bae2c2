"""Log records as JSON, one object a line: what a daemon says, for machines to read.

``{"time": ..., "level": ..., "event": ..., ...}``. A record made with ``extra={"event": ..., "fields": {...}}`` gives
its event and its fields; any other is the event ``log``, with its message.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec
import orjson

from memstore.timestamps import iso_text

_OWN = ("time", "level", "event")


class JsonLog(logging.Handler):
    """Writes each record as a line and flushes it. Thread-safe.

    A line that the stream does not take (a full disk behind a redirection) is counted and dropped: the work must go on,
    and may be what makes room.

    Attributes:
        dropped: lines that could not be written.
    """

    def __init__(self, stream: BinaryIO, *, on_closed: Callable[[], object]) -> None:
        """Write to ``stream``; ``on_closed`` is told once when nobody reads it any more."""
        super().__init__(logging.INFO)
        self.dropped = 0
        self._stream = stream
        self._on_closed = on_closed
        self._closed = False
        self._write_lock = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        line = json_line(record)
        with self._write_lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except BrokenPipeError:
                self.dropped += 1
                if not self._closed:
                    self._closed = True
                    self._on_closed()
            except OSError:
                self.dropped += 1


def json_line(record: logging.LogRecord) -> bytes:
    """The record as one line, line break included; what is no JSON is told as text."""
    event = getattr(record, "event", "log")
    line: dict[str, Any] = {
        "time": iso_text(int(record.created * 1_000_000)),
        "level": record.levelname.lower(),
        "event": event,
    }
    if event == "log":
        line |= {"logger": record.name, "message": record.getMessage()}
    fields = getattr(record, "fields", {})
    line |= {name: value for name, value in fields.items() if name not in _OWN}
    if record.exc_info and record.exc_info[0] is not None:
        line["traceback"] = logging.Formatter().formatException(record.exc_info)
    try:
        return orjson.dumps(line, default=_plain, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a path that is no valid text; the escape of a lone surrogate says which bytes
        return (json.dumps(line, default=str) + "\n").encode()


def _plain(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        return str(value)
