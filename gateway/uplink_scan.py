"""Which sealed segments the spool holds, and what their bytes say. Only names ending in `.mcap` count: `.open` is still being written."""

import hashlib
import os
import re
from pathlib import Path
from typing import BinaryIO

from gateway.ledger import Description, Found
from logbook import reader

_FILE = re.compile(r"(\d{6,})-([a-z]+)\.mcap")
_FOLDER = re.compile(r"[A-Za-z0-9-]+")
_READ_BYTES = 1 << 20


class Unreadable(Exception):
    """A sealed segment that cannot be sent as it is; the text says why."""


def sealed_paths(spool: Path) -> dict[tuple[str, str], os.DirEntry[str]]:
    """(folder, file name) of every sealed segment; a folder that vanishes meanwhile is passed over."""
    found: dict[tuple[str, str], os.DirEntry[str]] = {}
    for folder in _entries(spool):
        if _FOLDER.fullmatch(folder.name) and folder.is_dir(follow_symlinks=False):
            for entry in _entries(Path(folder.path)):
                if _FILE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    found[folder.name, entry.name] = entry
    return found


def segment_id(truck: str, folder: str, file: str) -> str:
    """The id of a sealed file (docs/formats.md 2); the file name must be of that form."""
    return f"{truck}-{folder}-{file.removesuffix('.mcap')}"


def scan(spool: Path, truck: str, known: set[str]) -> tuple[list[Found], set[str]]:
    """Sealed segments not in `known`, oldest first (by modification time, then by number), and the ids of all."""
    paths = {segment_id(truck, *key): (key, entry) for key, entry in sealed_paths(spool).items()}
    new = []
    for identity in paths.keys() - known:
        (folder, file), entry = paths[identity]
        try:
            stat = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # deleted since the folder was listed
            continue
        match = _FILE.fullmatch(file)
        assert match  # sealed_paths lists no others
        new.append(((stat.st_mtime_ns, folder, int(match[1])), Found(identity, f"{folder}/{file}", match[2], stat.st_size)))
    return [found for _, found in sorted(new)], set(paths)


def describe(path: Path) -> Description:
    """Size, SHA-256 and times of a sealed segment; raises Unreadable. Reads the whole file: not for an event loop's thread."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = _sha256(file)
        info = reader.info(path)
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(f"{path.name}: {text}") from error
    return Description(size, digest, info.first_time, info.last_time, info.first_utc, info.last_utc)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_READ_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
