"""Release lanes that cannot be merged as they are: what is whole into a lane that can, the rest into the quarantine.

::

    the lane                             copied into the quarantine, with the ranges that are lost
    slices that are not merged yet       into a new lane of the same token, which takes the place of the old one
    lines whose commit line was lost     into a lane whose token is made of the old one's

A MANIFEST that counts the old lane as merged so counts the new one, in which there is nothing of that agent; and at no
moment are a slice's records in two lanes of different tokens. Whatever is stopped in between is begun again and gives
the same names. The next merge takes both lanes.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import msgspec

from memstore.codec.checksum import checksum
from memstore.engine.engine import Engine
from memstore.errors import CorruptionError, StorageError
from memstore.format.consumer_file import ConsumerFile
from memstore.format.lane import Slice, encode_commit, encode_header
from memstore.format.lines import agent_prefix, lines_span_us
from memstore.format.names import lane_name
from memstore.fs.atomic import temporary_path, try_unlink
from memstore.fs.storage import StorageFile
from memstore.ops.repair.lane_plan import LanePlan
from memstore.ops.repair.quarantine import Quarantine
from memstore.ops.repair.salvage_lane import Load
from memstore.wal.seal import seal_lane

COMMIT_BYTES = 8 * 1024 * 1024
"""How much of the old lane is written at once."""
_SLICE_BYTES = 1024 * 1024


class LaneRepair:
    """Carries out plans. Used by one thread, which holds the merge lock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._storage = engine.storage

    def restore_lost(self, plan: LanePlan) -> None:
        """Write what is to be taken into a lane that the next merge takes.

        Raises:
            StorageError: the disk refuses.
        """
        name = lane_name(plan.writer, plan.adopted_token)
        self._write(os.path.join(self._engine.paths.lanes, name), plan, _slices_of(plan.lines))
        self._engine.lanes.forget()

    def carry_out(self, plan: LanePlan, quarantine: Quarantine) -> None:
        """Write what is whole into lanes that can be merged, and set the old one aside.

        Raises:
            StorageFullError: no space; the old lane stands.
            StorageError: the disk refuses, likewise.
        """
        assert not plan.is_written
        found = {"lost": [asdict(each) for each in plan.salvage.lost], "records_kept": plan.records}
        quarantine.copy(plan.path, why="it could not be merged as it was", found=found)
        lanes = self._engine.paths.lanes
        if plan.is_for_consumers:
            self._engine.consumers.give_up([os.path.basename(plan.path)])
            return
        self._begin_again(plan.token)
        if plan.lines:
            name = lane_name(plan.writer, plan.adopted_token)
            self._write(os.path.join(lanes, name), plan, _slices_of(plan.lines))
        target = os.path.join(lanes, lane_name(plan.writer, plan.token))
        if plan.slices:
            self._write(target, plan, plan.slices)
        if plan.path != target or not plan.slices:
            try_unlink(self._storage, plan.path)
        self._storage.sync_directory(lanes)
        self._engine.handles.drop(plan.path)
        self._engine.lanes.forget()

    def _begin_again(self, token: str) -> None:
        """Have every consumer read the lane from its start: what comes under this token has other offsets."""

        def without(content: ConsumerFile) -> ConsumerFile:
            return msgspec.structs.replace(content, lanes={t: at for t, at in content.lanes.items() if t != token})

        for name in self._engine.consumers.names():
            with contextlib.suppress(CorruptionError, KeyError):  # it has missed everything anyway, or is gone
                self._engine.consumers.update(name, without)

    def _write(self, target: str, plan: LanePlan, slices: Sequence[tuple[Slice, Load]]) -> None:
        """A sealed lane of these slices, whole and durable before it has its name."""
        engine = self._engine
        now_us = engine.clock.now_us()
        header = plan.salvage.header
        temporary = temporary_path(engine.paths.lanes)
        file = self._storage.create(temporary)
        try:
            if not file.try_lock():
                raise StorageError(f"{temporary}: a new file is locked by somebody else")
            first = encode_header(
                store=engine.catalog.state.store.id,
                writer=plan.writer,
                at=now_us if header is None else header.at,
                durability="fsync",
            )
            file.write(first, 0)
            _write_commits(file, len(first), slices, now_us)
            seal_lane(self._storage, engine.paths, file, at_us=now_us, own=True)
            self._storage.rename(temporary, target)
        except BaseException:
            try_unlink(self._storage, temporary)
            raise
        finally:
            file.close()
        self._storage.sync_directory(engine.paths.lanes)


def _write_commits(file: StorageFile, offset: int, slices: Sequence[tuple[Slice, Load]], at_us: int) -> None:
    for group in _groups(slices):
        body: list[bytes] = []
        listed: list[Slice] = []
        end = 0
        for item, load in group:
            data = load()
            if checksum(data) != item.xxh3:
                raise StorageError(f"{file.path}: a slice of {item.agent!r} has changed since it was looked at")
            listed.append(item._replace(offset=end))
            body.append(data)
            end += len(data)
        payload = encode_commit(at=at_us, body_bytes=end, slices=listed) + b"".join(body)
        file.write(payload, offset)
        offset += len(payload)


def _groups(slices: Sequence[tuple[Slice, Load]]) -> Iterator[list[tuple[Slice, Load]]]:
    group: list[tuple[Slice, Load]] = []
    size = 0
    for item, load in slices:
        if group and size + item.length > COMMIT_BYTES:
            yield group
            group, size = [], 0
        group.append((item, load))
        size += item.length
    if group:
        yield group


def _slices_of(lines: dict[tuple[str, str], list[bytes]]) -> list[tuple[Slice, Load]]:
    found: list[tuple[Slice, Load]] = []
    for (agent, day), of_day in lines.items():
        part: list[bytes] = []
        for index, line in enumerate(of_day):
            part.append(line)
            if index + 1 == len(of_day) or sum(map(len, part)) + len(of_day[index + 1]) > _SLICE_BYTES:
                data = b"".join(part)
                span = lines_span_us(part, len(agent_prefix(agent)))
                item = Slice(agent, day, 0, len(data), len(part), *span, checksum(data))
                found.append((item, functools.partial(bytes, data)))
                part = []
    return found
