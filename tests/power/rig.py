"""A disk whose power can be cut, without a virtual machine: nbdkit, nbdfuse, a loop device, ext4.

`record` lets a program work on a real ext4 whose disk notes every write and every flush (``recorder.py``). From the
notes `Disk.after` makes what the disk may hold when the power goes behind any of them: all that a flush has covered,
and of the writes since then each with some probability, cut at a sector now and then. Mounted, its journal replayed,
that is what the machine finds. The program's own notes say what it had been told by then.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = ("nbdkit", "nbdfuse", "losetup", "mkfs.ext4", "mount", "umount", "eatmydata")
DISK_BYTES = 24 * 1024 * 1024
SECTOR_BYTES = 512
START_WAIT_S = 20.0
EVENT = struct.Struct("<QQI")


def missing() -> str:
    """Why this machine has no such disk; empty where it has."""
    if os.geteuid() != 0:
        return "needs root, for loop devices and mounts"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)}: apt-get install nbdkit nbdkit-plugin-python libnbd-bin e2fsprogs eatmydata"
    if not os.path.exists("/dev/fuse"):
        return "needs FUSE: there is no /dev/fuse"
    if not os.path.exists("/dev/loop-control"):
        return "needs loop devices: there is no /dev/loop-control"
    return ""


@dataclass(frozen=True)
class Event:
    """A write, or a flush where there is no data."""

    at_ns: int
    offset: int
    data: bytes


@dataclass
class Disk:
    """What was recorded.

    Attributes:
        image: what the disk held at first.
        events: what reached it, in order.
    """

    image: bytes
    events: list[Event]

    def after(self, event: int, chance: Random) -> bytearray:
        """What the disk may hold if the power goes behind so many events."""
        held = bytearray(self.image)
        flushes = [index for index in range(event) if not self.events[index].data]
        covered = flushes[-1] if flushes else 0
        kept = chance.choice((0.0, 0.3, 0.7, 1.0))
        for index, each in enumerate(self.events[:event]):
            data = each.data
            if index > covered:
                if chance.random() >= kept:
                    continue
                if chance.random() < 0.1:
                    data = data[: chance.randrange(len(data) // SECTOR_BYTES + 1) * SECTOR_BYTES]
            held[each.offset : each.offset + len(data)] = data
        return held


def run(*command: str) -> str:
    """Run a tool; its output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def mounted(image: str, directory: str) -> Iterator[str]:
    """Mount an image; the directory."""
    os.makedirs(directory, exist_ok=True)
    device = run("losetup", "--find", "--show", image)
    try:
        run("mount", "-t", "ext4", "-o", "noatime,errors=remount-ro", device, directory)
        try:
            yield directory
        except BaseException:
            run("umount", "--lazy", directory)  # what failed may still hold files of it
            raise
        gc.collect()  # what a closed store has let go of in a circle, such as a searcher with its maps, goes with it
        run("umount", directory)
    finally:
        run("losetup", "--detach", device)


def record(base: str, seed: int, *, forgets_to_sync: bool = False) -> tuple[Disk, str]:
    """Let the workload run on a new disk; what reached the disk, and the path of the program's notes.

    Args:
        base: an empty directory, on another disk.
        seed: of the workload.
        forgets_to_sync: it runs under eatmydata, which makes every sync do nothing.
    """
    image, log, notes, exported = (os.path.join(base, name) for name in ("image", "log", "notes", "exported"))
    with open(image, "wb") as file:
        file.truncate(DISK_BYTES)
    run("mkfs.ext4", "-q", "-b", "1024", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4", image)
    os.makedirs(exported)
    serve = [
        "nbdkit",
        "--exit-with-parent",
        "python",
        os.path.join(HERE, "recorder.py"),
        f"image={image}",
        f"log={log}",
    ]
    with open(log, "wb"), subprocess.Popen(["nbdfuse", exported, "[", *serve, "]"]) as export:
        disk = os.path.join(exported, "nbd")
        deadline = time.monotonic() + START_WAIT_S
        while not os.path.exists(disk):
            assert export.poll() is None, "nbdfuse has ended"
            assert time.monotonic() < deadline, "nbdfuse does not come up"
            os.sched_yield()
        try:
            with mounted(disk, os.path.join(base, "recording")) as directory:
                command = [sys.executable, os.path.join(HERE, "workload.py"), os.path.join(directory, "store")]
                environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
                eats = ["eatmydata"] if forgets_to_sync else []
                subprocess.run([*eats, *command, notes, str(seed)], check=True, env=environment)
        finally:
            run("umount", exported)
    with open(image, "rb") as file:
        return Disk(file.read(), read_events(log)), notes


def read_events(log: str) -> list[Event]:
    """The recorder's notes."""
    with open(log, "rb") as file:
        data = file.read()
    events: list[Event] = []
    position = 0
    while position < len(data):
        at_ns, offset, length = EVENT.unpack_from(data, position)
        position += EVENT.size
        events.append(Event(at_ns, offset, data[position : position + length]))
        position += length
    return events
