#!/usr/bin/env python3
"""Print an agent's memories from a store's files, without memstore: a second reader, written from docs/FORMAT.md alone.

    tools/read_store.py STORE_DIR AGENT_ID > memories.ndjson

For those who want their data and not our code, and as a proof that the page is complete. Needs Python 3.11+,
``xxhash``, and, where the agent has packed files, ``zstandard``. It reads lanes, day files, warm and cold files and
verifies every checksum; a store that is written to meanwhile may make it stop: then run it again.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import xxhash

try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment]

VERSION = 2
TAIL = re.compile(rb',"xxh3":"([0-9a-f]{16})"}$')
PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}
COLD_FILE = re.compile(r"\d{6}\.\d+\.jsonl\.zst")
LINE_HEAD = re.compile(rb'\{"memory_id":"(?:[^"\\]|\\.)*","timestamp_utc":"[^"]{27}"')
TEXT = rb'"(?:[^"\\]|\\.)*"'
REPEAT_SAYS = re.compile(
    rb',"repeat_of":(?P<original>%b)(?:,"source_id":(?P<source_id>%b))?(?:,"timestamp_local":(?P<timestamp_local>%b))?}'
    % (TEXT, TEXT, TEXT)
)


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


def read_file(path: Path) -> bytes:
    """All of a file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        sys.exit(f"{path} is missing; if somebody is writing to the store, try again")


# -- where an agent lies


def directory_name(agent: str) -> str:
    """Directory of an agent."""
    if PLAIN.fullmatch(agent) and agent not in DEVICES:
        return agent
    prefix = re.sub(r"[^a-z0-9_-]+", "-", agent.lower())[:40].strip("-") or "agent"
    return f"{prefix}~{xxhash.xxh3_128_hexdigest(agent.encode())}"


def read_store_file(root: Path) -> dict[str, Any]:
    """What STORE.json says."""
    found = checked(read_file(root / "STORE.json").rstrip(b"\n"))
    if found is None or found[0] != "store":
        sys.exit(f"{root}/STORE.json does not verify: it is damaged")
    if found[1]["version"] > VERSION:
        sys.exit(f"{root} is of format {found[1]['version']}; this reads up to {VERSION}")
    store: dict[str, Any] = found[1]
    return store


def find_directory(root: Path, store: dict[str, Any], agent: str) -> Path | None:
    """Where the agent's MANIFEST lies, by the ring and the pins."""
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


# -- lanes


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
    data = read_file(path)
    found = list(commits(data))
    for index, (body, commit) in enumerate(found):
        slices = [(data[body + s[2] : body + s[2] + s[3]], s) for s in commit["slices"]]
        if any(xxh3(lines) != s[7] for lines, s in slices):
            if index == len(found) - 1:
                return  # its writer did not finish it
            sys.exit(f"{path}: the commit at {body} is damaged")
        for lines, s in slices:
            if s[0] == agent:
                yield from lines.split(b"\n")[:-1]


# -- the MANIFEST


class Manifest:
    """What an agent's MANIFEST says: the blocks of each day file, packed files, tombstones, tokens of lanes."""

    def __init__(self) -> None:
        self.blocks: dict[str, list[tuple[int, list[Any]]]] = {}
        self.packed: dict[str, dict[str, Any]] = {}
        self.trash: dict[str, dict[str, Any]] = {}
        self.hidden: set[str] = set()
        self.merged: set[str] = set()
        self._seen: set[str] = set()

    def add(self, kind: str, value: dict[str, Any], path: Path) -> None:
        """One line behind the first."""
        if kind == "state":
            self._add_chunks(value.get("days", []))
            self._add_files(value.get("packed", []), value.get("trash", []))
            self.hidden.update(value.get("hidden", []))
            self.merged.update(value.get("lanes", []))
        elif kind == "merge":
            if value["id"] not in self._seen:
                self._seen.add(value["id"])
                self.merged.update(value["lanes"])
                self._add_chunks(value["chunks"])
        elif kind == "move":
            for name in value["from"]:
                for files in (self.blocks, self.packed, self.trash):
                    files.pop(name, None)
            self._add_files(value.get("to", []), value.get("trash", []))
            self.hidden.difference_update(value.get("purged", []))
        elif kind == "hide":
            self.hidden.update(value["ids"])
        elif kind == "show":
            self.hidden.difference_update(value["ids"])
        else:
            sys.exit(f"{path}: a line of unknown kind {kind!r}, of a newer format")

    def _add_chunks(self, chunks: list[dict[str, Any]]) -> None:
        for chunk in chunks:
            offset = chunk["offset"]
            for block in chunk["blocks"]:
                self.blocks.setdefault(chunk["file"], []).append((offset, block))
                offset += block[0]

    def _add_files(self, packed: list[dict[str, Any]], trash: list[dict[str, Any]]) -> None:
        self.packed.update((each["file"], each) for each in packed)
        self.trash.update((each["packed"]["file"], each["packed"]) for each in trash)


