"""What people would use instead of memstore, one file each, each as its own documentation says is safe and fast.

A peer that is not installed says so in the report; it is never left out in silence.
"""

from benchmarks.peers.peer import MissingPeerError, Peer, Question, Reach, UnsupportedError
from benchmarks.peers.registry import PEERS, Found, found_peers
from benchmarks.peers.result import PeerResult, peer_results
from benchmarks.peers.rocksdb import ROCKSDB_MISSING, RocksdbPeer
from benchmarks.peers.sqlite import SqlitePeer
from benchmarks.peers.tree import tree_recent_by_mtime, tree_recent_by_name, write_tree

__all__ = [
    "PEERS",
    "ROCKSDB_MISSING",
    "Found",
    "MissingPeerError",
    "Peer",
    "PeerResult",
    "Question",
    "Reach",
    "RocksdbPeer",
    "SqlitePeer",
    "UnsupportedError",
    "found_peers",
    "peer_results",
    "tree_recent_by_mtime",
    "tree_recent_by_name",
    "write_tree",
]
