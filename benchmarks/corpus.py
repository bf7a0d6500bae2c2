"""The shared corpus of real agent memories, where there is one."""

from __future__ import annotations

import importlib
import os
import tarfile

_REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SHARED = os.path.join(os.path.dirname(_REPOSITORY), "shared", "data", "agent-memory-tree.tar.zst")
_WINDOW_BYTES_MAX = 2**27


def unpacked_corpus(chosen: str | None, target: str) -> str | None:
    """Put the corpus into a directory that is not there yet.

    Args:
        chosen: a directory or a ``.tar.zst``; None: the shared one beside the repository.
        target: made by this.

    Returns:
        None, or why there is none.
    """
    source = chosen or _SHARED
    if not os.path.exists(source):
        return f"missing: {os.path.basename(source)} is not there; name one with --corpus"
    if os.path.isdir(source):
        os.symlink(os.path.abspath(source), target)
        return None
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        return "missing: zstandard is not installed, which unpacks the corpus"
    os.mkdir(target)
    with (
        open(source, "rb") as packed,
        zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX).stream_reader(packed) as plain,
        tarfile.open(fileobj=plain, mode="r|") as archive,
    ):
        archive.extractall(target, filter="data")
    return None
