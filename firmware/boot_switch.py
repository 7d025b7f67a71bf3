"""The switch between the head's two slots, and how a file is written on its flash (docs/formats.md section 9).

It stands on the board's flash outside of the slots, beside firmware/slots.py, which decides by it. It imports nothing of ours. What it
offers only grows: either file may be the newer one.

Recovery. Power may go at any moment: a file under its own name is whole, because it was read back and then renamed to it, and LittleFS does
that in one step. The switch stands in two copies, each with its check; a new one replaces the older. A record on trial that is renamed to
`switch.good` is confirmed: a running head has no memory to write a file (it takes 1.2 kB), but enough to rename one."""

import binascii
import hashlib
import os

SLOTS = ("a", "b")
GOOD, TRIAL = "good", "trial"
STARTS = 3  # of a version on trial
CONFIRMED = "switch.good"
RECORDS = ("switch.0", "switch.1", CONFIRMED)

_LINE_MAX = 160
_PIECE = 512


def hexadecimal(digest: bytes) -> str:
    """Bytes as text, lower case."""
    return binascii.hexlify(digest).decode()


def sha256(path: str) -> str:
    """SHA-256 of a file, in hexadecimal. OSError as from `open`."""
    hasher = hashlib.sha256()
    piece = bytearray(_PIECE)
    view = memoryview(piece)
    with open(path, "rb") as file:
        while True:
            count = file.readinto(piece)
            if not count:
                return hexadecimal(hasher.digest())
            hasher.update(piece if count == _PIECE else view[:count])


def settle(path: str, wanted: str) -> None:
    """Give `path`.new its name, if its bytes have the SHA-256 `wanted`. OSError 5 (EIO) if not: it must be written again."""
    if sha256(path + ".new") != wanted:
        raise OSError(5)
    os.rename(path + ".new", path)


def replace(path: str, data: bytes) -> None:
    """Write a whole file: beside its name, read back, renamed. OSError: nothing stands under the name that did not before."""
    with open(path + ".new", "wb") as file:
        file.write(data)
    settle(path, hexadecimal(hashlib.sha256(data).digest()))


def other(slot: str) -> str:
    """The slot that it is not."""
    return "b" if slot == "a" else "a"


def _record(path: str) -> "tuple[int, str, str, int] | None":
    """(sequence, slot, state, starts left), None if there is no valid one."""
    try:
        with open(path, "rb") as file:
            text = file.read(_LINE_MAX).decode()
        words = text.split(" ")
        body = text[: -len(words[-1])]
        if words[-1] != hexadecimal(hashlib.sha256(body.encode()).digest())[:8] + "\n" or len(words) != 7:
            return None
        if words[0] != "cruisers-switch" or words[1] != "1" or words[3] not in SLOTS or words[4] not in (GOOD, TRIAL):
            return None
        return int(words[2]), words[3], words[4], int(words[5])
    except (OSError, ValueError):  # none, or no text: then the other copy counts
        return None


def newest() -> "tuple[str, int, str, str, int]":
    """The record that counts: its file, sequence, slot, state, starts left; ("", 0, "", "good", 0) if none is valid."""
    best = ("", 0, "", GOOD, 0)
    for path in RECORDS:
        record = _record(path)
        if record is not None and record[0] > best[1]:
            best = (path, record[0], record[1], GOOD, 0) if path == CONFIRMED else (path,) + record  # MicroPython has no (*x,)
    return best


def state() -> "tuple[str, str, int]":
    """(slot, "good" or "trial", starts left) as the switch says; ("", "good", 0) without a valid record."""
    return newest()[2:]


def write(slot: str, standing: str, left: int) -> str:
    """What the switch says from now on; returns the record's file. OSError: it says what it said before."""
    best = newest()
    path = RECORDS[1] if best[0] == RECORDS[0] else RECORDS[0]
    body = f"cruisers-switch 1 {best[1] + 1} {slot} {standing} {left} "
    replace(path, (body + hexadecimal(hashlib.sha256(body.encode()).digest())[:8] + "\n").encode())
    return path


def confirm() -> None:
    """The slot on trial is good from now on: one rename, as firmware/boot_trial.py does it without this module."""
    path, _, _, standing, _ = newest()
    if standing == TRIAL:
        os.rename(path, CONFIRMED)
