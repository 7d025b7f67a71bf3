"""A disk that forgets: the model under every power cut of tests/crash.

It has two states. What a program reads back (`content`, `names`) is the page cache's; what the disk has (`durable`) changes only by a
sync: of a file for its data and size, of a folder for the names in it. Everything else waits in `pending`, in order. `image` is what a
power cut at this moment would leave: the durable state and any part of what is pending, each operation on its own, as a page cache writes
back what it likes. A sector (512 bytes) is old or new, or, where no durable byte stood in it, anything: a drive that ruins durable
bytes beside those it writes is not modelled (and no file system survives it).

A sync that fails does what Linux does (USENIX ATC'20): some of the pending data has reached the disk, the rest never will, and the pages
count as clean: the next sync succeeds. Only the size still becomes durable with it."""

import errno
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

SECTOR = 512
KINDS = ("forgotten", "kept", "torn", "zeroed", "garbled", "mixed")
Image = dict[str, bytes]  # path below the disk's root -> content; folders end in /


class Write(NamedTuple):
    """Bytes at an offset."""

    offset: int
    data: bytes


class Resize(NamedTuple):
    """A new length."""

    size: int


class Naming(NamedTuple):
    """A name goes, a name comes, or (a rename) both at once."""

    gone: str
    new: str
    inode: "Inode | None"


@dataclass(eq=False)
class Inode:
    """A file, or a folder (`names` is not None)."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write | Resize] = field(default_factory=list)
    names: "dict[str, Inode] | None" = None
    durable_names: "dict[str, Inode]" = field(default_factory=dict)
    pending_names: list[Naming] = field(default_factory=list)


def folder() -> Inode:
    """An empty folder."""
    return Inode(names={})


class Disk:
    """Thread-safe. `fault(operation, path)` may return an errno to refuse with; `before_sync(path)` may wait; `on_change()` is called after
    each operation that changes something. `capacity` in bytes of content bounds writing (ENOSPC, after a short write)."""

    def __init__(self, seed: int = 0) -> None:
        self.lock = threading.RLock()
        self.dice = random.Random(seed)
        self.fault: Callable[[str, str], int | None] = lambda operation, path: None
        self.before_sync: Callable[[str], None] = lambda path: None
        self.on_change: Callable[[], None] = lambda: None
        self.capacity: int | None = None
        self.syncs = 0
        self.root = folder()

    # --- what a program does

    def find(self, path: str) -> Inode:
        """The inode at `path`; raises ENOENT."""
        inode = self.root
        for part in filter(None, path.split("/")):
            if inode.names is None or part not in inode.names:
                raise OSError(errno.ENOENT, path)
            inode = inode.names[part]
        return inode

    def create(self, path: str, is_folder: bool = False) -> Inode:
        """A new file or folder."""
        with self.lock:
            self._check("create", path)
            if self.capacity is not None and self.used() >= self.capacity:
                raise OSError(errno.ENOSPC, path)
            parent, name = self._parent(path)
            if name in (parent.names or {}):
                raise OSError(errno.EEXIST, path)
            inode = folder() if is_folder else Inode()
            self._name(parent, Naming("", name, inode))
            return inode

    def remove(self, path: str) -> None:
        """Takes a name away."""
        with self.lock:
            self._check("remove", path)
            self.find(path)
            parent, name = self._parent(path)
            self._name(parent, Naming(name, "", None))

    def rename(self, old: str, new: str) -> None:
        """Within one folder, as the product does."""
        with self.lock:
            self._check("rename", old)
            inode = self.find(old)
            (parent, gone), (other, name) = self._parent(old), self._parent(new)
            if parent is not other:
                raise OSError(errno.EXDEV, new)
            self._name(parent, Naming(gone, name, inode))

    def write(self, inode: Inode, offset: int, data: bytes, path: str = "") -> int:
        """Writes what there is room for; ENOSPC if there is none."""
        with self.lock:
            self._check("write", path)
            if self.capacity is not None:
                room = max(0, self.capacity - self.used() + max(0, len(inode.content) - offset))
                if not room:
                    raise OSError(errno.ENOSPC, path)
                data = data[:room]
            change = Write(offset, bytes(data))
            _apply(inode.content, change)
            inode.pending.append(change)
            self.on_change()
            return len(data)

    def resize(self, inode: Inode, size: int, path: str = "") -> None:
        """Cuts or extends a file."""
        with self.lock:
            self._check("truncate", path)
            _apply(inode.content, Resize(size))
            inode.pending.append(Resize(size))
            self.on_change()

    def sync(self, inode: Inode, path: str = "") -> None:
        """Returns when the file's content is durable, or raises, and then lies ever after."""
        self.before_sync(path)
        with self.lock:
            self.syncs += 1
            code = self.fault("sync", path)
            if code:
                for change in inode.pending:
                    if self.dice.random() < 0.5:
                        _apply(inode.durable, change)
                size = len(inode.content)
                inode.content = bytearray(inode.durable)
                _apply(inode.content, Resize(size))
                inode.pending = [Resize(size)]
                raise OSError(code, os.strerror(code))
            for change in inode.pending:
                _apply(inode.durable, change)
            inode.pending.clear()
            self.on_change()

    def sync_folder(self, inode: Inode, path: str = "") -> None:
        """Returns when the names are durable."""
        self.before_sync(path)
        with self.lock:
            self.syncs += 1
            self._check("sync", path)
            inode.durable_names = dict(inode.names or {})
            inode.pending_names.clear()
            self.on_change()

    def used(self) -> int:
        """Bytes of content."""

        def size(inode: Inode) -> int:
            return len(inode.content) + sum(map(size, (inode.names or {}).values()))

        return size(self.root)

    # --- what a power cut does

    def image(self, dice: random.Random, kind: str) -> Image:
        """What the disk would hold after a power cut now: the durable state and a part of what is pending, by `kind`."""
        found: Image = {}

        def keep() -> bool:
            return kind == "kept" or (kind != "forgotten" and dice.random() < 0.5)

        def visit(inode: Inode, path: str) -> None:
            if inode.names is None:
                found[path] = _cut(inode, dice, kind)
                return
            if path:
                found[path + "/"] = b""
            names = dict(inode.durable_names)
            for change in inode.pending_names:
                if keep():
                    _rename(names, change)
            for name, child in names.items():
                visit(child, f"{path}/{name}" if path else name)

        with self.lock:
            visit(self.root, "")
        return found

    def load(self, image: Image) -> None:
        """Everything in `image`, durable; nothing else."""
        with self.lock:
            self.root = folder()
            for path, data in image.items():
                inode = self.root
                *parents, name = path.rstrip("/").split("/")
                for part in parents:
                    inode = self._adopt(inode, part, folder())
                self._adopt(inode, name, folder() if path.endswith("/") else Inode(bytearray(data), bytearray(data)))

    @staticmethod
    def _adopt(parent: Inode, name: str, inode: Inode) -> Inode:
        assert parent.names is not None
        parent.durable_names.setdefault(name, inode)
        return parent.names.setdefault(name, inode)

    def _check(self, operation: str, path: str) -> None:
        code = self.fault(operation, path)
        if code:
            raise OSError(code, os.strerror(code))

    def _parent(self, path: str) -> tuple[Inode, str]:
        parent, _, name = path.rstrip("/").rpartition("/")
        return self.find(parent), name

    def _name(self, parent: Inode, change: Naming) -> None:
        assert parent.names is not None
        _rename(parent.names, change)
        parent.pending_names.append(change)
        self.on_change()


