"""A timeline drawn with characters. Pure."""

from __future__ import annotations

from memstore.explore.timeline import Timeline

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = " ..::==##"
_EIGHTHS = 8
_BAR_CHARS_MAX = 4
HEIGHT = 4


def bars_fitting(width_chars: int) -> int:
    """How many bars a drawing of this width has room for, beside figures of up to ten digits."""
    return max(width_chars - 14, 8)


def histogram(line: Timeline, *, width_chars: int, height: int = HEIGHT, is_unicode: bool = True) -> list[str]:
    """The lines of the drawing, none of them wider than asked (but for the width of eight bars)."""
    blocks = _BLOCKS if is_unicode else _ASCII_BLOCKS
    top = max(line.counts)
    label = f"{top:,}"
    room = width_chars - len(label) - 3
    bar_chars = max(1, min(room // len(line.counts), _BAR_CHARS_MAX))
    eighths = [_eighths(count, top, height) for count in line.counts]
    wall, corner, floor = ("│", "└", "─") if is_unicode else ("|", "+", "-")
    rows = []
    for level in range(height - 1, -1, -1):
        bars = "".join(blocks[max(0, min(each - level * _EIGHTHS, _EIGHTHS))] * bar_chars for each in eighths)
        figure = label if level == height - 1 else ""
        rows.append(f" {figure:>{len(label)}}{wall}{bars}".rstrip())
    drawn = bar_chars * len(line.counts)
    rows.append(f" {'0':>{len(label)}}{corner}{floor * drawn}")
    rows.append(f" {'':>{len(label)}} {_axis(line, drawn, room)}")
    return rows


def _eighths(count: int, top: int, height: int) -> int:
    """How high a bar is; what is there at all is seen."""
    return max(round(count / top * height * _EIGHTHS), 1) if count else 0


def _axis(line: Timeline, drawn: int, room: int) -> str:
    """Where the first bar begins and the last ends, and between them, or behind them, what a bar is."""
    first, last = line.day_texts()
    width = f"a bar is {line.width_text}"
    if drawn >= len(first) + len(width) + len(last) + 4:
        return f"{first}{width:^{drawn - len(first) - len(last)}}{last}"
    both = f"{first}{last:>{max(drawn - len(first), len(last) + 2)}}"
    return f"{both}  {width}" if len(both) + len(width) + 2 <= room else both[: max(room, len(first))]
