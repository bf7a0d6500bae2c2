"""Results of runs as they lie in ``.benchmarks/``: pytest-benchmark's JSON with our figures in ``extra_info``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

DIRECTORY = ".benchmarks"


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        taken: when, ISO text.
        commit: of the project, shortened; empty where git was not asked.
        machine: on what (`benchmarks.machine.machine`).
        size: how much of everything was measured.
        rounds: of each workload.
        load: of the machine over the last minute, before and after.
        took_s: the whole run.
        results: what each workload told (`benchmarks.report.Report.as_dict`), in the order they ran; peers among them.
        added: what else they come from, in words; see `joined`.
    """

    taken: str
    commit: str
    machine: Mapping[str, Any]
    size: str
    rounds: int
    load: tuple[float, ...]
    took_s: float
    results: tuple[Mapping[str, Any], ...]
    added: tuple[str, ...] = ()

    def named(self) -> list[Mapping[str, Any]]:
        """What the named workloads told: those that gave all figures."""
        return [result for result in self.results if result.get("headline")]

    def peers(self) -> list[Mapping[str, Any]]:
        """What all peers were asked (`benchmarks.peers.result`)."""
        return [result for result in self.results if "peers" in result]


def joined(first: Run, others: Sequence[Run]) -> Run:
    """A run, and of others on the same machine those workloads that it has not: the longest take hours by themselves.

    Raises:
        ValueError: the machines differ.
    """
    results, added = list(first.results), list(first.added)
    for other in others:
        if {**other.machine, **_MEASURED} != {**first.machine, **_MEASURED}:
            raise ValueError("results of different machines do not go on one page")
        known = {result["name"] for result in results}
        more = [result for result in other.results if result["name"] not in known]
        results += more
        names = ", ".join(str(result["name"]) for result in more)
        load = " before, ".join(f"{load:.1f}" for load in other.load) + " after"
        added.append(f"{names}: set {other.size}, {other.taken.split('.')[0]}, commit {other.commit}, load {load}")
    return replace(first, results=tuple(results), added=tuple(added))


_MEASURED = {"fdatasync_us": 0, "create_us": 0}
"""What is measured of a machine anew in each run."""


def read_run(path: str) -> Run:
    """Raises: ValueError: it is no result of this suite."""
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    try:
        about = found["memstore"]
        return Run(
            taken=found["datetime"],
            commit=_commit(found["commit_info"]),
            machine=found["machine_info"],
            size=about["size"],
            rounds=about["rounds"],
            load=tuple(about["load"]),
            took_s=about["took_s"],
            results=tuple(each["extra_info"] for each in found["benchmarks"] if each["extra_info"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no result of this suite: {error}") from error


def _commit(info: Mapping[str, Any]) -> str:
    """Shortened, and whether there was more than it in the directory."""
    return f"{str(info.get('id', ''))[:12]}{' and what was not committed' if info.get('dirty') else ''}"


def saved_runs(directory: str) -> list[str]:
    """Paths of whole results, oldest first by name; what an interrupted run left is empty and does not count."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    paths = [os.path.join(directory, name) for name in names if name.endswith(".json")]
    return [path for path in paths if os.path.getsize(path)]
