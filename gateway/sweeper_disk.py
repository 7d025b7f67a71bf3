"""What the sweeper sees and does of the disk: the segments of the spool, the room that is left, names that go for good."""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from logbook import files

_SPOOLED = re.compile(r"\d{6,}-([a-z]+)\.mcap(\.open)?")
_LOCKS = Path("/proc/locks")
DISK_PART = 8  # of the disk is the most that the reserve takes, however small the disk is
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BLOCK_BYTES = 512  # of st_blocks, on every file system


class Spooled(NamedTuple):
    """A segment file in the spool: its folder and name, stream, bytes, and whether it is sealed."""

    folder: str
    name: str
    stream: str
    size: int
    sealed: bool


def spooled(spool: Path) -> list[Spooled]:
    """All segments, open ones too, by folder and number; those that vanish meanwhile are left out."""
    found = []
    for folder in _scan(spool):
        if folder.name.startswith(".") or not folder.is_dir(follow_symlinks=False):
            continue
        for entry in _scan(Path(folder.path)):
            match = _SPOOLED.fullmatch(entry.name)
            if match is None:
                continue
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
            found.append(Spooled(folder.name, entry.name, match[1], size, match[2] is None))
    return sorted(found)


def spooled_bytes(spool: Path) -> int:
    """Bytes of all segments in the spool, open ones too."""
    return sum(segment.size for segment in spooled(spool))


def free_bytes(spool: Path) -> int:
    """Bytes an ordinary process may still write on the spool's disk, as the file system says."""
    disk = os.statvfs(spool)
    return disk.f_bavail * disk.f_frsize


def remove(paths: Iterable[Path]) -> None:
    """Take files away, durably: one that came back after a power cut would be uploaded again. Those that are gone are gone."""
    folders = set()
    for path in paths:
        path.unlink(missing_ok=True)
        folders.add(path.parent)
    for folder in folders:
        if folder.is_dir():
            files.sync_folder(folder)


def replace(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`, durably and as a whole. Raises OSError; the old content stays then."""
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        files.write_whole(fd, data)
        files.sync_all(fd)
    except OSError:
        temporary.unlink()
        raise
    finally:
        os.close(fd)
    temporary.replace(path)
    files.sync_folder(path.parent)


def is_flocked(path: Path) -> bool:
    """Whether some process holds a lock on the file, without touching it: one who tried the lock, even for a moment, would keep a recorder
    from starting in that moment. By the inode alone: its device is named otherwise in /proc/locks on some file systems."""
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return False
    lines = (line.split() for line in _LOCKS.read_text(encoding="ascii").splitlines())
    return any(fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode) for fields in lines if len(fields) > 5)


class Reserve:
    """`<spool>/thinning.reserve`: `target` bytes of the disk that are ours already, for the day when other programs have filled the rest.

    A threshold of free space could not promise that: it is free for everybody. The file is preallocated (no bytes are written), is cut by
    what a derived segment needs right before it is written, and grows again when its originals are gone. Between cutting and writing
    another program may be quicker; then the derived segment is given up, and what is left of the reserve serves the next try."""

    def __init__(self, spool: Path, target: int) -> None:
        disk = os.statvfs(spool)
        self._spool = spool
        self._path = spool / "thinning.reserve"
        self._target = min(target, disk.f_blocks * disk.f_frsize // DISK_PART)

    def held(self) -> int:
        """Bytes of the disk that the file occupies."""
        try:
            return self._path.stat().st_blocks * _BLOCK_BYTES
        except FileNotFoundError:
            return 0

    def missing(self) -> int:
        """Bytes that it should hold and does not."""
        return max(0, self._target - self.held())

    def lend(self, size: int, leave: int = 0) -> bool:
        """Give `size` bytes back to the disk, or what there is beyond `leave`; False if that is nothing. Raises OSError."""
        held = self.held()
        if held <= leave:
            return False
        os.truncate(self._path, max(leave, held - size))
        return True

    def grow(self) -> None:
        """Take back what is missing, of half of the free space at most: a recorder that is writing needs room too. Raises OSError, but not
        for a full disk: the next sweep tries again."""
        size = min(self.missing(), free_bytes(self._spool) // 2)
        if size <= 0:
            return
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self.held() + size)
        except OSError as error:
            if not is_full(error):
                raise
        finally:
            os.close(fd)


def is_full(error: OSError) -> bool:
    """Whether the disk refused for want of room."""
    return error.errno in _FULL


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
