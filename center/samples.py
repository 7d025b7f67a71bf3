"""Samples of one quantity out of one stored segment."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from logbook import block, channels, reader
from logbook.quantities import BY_ID
from logbook.schemas.cruisers_pb2 import Position, Reading

_NOTHING = (np.empty(0, np.uint64), np.empty(0, np.float64))
_IMU = "icm20948"
_GNSS = "gnss"


def of_file(path: Path, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Boot times [n] (uint64, ns) and SI values [n] (float64, NaN where the sample has a reason instead of a number) in file order.

    They are of the sensor that the table names; where the file has none of it, of another one that gives the quantity, never of two: a
    spare, a receiver on the head, a box of the first fleet (the one a second that is typed; its other 99 are in /box/frames). Raises
    KeyError for a quantity that is not in the table, OSError if the file cannot be read.
    """
    sensor = BY_ID[quantity].sensor
    parts = list(_blocks(path, quantity)) if sensor == _IMU else []
    if not parts:
        rows = list(_positions(path, quantity)) if sensor == _GNSS else []
        rows = rows or _readings(path, sensor, quantity)
        parts = [(np.array([row[0] for row in rows], np.uint64), np.array([row[1] for row in rows], np.float64))]
    return np.concatenate([_NOTHING[0], *(part[0] for part in parts)]), np.concatenate([_NOTHING[1], *(part[1] for part in parts)])


def _blocks(path: Path, quantity: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for message in reader.read(path):
        if message.topic == channels.IMU_BLOCK:
            _, times, raw = block.decode(message.data)
            typed = block.typed(message.metadata["columns"], raw)
            if quantity in typed:  # the first trucks recorded no temperature_imu
                yield times, typed[quantity][0]


def _readings(path: Path, sensor: str, quantity: str) -> list[tuple[int, float]]:
    """Of `sensor`, or of the first one in the file that has the quantity."""
    found: dict[str, list[tuple[int, float]]] = {}
    for message in reader.read(path):
        reading = message.message
        if isinstance(reading, Reading):
            for value in reading.values:
                if value.quantity == quantity:
                    number = value.number if value.WhichOneof("result") == "number" else np.nan
                    found.setdefault(reading.sensor, []).append((reading.boottime_ns, number))
    return found.get(sensor) or next(iter(found.values()), [])


def _positions(path: Path, quantity: str) -> Iterator[tuple[int, float]]:
    for message in reader.read(path):
        position = message.message
        if isinstance(position, Position):
            known = position.valid and any(field.name == quantity for field, _ in position.ListFields())
            yield position.boottime_ns, getattr(position, quantity) if known else np.nan
