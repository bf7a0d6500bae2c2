"""What a store knows of its backups: a consumer for each repository, whose file says where it lies.

As a consumer of the lanes a backup has every lane kept until it has archived it (`memstore.engine.consumers`), up to
the bound that holds for all consumers. The same file tells an erasure where copies of the erased records may be.
"""

from __future__ import annotations

import logging

import msgspec

from memstore.codec.checksum import checksum
from memstore.engine.engine import Engine
from memstore.errors import CorruptionError
from memstore.format.backup_file import Gap
from memstore.format.backup_names import CONSUMER_PREFIX
from memstore.format.consumer_file import ConsumerFile
from memstore.fs.atomic import try_unlink

_log = logging.getLogger(__name__)


def consumer_name(destination: str) -> str:
    """The consumer of a repository, by its absolute path."""
    return f"{CONSUMER_PREFIX}{checksum(destination.encode())}"


class Registration:
    """One repository as a consumer of one store.

    Args:
        engine: the store, open for writing.
        destination: the repository's directory, absolute.
    """

    def __init__(self, engine: Engine, destination: str) -> None:
        self._catalog = engine.catalog
        self._consumers = engine.consumers
        self._storage = engine.storage
        self._paths = engine.paths
        self._clock = engine.clock
        self._destination = destination
        self._name = consumer_name(destination)

    def begin(self) -> ConsumerFile:
        """From now on lanes wait for this repository; what is known of it so far."""
        now_us = self._clock.now_us()
        # An older memstore knows no consumers, and would let lanes go that no archive has.
        self._catalog.raise_version()
        try:
            return self._consumers.register(self._name, at_us=now_us)
        except CorruptionError as error:
            _log.error("%s; the backup begins to archive lanes anew", error)
            try_unlink(self._storage, self._paths.consumer(self._name))
            return self._consumers.register(self._name, at_us=now_us)

    def gap(self, known: ConsumerFile, previous: str | None) -> Gap | None:
        """What no archive has, between the point before and the one that is taken now.

        Args:
            known: the consumer's file, read under the merge lock.
            previous: name of the point before.
        """
        if previous is None:
            return None  # there is nothing before the first point that a gap could be in
        if known.state.get("last") != previous:
            return Gap(until=0, months=[])  # the registration is younger than that point
        return Gap(until=known.missed_at, months=list(known.missed)) if known.missed_at or known.missed else None

    def passed(self, lanes: dict[str, int], *, point: str, points: list[str], seen: ConsumerFile) -> None:
        """A point is durable: these lanes have been archived up to there, and need not be kept for it."""

        def change(content: ConsumerFile) -> ConsumerFile:
            as_seen = (content.missed, content.missed_at) == (seen.missed, seen.missed_at)
            return msgspec.structs.replace(
                content,
                lanes=lanes,
                missed=[] if as_seen else content.missed,
                missed_at=0 if as_seen else content.missed_at,
                state={"destination": self._destination, "last": point, "points": points},
            )

        self._consumers.update(self._name, change)
        self._consumers.release()

    def note_points(self, points: list[str]) -> None:
        """Say which points there are, after a prune; nothing where the repository is not registered."""
        if self._consumers.identify(self._name) is None:
            return

        def change(content: ConsumerFile) -> ConsumerFile:
            return msgspec.structs.replace(content, state={**content.state, "points": points})

        self._consumers.update(self._name, change)

    def end(self) -> bool:
        """Keep nothing for this repository any more; whether anything was."""
        known = self._consumers.identify(self._name) is not None
        self._consumers.unregister(self._name)
        return known
