"""Where an archive keeps its objects: a folder, or a bucket of an S3 service (center/store_s3.py), behind the same few methods.

A key is `<truck>/<segment_id>.mcap`. `put` is the promise: when it returns, the object is durable under its key and is bit by bit what
was handed over; a kill at any moment before leaves either no object under the key or the whole one. Tables (center/tables.py) lie below
`tables` of the same place and are written by delta-rs itself, which gets `options`.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote

TABLES = "_tables"
SCHEME = "s3://"  # of the address of an archive that is no folder


class StoreError(OSError):
    """The place cannot be used, or did not keep what it was given: which and why, in one line."""


class Kept(NamedTuple):
    """An object of the store: its size in bytes."""

    truck: str
    segment_id: str
    size: int


class Store(Protocol):
    """All methods raise OSError; FileNotFoundError where there is no such object."""

    @property
    def tables(self) -> str:
        """Where the tables are: a folder or an s3:// address."""
        ...

    @property
    def options(self) -> dict[str, str]:
        """What delta-rs must know to get there."""
        ...

    def sync_table(self, name: str, version: int) -> None:
        """Make durable what a version of a table has added."""
        ...

    def tables_there(self) -> list[str]:
        """The names below `tables`, sorted."""
        ...

    def remove_tables(self) -> None:
        """Remove everything below `tables`."""
        ...

    def prepare(self) -> None:
        """Make sure that the place is there and may be written; called by those who write, before anything else."""
        ...

    def put(self, part: Path, key: str, sha256: str) -> None:
        """Make the verified file `part`, whose SHA-256 is known, a durable object. The file may be moved away by it."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes of an object, None if there is none."""
        ...

    def read(self, key: str) -> bytes:
        """A whole object."""
        ...

    def file(self, key: str, scratch: Path) -> contextlib.AbstractContextManager[Path]:
        """The object as a file while the context lasts; `scratch` is a folder for a copy where one is needed."""
        ...

    def listed(self) -> Iterator[Kept]:
        """Every object that has the name of one."""
        ...


def key_of(truck: str, segment_id: str) -> str:
    """The key of a segment."""
    return f"{truck}/{segment_id}.mcap"


def kept(key: str, size: int) -> Kept | None:
    """What lies under a key, by its name alone; None if it is not `<truck>/<segment_id>.mcap`."""
    truck, slash, name = key.partition("/")
    if not slash or "/" in name or not name.endswith(".mcap"):
        return None
    return Kept(truck, name.removesuffix(".mcap"), size)


class FolderStore:
    """Objects as files of one folder. Durable: file synced, renamed, its folder synced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._synced: set[Path] = set()  # folders of trucks whose own entry this process has synced

    @property
    def tables(self) -> str:
        return str(self.folder.absolute() / TABLES)

    @property
    def options(self) -> dict[str, str]:
        return {}

    def sync_table(self, name: str, version: int) -> None:
        table = Path(self.tables) / name  # delta-rs syncs nothing
        entry = table / "_delta_log" / f"{version:020}.json"
        folders = {entry.parent, table, table.parent}
        for line in entry.read_text(encoding="utf-8").splitlines():
            added = json.loads(line).get("add")
            if added is not None:
                path = table / unquote(added["path"])
                sync(path)
                folders.add(path.parent)
        for one in (entry, *sorted(folders)):
            sync(one)

    def tables_there(self) -> list[str]:
        folder = Path(self.tables)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def remove_tables(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.tables)

    def prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Where an object lies."""
        return self.folder / key

    def put(self, part: Path, key: str, sha256: str) -> None:
        target = self.path(key)
        if target.parent not in self._synced:  # also one that was there: another thread may have made it only now
            target.parent.mkdir(exist_ok=True)
            sync(self.folder)
            self._synced.add(target.parent)
        sync(part)
        os.replace(part, target)
        sync(target.parent)

    def size(self, key: str) -> int | None:
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, key: str) -> bytes:
        return self.path(key).read_bytes()

    @contextlib.contextmanager
    def file(self, key: str, scratch: Path) -> Iterator[Path]:
        yield self.path(key)

    def listed(self) -> Iterator[Kept]:
        for path in self.folder.glob("*/*.mcap"):
            found = kept(f"{path.parent.name}/{path.name}", path.stat().st_size)
            if found is not None:
                yield found


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk of a folder."""
    return shutil.disk_usage(folder).free


def sync(path: Path) -> None:
    """fsync a file or a folder; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
