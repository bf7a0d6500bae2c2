"""Counts of values as a terminal shows them: a line for each field, with numbers to narrow by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from memstore.explore.hits_view import Look
from memstore.legible import safe_text
from memstore.search.result import FacetCount, FacetValue

_VALUE_CHARS_MAX = 40
Choice = tuple[str, FacetValue]
"""A facet and one of its values."""


def facet_lines(
    facets: Mapping[str, Sequence[FacetCount]], look: Look, *, numbered: bool
) -> tuple[list[Text], list[Choice]]:
    """One line for each facet that has values, cut to the width; and the values that are shown, in order."""
    lines: list[Text] = []
    shown: list[Choice] = []
    label_chars = max((len(name) for name in facets), default=0)
    for name, counts in facets.items():
        if not counts:
            continue
        line = Text(f"{safe_text(name):<{label_chars}} ", style="bold")
        for index, each in enumerate(counts):
            value = _value_text(each.value)
            number = f"[{len(shown) + 1}] " if numbered else ""
            count = f" {each.count:,}"
            rest = f"   … {len(counts) - index:,} more" if index < len(counts) - 1 else ""
            if index and line.cell_len + 2 + len(number) + len(value) + len(count) + len(rest) > look.width_chars:
                line.append(f"  {'…' if look.is_unicode else '...'} {len(counts) - index:,} more", style="dim")
                break
            line.append(f" {'' if index == 0 else ' '}")
            line.append(number, style="cyan")
            line.append(value)
            line.append(count, style="dim")
            shown.append((name, each.value))
        lines.append(line)
    return lines, shown


def _value_text(value: FacetValue) -> str:
    text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else safe_text(str(value))
    return text if len(text) <= _VALUE_CHARS_MAX else f"{text[: _VALUE_CHARS_MAX - 1]}…"
