"""The head's two slots: whether one is whole, which one runs (docs/formats.md section 9).

It stands on the board's flash outside of the slots, with firmware/boot_switch.py, so that no version can break it.

Recovery. A slot counts only when every byte of it was verified against a manifest under the unit's key, and it holds nothing else; of two
whole ones the good one is never written to, and of one whole one never that one.

Limits. Verification hashes the whole slot at every start: 64 kB, on an RP2040 some 0.3 s (an estimate: the same C code does 1.4 MB/s on a
Cortex-M4 of 168 MHz, forum.micropython.org 587; nobody measured it on a board). The key protects against a wrong or changed image on the
line, not against somebody who holds the board: he can read it."""

import hashlib
import os
import sys

from firmware.boot_switch import GOOD, STARTS, TRIAL, confirm, hexadecimal, newest, other, replace, settle, sha256, state, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

__all__ = (
    "begin",
    "confirm",
    "fault",
    "pick",
    "replace",
    "roll_back",
    "settle",
    "sha256",
    "sign",
    "spare",
    "state",
    "stay",
    "try_out",
    "version",
)

FOLDERS = ("drivers", "firmware")
_KEY = "unit.key"
_MANIFEST_MAX, _FILES_MAX, _KEY_SIZE, _LINE_MAX = 8192, 100, 32, 160


class Fault(Exception):
    """Why a slot is not whole."""


def _keyed(key: bytes, pad: int) -> hashlib.sha256:
    return hashlib.sha256(bytes([byte ^ pad for byte in key]) + bytes([pad]) * (64 - len(key)))


def _outer(key: bytes, inner: hashlib.sha256) -> str:
    outer = _keyed(key, 0x5C)
    outer.update(inner.digest())
    return hexadecimal(outer.digest())


def sign(key: bytes, body: bytes) -> str:
    """HMAC-SHA-256 under a key of 32 bytes, in hexadecimal."""
    inner = _keyed(key, 0x36)
    inner.update(body)
    return _outer(key, inner)


# --- a slot


def version(slot: str) -> str:
    """The version that the slot's manifest names, "" if there is none. Nothing is verified."""
    try:
        with open(slot + "/manifest", "rb") as file:
            file.readline()
            words = file.readline().decode().split()
    except (OSError, ValueError):
        return ""
    return words[1] if len(words) == 2 and words[0] == "version" else ""


def fault(slot: str) -> str:
    """Why the slot is not whole, "" if it is. Reads and hashes all of it."""
    manifest = slot + "/manifest"
    try:
        check(manifest)
        listed = dict.fromkeys(FOLDERS, 0)
        for path, digest, size in files(manifest):
            why = differs(slot + "/" + path, digest, size)
            if why:
                return f"{path}: {why}"
            listed[path.split("/")[0]] += 1
        if sorted(_entries(slot)) != ["drivers", "firmware", "manifest"] or "main.mpy" not in os.listdir(slot + "/firmware"):
            return "more or less in it than a version has"
        for folder in FOLDERS:
            if len(_entries(slot + "/" + folder)) != listed[folder]:
                return folder + ": a file that the manifest does not list"
    except OSError as error:
        return f"cannot be read: error {error.args[0]}"
    except (Fault, IndexError, ValueError) as error:  # a signed manifest of another form may be anything
        return str(error)
    return ""


def _entries(folder: str) -> "list[str]":
    return [name for name in os.listdir(folder) if not name.endswith(".new")]


def check(manifest: str) -> None:
    """Raises Fault unless this file is a manifest under the unit's key, for this interpreter. OSError if one of the two cannot be read."""
    with open(_KEY, "rb") as file:
        key = file.read(_KEY_SIZE + 1)
    if len(key) != _KEY_SIZE:
        raise Fault("unit.key: not 32 bytes")
    inner = _keyed(key, 0x36)
    size = 0
    with open(manifest, "rb") as file:
        line = file.readline(_LINE_MAX)
        while line and size <= _MANIFEST_MAX and not line.startswith(b"hmac "):
            inner.update(line)
            size += len(line)
            line = file.readline(_LINE_MAX)
        if line != f"hmac {_outer(key, inner)}\n".encode() or file.read(1):
            raise Fault("manifest: not signed with this unit's key")
    with open(manifest, "rb") as file:
        words = [file.readline(_LINE_MAX).decode().split() for _ in range(4)]
    if [line[:1] for line in words] != [["cruisers-head"], ["version"], ["micropython"], ["mpy"]] or words[0][1:] != ["1"]:
        raise Fault("manifest: unknown form")
    major, minor = words[2][1].split(".")
    if sys.implementation.version[:2] < (int(major), int(minor)):
        raise Fault("needs MicroPython " + words[2][1])
    if words[3][1:] != [str(getattr(sys.implementation, "_mpy", 0) & 255)]:
        raise Fault("bytecode of another MicroPython")


