"""Who still needs a lane that is merged: consumers and their watermarks (DESIGN 5.5).

A consumer registers before it reads anything; from then on a merge leaves each lane that it has not passed in place, as
``.merged``, where no read of records looks at it. What is kept for consumers is bounded: above the bound the oldest
lanes go, once every consumer that needed them has it durably noted which months it missed. A consumer whose file is
damaged has missed everything, and is registered anew.

Whoever has moved its watermark calls `release`; so does the clean-up.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import msgspec

from memstore.errors import CorruptionError
from memstore.format.consumer_file import ConsumerFile, decode_consumer_file, encode_consumer_file
from memstore.format.lane import Seal
from memstore.format.names import (
    CONSUMER_SUFFIX,
    LANE_SUFFIX,
    MERGED_SUFFIX,
    StorePaths,
    is_merged_lane_name,
    lane_token,
)
from memstore.fs.atomic import make_directories, replace_file, try_unlink
from memstore.fs.lock import locked
from memstore.fs.storage import FileIdentity, Storage, StorageFile
from memstore.wal.reader import LaneReader, iterate_footer
from memstore.wal.seal import read_seal

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """One reading of a consumer's file: equal identities mean equal content, as long as this is kept.

    For the file stays open, so that none that takes its place gets its inode.
    """

    content: ConsumerFile
    identity: FileIdentity
    file: StorageFile


class Consumers:
    """The consumers of one store. Thread-safe: all state is in files.

    Args:
        storage: where the store lies.
        paths: the store's.
        lag_bytes_max: how much is kept for consumers that lag.
    """

    def __init__(self, storage: Storage, paths: StorePaths, *, lag_bytes_max: int) -> None:
        self._storage = storage
        self._paths = paths
        self._lag_bytes_max = lag_bytes_max

    def names(self) -> list[str]:
        """Names of all that are registered, sorted."""
        try:
            entries = self._storage.list_directory(self._paths.consumers)
        except FileNotFoundError:
            return []
        return sorted(
            e.name.removesuffix(CONSUMER_SUFFIX)
            for e in entries
            if e.name.endswith(CONSUMER_SUFFIX) and not e.name.startswith(".")
        )

    def read(self, name: str) -> ConsumerState | None:
        """What a consumer's file says, or None where it is not registered.

        Raises:
            CorruptionError: it does not verify.
        """
        path = self._paths.consumer(name)
        try:
            file = self._storage.open_read(path)
        except FileNotFoundError:
            return None
        try:
            identity = file.identity()
            return ConsumerState(decode_consumer_file(file.read(0, identity.size_bytes), path), identity, file)
        except BaseException:
            file.close()
            raise

    def identify(self, name: str) -> FileIdentity | None:
        """Identity of a consumer's file as it stands now; None where it is not registered."""
        return self._storage.identify(self._paths.consumer(name))

    def register(self, name: str, *, at_us: int) -> ConsumerFile:
        """The consumer's file, made durable if it is new: from now on lanes wait for it."""
        make_directories(self._storage, self._paths.consumers)
        with self._lock(name):
            state = self.read(name)
            if state is not None:
                state.file.close()
                return state.content
            content = ConsumerFile(name=name, at=at_us)
            replace_file(self._storage, self._paths.consumer(name), encode_consumer_file(content))
            return content

    def unregister(self, name: str) -> None:
        """Let no lane wait for a consumer any more. Idempotent."""
        if self.identify(name) is None:
            return
        with self._lock(name):
            if try_unlink(self._storage, self._paths.consumer(name)):
                self._storage.sync_directory(self._paths.consumers)
        self.release()

    def update(self, name: str, change: Callable[[ConsumerFile], ConsumerFile]) -> ConsumerFile:
        """Replace a consumer's file durably with what ``change`` makes of it.

        Raises:
            KeyError: it is not registered.
            CorruptionError: it does not verify.
        """
        with self._lock(name):
            state = self.read(name)
            if state is None:
                raise KeyError(name)
            state.file.close()
            changed = change(state.content)
            if changed != state.content:
                replace_file(self._storage, self._paths.consumer(name), encode_consumer_file(changed))
            return changed

    def merged_names(self) -> list[str]:
        """Names of lanes that wait for a consumer alone, sorted."""
        return sorted(e.name for e in self._storage.list_directory(self._paths.lanes) if is_merged_lane_name(e.name))

    # -- the merging side: the merge lock is held

    def settle(self, path: str, token: str, footer: int) -> bool:
        """Unlink a lane that is merged and synced, or leave it for the consumers that have not passed it.

        Args:
            path: the lane's.
            token: how it is cited.
            footer: where its commits end.

        Returns:
            Whether it is gone. ``lanes/`` is still to be synced.
        """
        if self._is_passed(token, footer):
            self._storage.unlink(path)
            return True
        self._storage.rename(path, path.removesuffix(LANE_SUFFIX) + MERGED_SUFFIX)
        return False

    def keep_bound(self) -> None:
        """Let the oldest lanes go where more is kept for consumers than the bound allows."""
        kept = []
        for name in self.merged_names():
            identity = self._storage.identify(os.path.join(self._paths.lanes, name))
            if identity is not None:
                kept.append((identity.changed_ns, name, identity.size_bytes))
        total = sum(size for _, _, size in kept)
        going = []
        for _, name, size in sorted(kept):
            if total <= self._lag_bytes_max:
                break
            going.append(name)
            total -= size
        if going:
            _log.warning(
                "%s: %d lanes are let go before every consumer has read them; those will catch up from the files",
                self._paths.lanes,
                len(going),
            )
            self.give_up(going)

    def give_up_agent(self, agent: str | None) -> list[str]:
        """Let every merged lane go that holds lines of an agent (None: every one), for an erasure; their paths."""
        names = []
        for name in self.merged_names():
            path = os.path.join(self._paths.lanes, name)
            try:
                reader = LaneReader(self._storage.open_read(path), lane_token(name))
            except FileNotFoundError:
                continue
            reader.refresh()
            if agent is None or reader.agent_slices(agent).slices:
                names.append(name)
        self.give_up(names)
        return [os.path.join(self._paths.lanes, name) for name in names]

    def give_up(self, names: Sequence[str]) -> None:
        """Note durably for each consumer what it misses of merged lanes, then unlink them."""
        if not names:
            return
        for consumer in self._states():
            months: set[str] = set()
            at_us = 0
            for name in names:
                try:
                    seal, days = self._days_of(os.path.join(self._paths.lanes, name))
                except FileNotFoundError:
                    continue  # all have passed it meanwhile
                except CorruptionError as error:
                    _log.error("%s; consumer %s begins anew, for what it misses cannot be told", error, consumer.name)
                    self.update(consumer.name, _anew)
                    months = set()
                    break
                if consumer.lanes.get(lane_token(name), 0) != seal.footer:
                    months.update(day[:6] for day in days)
                    at_us = max(at_us, seal.at)
            if months:
                with contextlib.suppress(KeyError):  # unregistered meanwhile: it needs nothing any more
                    self.update(consumer.name, partial(_missing, months=months, at_us=at_us))
        for name in names:
            try_unlink(self._storage, os.path.join(self._paths.lanes, name))
        self._storage.sync_directory(self._paths.lanes)

    # -- everybody

    def release(self) -> int:
        """Unlink lanes that waited for consumers and that all have passed; how many."""
        gone = 0
        for name in self.merged_names():
            path = os.path.join(self._paths.lanes, name)
            footer = self._footer(path)
            if footer is not None and self._is_passed(lane_token(name), footer):
                gone += try_unlink(self._storage, path)
        if gone:
            self._storage.sync_directory(self._paths.lanes)
        return gone

    def _lock(self, name: str) -> AbstractContextManager[None]:
        return locked(self._storage, self._paths.lock(f"consumer-{name}"))

    def _states(self) -> Iterator[ConsumerFile]:
        for name in self.names():
            try:
                state = self.read(name)
            except CorruptionError as error:
                # Its watermark is lost: whatever it was, it must begin anew, and needs no lane for that.
                _log.error("%s; the consumer begins anew", error)
                continue
            if state is not None:
                state.file.close()
                yield state.content

    def _is_passed(self, token: str, footer: int) -> bool:
        # Not beyond it either: such a consumer has read what was cut off again, and still has to see that it was.
        return all(content.lanes.get(token, 0) == footer for content in self._states())

    def _footer(self, path: str) -> int | None:
        try:
            file = self._storage.open_read(path)
        except FileNotFoundError:
            return None
        try:
            sealed = read_seal(file, file.identity().size_bytes)
            return None if sealed is None else sealed[0].footer
        finally:
            file.close()

    def _days_of(self, path: str) -> tuple[Seal, set[str]]:
        """A sealed lane's last line, and the UTC days of the records in it."""
        file = self._storage.open_read(path)
        try:
            size = file.identity().size_bytes
            sealed = read_seal(file, size)
            if sealed is None:
                raise CorruptionError(path, offset_bytes=0, length_bytes=size, reason="its last line does not verify")
            return sealed[0], {item.day for item in iterate_footer(file, *sealed)}
        finally:
            file.close()


def _anew(content: ConsumerFile) -> ConsumerFile:
    return ConsumerFile(name=content.name, at=content.at)


def _missing(content: ConsumerFile, *, months: set[str], at_us: int) -> ConsumerFile:
    return msgspec.structs.replace(
        content, missed=sorted(months.union(content.missed)), missed_at=max(at_us, content.missed_at)
    )
