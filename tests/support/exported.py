"""Segments for the tests of the export: whatever a test says, as a truck would have written it."""

import csv
import json
from pathlib import Path

import numpy as np
from google.protobuf.message import Message

from logbook import block, channels
from logbook.schemas import cruisers_pb2 as pb
from logbook.segment_writer import Entry, Identity, SegmentWriter

SECOND = 1_000_000_000
BOOT = "89abcdef-0000-4000-8000-000000000000"
UTC = 1_790_000_000 * SECOND  # 2026-09-21T14:13:20Z
COLUMNS = [
    {"id": "acceleration_x", "scale": 0.5, "offset": 0.0, "lowest": -100, "highest": 100, "status": None, "mask": 0, "value": 0},
    {"id": "magnetic_field_x", "scale": -0.25, "offset": 1.0, "lowest": -32752, "highest": 32752, "status": 2, "mask": 0x0801, "value": 1},
    {"id": "mag_status", "scale": 1.0, "offset": 0.0, "lowest": -32768, "highest": 32767, "status": None, "mask": 0, "value": 0},
]


def entry(topic: str, at: int, message: Message) -> Entry:
    """A message of boot time `at`."""
    return Entry(topic, at, 0, message.SerializeToString(deterministic=True))


def reading(sensor: str, at: int, raw: bytes = b"\1", sequence: int = 1, **values: float | str) -> Entry:
    """A sample of a slow sensor."""
    message = pb.Reading(sensor=sensor, head_boot=5, sequence=sequence, boottime_ns=at, raw=raw)
    for quantity, value in values.items():
        one = message.values.add(quantity=quantity)
        if isinstance(value, str):
            one.reason = value
        else:
            one.number = value
    return entry(f"/reading/{sensor}", at, message)


def clock(at: int, utc_ns: int, error_s: float = 0.01, source: str = "gnss") -> Entry:
    """A statement of the clock."""
    return entry("/clock", at, pb.ClockMapping(boottime_ns=at, utc_ns=utc_ns, source=source, error_s=error_s))


def fix(at: int, latitude: float, longitude: float, valid: bool = True, **more: float) -> Entry:
    """A position."""
    return entry(
        "/position", at, pb.Position(boottime_ns=at, valid=valid, mode=3, latitude=latitude, longitude=longitude, raw=b"{}", **more)
    )


def imu(at: int, rows: list[list[int]], step: int = 10_000_000) -> Entry:
    """A column block of rows of COLUMNS."""
    times = at + np.arange(len(rows), dtype=np.uint64) * np.uint64(step)
    return Entry("/imu/block", at, 0, block.encode(5, times, np.array(rows, np.int16)))


def write(
    spool: Path, number: int, chunks: list[list[Entry]], stream: str = channels.READINGS, boot: str = BOOT, truck: str = "truck-1",
    cameras: tuple[str, ...] = (), metadata: dict[str, dict[str, str]] | None = None, sealed: bool = True,
) -> Path:  # fmt: skip
    """A segment of these chunks; its path."""
    folder = f"{boot[:8]}-01234567"
    path = spool / folder / f"{number:06d}-{stream}.mcap"
    identity = Identity(f"{truck}-{folder}-{number:06d}-{stream}", truck, stream, boot)
    described = {"/imu/block": {"columns": json.dumps(COLUMNS)}, **(metadata or {})}
    writer = SegmentWriter.create(path, identity, channels.channel_types(stream, cameras), described)
    for chunk in chunks:
        writer.append(chunk)
    if sealed:
        return writer.seal()
    writer.close()
    return writer.open_path


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, by the names of the columns without their units."""
    with path.open(encoding="utf-8", newline="") as file:
        heading, *rows = csv.reader(file, strict=True)
    return [dict(zip((name.partition(" [")[0] for name in heading), row, strict=True)) for row in rows]
