"""Elements of SVG; colours come from the classes of the page around them (`style.css`)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def drawing(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """The whole element; its size can shrink with the page."""
    attributes = (
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg"'
    )
    return f"<svg {attributes}>{''.join(parts)}</svg>"


def text(kind: str, x: float, y: float, words: str, *, anchor: str = "start") -> str:
    """Words that begin, end or are centred at a place."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    """A straight one."""
    return f'<line class="{kind}" x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'


def box(kind: str, x: float, y: float, width: float, height: float) -> str:
    """A bar with its corners taken off."""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"/>'


def path(kind: str, places: Sequence[tuple[float, float]]) -> str:
    """Straight lines from place to place."""
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="{kind}" points="{points}"/>'


def dot(kind: str, x: float, y: float, told: str) -> str:
    """A point that says what it is when it is pointed at."""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(told)}</title></circle>'