def read_manifest(path: Path) -> tuple[Manifest, bytes]:
    """What a MANIFEST says, and what stands behind its last line that verifies."""
    manifest = Manifest()
    data = read_file(path)
    *raw_lines, tail = data.split(b"\n")
    lines = [checked(raw) for raw in raw_lines]
    while lines and lines[-1] is None:
        lines.pop()
        tail = raw_lines.pop() + b"\n" + tail
    if not lines or lines[0] is None or lines[0][0] != "manifest":
        sys.exit(f"{path}: the first line does not verify: it is damaged")
    if lines[0][1]["version"] > VERSION:
        sys.exit(f"{path} is of format {lines[0][1]['version']}; this reads up to {VERSION}")
    for line in lines[1:]:
        if line is None:
            sys.exit(f"{path}: a line does not verify: it is damaged")
        manifest.add(*line, path)
    return manifest, tail


def check_torn(
    directory: Path, manifest: Manifest, tail: bytes, lanes: dict[str, Path], waiting: dict[str, int]
) -> None:
    """Stop where the end of a MANIFEST is damage: where what it may have said is not in the lanes that stand."""
    gone = {token.decode() for token in re.findall(rb'"([0-9a-f]{32})"', tail)} - lanes.keys()
    for path in directory.glob("*.jsonl"):
        offset, block = manifest.blocks[path.name][-1] if path.name in manifest.blocks else (0, [0])
        if path.stat().st_size - offset - block[0] > waiting.get(path.name[:8], 0):
            gone.add(path.name)
    if gone:
        sys.exit(
            f"{directory}/MANIFEST: its last line does not verify, and it said what is nowhere else: it is damaged"
        )


# -- day files and packed files


def day_file_lines(path: Path, blocks: Iterable[tuple[int, list[Any]]]) -> Iterator[bytes]:
    """The lines of a day file's blocks."""
    data = read_file(path)
    for offset, (length, records, _, _, digest) in blocks:
        block = data[offset : offset + length]
        if xxh3(block) != digest or block.count(b"\n") != records:
            sys.exit(f"{path}: bytes {offset} to {offset + length} are damaged")
        yield from block.split(b"\n")[:-1]


def frames(path: Path, packed: dict[str, Any]) -> Iterator[bytes]:
    """The content of each frame of a packed file; all that the index and the seek table say of it is verified."""
    if zstandard is None:
        sys.exit(f"{path} is packed: install zstandard (pip install zstandard), or unpack it with zstdcat")
    data = read_file(path)
    if len(data) != packed["size"]:
        sys.exit(f"{path} is damaged: it is {len(data)} bytes long, not {packed['size']}")
    offset, entries, all_lines = 0, b"", xxhash.xxh3_64()
    for length, raw_length, records, _, _, _, digest in packed["frames"]:
        frame = data[offset : offset + length]
        if xxh3(frame) != digest:
            sys.exit(f"{path}: bytes {offset} to {offset + length} are damaged")
        states = zstandard.frame_content_size(frame)
        content = zstandard.ZstdDecompressor().decompress(frame) if states == raw_length else b""
        if len(content) != raw_length or content.count(b"\n") != records:
            sys.exit(f"{path}: the frame at {offset} does not hold what the MANIFEST says")
        all_lines.update(content)
        entries += struct.pack("<II", length, raw_length) + frame[-4:]
        offset += length
        yield content
    count = len(packed["frames"])
    head, foot = struct.pack("<II", 0x184D2A5E, 12 * count + 9), struct.pack("<IBI", count, 0x80, 0x8F92EAB1)
    if data[offset:] != head + entries + foot or all_lines.hexdigest() != packed["xxh3"]:
        sys.exit(f"{path} is damaged: its seek table or the checksum over its lines does not agree")


