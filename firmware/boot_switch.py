"""The switch between the head's two slots, and how a file is written on its flash (docs/formats.md section 9).

It stands on the board's flash outside of the slots, beside firmware/slots.py, which decides by it; apart, because a version on trial that
confirms itself has no room for the rest. It imports nothing of ours. What it offers only grows: either file may be the newer one.

Recovery. Power may go at any moment: a file under its own name is whole, because it was read back and then renamed to it, and LittleFS does
that in one step. The switch stands in two copies, each with its check; a new one replaces the older."""

import binascii
import hashlib
import os

SLOTS = ("a", "b")
GOOD, TRIAL = "good", "trial"
STARTS = 3  # of a version on trial

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


def _newest() -> "tuple[int, tuple[int, str, str, int]]":
    """Which copy counts (0, 1), and what it says; (1, ...) if neither is valid."""
    one, two = _record("switch.0"), _record("switch.1")
    if one is not None and (two is None or one[0] > two[0]):
        return 0, one
    return 1, two if two is not None else (0, "", GOOD, 0)


def state() -> "tuple[str, str, int]":
    """(slot, "good" or "trial", starts left) as the switch says; ("", "good", 0) without a valid record."""
    return _newest()[1][1:]


def write(slot: str, standing: str, left: int) -> None:
    """What the switch says from now on. OSError: it says what it said before."""
    copy, newest = _newest()
    body = f"cruisers-switch 1 {newest[0] + 1} {slot} {standing} {left} "
    replace(f"switch.{1 - copy}", (body + hexadecimal(hashlib.sha256(body.encode()).digest())[:8] + "\n").encode())


def confirm() -> None:
    """The slot on trial is good from now on."""
    slot, standing, _ = state()
    if standing == TRIAL:
        write(slot, GOOD, 0)
