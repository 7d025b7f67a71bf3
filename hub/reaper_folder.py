"""The upload folder as mod_http_upload lays it out: `<docroot>/<owner>/<secret>/<name>`, owner = SHA-1 of the uploader's bare JID
(jid_in_url: sha1), secret = random letters and digits, one object in each.

Nothing outside the docroot can be reached: a path is three plain names, each folder is opened below the one before it without following
symbolic links, and an object is removed by its name below the folder that was opened. Which truck an address belongs to is read from the
folder's name, which ejabberd chose when the truck logged in; so an announcement can name objects of its own truck only.

Ages are those of the file system's own clock (that of the server where the folder is shared), read from a file of ours that is touched: the
clock of this process plays no part. A file's time is that of its last written byte.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

EMPTY_SECONDS = 3600.0  # an empty folder this old is no upload that is just beginning
CLOCK = ".reaper-clock"

_OWNER = re.compile(r"[0-9a-f]{40}")
_SECRET = re.compile(r"[A-Za-z0-9]{16,128}")
_NAME = re.compile(r"[A-Za-z0-9_.~-]{1,255}")  # ejabberd puts '_' for every other character


class Object(NamedTuple):
    """Where an object lies below the docroot."""

    owner: str
    secret: str
    name: str


class Seen(NamedTuple):
    """An object on the disk: its size in bytes and its age in seconds."""

    object: Object
    size: int
    age_s: float


def owner_of(jid: str) -> str:
    """The name of the folder of the bare JID `jid`."""
    return hashlib.sha1(jid.encode(), usedforsecurity=False).hexdigest()


def object_of(url: str, owner: str) -> Object | None:
    """The object of `owner` that `url` is the address of; None where it is none of theirs."""
    try:
        parts = urlsplit(url).path.split("/")
    except ValueError:
        return None
    if len(parts) < 4:  # "", …, owner, secret, name
        return None
    found = Object(*parts[-3:])
    plain = _SECRET.fullmatch(found.secret) and _NAME.fullmatch(found.name) and found.name not in (".", "..")
    return found if plain and found.owner == owner else None


class Folder:
    """The upload folder `docroot`. Every method blocks for the disk; all raise OSError where it refuses."""

    def __init__(self, docroot: Path) -> None:
        self._docroot = docroot

    def owners(self) -> list[str]:
        """The owners that have a folder."""
        with self._opened() as root:
            return [name for name in os.listdir(root) if _OWNER.fullmatch(name)]

    def look(self, owner: str) -> list[Seen]:
        """The objects of `owner`. Empty folders that broken uploads left behind are removed."""
        seen = []
        with self._opened() as root:
            now = self.now()
            with _below(root, owner) as folder:
                if folder is None:
                    return []
                for secret in os.listdir(folder):
                    seen += self._look_in(folder, owner, secret, now)
                _remove_empty(root, owner, folder, now)
        return seen

    def remove(self, found: Object, size: int | None = None) -> int | None:
        """Remove the object, and its folder; returns the bytes it had, None where it is gone or (with `size`) is not `size` bytes long."""
        with self._opened() as root, _below(root, found.owner) as folder:
            if folder is None:
                return None
            with _below(folder, found.secret) as place:
                if place is None:
                    return None
                try:
                    status = os.stat(found.name, dir_fd=place, follow_symlinks=False)
                except FileNotFoundError:
                    return None
                if not stat.S_ISREG(status.st_mode) or (size is not None and status.st_size != size):
                    return None
                try:
                    os.unlink(found.name, dir_fd=place)
                except FileNotFoundError:
                    return None
            _rmdir(folder, found.secret)  # one slot, one upload: nobody writes here again
        return status.st_size

    def now(self) -> float:
        """The file system's clock, in seconds of the epoch."""
        with self._opened() as root:
            clock = os.open(CLOCK, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=root)
            try:
                os.utime(clock)  # "now" is filled in by the file system's own machine
                return os.fstat(clock).st_mtime
            finally:
                os.close(clock)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        root = os.open(self._docroot, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield root
        finally:
            os.close(root)

    def _look_in(self, folder: int, owner: str, secret: str, now: float) -> list[Seen]:
        seen = []
        with _below(folder, secret) as place:
            if place is None:
                return []
            for name in os.listdir(place):
                try:
                    status = os.stat(name, dir_fd=place, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    seen.append(Seen(Object(owner, secret, name), status.st_size, now - status.st_mtime))
            if not seen:
                _remove_empty(folder, secret, place, now)
        return seen


@contextmanager
def _below(folder: int, name: str) -> Iterator[int | None]:
    """The folder `name` in `folder`, opened; None where it is gone, a symbolic link or no folder."""
    try:
        opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        if error.errno != errno.ELOOP:  # a symbolic link
            raise
        yield None
        return
    try:
        yield opened
    finally:
        os.close(opened)


def _remove_empty(above: int, name: str, opened: int, now: float) -> None:
    if now - os.fstat(opened).st_mtime > EMPTY_SECONDS and not os.listdir(opened):
        _rmdir(above, name)


def _rmdir(folder: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOTDIR):  # something else lies there
            raise