def packed_lines(path: Path, packed: dict[str, Any]) -> Iterator[bytes]:
    """The lines of a packed file, each repeat as the record it stands for."""
    originals: dict[bytes, bytes] = {}
    repeats = 0
    for content in frames(path, packed):
        for line in content.split(b"\n")[:-1]:
            head = LINE_HEAD.match(line)
            if not packed.get("repeats") or head is None:
                yield line
                continue
            says = REPEAT_SAYS.fullmatch(line, head.end())
            if says is None:
                originals[line_id(line)] = line
                yield line
            else:
                repeats += 1
                yield expand(head[0], says, originals[says["original"]])
    if repeats != packed.get("repeats", 0):
        sys.exit(f"{path}: {repeats} repeats, and the MANIFEST counts {packed.get('repeats', 0)}")


def line_id(line: bytes) -> bytes:
    """The memory id of a line as it stands there, quotes included."""
    return line[13 : line.index(b'","timestamp_utc":"') + 1]


def expand(head: bytes, says: re.Match[bytes], original: bytes) -> bytes:
    """The record that a repeat stands for: the line of its original, but for the texts that the repeat has."""
    own = LINE_HEAD.match(original)
    assert own is not None
    line = head + original[own.end() :]
    for field in ("source_id", "timestamp_local"):
        if says[field] is not None:
            start, end = top_level_text(line, field.encode())
            line = line[:start] + says[field] + line[end:]
    return line


def top_level_text(line: bytes, name: bytes) -> tuple[int, int]:
    """Where the text of a top-level field stands in a line, quotes included."""
    key = b',"%b":' % name
    for found in re.finditer(re.escape(key) + TEXT, line):
        try:
            json.loads(line[: found.start()] + b"}")  # inside anything nested, a bracket would be left open
        except ValueError:
            continue
        return found.start() + len(key), found.end()
    sys.exit(f"a repeat says {name.decode()}, and its original does not: {line[:200]!r}")


def read_agent(root: Path, agent: str) -> list[bytes]:
    """All lines of an agent, oldest first."""
    lanes = {p.name[9:41]: p for p in (root / "lanes").iterdir() if p.suffix in {".lane", ".kept"}}
    store = read_store_file(root)
    directory = find_directory(root, store, agent)
    manifest, tail = Manifest(), b""
    lines: list[bytes] = []
    if directory is not None:
        manifest, tail = read_manifest(directory / "MANIFEST")
        archive = Path(store.get("archive") or root / "memory/archive") / directory_name(agent)
        for name, blocks in manifest.blocks.items():
            lines += day_file_lines(directory / name, blocks)
        for name, packed in manifest.packed.items():
            home = archive if COLD_FILE.fullmatch(name) else directory
            in_place = (home / name).exists() or not (home / ".trash" / name).exists()
            lines += packed_lines(home / name if in_place else home / ".trash" / name, packed)
    waiting: dict[str, int] = {}
    for token, path in lanes.items():
        if token not in manifest.merged:
            for line in lane_lines(path, agent):
                lines.append(line)
                day = line_id(line)[-39:-31].decode()
                waiting[day] = waiting.get(day, 0) + len(line) + 1
    if directory is not None and tail:
        check_torn(directory, manifest, tail, lanes, waiting)
    hidden = {json.dumps(memory_id, ensure_ascii=False).encode() for memory_id in manifest.hidden}
    return sorted(line for line in lines if line_id(line) not in hidden)


def main() -> None:
    """``read_store.py STORE_DIR AGENT_ID``."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} STORE_DIR AGENT_ID")
    for line in read_agent(Path(sys.argv[1]), sys.argv[2]):
        sys.stdout.buffer.write(line + b"\n")


if __name__ == "__main__":
    main()
