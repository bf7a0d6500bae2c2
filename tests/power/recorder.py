"""An nbdkit plugin: a disk in memory that notes every write and every flush, in order, with the time.

Run by Debian's own Python, not by ours. ``image=`` is what the disk holds at first, ``log=`` takes the notes: for each
event its time (CLOCK_MONOTONIC, nanoseconds), offset and length, and then the bytes; a flush has offset and length 0.
"""

import struct
import threading
import time

import nbdkit

API_VERSION = 2
EVENT = struct.Struct("<QQI")
FILE = open
given = {}
disk = bytearray()
lock = threading.Lock()


def config(key, value):
    given[key] = value


def config_complete():
    with FILE(given["image"], "rb") as file:
        disk[:] = file.read()
    given["notes"] = FILE(given["log"], "ab", buffering=0)


def open(readonly):  # noqa: A001 - the name that nbdkit calls
    return 1


def get_size(handle):
    return len(disk)


def can_write(handle):
    return True


def can_flush(handle):
    return True


def can_fua(handle):
    return nbdkit.FUA_EMULATE


def can_zero(handle):
    return False


def can_multi_conn(handle):
    return False


def pread(handle, buf, offset, flags):
    buf[:] = disk[offset : offset + len(buf)]


def pwrite(handle, buf, offset, flags):
    note(offset, bytes(buf))


def flush(handle, flags):
    note(0, b"")


def note(offset, data):
    with lock:
        given["notes"].write(EVENT.pack(time.monotonic_ns(), offset, len(data)) + data)
        disk[offset : offset + len(data)] = data
