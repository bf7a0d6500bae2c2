"""The command line that gives the same answer. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from memstore.explore.asking import LIMIT_DEFAULT, Asking

_FLAGS = {
    "agent": "--agent",
    "memory_type": "--type",
    "importance": "--importance",
    "min_importance": "--min-importance",
    "tags": "--tag",
    "since": "--since",
    "until": "--until",
    "session": "--session",
}


def command_line(root: str, asking: Asking, *, config: str | None = None) -> str:
    """A command that asks this question once."""
    words = ["memstore", "search", "--root", root, *(["--config", config] if config else [])]
    filters, query = dict(asking.filters), asking.query
    every_tag = filters.pop("tags_all", None)
    if every_tag is not None and "tags" in filters:
        # One switch says how tags are meant, so the ones that must all be there go into the text.
        wanted = " ".join(f"tag:{json.dumps(tag, ensure_ascii=False)}" for tag in every_tag)
        query, every_tag = f"({query}) {wanted}" if query.strip() else wanted, None
    if every_tag is not None:
        words += [word for tag in every_tag for word in ("--tag", tag)] + ["--all-tags"]
    words += _filter_words(filters)
    if asking.sort != "relevance":
        words += ["--sort", asking.sort]
    if asking.limit != LIMIT_DEFAULT:
        words += ["-n", str(asking.limit)]
    if asking.facets:
        words += ["--facets", ",".join(asking.facets)]
    if not asking.highlight:
        words.append("--no-highlight")
    return shlex.join([*words, "--", query] if query.startswith("-") else [*words, query])


def _filter_words(filters: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in filters.items():
        if name == "context":
            words += [word for key, each in value.items() for word in ("--context", _pair(key, each))]
        elif name == "success":
            words += ["--success", "yes" if value else "no"]
        else:
            for each in [value] if isinstance(value, str) else value:
                words += [f"{_FLAGS[name]}={each}"] if str(each).startswith("-") else [_FLAGS[name], str(each)]
    return words


def _pair(key: str, value: Any) -> str:
    return f"{key}={value}" if isinstance(value, str) else f"{key}:={json.dumps(value)}"
