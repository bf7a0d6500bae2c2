"""Take what is erased out of the index: its partitions go as a whole, at once, and are built anew.

tantivy keeps the words of deleted documents in its files until a merge happens to drop them, so deleting would not
do. The state is changed first: from then on no search looks at the partitions, and whatever an indexer has under way
does not count. Then the files go, and those of partitions that were just being built. It is done before anything is
erased and again behind it, for what is built in between holds what was still there.
"""

from __future__ import annotations

import logging
import os

import msgspec

from memstore.engine.engine import Engine
from memstore.errors import CorruptionError
from memstore.format.consumer_file import ConsumerFile
from memstore.search.foreign import IndexFailedError
from memstore.search.partition import Partition
from memstore.search.schema import AGENT, Analyzer
from memstore.search.state import CONSUMER, IndexState, PartitionEntry, state_of, with_state
from memstore.search.sweep import remove_strangers

_log = logging.getLogger(__name__)


def drop_agent(engine: Engine, agent: str | None) -> list[str]:
    """Remove every partition that may hold words of an agent (None: all of them).

    Returns:
        Paths of the files that went.

    Raises:
        StorageError: the disk refused; nothing may be erased now.
    """
    consumers = engine.consumers
    if consumers.identify(CONSUMER) is None:
        return remove_strangers(engine.storage, engine.paths.search, set())

    def change(content: ConsumerFile) -> ConsumerFile:
        state = state_of(content)
        gone = {month for month, entry in state.partitions.items() if agent is None or _may_hold(engine, entry, agent)}
        waiting = set() if agent is None else _waiting_months(engine, agent)
        left = {month: entry for month, entry in state.partitions.items() if month not in gone}
        changed = msgspec.structs.replace(
            state, partitions=left, stale=sorted(gone.union(waiting, state.stale)), erasures=state.erasures + 1
        )
        return with_state(content, changed)

    try:
        state = state_of(consumers.update(CONSUMER, change))
    except (CorruptionError, msgspec.ValidationError) as error:
        _log.warning("%s; the search index is removed as a whole", error)
        consumers.unregister(CONSUMER)
        state = IndexState()
    named = {entry.directory for entry in state.partitions.values()}
    return remove_strangers(engine.storage, engine.paths.search, named)


def _may_hold(engine: Engine, entry: PartitionEntry, agent: str) -> bool:
    """Whether a partition has, or had, a document of an agent: the frequency of a term counts deleted ones too."""
    analyzer = Analyzer("none")  # no text is looked for
    try:
        names = {
            each.name for each in engine.storage.list_directory(os.path.join(engine.paths.search, entry.directory))
        }
        if any(not name.startswith(".") for name in names - entry.files.keys()):
            return True  # what was written and never committed: whose words these are, nobody can tell
        partition = Partition.open(
            engine.storage, engine.paths.search, entry, analyzer=analyzer, verified=set(), is_written=lambda: True
        )
        return partition.searcher.doc_freq(AGENT, agent) > 0
    except (IndexFailedError, FileNotFoundError):
        return True


def _waiting_months(engine: Engine, agent: str) -> set[str]:
    """Months of an agent's lines in lanes that could not be merged: they are not to be indexed from there."""
    return {item.day[:6] for lane in engine.lanes.refresh() for item in lane.agent_slices(agent).slices}
