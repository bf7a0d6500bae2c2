"""What a person is shown of stored text: safe for a terminal, in one line. Pure.

What a stored record holds must never steer a terminal.
"""

from __future__ import annotations

import json
import re
from typing import Any

from memstore.record import MemoryRecord

_SHORT_TEXT_SCAN_CHARS = 2000
"""Text behind this is never seen in a line: no terminal is that wide."""
_SPACE = re.compile(r"\s+")


def safe_text(text: str) -> str:
    r"""Text that cannot steer a terminal.

    Control, formatting and other characters that print nothing (escape sequences, carriage returns, bidirectional
    overrides) are shown as ``\x1b`` or ``\u202e``.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def short_text(record: MemoryRecord) -> str:
    """What a record says, in one line: the question, else the content, else the answer."""
    parts: list[Any] = [part.content for part in (record.input, record.response) if part is not None]
    parts.insert(0 if record.input is None else 1, record.content)
    texts = [
        part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, default=str)
        for part in parts
        if part is not None and part not in ("", {}, [])
    ]
    return _SPACE.sub(" ", " | ".join(text[:_SHORT_TEXT_SCAN_CHARS] for text in texts)).strip()