def files(manifest: str) -> "Iterator[tuple[str, str, int]]":
    """(path, SHA-256, size) of each file of a checked manifest. Raises Fault where a line has another form."""
    with open(manifest, "rb") as file:
        for _ in range(4):
            file.readline(_LINE_MAX)
        before = ""
        for _ in range(_FILES_MAX + 1):
            words = file.readline(_LINE_MAX).decode().split()
            if words and words[0] == "hmac":
                return
            if len(words) != 4 or words[0] != "file" or words[3].count("/") != 1 or words[3].split("/")[0] not in FOLDERS:
                raise Fault("manifest: unknown line")
            if words[3] <= before or not words[3].endswith(".mpy"):
                raise Fault("manifest: files out of order")
            before = words[3]
            yield before, words[1], int(words[2])
    raise Fault("manifest: too many files")


def differs(path: str, digest: str, size: int) -> str:
    """What is wrong with a file of a manifest, "" if nothing is."""
    try:
        if os.stat(path)[6] != size or sha256(path) != digest:
            return "not what the manifest lists"
    except OSError as error:
        return f"error {error.args[0]}"
    return ""


def spare() -> str:
    """The slot that may be written to: never the only whole one; of two whole ones never the good one."""
    slot, standing, _ = state()
    if not slot:
        slot = "a"
    rest = other(slot)
    if fault(rest):
        return rest
    return slot if standing == TRIAL or fault(slot) else rest


def try_out(slot: str) -> None:
    """From the next start on `slot` runs on trial. ValueError: why it is not whole."""
    why = fault(slot)
    if why:
        raise ValueError(why)
    write(slot, TRIAL, STARTS)


def roll_back() -> None:
    """From the next start on the other slot runs. ValueError: why it is not whole."""
    rest = other(state()[0] or "a")
    why = fault(rest)
    if why:
        raise ValueError(why)
    write(rest, GOOD, 0)


def begin(machine: "ModuleType") -> "tuple[Any, int]":
    """Count this start of the board: (the words of firmware/starts.py, or stand-ins where there are none; number of this start)."""
    words = machine.mem_backup() if hasattr(machine, "mem_backup") else [0, 0, 0]
    count = (words[1] >> 1 & 0x7F_FFFF if words[1] >> 24 == 0x2B else 0) + 1
    words[1] = 0x2B << 24 | count << 1 | 1
    return words, count


def stay(words: "Any", count: int) -> None:
    """This start leads into maintenance: the next one is told so, or what the reset that led here told, whatever ends it."""
    why = words[2] >> 24 if words[2] & 0x7F_FFFF == count - 1 else 0
    words[2] = (why or 1) << 24 | count


def pick() -> "tuple[str, str]":
    """The slot to start, verified, and its record if it is on trial (that costs it a start). ("", ""): none is whole, said as text."""
    record, _, slot, standing, left = newest()
    slot = slot or "a"
    rest = other(slot)
    if standing == TRIAL:
        # First the start is written down as spent, whatever happens from here on; what cannot be counted is not tried.
        spent = _written(slot, TRIAL, left - 1) if left else ""
        if spent and not fault(slot):
            return slot, spent
        if not fault(rest):
            _written(rest, GOOD, 0)
            return rest, ""
    reasons = []
    for name in (slot, rest):
        why = fault(name)
        if not why:
            return name, record if standing == TRIAL and name == slot else ""
        reasons.append(f"slot {name}: {why}")
    print("no whole slot: " + "; ".join(reasons))
    return "", ""


def _written(slot: str, standing: str, left: int) -> str:
    """The new record, "" if it could not be written."""
    try:
        return write(slot, standing, left)
    except OSError as error:
        print(f"switch not written: error {error.args[0]}")
        return ""
