"""Bring a part of a backup into a store that goes on: some agents, types or times, under the ids that they had.

The agents that are asked for are restored to a scratch directory, as a whole store would be, with all that must not
come back left out; what the store does not have is then appended to it as any other records are.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice

import msgspec

from memstore.backup.gone import forgotten_of
from memstore.backup.moment import Moment, find_moment
from memstore.backup.report import RestoreReport
from memstore.backup.repository import open_repository
from memstore.backup.restore import Builder
from memstore.config import Settings
from memstore.engine.batch import Batch, ThreadTicket
from memstore.engine.engine import Engine
from memstore.errors import NotFoundError
from memstore.filters import RecordFilter
from memstore.format.forgotten import text_hash
from memstore.format.store_file import StoreFile
from memstore.fs.lock import locked
from memstore.fs.trees import remove_tree
from memstore.ids import is_derived_id, parse_id, writer_of_id

_SCRATCH = ".restoring-part-"
_BATCH_RECORDS = 1000
_BATCH_BYTES = 1024 * 1024
_IMPORT_WAIT_S = 600.0
Progress = Callable[[int, int], None]
"""Told how many agents are done, and how many there are."""


def restore_part(
    engine: Engine,
    destination: str,
    *,
    wanted: RecordFilter,
    agents: Collection[str] | None = None,
    at_us: int | None = None,
    point: str | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Append what a store does not have of a part of a backup. Doing it twice adds nothing.

    Args:
        engine: the store, open for writing; need not be the one that was backed up.
        destination: the repository's directory.
        wanted: which records.
        agents: of these only; None: of all.
        at_us: as of this moment; that of the point unless given.
        point: name of the point to begin from; the newest not behind the moment unless given.
        progress: see `Progress`.

    Raises:
        NotFoundError: there is no such repository, point or agent.
        UsageError: the moment is still to come.
        CorruptionError: a file of the backup is not what was backed up; nothing was appended.
        StorageFullError: no room; what was appended so far stays.
    """
    engine.check_writable()
    began_s = engine.clock.monotonic_s()
    storage = engine.storage
    repository = open_repository(storage, destination)
    moment = find_moment(repository, point=point, at_us=at_us, now_us=engine.clock.now_us())
    scratch = os.path.join(os.path.dirname(engine.paths.root), f"{_SCRATCH}{secrets.token_hex(8)}")
    storage.make_directory(scratch)
    try:
        builder = Builder(
            repository,
            moment,
            scratch,
            clock=engine.clock,
            also_forgotten=[forgotten_of(storage, engine.paths.root)],
            agents=agents,
        )
        builder.build()
        copy = Engine(storage, scratch, settings=Settings(), clock=engine.clock, read_only=True, create=False)
        try:
            _check_known(copy, agents, moment, repository.root)
            _Bringing(engine, copy, builder.report).bring(wanted, agents, progress or _nobody)
        finally:
            copy.close()
    finally:
        remove_tree(storage, scratch, durably=False)
    report = builder.report
    report.target = engine.paths.root
    report.seconds = engine.clock.monotonic_s() - began_s
    return report


def _check_known(copy: Engine, agents: Collection[str] | None, moment: Moment, root: str) -> None:
    unknown = sorted(set(agents or ()).difference(copy.inventory.agents(skip_damaged=True)))
    if unknown:
        raise NotFoundError(f"{os.path.join(root, moment.point)}: it has no agent {', '.join(unknown)}")


class _Bringing:
    """Appends the records of a restored copy to a store."""

    def __init__(self, engine: Engine, copy: Engine, report: RestoreReport) -> None:
        self._engine = engine
        self._copy = copy
        self._report = report
        self._next_writer = 0
        self._erased = {
            each: entry.erasure.at
            for entry in engine.forgotten.entries()
            if entry.erasure is not None
            for each in entry.erasure.ids
        }

    def bring(self, wanted: RecordFilter, agents: Collection[str] | None, progress: Progress) -> None:
        """Append what is wanted and not there."""
        names = [n for n in self._copy.inventory.agents(skip_damaged=True) if agents is None or n in agents]
        for done, agent in enumerate(names):
            lines = (line for line, _ in self._copy.reader.lines(agent, wanted, newest_first=False, on_damage="raise"))
            for batch in _batches(lines):
                # As imports do: looked for and written under one lock, so that two restores add each record once.
                with locked(self._engine.storage, self._engine.paths.lock("import"), timeout_s=_IMPORT_WAIT_S):
                    self._append(agent, batch)
            progress(done + 1, len(names))

    def _append(self, agent: str, lines: Mapping[str, bytes]) -> None:
        engine, report = self._engine, self._report
        stored = engine.reader.existing(agent, {memory_id: parse_id(memory_id).time_us for memory_id in lines})
        ticket = ThreadTicket()
        batch = Batch(ticket)
        highest = 0
        for memory_id, line in lines.items():
            known = stored.get(memory_id)
            if known is None and text_hash(memory_id) not in self._erased:
                batch.add(agent, parse_id(memory_id).day, line + b"\n")
                highest = max(highest, 0 if is_derived_id(memory_id) else writer_of_id(memory_id))
                continue
            report.already += bool(known)
            report.refused += not known
        if not batch.records:
            return
        self._pass_over(highest)
        engine.submit(batch, wait_for_room=True)
        ticket.wait()
        report.imported += batch.records

    def _pass_over(self, writer: int) -> None:
        """Never give out a writer number that a restored record has: it may come from another store."""
        if writer < self._next_writer:
            return

        def raised(store: StoreFile) -> StoreFile:
            return msgspec.structs.replace(store, next_writer=max(store.next_writer, writer + 1))

        self._next_writer = self._engine.catalog.update(raised).store.next_writer


def _batches(lines: Iterator[bytes]) -> Iterator[dict[str, bytes]]:
    """Lines by memory id, in portions of a bounded size."""
    while taken := dict(_portion(lines)):
        yield taken


def _portion(lines: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    total = 0
    for line in islice(lines, _BATCH_RECORDS):
        yield msgspec.json.decode(line, type=_IdOnly).memory_id, line
        total += len(line)
        if total >= _BATCH_BYTES:
            return


class _IdOnly(msgspec.Struct):
    memory_id: str


def _nobody(_done: int, _total: int) -> None:
    """No one wants to be told."""
