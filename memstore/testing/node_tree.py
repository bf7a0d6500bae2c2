"""Files and directories of a `CrashingStorage`: found by path, made, moved, and copied as a power cut leaves them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from random import Random

from memstore.errors import StorageError
from memstore.testing.unsynced_content import UnsyncedContent
from memstore.testing.unsynced_names import NameChange, Node, UnsyncedNames

_ROOT_DEVICE = 1


class NotADirectoryInPathError(StorageError):
    """A file stands where a path leads through a directory."""


class NodeTree:
    """Not thread-safe: its storage's lock guards it.

    Args:
        mounts: directories that are file systems of their own.
        reuse_inodes: a new file gets the inode number of the one of its file system that was gone last.
        changes_per_tick: so many changes share one time, as the kernel's clock ticks are coarse.
    """

    def __init__(self, *, mounts: Iterable[str] = (), reuse_inodes: bool, changes_per_tick: int) -> None:
        self._reuse_inodes = reuse_inodes
        self._changes_per_tick = changes_per_tick
        self._changes = 0
        self._serial = 0
        self._next_number = 2  # the root of a real file system has this one
        self._free: list[Node] = []
        self._live: dict[int, Node] = {}
        self.names = UnsyncedNames()
        self.root = self._new_node(_ROOT_DEVICE, self._next_number, None)
        self.root.links = 1
        self._next_number += 1
        for device, path in enumerate(mounts, _ROOT_DEVICE + 1):
            self._mount(path, device)

    # -- finding

    def find(self, path: str) -> Node:
        """What stands at a path; ``FileNotFoundError`` where nothing does."""
        node = self.root
        for name in path.split("/"):
            if not name:
                continue
            if not node.is_directory:
                raise NotADirectoryInPathError(f"{path}: a part of it is no directory")
            child = node.names.get(name)
            if child is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            node = child
        return node

    def directory(self, path: str) -> Node:
        """The directory at a path."""
        node = self.find(path)
        if not node.is_directory:
            raise NotADirectoryInPathError(f"{path}: not a directory")
        return node

    def parent(self, path: str) -> tuple[Node, str]:
        """The directory that a path's last name is in, and that name."""
        parent, name = os.path.split(path)
        return self.directory(parent), name

    def vacancy(self, path: str) -> tuple[Node, str]:
        """Like `parent`; ``FileExistsError`` where something stands there."""
        parent, name = self.parent(path)
        if name in parent.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return parent, name

    def content_of(self, path: str, action: str) -> tuple[Node, UnsyncedContent]:
        """The file at a path."""
        node = self.find(path)
        if node.content is None:
            raise StorageError(f"{path}: cannot {action}: it is a directory")
        return node, node.content

    def contents(self, device: int | None = None) -> list[UnsyncedContent]:
        """Of every file that is linked or open, on one file system or on all."""
        return [n.content for n in self._live.values() if n.content is not None and device in {None, n.device}]

    # -- changing

    def touch(self, node: Node) -> None:
        """Its time of change is now."""
        self._changes += 1
        node.changed_ns = self._changes // self._changes_per_tick * 1_000_000

    def make(self, parent: Node, name: str, *, directory: bool) -> Node:
        """A new empty file or directory."""
        number, needed = self._take_number(parent.device)
        node = self._new_node(parent.device, number, None if directory else UnsyncedContent())
        node.links, node.made_after = 1, needed
        self.names.change((parent, name, node), needs=needed)
        return node

    def link(self, node: Node, parent: Node, name: str) -> None:
        """Give a file one name more."""
        node.links += 1
        # Its inode number may have been another's, whose names must have gone from the disk before this is there.
        self.names.change((parent, name, node), needs=node.made_after)
        self.touch(node)

    def move(self, source: tuple[Node, str], target: tuple[Node, str]) -> None:
        """Rename; what stands at the target goes."""
        (old_parent, old_name), (parent, name) = source, target
        node, replaced = old_parent.names[old_name], parent.names.get(name)
        if replaced is node:
            return
        needs = [] if replaced is None else self.names.inside(replaced)
        change = self.names.change((old_parent, old_name, None), (parent, name, node), needs=needs)
        self.touch(node)
        if replaced is not None:
            self._unlinked(replaced, change)

    def remove(self, parent: Node, name: str) -> None:
        """Take a name away from a file or an empty directory."""
        node = parent.names[name]
        self._unlinked(node, self.names.change((parent, name, None), needs=self.names.inside(node)))

    def opened(self, node: Node) -> None:
        """One descriptor more leads to it."""
        node.opened += 1

    def closed(self, node: Node) -> None:
        """One descriptor less does."""
        node.opened -= 1
        self._forget_if_gone(node)

    # -- power

    def after_power_cut(self, chance: Random) -> NodeTree:
        """A tree of what a machine finds when it is on again; all of it is on disk, and nothing is open."""
        found = NodeTree(reuse_inodes=self._reuse_inodes, changes_per_tick=self._changes_per_tick)
        found._changes = self._changes + self._changes_per_tick
        found._serial = self._serial
        found._next_number = self._next_number
        found._live = {}
        found.root = found._copied(self.root, self.names.after_power_cut(chance), chance)
        taken = {node.number for node in found._live.values()}
        for node in (*self._free, *self._live.values()):
            if node.number not in taken:
                taken.add(node.number)
                free = Node(serial=node.serial, number=node.number, device=node.device, content=None)
                found._free.append(free)
        return found

    def _copied(self, node: Node, names: dict[Node, dict[str, Node]], chance: Random) -> Node:
        known = self._live.get(node.serial)
        if known is not None:
            assert node.content is not None, "a power cut has left two names of one directory"
            known.links += 1
            return known
        content = None
        if node.content is not None:
            # A generator of its own, so that what befalls one file does not hang on what befell those before it.
            content = UnsyncedContent(node.content.after_power_cut(Random(chance.getrandbits(64))))
        copy = Node(serial=node.serial, number=node.number, device=node.device, content=content)
        copy.changed_ns = node.changed_ns
        copy.links = 1
        self._live[copy.serial] = copy
        for name, child in names.get(node, node.names_on_disk).items():
            copy.names[name] = self._copied(child, names, chance)
        copy.names_on_disk = dict(copy.names)
        return copy

    # -- within

    def _new_node(self, device: int, number: int, content: UnsyncedContent | None) -> Node:
        self._serial += 1
        node = Node(serial=self._serial, number=number, device=device, content=content)
        self._live[node.serial] = node
        self.touch(node)
        return node

    def _take_number(self, device: int) -> tuple[int, list[NameChange]]:
        """An inode number, and what must be on disk before a file of that number can be."""
        if self._reuse_inodes:
            for index in reversed(range(len(self._free))):
                if self._free[index].device == device:
                    gone = self._free.pop(index)
                    return gone.number, gone.removed_by
        self._next_number += 1
        return self._next_number - 1, []

    def _unlinked(self, node: Node, change: NameChange) -> None:
        node.links -= 1
        node.removed_by.append(change)
        self.touch(node)
        self._forget_if_gone(node)

    def _forget_if_gone(self, node: Node) -> None:
        if not node.links and node.opened == 0 and self._live.pop(node.serial, None) is not None:
            self._free.append(node)

    def _mount(self, path: str, device: int) -> None:
        node = self.root
        *above, name = [part for part in path.split("/") if part]
        for part in above:
            node = node.names.get(part) or self.make(node, part, directory=True)
        number, _ = self._take_number(device)
        mounted = self._new_node(device, number, None)
        mounted.links = 1
        self.names.change((node, name, mounted))
        self.names.sync_device(_ROOT_DEVICE)
