"""Every peer, and of each either how to open it or why it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.peers.agents_session import AgentsSessionPeer
from benchmarks.peers.chroma import ChromaPeer
from benchmarks.peers.disk_cache import DiskCachePeer
from benchmarks.peers.duckdb import DuckdbPeer
from benchmarks.peers.langgraph_store import LanggraphStorePeer
from benchmarks.peers.lmdb import LmdbPeer
from benchmarks.peers.peer import Peer
from benchmarks.peers.postgres import PostgresPeer
from benchmarks.peers.rocksdb import RocksdbPeer
from benchmarks.peers.sqlite import SqlitePeer
from benchmarks.peers.tree import TreePeer

PEERS: tuple[type[Peer], ...] = (
    TreePeer,
    SqlitePeer,
    LmdbPeer,
    RocksdbPeer,
    DuckdbPeer,
    DiskCachePeer,
    LanggraphStorePeer,
    AgentsSessionPeer,
    ChromaPeer,
    PostgresPeer,
)


@dataclass(frozen=True, slots=True)
class Found:
    """A peer as it was found here.

    Attributes:
        kind: how to open it.
        missing: why it cannot be opened, or None.
        version: of it, or empty.
    """

    kind: type[Peer]
    missing: str | None
    version: str


def found_peers() -> Iterator[Found]:
    """All peers, in the order in which they are reported."""
    for kind in PEERS:
        missing = kind.missing()
        yield Found(kind, missing, "" if missing else kind.version())
