"""Images as files: <truck>/<camera>/<UTC>_<boot time>.jpg, and what is known of each in index.csv.

The bytes are the camera's own: an image that the truck packed is restored first (logbook/images.py). Where that fails the picture is
written as it can be had, and counted. The position is interpolated between the fixes before and behind the image; an image waits for the
fix behind it, but not longer than fixes may be apart."""

import re
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from logbook import images
from logbook.export_gpx import APART_NS
from logbook.export_source import CAMERAS, Item, Losses
from logbook.export_tables import Rows, Whose
from logbook.schemas.cruisers_pb2 import Position

_Place = tuple[float | None, float | None, float | None]  # latitude and longitude in degrees, altitude in m
_NOWHERE: _Place = (None, None, None)


class _Taken(NamedTuple):
    """An image that waits for its position."""

    whose: Whose
    boottime_ns: int
    camera: str
    file: str
    size: int
    segment_id: str


class Images:
    """Writes images into `folder`, and their rows to `rows`. `count`: files; `twice`: images that were there already."""

    def __init__(self, folder: Path, rows: Rows, losses: Losses) -> None:
        self._folder = folder
        self._rows = rows
        self._losses = losses
        self._waiting: deque[_Taken] = deque()
        self._fix: Position | None = None  # the last valid one, while nothing speaks against it
        self._whose: Whose | None = None
        self.count = 0
        self.twice = 0

    def add(self, whose: Whose, item: Item, image: CompressedImage) -> None:
        """The next image. Raises OSError."""
        self._now(whose, item.log_time)
        camera = item.topic.removeprefix(CAMERAS)
        data, suffix = self._bytes(item, image)
        utc = whose.utc.at(item.log_time)
        time = re.sub("[-:]", "", str(np.datetime64(utc // 1000, "us"))) + "Z" if utc else "no-utc"
        stem = f"{_safe(whose.truck)}/{_safe(camera)}/{time}_{whose.boot_id[:8]}-{item.log_time}"
        for name in (f"{stem}{suffix}", *(f"{stem}-{number}{suffix}" for number in range(2, 1000))):
            path = self._folder / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                self._waiting.append(_Taken(whose, item.log_time, camera, name, len(data), item.segment_id))
                self.count += 1
                return
            if path.read_bytes() == data:
                self.twice += 1
                return

    def position(self, whose: Whose, position: Position) -> None:
        """The next position: images before it learn theirs."""
        self._now(whose, position.boottime_ns)
        known = position.valid and position.HasField("latitude") and position.HasField("longitude")
        for taken in self._out(len(self._waiting)):
            self._write(taken, _between(self._fix, position, taken.boottime_ns) if known and self._fix is not None else _NOWHERE)
        self._fix = position if known else None

    def close(self) -> None:
        """Writes the rows of images behind the last fix."""
        for taken in self._out(len(self._waiting)):
            self._write(taken, _NOWHERE)

    def _bytes(self, item: Item, image: CompressedImage) -> tuple[bytes, str]:
        """(the camera's bytes, ".jpg"), or the nearest to it."""
        try:
            return images.restore(image.data, image.format, images.as_taken(item.metadata, item.sequence)), ".jpg"
        except images.NotRestored as error:
            self._losses.images += 1
            self._losses.notes.append(f"{item.segment_id}: {item.topic} at {item.log_time}: {error}")
        try:
            return images.viewable(image.data, image.format), ".jpg"
        except images.NotRestored:
            return image.data, f".{_safe(image.format)}"

    def _now(self, whose: Whose, boottime_ns: int) -> None:
        """Images that waited too long for a fix have none."""
        if whose is not self._whose:
            self.close()
            self._whose, self._fix = whose, None
        old = sum(1 for taken in self._waiting if taken.boottime_ns < boottime_ns - APART_NS)
        for taken in self._out(old):
            self._write(taken, _NOWHERE)

    def _out(self, count: int) -> Iterable[_Taken]:
        return [self._waiting.popleft() for _ in range(count)]

    def _write(self, taken: _Taken, place: _Place) -> None:
        self._rows.add(taken.whose, taken.boottime_ns, (taken.camera, taken.file, taken.size, *place), taken.segment_id)


def _between(before: Position, behind: Position, boottime_ns: int) -> _Place:
    """The place at a moment between two fixes; nowhere if they are too far apart."""
    span = behind.boottime_ns - before.boottime_ns
    if not 0 < span <= APART_NS:
        return _NOWHERE
    share = (boottime_ns - before.boottime_ns) / span
    east = (behind.longitude - before.longitude + 180) % 360 - 180  # the shorter way
    longitude = (before.longitude + east * share + 180) % 360 - 180
    heights = before.HasField("altitude") and behind.HasField("altitude")
    altitude = before.altitude + (behind.altitude - before.altitude) * share if heights else None
    return before.latitude + (behind.latitude - before.latitude) * share, longitude, altitude


def _safe(name: str) -> str:
    """A name from a file as one part of a path: letters, digits, '_', '-' and '.', which does not stand first; never nothing."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip(".") or "_"
