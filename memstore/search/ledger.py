"""What counts of the index, kept by one run of the indexer: the only place that changes the state while it runs.

An erasure changes it too, and waits for nobody: it drops partitions and counts up ``erasures``. What was read before
that may hold words of what was erased, so it is not let count: whoever reads says so first (`Ledger.look`), and what
is published is compared with what was seen then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import msgspec

from memstore.engine.engine import Engine
from memstore.errors import CorruptionError
from memstore.format.consumer_file import ConsumerFile
from memstore.search.foreign import IndexFailedError
from memstore.search.omissions import Omissions
from memstore.search.schema import IndexShape
from memstore.search.state import CONSUMER, IndexState, PartitionEntry, partition_directory, state_of, with_state
from memstore.search.survey import months_of
from memstore.search.sweep import newest_version, remove_strangers, remove_tree

_log = logging.getLogger(__name__)


class ErasedMeanwhileError(Exception):
    """Records were erased while something was being built: it does not count.

    Attributes:
        entries: what was to be published.
    """

    def __init__(self, entries: dict[str, PartitionEntry]) -> None:
        super().__init__()
        self.entries = entries


class Ledger:
    """Used by one thread, under the index lock."""

    def __init__(self, engine: Engine, shape: IndexShape) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._root = engine.paths.search
        self._shape = shape
        self._erasures = 0

    def begin(self) -> ConsumerFile:
        """The state, registered and of this shape, with every month that has to be built."""
        consumers = self._engine.consumers
        try:
            content = consumers.register(CONSUMER, at_us=self._engine.clock.now_us())
            state = state_of(content)
        except (CorruptionError, msgspec.ValidationError) as error:
            _log.error("%s; the search index is built anew", error)
            consumers.unregister(CONSUMER)
            content = consumers.register(CONSUMER, at_us=self._engine.clock.now_us())
            state = IndexState()
        if state.shape != self._shape.fingerprint or not state.listed:
            content = self._list_months(state)
        return content

    def _list_months(self, state: IndexState) -> ConsumerFile:
        """Begin anew: from now on the lanes are kept, and all that is in the store by then is stale."""
        fresh = IndexState(
            shape=self._shape.fingerprint,
            forgotten=self._engine.forgotten.epoch(),
            next_version=max(state.next_version, 1 + newest_version(self._storage, self._root)),
            erasures=state.erasures,
        )
        self.update(lambda _: fresh)
        # What is whole in a sealed lane now will be read with its month; of the others the watermark is the start.
        passed = {lane.token: lane.end for lane in self._engine.feed.lanes() if lane.sealed}
        left_out = Omissions()
        months = sorted(months_of(self._engine, left_out))
        return self.update(
            lambda state: msgspec.structs.replace(state, listed=True, stale=months, unlisted=len(left_out)),
            lanes=passed,
            missed=[],
        )

    def months_anew(self) -> set[str]:
        """Every month that there is to build, listed anew, with those that there are."""
        left_out = Omissions()
        months = months_of(self._engine, left_out)
        content = self.update(lambda state: msgspec.structs.replace(state, unlisted=len(left_out)))
        return months.union(state_of(content).partitions)

    def content(self) -> ConsumerFile:
        """The consumer file as it stands.

        Raises:
            IndexFailedError: it has gone.
        """
        state = self._engine.consumers.read(CONSUMER)
        if state is None:
            raise self._gone()
        state.file.close()
        return state.content

    def look(self) -> tuple[ConsumerFile, IndexState]:
        """The consumer file and the state in it, before something is read that is to be published."""
        content = self.content()
        state = state_of(content)
        self._erasures = state.erasures
        return content, state

    def update(self, change: Callable[[IndexState], IndexState], **changes: Any) -> ConsumerFile:
        """Replace the state durably; ``changes``: of the consumer file around it. Raises as `content`."""

        def changed(content: ConsumerFile) -> ConsumerFile:
            return with_state(content, change(state_of(content)), **changes)

        return self.replace(changed)

    def replace(self, change: Callable[[ConsumerFile], ConsumerFile]) -> ConsumerFile:
        """Replace the consumer file durably. Raises as `content`."""
        try:
            return self._engine.consumers.update(CONSUMER, change)
        except KeyError as error:
            raise self._gone() from error
        except msgspec.ValidationError as error:
            raise IndexFailedError(f"{self._engine.paths.consumer(CONSUMER)}: {error}") from error

    def mark_stale(self, months: set[str]) -> ConsumerFile:
        """Note that months have to be built anew."""
        return self.update(lambda state: msgspec.structs.replace(state, stale=sorted(months.union(state.stale))))

    def new_directory(self, month: str) -> str:
        """A name for a partition that none has had."""
        content = self.update(lambda state: msgspec.structs.replace(state, next_version=state.next_version + 1))
        return partition_directory(month, state_of(content).next_version - 1)

    def publish(
        self,
        entries: dict[str, PartitionEntry],
        *,
        lanes: dict[str, int] | None = None,
        built: str | None = None,
        damaged: frozenset[str] = frozenset(),
        **changes: Any,
    ) -> None:
        """Let partitions count; ``built``: a month that is not stale any more, ``damaged``: months that are.

        Raises:
            ErasedMeanwhileError: records were erased since the last look; nothing counts, and the files are to go.
        """

        def change(content: ConsumerFile) -> ConsumerFile:
            state = state_of(content)
            if state.erasures != self._erasures:
                raise ErasedMeanwhileError(entries)
            stale = sorted(damaged.union(month for month in state.stale if month != built))
            changed = msgspec.structs.replace(state, partitions={**state.partitions, **entries}, stale=stale, **changes)
            return with_state(content, changed, **({} if lanes is None else {"lanes": lanes}))

        self.replace(change)

    def throw_away(self, entries: dict[str, PartitionEntry]) -> None:
        """Remove partitions that were written while records were erased: they may hold words of theirs."""
        months = sorted(entries)

        def change(state: IndexState) -> IndexState:
            left = {month: entry for month, entry in state.partitions.items() if month not in entries}
            return msgspec.structs.replace(state, partitions=left, stale=sorted({*state.stale, *months}))

        self.update(change)
        for entry in entries.values():
            remove_tree(self._storage, os.path.join(self._root, entry.directory))

    def sweep(self) -> None:
        """Remove directories that the state does not name."""
        named = {entry.directory for entry in state_of(self.content()).partitions.values()}
        remove_strangers(self._storage, self._root, named)

    def _gone(self) -> IndexFailedError:
        return IndexFailedError(f"{self._engine.paths.consumer(CONSUMER)} has gone while the store was being indexed")
