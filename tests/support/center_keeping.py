"""For tests of the center: segments of a truck, and how they come into the archive."""

import hashlib
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from center.archive import Archive, Stored, file_sha256
from logbook import block, channels, reader
from logbook.images import AS_TAKEN, JPEG, JXL
from logbook.quantities import G
from logbook.schemas.cruisers_pb2 import ClockMapping, Event, Health, Position, Reading, Trim, Value
from logbook.segment import Segments
from sox.segments import Announcement

SECOND = 1_000_000_000
AXES = [{"id": f"acceleration_{axis}", "scale": G / 4096} for axis in "xyz"]


class Made(NamedTuple):
    """A sealed segment on the truck, and what its announcement says."""

    path: Path
    announcement: Announcement


def keep(archive: Archive, made: Made) -> Stored:
    """Store a segment of the truck as if it had been fetched and verified."""
    part = archive.incoming(made.announcement.segment_id)
    shutil.copy(made.path, part)
    return archive.store(part, made.announcement, reader.info(part))


class Said(NamedTuple):
    """A statement of a truck's clock, times in s; `utc_s` 0: it knows none."""

    boot_s: float
    utc_s: float
    error_s: float
    source: str = "gnss"


class Drive:
    """One boot of a truck that drives east at 10 m/s from (35.0 N, 139.0 E) at its boot time 0, with a PM2.5 of 1 µg/m³ more each second.
    Every segment of readings restates the trim and all that its clock has said so far."""

    def __init__(self, spool: Path, truck: str = "truck-14", boot: str = "aaaaaaaa") -> None:
        self.truck, self.boot_id = truck, f"{boot}-0000-4000-8000-000000000000"
        self._spool, self._folder = spool, f"{boot}-00000001"
        self._numbers = itertools.count(1)
        self._said: list[Said] = []

    def readings(self, first_s: int, seconds: int, said: Sequence[Said] = (), fixes: bool = True) -> Made:
        """A second: ten samples of the IMU in a block, a PM2.5, a position."""
        self._said += said
        segments, sealed = self._open(channels.READINGS, ())
        segments.describe(channels.IMU_BLOCK, {"columns": json.dumps(AXES)})
        start = first_s * SECOND
        segments.write(channels.TRIM, start, 0, Trim(sensor="sps30", head_boot=7, trim=b"1.2").SerializeToString())
        for one in self._said:
            mapping = ClockMapping(
                boottime_ns=int(one.boot_s * SECOND), utc_ns=int(one.utc_s * SECOND), source=one.source, error_s=one.error_s
            )
            segments.write(channels.CLOCK, start, 0, mapping.SerializeToString())
        for second in range(first_s, first_s + seconds):
            at = second * SECOND
            times = at + np.arange(10) * (SECOND // 10)
            segments.write(channels.IMU_BLOCK, at, 0, block.encode(7, times, np.full((10, 3), second % 1000, np.int16)))
            pm = Reading(
                sensor="sps30", head_boot=7, sequence=second, boottime_ns=at, values=[Value(quantity="pm2_5", number=second * 1e-9)]
            )
            segments.write(channels.reading_topic("sps30"), at, 0, pm.SerializeToString())
            if fixes:
                position = Position(boottime_ns=at, valid=True, mode=3, latitude=35.0, longitude=139.0 + second * 1.1e-4, altitude=10.0)
                segments.write(channels.POSITION, at, 0, position.SerializeToString())
        segments.write(channels.EVENT, start, 0, Event(kind="bookmark", source="button", boottime_ns=start).SerializeToString())
        segments.write(channels.HEALTH, start, 0, Health(source="head", boottime_ns=start, counters={"a": 1, "b": 2}).SerializeToString())
        return self._close(segments, sealed)

    def images(self, first_s: float, jpegs: Sequence[bytes], packed: bool = False) -> Made:
        """Pictures of the camera `front`, a second apart; `packed` as JPEG XL, as the sweeper does it."""
        topic = channels.camera_topic("front")
        segments, sealed = self._open(channels.IMAGES, (topic,))
        if packed:
            segments.describe(topic, {AS_TAKEN: json.dumps([hashlib.sha256(jpeg).hexdigest() for jpeg in jpegs])})
        for number, jpeg in enumerate(jpegs):
            data = imagecodecs.jpegxl_encode_jpeg(jpeg) if packed else jpeg
            image = CompressedImage(frame_id="front", data=data, format=JXL if packed else JPEG)
            segments.write(topic, int((first_s + number) * SECOND), 0, image.SerializeToString())
        return self._close(segments, sealed)

    def _open(self, stream: str, topics: Sequence[str]) -> tuple[Segments, list[Path]]:
        sealed: list[Path] = []
        segments = Segments(
            self._spool, self.truck, self.boot_id, stream, self._folder, lambda: next(self._numbers), 1e6,
            on_durable=lambda token: None, on_sealed=sealed.append, on_error=_raise, topics=topics,
        )  # fmt: skip
        return segments, sealed

    def _close(self, segments: Segments, sealed: list[Path]) -> Made:
        assert segments.close()
        [path] = sealed
        info = reader.info(path)
        return Made(path, Announcement(
            info.segment_id, f"https://127.0.0.1:1/{path.stem}", info.bytes, file_sha256(path), info.stream,
            info.first_time, info.last_time, 0, 0, self.truck,
        ))  # fmt: skip


def _raise(error: OSError) -> None:
    raise error
