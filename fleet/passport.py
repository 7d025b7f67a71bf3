"""The unit's passport: what was proved of a sensor head when it was flashed. One JSON file a unit, `<unique id>.json`, and beside it, 0600,
its key `<unique id>.key` (32 bytes): who has it can sign updates for this head. The passport names only the key's fingerprint.

A passport is written whole and only when everything in it was proved: beside its name, synced, renamed. What stands in it is enough to
install the same head anew: truck, list of parts, version."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.clock import NANO, boottime_ns, kernel_error_s, system_offset_ns
from gateway.head_duty import Sensor

FORMAT = 1
KEY_BYTES = 32
TRUCK = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_UNIT = re.compile(r"[0-9a-f]{8,64}")


class PassportError(Exception):
    """A passport or key that cannot be read or makes no sense; one line says which and why."""


@dataclass(frozen=True)
class Passport:
    """`files`: SHA-256 by path of all on the flash but key and switch; `time`: UTC (ISO 8601); `time_source` says how far
    it can be trusted."""

    unit: str
    truck: str
    version: str
    runtime: str
    files: Mapping[str, str]
    key_fingerprint: str
    parts: list[Any]
    sensors: Mapping[str, Sensor]
    technician: str
    time: str
    time_source: str
    cruisers: str
    format: int = field(default=FORMAT)

    def proves(self, other: "Passport") -> bool:
        """Whether `other` says the same of the unit, but for moment, readings and who looked."""
        mine, theirs = asdict(self), asdict(other)
        for about in (mine, theirs):
            for key in ("time", "time_source", "technician"):
                del about[key]
            about["sensors"] = {name: row["trim"] for name, row in about["sensors"].items()}
        return mine == theirs


def fingerprint(key: bytes) -> str:
    """What may be shown of a unit's key."""
    return hashlib.sha256(b"cruisers unit key\n" + key).hexdigest()[:16]


def now() -> tuple[str, str]:
    """This machine's UTC to the second, and `ntp` or `not synchronised`."""
    utc = datetime.fromtimestamp((boottime_ns() + system_offset_ns()[0]) // NANO, UTC)
    return utc.isoformat().replace("+00:00", "Z"), "not synchronised" if kernel_error_s() is None else "ntp"


class Folder:
    """The passports and keys of a fleet, in a folder that is made when something is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def passport(self, unit: str) -> Passport | None:
        """The unit's passport, None if it has none. PassportError if there is one that cannot be read."""
        path = self._of(unit, "json")
        try:
            return _read(path, path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PassportError(f"{path}: {error.strerror}") from error

    def key(self, unit: str) -> bytes | None:
        """The unit's key, None if it is not here."""
        path = self._of(unit, "key")
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PassportError(f"{path}: {error.strerror}") from error
        if len(key) != KEY_BYTES:
            raise PassportError(f"{path}: not {KEY_BYTES} bytes")
        return key

    def keep_key(self, unit: str, key: bytes) -> None:
        """Keeps the key before the head gets it: a head whose key nobody knows would have to be installed anew. OSError."""
        if self.key(unit) != key:
            _write(self._of(unit, "key"), key, 0o600)

    def keep(self, passport: Passport) -> Path:
        """Writes the passport; the old one is replaced in one step. OSError."""
        path = self._of(passport.unit, "json")
        _write(path, (json.dumps(asdict(passport), indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode(), 0o644)
        return path

    def label(self, unit: str) -> Path:
        """Where the unit's label stands."""
        return self._of(unit, "png")

    def _of(self, unit: str, kind: str) -> Path:
        if _UNIT.fullmatch(unit) is None:
            raise PassportError(f"{unit[:80]!r} is no unique id of a board")
        return self.path / f"{unit}.{kind}"


def new_key() -> bytes:
    """A key for a unit that has none."""
    return secrets.token_bytes(KEY_BYTES)


def _read(path: Path, text: bytes) -> Passport:
    try:
        about = json.loads(text)
        if about["format"] != FORMAT:
            raise PassportError(f"{path}: format {about['format']!r} is not known to this version of cruisers")
        about["sensors"] = {name: Sensor(**row) for name, row in about["sensors"].items()}
        return Passport(**about)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PassportError(f"{path}: makes no sense ({type(error).__name__}: {error})") from error


def _write(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
