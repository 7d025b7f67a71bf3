"""Which sealed segments the spool holds, and what their bytes say. Only names ending in `.mcap` count: `.open` is still being written.
Folders whose names begin with a dot (the sweeper's work) are not looked into."""

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import BinaryIO

from gateway.ledger import Description, Found
from gateway.sweeper_derivation import derivation_of, derived_identity
from logbook import reader

_FILE = re.compile(r"(\d{6,})-([a-z]+)\.mcap")
_FOLDER = re.compile(r"[A-Za-z0-9-]+")
_READ_BYTES = 1 << 20

log = logging.getLogger("uplink")


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


def present_ids(spool: Path, truck: str) -> set[str]:
    """The ids of all sealed segments."""
    return {segment_id(truck, *key) for key in sealed_paths(spool)}


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
        found = _derived(Path(entry.path), Found(identity, f"{folder}/{file}", match[2], stat.st_size))
        new.append(((stat.st_mtime_ns, folder, int(match[1])), found))
    return [found for _, found in sorted(new, key=lambda item: item[0])], set(paths)


def _derived(path: Path, found: Found) -> Found:
    """`found` with what the file says about its originals. A file that cannot be read now is an original until it can be sent."""
    try:
        identity = derived_identity(path)
        if identity is None:
            return found
        return found._replace(derived_from=tuple(identity.derived_from.split()), derivation=derivation_of(identity))
    except (OSError, ValueError) as error:
        log.warning("%s: not known in whose place it stands: %s", path, error)
        return found


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
