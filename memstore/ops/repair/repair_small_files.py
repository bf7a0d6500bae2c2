"""Put the small files of a root right: mended where it can be proved, else set aside and begun anew, never silently.

Which holds there were is not to be guessed: a HOLDS.json that cannot be read gives way to one hold over everything, so
that nothing is removed until a person has looked. FORGOTTEN is never replaced, because its size is the epoch of every
process's caches: a line that is lost is blanked where it stands.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from memstore.clock import Clock
from memstore.errors import CorruptionError
from memstore.format.checked import states_the_same, verified_body
from memstore.format.holds_file import Hold, decode_holds_file, encode_holds_file
from memstore.format.names import StorePaths
from memstore.fs.atomic import make_one_directory, read_file, replace_file, try_unlink
from memstore.fs.lock import locked
from memstore.fs.storage import Storage
from memstore.ops.finding import Finding
from memstore.ops.repair.bit_search import find_flip_in_line
from memstore.ops.repair.good_copies import GoodCopies, Taken, file_of_root
from memstore.ops.repair.kindred_files import KindredFiles
from memstore.ops.repair.quarantine import Quarantine
from memstore.ops.repair.repair_step import CopiedRange, RepairStep

HOLD_NAME = "repair"
_ANEW = frozenset({"lifecycle_file", "schedule", "reads", "consumer"})


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
            elif finding.path == self._paths.lanes:
                yield self._lanes(quarantine)

    # -- HOLDS.json

    def _holds(self, quarantine: Quarantine | None) -> RepairStep:
        path = self._paths.holds
        data = read_file(self._storage, path) or b""
        mended = self._mended_holds(data.rstrip(b"\n"))
        known = self._known_holds() if mended is None else Taken(b"", "")
        if quarantine is not None:
            with locked(self._storage, self._paths.lock("store")):
                quarantine.copy(path, why="its checksum does not agree: which holds it listed is not certain")
                replace_file(self._storage, path, self._held(known.data) if mended is None else mended.data + b"\n")
        if mended is not None:
            how = f"{mended.source} has what its checksum asks for" if mended.source else "one bit had flipped"
            return RepairStep("mend_line", path, f"Write {path} again as it was: {how}.", copied=_whole(mended))
        sentence = (
            f"Hold every record of the store: which holds {path} listed cannot be read. Nothing is removed until a "
            f"person has added those that there were (the old file is in the quarantine) and removed {HOLD_NAME!r}."
        )
        if known.source:
            sentence += f" Those that {known.source} has are kept; any that was added since is not among them."
        return RepairStep("hold_everything", path, sentence, copied=_whole(known))

    def _mended_holds(self, data: bytes) -> Taken | None:
        """The file as it was, without its line break, and who had it: nobody, where one bit is put right."""
        whole = find_flip_in_line(data)
        if whole is not None:
            return Taken(whole, "")
        for line, source in self._holds_of_copies():
            if states_the_same(data, line):
                return Taken(line, source)
        return None

    def _known_holds(self) -> Taken:
        """What the best source lists, which may not be all; empty where none does."""
        return next(self._holds_of_copies(), Taken(b"", ""))

    def _holds_of_copies(self) -> Iterator[Taken]:
        for copied in self._copies.of(file_of_root(self._paths, self._paths.holds)):
            line = copied.read_all().rstrip(b"\n")
            try:
                decode_holds_file(line, copied.path)
            except CorruptionError:
                continue
            yield Taken(line, copied.source)

    def _held(self, known: bytes) -> bytes:
        """A list of holds that keeps everything, and names those that are known."""
        listed = decode_holds_file(known, self._paths.holds) if known else []
        return encode_holds_file([*(hold for hold in listed if hold.name != HOLD_NAME), self._hold_of_everything()])

    def _hold_of_everything(self) -> Hold:
        return Hold(
            name=HOLD_NAME,
            at=self._clock.now_us(),
            reason="HOLDS.json was damaged: add the holds that it listed, then remove this one; the old file is in the "
            "quarantine",
        )

    # -- FORGOTTEN

    def _forgotten(self, finding: Finding, quarantine: Quarantine | None) -> RepairStep:
        path, offset, length = finding.path, finding.offset_bytes, finding.length_bytes
        everything = read_file(self._storage, path) or b""
        data = everything[offset : offset + length]
        whole, source = find_flip_in_line(data), ""
        if whole is None:
            kindred = KindredFiles(everything, file_of_root(self._paths, path), self._copies)
            found = (each for each in kindred.bytes_at(offset, length) if verified_body(each.data) is not None)
            whole, source = next(found, (None, ""))
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
            how = f", taken from {source}" if source else ""
            copied = (CopiedRange(offset, length, source),) if source else ()
            sentence = f"Write the line at {offset} of {path} again as it was{how}."
            return RepairStep("mend_line", path, sentence, copied=copied)
        return RepairStep(
            "clear_line",
            path,
            f"Blank the line at {offset} of {path}. If it noted an erasure that had not ended, ask for that once more; "
            "if it noted what was forgotten, a repair of that agent's MANIFEST will not know of it.",
        )

    # -- the directory of the lanes

    def _lanes(self, quarantine: Quarantine | None) -> RepairStep:
        path = self._paths.lanes
        if quarantine is not None:
            make_one_directory(self._storage, path)
        return RepairStep("start_anew", path, f"Make {path} anew. What had not been merged is gone with the old one.")

    # -- files that are lost without harm

    def _anew(self, path: str, quarantine: Quarantine | None) -> RepairStep:
        if quarantine is not None:
            quarantine.copy(path, why="its checksum does not agree; it is written anew by whoever needs it")
            try_unlink(self._storage, path)
            self._storage.sync_directory(os.path.dirname(path))
        return RepairStep("start_anew", path, f"Set {path} aside; it is written anew, and nothing is lost by that.")


def _whole(taken: Taken) -> tuple[CopiedRange, ...]:
    """All of a small file, where a source had it."""
    return (CopiedRange(0, len(taken.data) + 1, taken.source),) if taken.source else ()
