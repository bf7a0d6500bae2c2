"""memstore: the memory engine for AI agents. Plain files, many processes, durable when acknowledged."""

from memstore.agent import AgentMemory
from memstore.aio import AsyncAgentMemory, AsyncMemStore
from memstore.config import Settings
from memstore.errors import (
    ConfigError,
    CorruptionError,
    HeldError,
    InvalidRecordError,
    LockedError,
    MemstoreError,
    NotFoundError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    StoreClosedError,
    UnsupportedError,
    UsageError,
    VersionError,
    WriterBrokenError,
)
from memstore.record import Importance, InputPart, MemoryRecord, MemoryType, Relationships, ResponsePart
from memstore.restoring import restore
from memstore.store import MemStore

__version__ = "0.1.0"
__all__ = [
    "AgentMemory",
    "AsyncAgentMemory",
    "AsyncMemStore",
    "ConfigError",
    "CorruptionError",
    "HeldError",
    "Importance",
    "InputPart",
    "InvalidRecordError",
    "LockedError",
    "MemStore",
    "MemoryRecord",
    "MemoryType",
    "MemstoreError",
    "NotFoundError",
    "ReadOnlyError",
    "Relationships",
    "ResponsePart",
    "Settings",
    "StorageError",
    "StorageFullError",
    "StoreClosedError",
    "UnsupportedError",
    "UsageError",
    "VersionError",
    "WriterBrokenError",
    "restore",
]
