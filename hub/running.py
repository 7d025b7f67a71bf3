"""Whether a hub runs in a folder, and which: the lock file that the hub holds from start to end, with its own pid and addresses in it.

The lock is the kernel's (flock): it goes with the process however that ends, so a pid read while the lock is held belongs to the holder
and never to a process that got the number later.
"""

import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub.errors import HubError

LOCK = "lock"
LOCK_SECONDS = 1.0  # whoever looks holds the lock for an instant, shared


class Held:
    """The lock of a hub's folder, ours."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, info: dict[str, Any]) -> None:
        """Say in the lock file who we are; whoever reads half of it reads again."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(info, indent=1).encode() + b"\n", 0)


@contextmanager
def own(home: Path) -> Iterator[Held]:
    """Hold `home`, made if absent, for this process alone: two ejabberds in one database folder destroy it. Raises HubError."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HubError(f"{error.filename}: {error.strerror}") from error
    try:
        until = time.monotonic() + LOCK_SECONDS
        while not _lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > until:
                raise HubError(f"another hub runs in {home}")
            time.sleep(0.05)
        held = Held(descriptor)
        held.tell({"pid": os.getpid()})
        yield held
    finally:
        os.close(descriptor)


def look(home: Path) -> dict[str, Any] | None:
    """What the hub in `home` says of itself: `pid`, and from when it is ready what stands in its ready file; None: none runs.

    Raises HubError where the folder cannot be looked into.
    """
    try:
        descriptor = os.open(home / LOCK, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HubError(f"{error.filename}: {error.strerror}") from error
    try:
        until = time.monotonic() + LOCK_SECONDS
        while not _lock(descriptor, fcntl.LOCK_SH):
            text = os.pread(descriptor, 65536, 0)
            try:
                return json.loads(text)
            except ValueError as error:
                if time.monotonic() > until:
                    raise HubError(f"{home / LOCK}: a hub holds it and does not say who it is") from error
            time.sleep(0.02)
        return None
    finally:
        os.close(descriptor)


def end(home: Path, seconds: float) -> bool:
    """Tell the hub in `home` to end and wait until it has; False: none ran. Raises HubError when it takes longer than `seconds`."""
    info = look(home)
    if info is None:
        return False
    try:
        process = os.pidfd_open(info["pid"])
    except ProcessLookupError:
        return False
    try:
        again = look(home)
        if again is None or again["pid"] != info["pid"]:
            return False  # it ended between the two, and `process` may be anyone
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], seconds)[0]:
            raise HubError(f"the hub (pid {info['pid']}) was told to stop and still runs after {seconds:g} s")
    except PermissionError as error:
        raise HubError(f"the hub (pid {info['pid']}) belongs to another user") from error
    finally:
        os.close(process)
    return True


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
