"""The head's two slots: whether one is whole, which one runs (docs/formats.md section 9).

It stands on the board's flash outside of the slots, with firmware/boot_switch.py, so that no version can break it.

Recovery. A slot counts only when every byte of it was verified against a manifest under the unit's key, and it holds nothing else; of two
whole ones the good one is never written to, and of one whole one never that one.

Limits. Verification hashes the whole slot at every start. The key protects against a wrong or changed image on the line, not against
somebody who holds the board: he can read it."""

import hashlib
import os
import sys

from firmware.boot_switch import GOOD, STARTS, TRIAL, confirm, hexadecimal, measured, other, replace, settle, sha256, state, write

__all__ = ("confirm", "fault", "pick", "replace", "roll_back", "settle", "sha256", "sign", "spare", "state", "try_out", "version")

_FOLDERS = ("drivers", "firmware")
_KEY = "unit.key"
_MANIFEST_MAX, _FILES_MAX, _KEY_SIZE = 8192, 100, 32


class _Fault(Exception):
    """Why a slot is not whole."""


def _keyed(key: bytes, pad: int) -> hashlib.sha256:
    return hashlib.sha256(bytes([byte ^ pad for byte in key]) + bytes([pad]) * (64 - len(key)))


def sign(key: bytes, lines: "list[bytes]") -> str:
    """HMAC-SHA-256 under a key of 32 bytes, in hexadecimal."""
    inner = _keyed(key, 0x36)
    for line in lines:
        inner.update(line)
    outer = _keyed(key, 0x5C)
    outer.update(inner.digest())
    return hexadecimal(outer.digest())


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
    try:
        with open(_KEY, "rb") as file:
            key = file.read(_KEY_SIZE + 1)
        if len(key) != _KEY_SIZE:
            return "unit.key: not 32 bytes"
        lines = _manifest(slot, key)
        listed = {folder: 0 for folder in _FOLDERS}
        before = ""
        for line in lines[4:-1]:
            path = _verify(slot, line)
            if path <= before:
                return "manifest: files out of order"
            before = path
            listed[path.split("/")[0]] += 1
        if "main.mpy" not in os.listdir(slot + "/firmware"):
            return "firmware/main.mpy: missing"
        for folder in _FOLDERS:
            if len(_entries(slot + "/" + folder)) != listed[folder]:
                return folder + ": a file that the manifest does not list"
        if sorted(_entries(slot)) != ["drivers", "firmware", "manifest"]:
            return "a file that the manifest does not list"
    except OSError as error:
        return f"cannot be read: error {error.args[0]}"
    except (_Fault, ValueError) as error:
        return str(error)
    return ""


def _entries(folder: str) -> "list[str]":
    return [name for name in os.listdir(folder) if not name.endswith(".new")]


def _manifest(slot: str, key: bytes) -> "list[bytes]":
    """The manifest's lines, when it is signed with this key and made for this interpreter. Nothing of it is used before that."""
    with open(slot + "/manifest", "rb") as file:
        text = file.read(_MANIFEST_MAX + 1)
    if len(text) > _MANIFEST_MAX:
        raise _Fault("manifest: too long")
    start = text.rfind(b"hmac ")
    if start < 0 or text[start:] != f"hmac {sign(key, [text[:start]])}\n".encode():
        raise _Fault("manifest: not signed with this unit's key")
    lines = text.split(b"\n")[:-1]
    if len(lines) < 6 or len(lines) > _FILES_MAX + 5 or lines[0] != b"cruisers-head 1":
        raise _Fault("manifest: unknown form")
    name, needed = lines[2].decode().split(" ")
    major, minor = needed.split(".")
    if name != "micropython" or sys.implementation.version[:2] < (int(major), int(minor)):
        raise _Fault("needs MicroPython " + needed)
    if lines[3] != b"mpy %d" % (getattr(sys.implementation, "_mpy", 0) & 255):
        raise _Fault("bytecode of another MicroPython")
    return lines


def _verify(slot: str, line: bytes) -> str:
    """One file of the manifest; returns its path in the slot."""
    words = line.decode().split(" ")
    if len(words) != 4 or words[0] != "file" or words[3].count("/") != 1 or words[3].split("/")[0] not in _FOLDERS:
        raise _Fault("manifest: unknown line")
    try:
        digest, size = measured(slot + "/" + words[3])
    except OSError as error:
        raise _Fault(f"{words[3]}: error {error.args[0]}") from None
    if digest != words[1] or str(size) != words[2]:
        raise _Fault(words[3] + ": not what the manifest lists")
    return words[3]


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


def pick() -> "tuple[str, bool]":
    """The slot to start, verified, and whether it is on trial: that costs it a start. ("", False): none is whole, which is said as text."""
    slot, standing, left = state()
    slot = slot or "a"
    rest = other(slot)
    if standing == TRIAL:
        # First the start is written down as spent, whatever happens from here on; what cannot be counted is not tried.
        if left and _written(slot, TRIAL, left - 1) and not fault(slot):
            return slot, True
        if not fault(rest):
            _written(rest, GOOD, 0)
            return rest, False
    reasons = []
    for name in (slot, rest):
        why = fault(name)
        if not why:
            return name, standing == TRIAL and name == slot
        reasons.append(f"slot {name}: {why}")
    print("no whole slot: " + "; ".join(reasons))
    return "", False


def _written(slot: str, standing: str, left: int) -> bool:
    try:
        write(slot, standing, left)
    except OSError as error:
        print(f"switch not written: error {error.args[0]}")
        return False
    return True
