"""The name that somebody who misspelt one most likely meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_name(given: object, known: Iterable[str]) -> str | None:
    """The nearest of the known names, or None where none is near (`difflib`'s own idea of near: a ratio of 0.6)."""
    near = difflib.get_close_matches(str(given), list(known), n=1)
    return near[0] if near else None
