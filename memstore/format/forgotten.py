"""FORGOTTEN: every act that made records disappear, as checked lines that are only ever appended to.

::

    {"changing":{at, agent, since, until, ids}}      records of one agent that are about to be hidden, or shown again
    {"forgotten":{at, act, agent, records, ids}}     records of one agent that a read no longer finds
    {"erasure":{id, at, agent, ids, late}}           an erasure that has been begun, before anything is changed
    {"erased":{id, at, records, pending}}            and where it was carried out

It holds hashes of ids, never ids: what was erased must not live on in the note of its erasure. Its size is the epoch by
which readers know that what they have cached may be gone.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import xxhash

from memstore.format.checked import encode_checked, verified_body

Act = Literal["forget", "retention", "undelete", "erase"]


class Changing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Records of one agent that may be hidden, or shown again, from now on; durable before any of them is.

    What is derived from records (a search index) believes nothing about these before it has looked again. The agent
    and the ids are hashes; ``since`` and ``until`` are microseconds of record time, the latter exclusive. ``ids`` is
    empty where any record of that time may be concerned, and is given only for records that go.
    """

    at: int
    agent: str
    since: int
    until: int
    ids: list[str] = []


class ForgottenRecords(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Records of one agent that are hidden, or shown again, since ``at``; ``agent`` is a hash.

    Which were forgotten stands in the `Changing` of the same time. ``ids`` are the hashes of those whose tombstones an
    undelete is about to take back. Should the MANIFEST that has the tombstones be lost, a repair knows by both which
    records to hide again.
    """

    at: int
    act: Act
    agent: str
    records: int
    ids: list[str] = []


class Erasure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An erasure that was asked for: of one agent up to ``at``, or of single records of that agent; by hash.

    ``ids`` is empty where all of the agent is erased. The agent is there in either case: who finishes an erasure that
    was interrupted has to find the records by their hashes, and looks among the agent's only. An erasure that takes
    records of several agents is an entry for each of them, of one ``id``.

    ``late`` says that lanes stood which could not be merged before it began, so that what was there by then may reach
    the agent's files later.
    """

    id: str
    at: int
    agent: str
    ids: list[str] = []
    late: bool = False


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure that was carried out; ``pending`` says how many places could not be reached."""

    id: str
    at: int
    records: int
    pending: int


ForgottenEntry = Changing | ForgottenRecords | Erasure | Erased


class ForgottenLine(msgspec.Struct, frozen=True):
    """One decoded line; exactly one attribute is set, or none for a kind that this version does not know."""

    changing: Changing | None = None
    forgotten: ForgottenRecords | None = None
    erasure: Erasure | None = None
    erased: Erased | None = None


_decoder = msgspec.json.Decoder(ForgottenLine)


def text_hash(text: str) -> str:
    """What stands for an agent id or a memory id: xxh3-128 of its UTF-8, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def encode_forgotten(entry: ForgottenEntry) -> bytes:
    """One line."""
    kinds = {Changing: "changing", ForgottenRecords: "forgotten", Erasure: "erasure", Erased: "erased"}
    return encode_checked(kinds[type(entry)], entry)


def decode_forgotten(line: bytes) -> ForgottenLine | None:
    """The line's content, or None where it does not verify. ``line`` has no line break."""
    body = verified_body(line)
    return None if body is None else _decoder.decode(body)
