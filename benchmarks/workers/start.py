"""A worker waits until all that run with it are ready."""

from __future__ import annotations

import sys


def wait_for_start() -> None:
    """Say ``ready``, and wait for a line."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
