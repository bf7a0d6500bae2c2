"""A timeline as a bar chart in SVG, to stand in a page of HTML. Pure."""

from __future__ import annotations

from memstore.explore.timeline import Timeline
from memstore.timestamps import iso_text

_WIDTH, _HEIGHT = 900, 120
_TOP, _BOTTOM = 14, 18
_GAP = 1.0


def chart(line: Timeline) -> str:
    """The element; each bar says its time and count when it is pointed at."""
    top = max(line.counts)
    step = _WIDTH / len(line.counts)
    room = _HEIGHT - _TOP - _BOTTOM
    bars = []
    for index, count in enumerate(line.counts):
        if not count:
            continue
        height = max(count / top * room, 1.5)
        begins = iso_text(line.start_us + index * line.width_us)[:16].replace("T", " ")
        bars.append(
            f'<rect class="bar" x="{index * step:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" '
            f'width="{max(step - _GAP, 0.5):.1f}" height="{height:.1f}"><title>{begins}: {count:,}</title></rect>'
        )
    first, last = line.day_texts()
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="hits over time">'
        f'<text x="0" y="10">{top:,}</text>{"".join(bars)}'
        f'<text x="0" y="{_HEIGHT - 4}">{first}</text>'
        f'<text x="{_WIDTH / 2:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">a bar is {line.width_text}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">{last}</text></svg>'
    )
