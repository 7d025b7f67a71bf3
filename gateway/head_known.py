"""What this truck knows of its head without maintenance: the slot, version and hashes that its last update proved, kept in `head.json` of
the spool.

HELLO names unit, version and slot, but no hashes. While it still names those of the file, the hashes are known too, and an update can be
found unnecessary, or refused, without a reset of the head.

Limits. A technician who since then put another content under the same version into the same slot is not noticed; versions of signed images
name one content each. A file that is missing, damaged or of another head is nothing known: then the head's flash is looked at."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


class Known(msgspec.Struct, forbid_unknown_fields=True):
    """`files`: SHA-256 (hex) by path in the slot."""

    unit: str
    slot: str
    version: str
    files: dict[str, str]

    def fits(self, hello: Mapping[str, Any]) -> bool:
        """Whether the head that said this HELLO is the one, in the slot and version, that this tells of."""
        return (hello.get("unique_id"), hello.get("slot"), hello.get("firmware")) == (self.unit, self.slot, self.version)


def load(file: Path) -> Known | None:
    """What is known; None if nothing."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Known)
    except (OSError, msgspec.DecodeError):  # a power cut may have left anything
        return None


def keep(file: Path, known: Known) -> None:
    """Replaces the file in one step. OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_bytes(msgspec.json.encode(known))
    os.replace(part, file)
