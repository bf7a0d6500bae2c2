"""The names of a tree that may lose its power: those on disk for sure, and changes that may still be lost.

A change (a name made, removed or moved) is atomic: a rename leaves the old name or the new, never neither. Which of
the changes that were never synced a power cut leaves is drawn: a prefix of all of them, as a journaling file system
leaves it; a prefix per directory; or any of them. Always whole chains: a change of a name needs the changes of the
same name before it, and a new file that got the inode number of a removed one needs that removal.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Self

from memstore.testing.unsynced_content import UnsyncedContent


class Node:
    """A file or a directory. Not thread-safe: its storage's lock guards it.

    Attributes:
        serial: never used twice, and older nodes have lower ones.
        number: its inode number; another node may have had it before.
        device: of its file system.
        content: of a file; None for a directory.
        names: of a directory, as programs see them.
        names_on_disk: of a directory, as a power cut would leave them if no more than what is synced were there.
        links: how many names lead to it.
        opened: how many descriptors of it are open.
        holder: the token of the descriptor that has its lock.
        removed_by: the changes that took its names away.
        made_after: the changes that took the names of whoever had its inode number before.
        changed_ns: when it was last written, linked or renamed.
    """

    __slots__ = (
        "changed_ns",
        "content",
        "device",
        "holder",
        "links",
        "made_after",
        "names",
        "names_on_disk",
        "number",
        "opened",
        "removed_by",
        "serial",
    )

    def __init__(self, *, serial: int, number: int, device: int, content: UnsyncedContent | None) -> None:
        self.serial = serial
        self.number = number
        self.device = device
        self.content = content
        self.names: dict[str, Node] = {}
        self.names_on_disk: dict[str, Node] = {}
        self.links = 0
        self.opened = 0
        self.holder: object | None = None
        self.removed_by: list[NameChange] = []
        self.made_after: list[NameChange] = []
        self.changed_ns = 0

    @property
    def is_directory(self) -> bool:
        """Whether it holds names and no bytes."""
        return self.content is None

    @property
    def size_bytes(self) -> int:
        """Of a file: bytes; of a directory: one page."""
        return 4096 if self.content is None else len(self.content.data)


Step = tuple[Node, str, Node | None]
"""In a directory, under a name, from now on: a node, or nothing."""


class NameChange:
    """What one call did to names, all or nothing."""

    __slots__ = ("done", "needs", "steps")

    def __init__(self, steps: tuple[Step, ...], needs: list[Self]) -> None:
        self.steps = steps
        self.needs = needs
        self.done = False
        """Whether it is on disk."""

    def apply(self, names: dict[Node, dict[str, Node]]) -> None:
        """Carry it out on a copy of the names."""
        for directory, name, node in self.steps:
            of_directory = names.setdefault(directory, dict(directory.names_on_disk))
            if node is None:
                of_directory.pop(name, None)
            else:
                of_directory[name] = node


class UnsyncedNames:
    """The changes that may be lost, in the order in which they were made."""

    def __init__(self) -> None:
        self._changes: list[NameChange] = []
        self._last: dict[tuple[Node, str], NameChange] = {}

    def change(self, *steps: Step, needs: Iterable[NameChange | None] = ()) -> NameChange:
        """Change names as programs see them; not durable."""
        before = [self._last.get((directory, name)) for directory, name, _ in steps]
        change = NameChange(steps, [c for c in (*before, *needs) if c is not None and not c.done])
        for directory, name, node in steps:
            if node is None:
                directory.names.pop(name, None)
            else:
                directory.names[name] = node
            self._last[directory, name] = change
        self._changes.append(change)
        return change

    def inside(self, directory: Node) -> list[NameChange]:
        """Changes of names in a directory that may be lost."""
        return [c for c in self._changes if any(d is directory for d, _, _ in c.steps)]

    def sync(self, changes: Iterable[NameChange]) -> None:
        """These are on disk from now on, and what they need."""
        wanted: set[NameChange] = set()
        waiting = list(changes)
        while waiting:
            change = waiting.pop()
            if change not in wanted and not change.done:
                wanted.add(change)
                waiting.extend(change.needs)
        names: dict[Node, dict[str, Node]] = {}
        for change in self._changes:
            if change in wanted:
                change.apply(names)
                change.done = True
                change.needs = []
        for directory, of_directory in names.items():
            directory.names_on_disk = of_directory
        self._changes = [c for c in self._changes if not c.done]
        self._last = {key: c for key, c in self._last.items() if not c.done}

    def sync_device(self, device: int) -> None:
        """Everything that was changed on a file system is on disk from now on."""
        self.sync([c for c in self._changes if any(d.device == device for d, _, _ in c.steps)])

    def after_power_cut(self, chance: Random) -> dict[Node, dict[str, Node]]:
        """Names of the directories in which a change survived, as the machine finds them when it is on again."""
        names: dict[Node, dict[str, Node]] = {}
        kept: set[NameChange] = set()
        for change in self._chosen(chance):
            if all(need.done or need in kept for need in change.needs):
                kept.add(change)
                change.apply(names)
        return names

    def _chosen(self, chance: Random) -> list[NameChange]:
        style = chance.choice(("none", "all", "journal", "journal", "directories", "any"))
        if style == "none":
            return []
        if style == "all":
            return self._changes
        if style == "journal":
            return self._changes[: chance.randint(0, len(self._changes))]
        stops = chance.choice((0.2, 0.5))
        if style == "any":
            return [c for c in self._changes if chance.random() >= stops]
        stopped: set[Node] = set()
        chosen: list[NameChange] = []
        for change in self._changes:
            directories = {directory for directory, _, _ in change.steps}
            if directories & stopped or chance.random() < stops / 2:
                stopped |= directories
            else:
                chosen.append(change)
        return chosen
