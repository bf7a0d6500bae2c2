"""The Python that gives the same answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LINE_CHARS_MAX = 100


def python_call(
    root: str, method: str, first: str, arguments: Mapping[str, Any], *, settings: str | None = None
) -> str:
    """A program that asks this question and prints what is found.

    Args:
        root: the store's.
        method: ``search``, ``aggregate`` or ``similar``.
        first: its first argument: the query text, or a memory id.
        arguments: its keyword arguments.
        settings: path of the settings file that was used.
    """
    opened = [repr(root), *([f"settings={settings!r}"] if settings else []), "create=False"]
    given = [*([repr(first)] if first else []), *(f"{name}={_text(value)}" for name, value in arguments.items())]
    call = f"store.{method}({', '.join(given)})"
    if len(call) + 13 > _LINE_CHARS_MAX:
        call = f"store.{method}(\n" + "".join(f"        {each},\n" for each in given) + "    )"
    return "\n".join(
        (
            "from memstore import MemStore",
            "",
            f"with MemStore({', '.join(opened)}) as store:",
            f"    found = {call}",
            *_PRINTING["aggregate" if method == "aggregate" else "search"],
        )
    )


_PRINTING = {
    "aggregate": ("    for row in found:", "        print(row.as_dict())"),
    "search": (
        "    print(found.total)",
        "    for hit in found:",
        "        print(hit.record.memory_id, hit.score, *(passage.marked() for passage in hit.highlights))",
    ),
}


def _text(value: Any) -> str:
    """A value as Python says it; members of enums as their text."""
    if isinstance(value, str):
        return repr(str(value))
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_text(each)}" for key, each in value.items()) + "}"
    return repr(value)
