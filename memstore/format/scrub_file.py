"""SCRUB.json: how far the slow check of a store has come, and what the last one found (docs/FORMAT.md). One line."""

from __future__ import annotations

from typing import Any

import msgspec

from memstore.format.checked import encode_checked, verified_body

LISTED_MAX = 100
"""Findings that the file lists; all are logged as they are made, and counted."""


class ScrubPass(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way through a store, or what has been done of it.

    Attributes:
        begun: when, microseconds.
        ended: when; 0 while it goes on.
        files: looked at.
        bytes: read.
        damaged: how many places are damaged.
        unread: how many places could not be looked at.
        findings: the first `LISTED_MAX` of them, as `memstore.ops.finding` gives them to machines.
    """

    begun: int
    ended: int = 0
    files: int = 0
    bytes: int = 0
    damaged: int = 0
    unread: int = 0
    findings: list[dict[str, Any]] = []


class ScrubFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Content of SCRUB.json.

    Attributes:
        current: the pass that goes on, or was stopped; None between two.
        agent: name of the directory of the agent that it is at; those are gone through by name. Empty: at the first.
        file: the last file of that agent that it is done with, by name. Empty: none.
        copy: whether it is done with the store itself, and at the second copy.
        last: the last pass that came to its end.
    """

    current: ScrubPass | None = None
    agent: str = ""
    file: str = ""
    copy: bool = False
    last: ScrubPass | None = None


class _ScrubLine(msgspec.Struct):
    scrub: ScrubFile


_decoder = msgspec.json.Decoder(_ScrubLine)


def encode_scrub_file(content: ScrubFile) -> bytes:
    """The whole file."""
    return encode_checked("scrub", content)


def decode_scrub_file(data: bytes) -> ScrubFile | None:
    """The content of the whole file, or None where it does not verify: then a new pass begins."""
    body = verified_body(data.rstrip(b"\n"))
    try:
        return None if body is None else _decoder.decode(body).scrub
    except msgspec.DecodeError:
        return None
