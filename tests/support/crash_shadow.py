"""crash_disk.Disk without FUSE: `logbook.files` is patched so that every change goes to an ordinary folder, which stands for the page
cache, and to the model, which knows what of it the disk has. Paths and files outside of that folder are left to the real functions."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from crash_disk import Disk, Image, Inode
from crash_judge import write_image

from logbook import files


class Shadow:
    """A spool in `root` on `disk`, with what a cut left (`image`) to begin with."""

    def __init__(self, disk: Disk, root: Path, image: Image) -> None:
        self.disk = disk
        self.root = root
        self._inodes: dict[tuple[int, int], Inode] = {}
        disk.load(image)
        write_image(image, root)
        for path in image:
            if not path.endswith("/"):
                self._inodes[_identity((root / path).stat())] = disk.find(path)

    def _inode(self, fd: int) -> Inode | None:
        return self._inodes.get(_identity(os.fstat(fd)))

    def _name(self, path: Path) -> str | None:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else None

    def create(self, real: Callable[[Path], int], path: Path) -> int:
        name = self._name(path)
        inode = self.disk.create(name) if name is not None else None
        fd = real(path)
        if inode is not None:
            self._inodes[_identity(os.fstat(fd))] = inode
        return fd

    def write_whole(self, real: Callable[..., None], fd: int, *parts: bytes) -> None:
        inode = self._inode(fd)
        if inode is not None:
            appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
            self.disk.write(inode, os.fstat(fd).st_size if appends else os.lseek(fd, 0, os.SEEK_CUR), b"".join(parts))
        real(fd, *parts)

    def write_at(self, real: Callable[[int, bytes, int], None], fd: int, data: bytes, offset: int) -> None:
        inode = self._inode(fd)
        if inode is not None:
            self.disk.write(inode, offset, data)
        real(fd, data, offset)

    def truncate(self, real: Callable[[int, int], None], fd: int, size: int) -> None:
        inode = self._inode(fd)
        if inode is not None:
            self.disk.resize(inode, size)
        real(fd, size)

    def rename(self, real: Callable[[Path, Path], None], old: Path, new: Path) -> None:
        name, other = self._name(old), self._name(new)
        if name is not None and other is not None:
            self.disk.rename(name, other)
        real(old, new)

    def remove(self, real: Callable[[Path], None], path: Path) -> None:
        name = self._name(path)
        if name is not None:
            self.disk.remove(name)
            del self._inodes[_identity(path.stat())]
        real(path)

    def sync_data(self, real: Callable[[int], None], fd: int) -> None:
        inode = self._inode(fd)
        if inode is not None:
            self.disk.sync(inode)

    sync_all = sync_data

    def sync_folder(self, real: Callable[[Path], None], folder: Path) -> None:
        name = self._name(folder)
        if name is not None:
            self.disk.sync_folder(self.disk.find("" if name == "." else name))

    def make_folder(self, real: Callable[[Path], None], folder: Path) -> None:
        name = self._name(folder)
        if name is not None and name != "." and not folder.is_dir():
            self.disk.create(name, is_folder=True)
            folder.mkdir()
            self.disk.sync_folder(self.disk.find(""))

    def read_from_disk(self, real: Callable[[int, int], bytes], fd: int, size: int) -> bytes:
        inode = self._inode(fd)
        if inode is None:
            return real(fd, size)
        self.disk.sync(inode)
        with open(f"/proc/self/fd/{fd}", "r+b", buffering=0) as file:  # the page cache is dropped: now it shows what the disk has
            file.write(bytes(inode.content))
        return bytes(inode.content[:size])

    @contextmanager
    def patched(self) -> Iterator[None]:
        """`logbook.files` works on this disk."""
        names = ("create", "write_whole", "write_at", "truncate", "rename", "remove", "sync_data", "sync_all", "sync_folder")
        with pytest.MonkeyPatch.context() as patch:
            for name in (*names, "make_folder", "read_from_disk"):
                patch.setattr(files, name, _bound(getattr(self, name), getattr(files, name)))
            yield


def _bound(method: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: method(real, *arguments)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
