"""Format versions and the gate: older ones are read, newer ones refused."""

from __future__ import annotations

from memstore.errors import VersionError

FORMAT_VERSION = 2
"""What this memstore writes. Only ever goes up."""


def check_version(version: int, path: str) -> None:
    """Refuse what a newer memstore wrote.

    Raises:
        VersionError: ``version`` is newer than `FORMAT_VERSION`.
    """
    if version > FORMAT_VERSION:
        raise VersionError(
            f"{path}: written in format {version}; this memstore reads up to {FORMAT_VERSION}: upgrade memstore"
        )
