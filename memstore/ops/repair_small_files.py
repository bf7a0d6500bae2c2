"""Put the small files of a root right: mended where it can be proved, else set aside and begun anew, never silently.

Which holds there were is not to be guessed: a HOLDS.json that cannot be read gives way to one hold over everything, so
that nothing is removed until a person has looked. FORGOTTEN is never replaced, because its size is the epoch of every
process's caches: a line that is lost is blanked where it stands.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from memstore.clock import Clock
from memstore.errors import CorruptionError
from memstore.format.checked import verified_body
from memstore.format.holds_file import Hold, decode_holds_file, encode_holds_file
from memstore.format.names import StorePaths
from memstore.fs.atomic import read_file, replace_file, try_unlink
from memstore.fs.lock import locked
from memstore.fs.storage import Storage
from memstore.ops.bit_search import find_flip_in_line
from memstore.ops.finding import Finding
from memstore.ops.good_copies import GoodCopies
from memstore.ops.quarantine import Quarantine
from memstore.ops.repair_step import RepairStep

HOLD_NAME = "repair"
_ANEW = frozenset({"lifecycle_file", "schedule", "reads", "consumer"})


class _Mended(NamedTuple):
    data: bytes
    how: str


class SmallFileRepair:
    """Plans and carries out. Used by one thread.

    Args:
        storage: where the store lies.
        paths: its root.
        clock: when the hold was made.
        copies: where good copies may be had.
    """

    def __init__(self, storage: Storage, paths: StorePaths, *, clock: Clock, copies: GoodCopies) -> None:
        self._storage = storage
        self._paths = paths
        self._clock = clock
        self._copies = copies

    def steps(self, findings: Iterable[Finding]) -> list[RepairStep]:
        """What is to be done about these findings; those of other files are passed over."""
        return list(self._steps(findings, None))

    def carry_out(self, findings: Iterable[Finding], quarantine: Quarantine) -> list[RepairStep]:
        """Do it; what was done.

        Raises:
            LockedError: another process holds what is needed.
            StorageError: the disk refuses.
        """
        return list(self._steps(findings, quarantine))

    def _steps(self, findings: Iterable[Finding], quarantine: Quarantine | None) -> Iterator[RepairStep]:
        for finding in findings:
            if finding.severity != "damage":
                continue
            if finding.kind == "holds":
                yield self._holds(quarantine)
            elif finding.kind == "forgotten":
                yield self._forgotten(finding, quarantine)
            elif finding.kind in _ANEW:
                yield self._anew(finding.path, quarantine)

    # -- HOLDS.json

    def _holds(self, quarantine: Quarantine | None) -> RepairStep:
        path = self._paths.holds
        data = read_file(self._storage, path) or b""
        mended = self._mended_holds(data, path)
        if quarantine is not None:
            with locked(self._storage, self._paths.lock("store")):
                quarantine.copy(path, why="its checksum does not agree: which holds it listed is not certain")
                anew = encode_holds_file([self._hold_of_everything()]) if mended is None else mended.data
                replace_file(self._storage, path, anew)
        if mended is not None:
            return RepairStep("mend_line", path, f"Write {path} again as it was: {mended.how}.")
        return RepairStep(
            "hold_everything",
            path,
            f"Hold every record of the store: which holds {path} listed cannot be read. Nothing is removed until a "
            f"person has added those that there were (the old file is in the quarantine) and removed {HOLD_NAME!r}.",
        )

    def _mended_holds(self, data: bytes, path: str) -> _Mended | None:
        for mended in self._mended(data, path):
            try:
                decode_holds_file(mended.data, path)
            except CorruptionError:
                continue
            return mended
        return None

    def _hold_of_everything(self) -> Hold:
        return Hold(
            name=HOLD_NAME,
            at=self._clock.now_us(),
            reason="HOLDS.json was damaged: add the holds that it listed, then remove this one; the old file is in the "
            "quarantine",
        )

    def _mended(self, data: bytes, path: str) -> Iterator[_Mended]:
        """What a file of one checked line may have been: one bit put right, or what a good copy has."""
        whole = find_flip_in_line(data.rstrip(b"\n"))
        if whole is not None:
            yield _Mended(whole + b"\n", "one bit had flipped")
        relative = os.path.relpath(path, self._paths.root)
        size = self._copies.size(relative)
        copied = None if size is None else self._copies.read(relative, 0, size)
        if copied is not None and verified_body(copied.rstrip(b"\n")) is not None:
            yield _Mended(copied, f"as {self._copies.name} has it; what was changed since that copy is not in it")

    # -- FORGOTTEN

    def _forgotten(self, finding: Finding, quarantine: Quarantine | None) -> RepairStep:
        path, offset, length = finding.path, finding.offset_bytes, finding.length_bytes
        data = (read_file(self._storage, path) or b"")[offset : offset + length]
        whole = find_flip_in_line(data)
        if whole is None:
            copied = self._copies.read(os.path.relpath(path, self._paths.root), offset, length)
            whole = copied if copied is not None and verified_body(copied) is not None else None
        if quarantine is not None:
            with locked(self._storage, self._paths.lock("forgotten")):
                quarantine.copy(path, why=f"its line at {offset} does not verify")
                file = self._storage.open_update(path)
                try:
                    if file.read(offset, length) == data:
                        file.write(b"\n" * length if whole is None else whole, offset)
                    file.write(b"\n", file.identity().size_bytes)  # caches must not trust what they know
                    file.sync_data()
                finally:
                    file.close()
        if whole is not None:
            return RepairStep("mend_line", path, f"Write the line at {offset} of {path} again as it was.")
        return RepairStep(
            "clear_line",
            path,
            f"Blank the line at {offset} of {path}. If it noted an erasure that had not ended, ask for that once more; "
            "if it noted what was forgotten, a repair of that agent's MANIFEST will not know of it.",
        )

    # -- files that are lost without harm

    def _anew(self, path: str, quarantine: Quarantine | None) -> RepairStep:
        if quarantine is not None:
            quarantine.copy(path, why="its checksum does not agree; it is written anew by whoever needs it")
            try_unlink(self._storage, path)
            self._storage.sync_directory(os.path.dirname(path))
        return RepairStep("start_anew", path, f"Set {path} aside; it is written anew, and nothing is lost by that.")
