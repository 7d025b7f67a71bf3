"""What the center's tests share: real segments of the real writer, and invented live items."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from center_keeping import Made
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from center.archive import Archive, file_sha256
from logbook import block, channels
from logbook.quantities import BY_ID, G
from logbook.schemas.cruisers_pb2 import Gap, Position, Reading, Value
from logbook.segment import Segments
from sox.documents import TransducerValue, format_si, xep0082
from sox.segments import Announcement

BOOT = "0123abcd"
FOLDER = f"{BOOT}-89ab4567"
UTC_NS = 1_793_000_000_000_000_000  # 2026-10-26T07:33:20Z; any moment
START_NS = 5_000_000_000
IMU_PERIOD_NS = 9_778_000  # 102.27 Hz

COLUMNS = [
    *({"id": f"acceleration_{axis}", "scale": G / 4096, "lowest": -32767, "highest": 32766, "status": None, "mask": 0, "value": 0}
      for axis in "xyz"),
    {"id": "magnetic_field_x", "scale": 0.15e-6, "lowest": -32752, "highest": 32752, "status": 4, "mask": 1, "value": 1},
    {"id": "mag_status", "scale": 1.0, "lowest": -32768, "highest": 32767, "status": None, "mask": 0, "value": 0},
]  # fmt: skip


class Maker:
    """Writes segments as a truck does, with logbook.segment."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._numbers = itertools.count(1)

    def readings(self, truck: str = "truck-1", start_ns: int = START_NS, samples: int = 50, boot: str = FOLDER) -> Made:
        """`samples` IMU frames: acceleration_x counts 0, 1, 2, …; every second one has no new magnetic sample, frame 7 is saturated in y.
        Besides three pressures (the last with a reason) and three positions (the last invalid)."""
        times = start_ns + IMU_PERIOD_NS * np.arange(samples)
        raw = np.zeros((samples, len(COLUMNS)), np.int16)
        raw[:, 0] = np.arange(samples)
        raw[7:8, 1] = 32767
        raw[:, 3] = 200
        raw[:, 4] = np.arange(samples) % 2
        segments, sealed = self._open(truck, "readings", boot)
        segments.describe(channels.IMU_BLOCK, {"columns": _json(COLUMNS)})
        segments.write(channels.IMU_BLOCK, int(times[0]), UTC_NS, block.encode(7, times, raw))
        for index in range(3):
            at = start_ns + index * 100_000_000
            value = Value(quantity="pressure", number=101_300.0 + index) if index < 2 else Value(quantity="pressure", reason="not ready")
            reading = Reading(sensor="bmp390", boottime_ns=at, values=[value])
            segments.write(channels.reading_topic("bmp390"), at, UTC_NS, reading.SerializeToString())
            position = Position(boottime_ns=at, valid=index < 2, mode=3 if index < 2 else 1, latitude=35.3 + index, longitude=139.4)
            segments.write(channels.POSITION, at, UTC_NS, position.SerializeToString())
        return self._close(segments, sealed, truck)

    def images(self, jpegs: list[bytes], truck: str = "truck-1", start_ns: int = START_NS, format: str = "jpeg") -> Made:
        """A segment with these pictures of the camera `front`, a second apart."""
        topic = channels.camera_topic("front")
        segments, sealed = self._open(truck, "images", FOLDER, [topic])
        for index, jpeg in enumerate(jpegs):
            image = CompressedImage(frame_id="front", data=jpeg, format=format)
            at = index * 1_000_000_000
            segments.write(topic, start_ns + at, UTC_NS + at, image.SerializeToString())
        if not jpegs:  # the camera is away
            segments.write(channels.GAP, start_ns, UTC_NS, Gap(source="front", reason="no frame").SerializeToString())
        return self._close(segments, sealed, truck)

    def _open(self, truck: str, stream: str, folder: str, topics: list[str] | None = None) -> tuple[Segments, list[Path]]:
        sealed: list[Path] = []
        segments = Segments(
            self._spool, truck, "0123abcd-0000-4000-8000-000000000000", stream, folder, lambda: next(self._numbers), 60.0,
            on_durable=lambda token: None, on_sealed=sealed.append, on_error=_raise, topics=topics or (),
        )  # fmt: skip
        return segments, sealed

    def _close(self, segments: Segments, sealed: list[Path], truck: str) -> Made:
        assert segments.close()
        [path] = sealed
        number, stream = path.stem.split("-")
        folder = path.parent.name
        return Made(path, Announcement(
            f"{truck}-{folder}-{number}-{stream}", f"https://127.0.0.1:1/{number}.mcap", path.stat().st_size, file_sha256(path), stream,
            START_NS, START_NS + 1_000_000_000, UTC_NS, UTC_NS + 1_000_000_000, truck,
        ))  # fmt: skip


def _raise(error: OSError) -> None:
    raise error


def _json(value: object) -> str:
    import json

    return json.dumps(value)


def live_values(utc_ns: int, values: dict[str, float | str]) -> list[TransducerValue]:
    """Live transducer values: SI numbers as they go over the wire, texts as reasons."""
    time = xep0082(utc_ns)
    return [
        TransducerValue(f"{quantity}.reason", value, None, time) if isinstance(value, str)
        else TransducerValue(quantity, format_si(BY_ID[quantity], value), "raw", time)
        for quantity, value in values.items()
    ]  # fmt: skip


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """Writes segments into a spool of this test."""
    return Maker(tmp_path / "spool")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An empty one."""
    opened = Archive(tmp_path / "archive")
    yield opened
    opened.close()


@pytest.fixture
def live() -> Callable[[int, dict[str, float | str]], list[TransducerValue]]:
    """`live(utc_ns, {quantity: SI number or reason})`."""
    return live_values


@pytest.fixture
def utc_ns() -> int:
    """A moment all invented data stands near."""
    return UTC_NS
