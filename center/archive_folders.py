"""Who works in an archive's state folder: one center, and any number of processes with a folder of their own for what is coming in. Locks
are the kernel's (flock): they end with their process, however that ends."""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


class HeldByAnother(Exception):
    """Another process is the center here."""


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the archive as its center: two would hand out the same work and answer it twice. Raises HeldByAnother, OSError."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HeldByAnother(str(lock)) from error
        yield


@contextlib.contextmanager
def incoming(folder: Path) -> Iterator[Path]:
    """A folder of this process's own below `folder`, locked while the context lasts; those of processes that are gone are removed."""
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        if left.is_dir():
            _remove_if_left(left)
        else:
            left.unlink(missing_ok=True)
    while True:
        own = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        own.mkdir()
        try:
            descriptor = os.open(own, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another process found it before it was locked
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if own.is_dir():
                yield own
                shutil.rmtree(own, ignore_errors=True)
                return
        finally:
            os.close(descriptor)


def _remove_if_left(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError, BlockingIOError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
