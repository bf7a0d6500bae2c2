"""Start the writer processes, watch them, and take their reports. One that fails ends the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running

from memstore.demo.generator import Plan
from memstore.demo.writer import Job, Report, write_process
from memstore.errors import StorageError

_END_WAIT_S = 10.0


def write_with_processes(
    root: str, plan: Plan, *, processes: int, durability: str, progress: Callable[[int, int], None]
) -> list[Report]:
    """Have the plan written by so many processes at once.

    Raises:
        StorageError: a writer failed or died; says which and why.
    """
    context = multiprocessing.get_context("spawn")  # as on a platform: nothing is shared but the directory
    channels: dict[Connection, int] = {}
    children: list[SpawnProcess] = []
    try:
        for writer in range(processes):
            ours, theirs = context.Pipe(duplex=False)
            job = Job(root, plan, writer, processes, durability)
            child = context.Process(target=write_process, args=(job, theirs), name=f"demo-writer-{writer}", daemon=True)
            with _deaf_at_birth():
                child.start()
            theirs.close()  # so that a dead child is the end of its channel
            children.append(child)
            channels[ours] = writer
        return _collect(channels, plan.records, progress)
    finally:
        for child in children:
            child.join(0 if channels else _END_WAIT_S)
            if child.is_alive():
                child.terminate()
                child.join(_END_WAIT_S)


@contextlib.contextmanager
def _deaf_at_birth() -> Iterator[None]:
    """A process started within never sees Ctrl-C, not even while it is still importing; this one sees it afterwards."""
    ensure_running()  # starting the tracker, which the first child would do, unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _collect(channels: dict[Connection, int], total: int, progress: Callable[[int, int], None]) -> list[Report]:
    """Wait for every report; empties ``channels``."""
    done: dict[int, int] = {}
    reports: list[Report] = []
    while channels:
        for channel in wait(list(channels)):
            assert isinstance(channel, Connection)
            writer = channels[channel]
            try:
                message = channel.recv()
            except EOFError:
                message = "it ended without a report"
            if isinstance(message, str):
                raise StorageError(f"demo: writer process {writer} failed: {message}")
            if isinstance(message, Report):
                reports.append(message)
                del channels[channel]
                channel.close()
                message = message.records
            done[writer] = message
            progress(sum(done.values()), total)
    return reports
