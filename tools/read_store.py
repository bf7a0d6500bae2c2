#!/usr/bin/env python3
"""Print an agent's memories from a store's files, without memstore: a second reader, written from docs/FORMAT.md alone.

    tools/read_store.py STORE_DIR AGENT_ID > memories.ndjson

For those who want their data and not our code, and as a proof that the page is complete. Needs Python 3.11+ and
``xxhash``. It verifies every checksum, and reads a store that nobody is writing to.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

TAIL = re.compile(rb',"xxh3":"([0-9a-f]{16})"}$')
PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}


def xxh3(data: bytes) -> str:
    """The checksum of a range."""
    return xxhash.xxh3_64_hexdigest(data)


def checked(line: bytes) -> tuple[str, Any] | None:
    """Kind and value of a checked line, or None where it does not verify."""
    tail = TAIL.search(line)
    if tail is None or tail[1].decode() != xxh3(line[: tail.start()]):
        return None
    ((kind, value),) = json.loads(line[: tail.start()] + b"}").items()
    return kind, value


def directory_name(agent: str) -> str:
    """Directory of an agent."""
    if PLAIN.fullmatch(agent) and agent not in DEVICES:
        return agent
    prefix = re.sub(r"[^a-z0-9_-]+", "-", agent.lower())[:40].strip("-") or "agent"
    return f"{prefix}~{xxhash.xxh3_128_hexdigest(agent.encode())}"


def find_directory(root: Path, agent: str) -> Path | None:
    """Where the agent's MANIFEST lies, by the ring and the pins."""
    store = json.loads((root / "STORE.json").read_bytes())["store"]
    if store["version"] > 1:
        sys.exit(f"{root} is of format {store['version']}; this reads 1")
    paths = {
        s["index"]: Path(s.get("path") or root / "memory/shards" / f"shard_{s['index']:03d}") for s in store["shards"]
    }
    for placement in (store["placement"], store.get("previous"), store["placement"]):
        if placement is None:
            continue
        shard = placement.get("pins", {}).get(agent)
        if shard is None:
            points = sorted(
                (xxhash.xxh3_64_intdigest(f"shard_{i:03d}#{n}".encode()), i)
                for i in placement["shards"]
                for n in range(128)
            )
            position = xxhash.xxh3_64_intdigest(agent.encode())
            shard = next((i for point, i in points if point >= position), points[0][1])
        directory = paths[shard] / directory_name(agent)
        if (directory / "MANIFEST").exists():
            return directory
    return None


def commits(data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Offset of the body, and the value, of each commit of a lane; a torn tail is ignored."""
    position = data.index(b"\n") + 1
    while position < len(data):
        end = data.find(b"\n", position)
        line = checked(data[position:end]) if end >= 0 else None
        if line is None:
            following = data.find(b'\n{"commit":', position)
            if following >= 0:
                sys.exit(f"damage at offset {position}")
            return
        if line[0] != "commit" or end + 1 + line[1]["bytes"] > len(data):
            return
        yield end + 1, line[1]
        position = end + 1 + line[1]["bytes"]


def lane_lines(path: Path, agent: str) -> Iterator[bytes]:
    """The agent's lines in a lane."""
    data = path.read_bytes()
    found = list(commits(data))
    for index, (body, commit) in enumerate(found):
        slices = [(data[body + s[2] : body + s[2] + s[3]], s) for s in commit["slices"]]
        if any(xxh3(lines) != s[7] for lines, s in slices):
            if index == len(found) - 1:
                return  # its writer did not finish it
            sys.exit(f"{path}: the commit at {body} is damaged")
        for lines, s in slices:
            if s[0] == agent:
                yield from lines.splitlines()


def read_agent(root: Path, agent: str) -> list[bytes]:
    """All lines of an agent, oldest first."""
    lanes = {p.name[9:41]: p for p in (root / "lanes").iterdir() if p.suffix in {".lane", ".kept"}}
    lines: list[bytes] = []
    merged: set[str] = set()
    directory = find_directory(root, agent)
    if directory is not None:
        seen: set[str] = set()
        for raw in (directory / "MANIFEST").read_bytes().split(b"\n")[:-1]:
            line = checked(raw)
            if line is None:
                sys.exit(f"{directory}/MANIFEST: a line does not verify")
            kind, value = line
            if kind != "merge" or value["id"] in seen:
                continue
            seen.add(value["id"])
            merged.update(value["lanes"])
            for chunk in value["chunks"]:
                offset = chunk["offset"]
                data = (directory / chunk["file"]).read_bytes()
                for length, _, _, _, digest in chunk["blocks"]:
                    block = data[offset : offset + length]
                    if xxh3(block) != digest:
                        sys.exit(f"{directory / chunk['file']}: bytes {offset} to {offset + length} are damaged")
                    lines += block.split(b"\n")[:-1]
                    offset += length
    for token, path in lanes.items():
        if token not in merged:
            lines += lane_lines(path, agent)
    return sorted(lines)


def main() -> None:
    """``read_store.py STORE_DIR AGENT_ID``."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} STORE_DIR AGENT_ID")
    for line in read_agent(Path(sys.argv[1]), sys.argv[2]):
        sys.stdout.buffer.write(line + b"\n")


if __name__ == "__main__":
    main()
