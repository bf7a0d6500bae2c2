"""Where the archive lies: fixed in STORE.json before the first cold file is made, and never guessed afterwards."""

from __future__ import annotations

import msgspec

from memstore.engine.catalog import archive_path_on
from memstore.engine.engine import Engine
from memstore.errors import NotFoundError, StorageError
from memstore.format.names import tier_of
from memstore.fs.atomic import make_durable_directories


def fix_archive(engine: Engine) -> None:
    """Fix where the archive lies, before the first cold file is made; see that it is there afterwards.

    Raises:
        NotFoundError: the volume of the settings is not there.
        StorageError: the archive was on a volume that is not there now.
    """
    volume = engine.settings.storage.lifecycle.archive_volume
    archive = engine.catalog.reload().archive
    store = engine.catalog.state.store
    if engine.storage.identify(archive) is not None:
        if store.archive is not None:
            # Who wrote it into STORE.json may have been stopped before the new file's name was synced.
            engine.storage.sync_directory(engine.paths.root)
        return
    if store.archive is not None or _was_used(engine):
        raise StorageError(f"{archive}: the archive is missing; mount its volume, or restore it from a backup")
    if volume:
        if engine.storage.identify(volume) is None:
            raise NotFoundError(f"archive volume {volume} is not there; mount it first")
        engine.check_file_system(volume)
        archive = archive_path_on(volume, store.id)
    make_durable_directories(engine.storage, archive)
    if volume:
        engine.catalog.update(lambda content: msgspec.structs.replace(content, archive=archive))


def _was_used(engine: Engine) -> bool:
    """Whether some agent has a cold file: then a missing archive is a loss, not a beginning."""
    for agent in engine.inventory.agents(skip_damaged=True):
        manifest = engine.builder.manifest(agent)
        if manifest is not None and any(tier_of(name) == "cold" for name in (*manifest.packed, *manifest.trash)):
            return True
    return False
