"""The manifest of a version as the host makes it (docs/formats.md section 9); what the head reads of it is firmware/slots.py."""

import hashlib

from firmware.slots import sign


def make(version: str, files: "dict[str, bytes]", key: bytes, micropython: str = "1.28", mpy: int = 6) -> bytes:
    """The signed manifest of `files` (path in the slot: bytecode) under the unit's key of 32 bytes.

    `micropython`: the oldest that runs it; `mpy`: its bytecode's version. What is allowed in them the caller has checked."""
    lines = ["cruisers-head 1", f"version {version}", f"micropython {micropython}", f"mpy {mpy}"]
    for path in sorted(files):
        data = files[path]
        lines.append(f"file {hashlib.sha256(data).digest().hex()} {len(data)} {path}")
    return signed(("\n".join(lines) + "\n").encode(), key)


def signed(body: bytes, key: bytes) -> bytes:
    """The manifest whose lines before the last are `body`, signed for another unit."""
    return body + f"hmac {sign(key, body)}\n".encode()
