"""Status files for people and for the other processes: one JSON object, replaced as a whole, never half-written."""

import os
from pathlib import Path
from typing import Any

import msgspec


def write_json(path: Path, status: dict[str, Any]) -> None:
    """Replace `path` by `status`. Not synced: a status is worth nothing after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(status) + b"\n")
    temporary.replace(path)
