"""On what it was measured: processors, memory, kernel, file system, versions, and how busy it was beside the run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import sys
import tempfile
from functools import cache
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.figures import percentile
from benchmarks.floors import create_us, fdatasync_us
from memstore.fs.local import LocalStorage

LIBRARIES = ("memstore", "msgspec", "orjson", "xxhash", "zstandard", "tantivy", "duckdb")
"""Whose versions a result names; what peers add, they name themselves."""


def machine(directory: str) -> dict[str, Any]:
    """What a result depends on, as far as it can be told.

    Args:
        directory: where is written; its file system counts.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpus": cpus,
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": LocalStorage().file_system_type(directory) or "unknown",
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "fdatasync_us": round(_fdatasync_us(directory), 1),
        "create_us": round(_create_us(directory), 1),
        "versions": versions(LIBRARIES),
    }


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of distributions; of those that are not installed it says so."""
    found = {"sqlite": sqlite3.sqlite_version}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def machine_line(directory: str) -> str:
    """The same as one line."""
    found = machine(directory)
    runtime = f"{found['implementation']} {found['python']}"
    place = f"{found['file_system']}, fdatasync {found['fdatasync_us']} µs, a new file {found['create_us']} µs"
    return f"{found['cpus']} CPUs, {found['kernel']}, {place}, {runtime}"


def is_in_memory(directory: str) -> bool:
    """Whether syncs cost nothing there."""
    return LocalStorage().file_system_type(directory) == "tmpfs"


@cache
def _fdatasync_us(directory: str) -> float:
    """Median of 100; far under 100 µs, and whatever stands in for a disk here answers before anything is safe."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        return percentile(fdatasync_us(os.path.join(scratch, "sync"), rounds=100), 0.5)


@cache
def _create_us(directory: str) -> float:
    """Median of 200; 10 to 30 µs. Ten times that, and much was removed in the last minutes (`benchmarks.aside`)."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        return percentile(create_us(scratch), 0.5)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
