"""What the copy's STORE.json says of its files: how young they are, and that they hold all that there was."""

from __future__ import annotations

import msgspec

from memstore.engine.catalog import Catalog
from memstore.format.store_file import StoreFile


def note_last_commit(catalog: Catalog, newest_us: int) -> None:
    """Say in the copy's STORE.json how young its files are; what is in lanes says so itself."""

    def change(store: StoreFile) -> StoreFile:
        copy = store.copy_of
        if copy is None or copy.last_commit >= newest_us:
            return store
        return msgspec.structs.replace(store, copy_of=msgspec.structs.replace(copy, last_commit=newest_us))

    catalog.update(change)


def mark_complete(catalog: Catalog) -> None:
    """Say that the copying that began it has come to an end; it stays so whatever falls behind later."""

    def change(store: StoreFile) -> StoreFile:
        if store.copy_of is None:
            return store
        return msgspec.structs.replace(store, copy_of=msgspec.structs.replace(store.copy_of, complete=True))

    catalog.update(change)
