"""crash_disk.Disk as a mounted file system (FUSE, libfuse 3 through mfusepy), so that a writer's own system calls meet it.

Written data goes through to the model at once (no writeback cache of the kernel's); what a program reads may come from the kernel's page
cache, as on a real disk: a page that the model has forgotten is still read until somebody drops the cache."""

import ctypes
import errno
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crash_disk import Disk, Inode

PATIENCE = 20.0  # seconds for a mount to come or go on a busy machine

# libfuse says at each end of one of several mounts that the signal handlers are another's; errors come to us as such.
_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, values: None)


def unavailable() -> str:
    """Why there is no FUSE here; "" if there is."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no /dev/fuse that may be opened"
    if shutil.which("fusermount3") is None:
        return "no fusermount3 (package fuse3)"
    try:
        import mfusepy  # noqa: F401 (it loads libfuse)
    except (ImportError, OSError) as error:
        return f"no libfuse: {error}"
    return ""


@contextmanager
def mounted(disk: Disk, folder: Path) -> Iterator[Path]:
    """`disk` at `folder` until the end of the block."""
    import mfusepy

    mfusepy._libfuse.fuse_set_log_func(_SILENT)
    folder.mkdir(parents=True, exist_ok=True)
    before = folder.stat().st_dev
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            mfusepy.FUSE(
                _operations(disk), str(folder), foreground=True, kernel_cache=True, fsname="cruisers-crash", max_idle_threads=4,
                entry_timeout=0.0, attr_timeout=0.0, negative_timeout=0.0,
            )  # fmt: skip
        except BaseException as error:  # noqa: BLE001 (told below, in the test's thread)
            failed.append(error)

    thread = threading.Thread(target=serve, name="fuse", daemon=True)
    thread.start()
    _until(lambda: bool(failed) or folder.stat().st_dev != before, f"mount of {folder}")
    if failed:
        raise failed[0]
    try:
        yield folder
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(folder)], check=True)
        thread.join(PATIENCE)
        if failed:
            raise failed[0]


def _until(condition: Any, what: str) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(what)
        time.sleep(0.01)


def _operations(disk: Disk) -> Any:
    import mfusepy

    class Operations(mfusepy.Operations):
        """The system calls that a spool needs."""

        use_ns = True

        def __init__(self) -> None:
            self._open: dict[int, Inode] = {}
            self._next = 0

        def _handle(self, inode: Inode) -> int:
            with disk.lock:
                self._next += 1
                self._open[self._next] = inode
                return self._next

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            with disk.lock:
                inode = self._open[fh] if fh is not None else disk.find(path)
                kind = stat.S_IFDIR | 0o755 if inode.names is not None else stat.S_IFREG | 0o644
                times = dict.fromkeys(("st_mtime", "st_atime", "st_ctime"), 10**9)
                return {
                    "st_mode": kind, "st_nlink": 1, "st_size": len(inode.content), "st_ino": id(inode) >> 4,
                    "st_uid": os.getuid(), "st_gid": os.getgid(), **times,
                }  # fmt: skip

        def readdir(self, path: str, fh: int) -> list[str]:
            with disk.lock:
                return [".", "..", *(disk.find(path).names or {})]

        def mkdir(self, path: str, mode: int) -> None:
            disk.create(path, is_folder=True)

        def create(self, path: str, mode: int, fi: int | None = None) -> int:
            return self._handle(disk.create(path))

        def open(self, path: str, flags: int) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR) and disk.fault("open", path) == errno.EROFS:
                raise OSError(errno.EROFS, path)
            return self._handle(disk.find(path))

        def release(self, path: str, fh: int) -> None:
            with disk.lock:
                del self._open[fh]

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            with disk.lock:
                return bytes(memoryview(self._open[fh].content)[offset : offset + size])

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            return disk.write(self._open[fh], offset, data, path)

        def truncate(self, path: str, length: int, fh: int | None = None) -> None:
            disk.resize(self._open[fh] if fh is not None else disk.find(path), length, path)

        def fsync(self, path: str, datasync: int, fh: int) -> None:
            disk.sync(self._open[fh], path)

        def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
            disk.sync_folder(disk.find(path), path)

        def rename(self, old: str, new: str) -> None:
            disk.rename(old, new)

        def unlink(self, path: str) -> None:
            disk.remove(path)

        def flush(self, path: str, fh: int) -> None:
            return None

        def statfs(self, path: str) -> dict[str, int]:
            total = disk.capacity if disk.capacity is not None else 1 << 40
            free = max(0, total - disk.used()) // 4096
            return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": total // 4096, "f_bfree": free, "f_bavail": free, "f_namemax": 255}

    return Operations()
