"""Where what was typed is kept: below the user's state directory, never in a store."""

from __future__ import annotations

import contextlib
import os

_BYTES_MAX = 512 * 1024
"""Of the file; some ten thousand questions. Above it the older half goes."""


def history_path(environ: os._Environ[str] | dict[str, str]) -> str:
    """``$XDG_STATE_HOME/memstore/search-history``, below ``~/.local/state`` unless that is set."""
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # as the specification of these directories wants it
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "memstore", "search-history")


def prepared(path: str) -> bool:
    """Whether the file can be used: it is there, private, and not too large.

    Its entries are blocks of lines that begin with ``# `` (when) or ``+`` (what), as prompt_toolkit writes them.
    """
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
        if os.path.getsize(path) > _BYTES_MAX:
            _halve(path)
        return True
    return False


def _halve(path: str) -> None:
    with open(path, "rb") as file:
        data = file.read()
    cut = data.find(b"\n# ", len(data) // 2)
    beside = f"{path}.{os.getpid()}"
    with open(beside, "wb") as out:
        out.write(data[cut:] if cut >= 0 else b"")
    os.replace(beside, path)