def _apply(content: bytearray, change: Write | Resize) -> None:
    if isinstance(change, Resize):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def _rename(names: dict[str, Inode], change: Naming) -> None:
    if change.gone:
        names.pop(change.gone, None)
    if change.inode is not None:
        names[change.new] = change.inode


def _cut(inode: Inode, dice: random.Random, kind: str) -> bytes:
    """What is left of a file."""
    content = bytearray(inode.durable)
    for change in inode.pending:
        how = dice.choice(KINDS[:5]) if kind == "mixed" else kind
        if how == "forgotten":
            continue
        if how == "kept" or isinstance(change, Resize) or dice.random() < 0.2:
            _apply(content, change)
        else:
            _ruin(content, change, dice, how)
    return bytes(content)


def _ruin(content: bytearray, change: Write, dice: random.Random, how: str) -> None:
    """Some sectors of a write are there, the others are old, zero (`zeroed`) or noise (`garbled`)."""
    end = change.offset + len(change.data)
    durable = len(content)
    if how == "zeroed" or (how == "garbled" and dice.random() < 0.7):
        _apply(content, Resize(max(durable, end)))
    whole_until = dice.randrange(change.offset, end + 1)
    scattered = dice.random() < 0.5
    for start in range(change.offset - change.offset % SECTOR, end, SECTOR):
        first, last = max(start, change.offset), min(start + SECTOR, end)
        arrived = dice.random() < 0.5 if scattered else last <= whole_until
        if how == "zeroed" and not scattered:
            arrived = False
        if arrived:
            _apply(content, Write(first, change.data[first - change.offset : last - change.offset]))
        elif how == "garbled" and first >= durable:
            _apply(content, Write(first, dice.randbytes(last - first)))
