"""What the settings say about a file that is written: how it is packed, and what becomes of its records on the way."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from memstore.config import LifecycleSettings
from memstore.errors import StorageError
from memstore.format.lines import agent_prefix, line_time_us
from memstore.format.names import Tier
from memstore.lifecycle.collapse import Collapser
from memstore.lifecycle.digest import digest_line
from memstore.lifecycle.pack import Change, Recipe, Split
from memstore.lifecycle.retention import Expiry
from memstore.manifest.index import Hidden
from memstore.packed.kinds import own_period_us
from memstore.record import Importance
from memstore.timestamps import US_PER_DAY


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    retention_days: msgspec.Raw = msgspec.Raw(b"")


class _Line(msgspec.Struct, frozen=True, gc=False):
    memory_id: str
    memory_type: str = "INTERACTION"
    importance: str = "MEDIUM"
    metadata: _Metadata | None = None


_decoder = msgspec.json.Decoder(_Line)


def recipe_for(
    tier: Tier,
    agent: str,
    settings: LifecycleSettings,
    *,
    drop: Hidden,
    split: Split | None = None,
    change: Change | None = None,
) -> Recipe:
    """The recipe of a tier's files; repeats are collapsed in cold ones, where the settings ask for it."""
    cold = tier == "cold"
    return Recipe(
        tier=tier,
        frame_bytes_max=settings.cold_frame_bytes if cold else settings.warm_frame_bytes,
        level=settings.cold_level if cold else settings.warm_level,
        drop=drop,
        split=split,
        change=change,
        collapser=_collapser(agent, settings) if cold and settings.deduplication_enabled else None,
    )


def expired_split(expiry: Expiry, agent: str) -> Split:
    """Lines whose period has ended go to the trash."""
    prefix_bytes = len(agent_prefix(agent))

    def split(lines: list[bytes], ingested_us: int) -> list[bool]:
        gone: list[bool] = []
        for line in lines:
            record = _decode(line)
            own_us = None
            if record.metadata is not None and record.metadata.retention_days:
                own_us = own_period_us(msgspec.json.decode(record.metadata.retention_days))
            gone.append(
                expiry.expired(
                    record.memory_type,
                    record.importance,
                    line_time_us(line, prefix_bytes),
                    ingested_us,
                    None if own_us is None else own_us / US_PER_DAY,
                    record.memory_id,
                )
            )
        return gone

    return split


def others_split(ids: Hidden) -> Split:
    """All lines but those of ``ids`` go to the trash."""
    length, needles = ids.needle_bytes, ids.needles
    return lambda lines, _: [line[:length] not in needles for line in lines]


def whole_split(lines: list[bytes], _: int) -> list[bool]:
    """All lines go to the trash."""
    return [True] * len(lines)


def digest_change(
    agent: str, settings: LifecycleSettings, *, now_us: int, held: Callable[[str, str, int], bool]
) -> Change:
    """Routine records older than the limit keep a digest of long text, unless a hold forbids it.

    Args:
        agent: whose.
        settings: the limit, and what is routine.
        now_us: now.
        held: whether a hold covers a record, by id, type and time.
    """
    prefix_bytes = len(agent_prefix(agent))
    cutoff_us = now_us - settings.digest_after_days * US_PER_DAY
    routine = frozenset(settings.digest_types)

    def change(line: bytes) -> bytes | None:
        time_us = line_time_us(line, prefix_bytes)
        if time_us > cutoff_us:
            return None
        record = _decode(line)
        if record.importance != Importance.LOW or record.memory_type not in routine:
            return None
        if held(record.memory_id, record.memory_type, time_us):
            return None
        return digest_line(line, at_us=now_us, text_bytes_max=settings.digest_text_bytes)

    return change


def _collapser(agent: str, settings: LifecycleSettings) -> Callable[[], Collapser]:
    return lambda: Collapser(
        len(agent_prefix(agent)),
        agent,
        types=settings.deduplication_types,
        importances=settings.deduplication_importances,
    )


def _decode(line: bytes) -> _Line:
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise StorageError(f"a stored line is no record ({error}): {line[:120]!r}") from error
