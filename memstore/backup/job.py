"""The backup that runs by itself: take a point, then prune."""

from __future__ import annotations

import logging
import threading

from memstore.backup.create import create_backup
from memstore.backup.keeping import KeepPolicy
from memstore.backup.prune import prune_backups
from memstore.engine.engine import Engine

_log = logging.getLogger(__name__)


class BackupJob:
    """Backs up one store to where its settings say. Does nothing where they say nothing.

    Args:
        engine: the store, open for writing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, stop: threading.Event) -> None:
        """Take a point and prune; nothing once ``stop`` is set.

        Raises:
            StorageError: the destination cannot be used, or a file of the store is damaged; the point has it so.
        """
        settings = self._engine.settings.backup
        if not settings.destination or stop.is_set():
            return
        report = create_backup(self._engine, settings.destination)
        fields = {key: value for key, value in report.as_dict().items() if key != "damage"}
        _log.info("Took the backup %s.", report.path, extra={"event": "backup", "fields": fields})
        if report.gap is not None:
            _log.warning("%s: not every moment since the backup before can be restored", report.path)
        policy = KeepPolicy(daily=settings.keep_daily, weekly=settings.keep_weekly, monthly=settings.keep_monthly)
        pruned = prune_backups(self._engine.storage, settings.destination, policy, engine=self._engine)
        if pruned.removed:
            _log.info("Removed %d backups.", len(pruned.removed), extra={"event": "pruned", "fields": pruned.as_dict()})
        if report.damage:
            raise report.damage[0]
