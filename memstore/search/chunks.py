"""Scan: lines that no partition answers for, as indexes in memory that live for one search.

Slower than an index by what it costs to make one, and never wrong in another way: the same words and filters apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson
import tantivy

from memstore.search.compile import Compiler
from memstore.search.document import Documents
from memstore.search.foreign import translated
from memstore.search.partition import Partition
from memstore.search.schema import Analyzer, IndexShape

CHUNK_RECORDS = 20_000
CHUNK_BYTES = 32 * 1024 * 1024
"""Records, and bytes of their lines, that are held at a time: 32 MB and as much again for the index."""
_WRITER_BYTES = 15_000_000


def chunks(lines: Iterable[bytes], *, shape: IndexShape, analyzer: Analyzer, compiler: Compiler) -> Iterator[Partition]:
    """Lines in portions, each as a partition that is gone with the next."""
    documents = Documents(shape.context_keys)
    for portion in _portions(lines):
        with translated("a scan"):
            index = tantivy.Index(compiler.schema)
            index.config_reader("manual", 0)
            analyzer.register(index)
            writer = index.writer(_WRITER_BYTES, 1)
            for document in documents.of(portion):
                writer.add_json(orjson.dumps(document).decode())
            writer.commit()
            writer.wait_merging_threads()
            index.reload()
        yield Partition(index)


def _portions(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    portion: list[bytes] = []
    size = 0
    for line in lines:
        portion.append(line)
        size += len(line)
        if len(portion) >= CHUNK_RECORDS or size >= CHUNK_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
