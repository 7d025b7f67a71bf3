"""The few operations by which a segment reaches the disk, in one place so that tests can let the disk fail or forget. All raise OSError."""

import fcntl
import os
import time
from collections import deque
from itertools import islice
from pathlib import Path

_MOST_PARTS = os.sysconf("SC_IOV_MAX")
_FILE_MODE = 0o644


def create(path: Path) -> int:
    """A new file open for appending; FileExistsError if there is one."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, _FILE_MODE)


def write_whole(fd: int, *parts: bytes) -> None:
    """Writes all of `parts`, one behind the other, at the file's position (a write to a nearly full disk can be short)."""
    views = deque(memoryview(part) for part in parts if part)
    while views:
        written = os.writev(fd, list(islice(views, _MOST_PARTS)))
        while written:
            if written < len(views[0]):
                views[0] = views[0][written:]
                break
            written -= len(views.popleft())


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Overwrites a few bytes of a file that is not open for appending."""
    if os.pwrite(fd, data, offset) != len(data):
        raise OSError(f"short write of {len(data)} bytes at {offset}")


def truncate(fd: int, size: int) -> None:
    """Cuts the file to `size` bytes."""
    os.ftruncate(fd, size)


def rename(old: Path, new: Path) -> None:
    """Gives a file another name of its folder."""
    old.rename(new)


def remove(path: Path) -> None:
    """Takes a file's name away."""
    path.unlink()


def read_from_disk(fd: int, size: int) -> bytes:
    """The file's `size` bytes as the disk has them. What a dead writer left in the page cache is written first, then the cache is dropped:
    after a failed fsync Linux keeps pages there, marked clean, that never reached the disk and would be gone after the next power cut."""
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    parts = []
    offset = 0
    while offset < size and (part := os.pread(fd, size - offset, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def sync_data(fd: int) -> None:
    """Returns when the file's content and size are on disk."""
    os.fdatasync(fd)


def sync_all(fd: int) -> None:
    """Returns when the file and its inode are on disk."""
    os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Returns when the names in `folder` are on disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Makes `folder` (and its parents) durable; nothing to do where it exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def is_locked(path: Path) -> bool:
    """True if somebody holds the exclusive lock of the file. Asks with a shared lock that is given back at once."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def lock_new(fd: int) -> bool:
    """Takes the exclusive lock of a file just made; waits a moment for one who only asks (`is_locked`). False if it stays taken."""
    for _ in range(10):
        if try_lock(fd):
            return True
        time.sleep(0.01)
    return False


def try_lock(fd: int) -> bool:
    """Takes the exclusive lock of the open file; False if another open file description holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
