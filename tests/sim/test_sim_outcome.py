"""The demo's judge: what arrived whole passes, and each way in which it could be wrong is seen."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from google.protobuf.message import Message

from logbook import block, channels
from logbook.quantities import BY_ID
from logbook.schemas import cruisers_pb2 as pb
from logbook.segment_writer import Entry, Identity, SegmentWriter
from sim import outcome

pytestmark = pytest.mark.timeout(60)

START, UTC = 5_000_000_000, 1_790_000_000_000_000_000  # boottime_ns and UTC of the world's time 0
SECOND = 1_000_000_000
AXES = ("acceleration_x", "magnetic_field_x")
DIE = "temperature_imu"
SCALE = {quantity: BY_ID[quantity].resolution for quantity in AXES}
COLUMNS = [
    {"id": AXES[0], "scale": SCALE[AXES[0]], "lowest": -32767, "highest": 32766, "status": None, "mask": 0, "value": 0},
    {"id": AXES[1], "scale": SCALE[AXES[1]], "lowest": -32752, "highest": 32752, "status": 2, "mask": 1, "value": 1},
    {"id": "mag_status", "scale": 1.0, "lowest": -32768, "highest": 32767, "status": None, "mask": 0, "value": 0},
    {
        "id": DIE,
        "scale": BY_ID[DIE].resolution,
        "offset": 294.15,
        "lowest": -20366,
        "highest": 21367,
        "status": None,
        "mask": 0,
        "value": 0,
    },
]
IMU_PERIOD = 9_777_950
SLOW = 12


class Shift:
    """A short shift: what the chips converted (`truth`) and what the truck wrote down of it, which a test may spoil."""

    def __init__(self) -> None:
        dice = np.random.default_rng(3)
        self.raw = np.stack(
            [dice.integers(-900, 900, 200), dice.integers(-300, 300, 200), np.ones(200), 1300 + np.arange(200)], axis=1
        ).astype(np.int16)
        self.raw[7, 2] = 0  # no new sample of the magnetometer
        self.times = START + np.arange(200, dtype=np.int64) * IMU_PERIOD
        imu = {axis: self.raw[:, k] * SCALE[axis] + 0.4 * SCALE[axis] for k, axis in enumerate(AXES)}
        imu[DIE] = (self.raw[:, 3] + 0.4) / 333.87 + 294.15
        at = START + np.arange(SLOW, dtype=np.int64) * SECOND
        self.truth: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]] = {
            "icm20948": (self.times.copy(), imu),
            "bmp390": (at, {"pressure": 101_325.0 + 5.0 * np.arange(SLOW)}),
            "opt3001": (at, {"illuminance": np.linspace(50_000, 3, SLOW)}),
            "gnss": (at, {"latitude": 35.34 + 1e-5 * np.arange(SLOW), "bearing": np.full(SLOW, 1e-9)}),
        }
        self.blocks = [(0, 100), (100, 200)]
        self.frames = [(1, 40), (41, 90)]
        self.readings = [("bmp390", "pressure", int(at[k]) + 5_000_000, 101_325.0 + 5.0 * k) for k in range(SLOW)]
        self.readings += [("opt3001", "illuminance", int(at[k]), float(np.linspace(50_000, 3, SLOW)[k])) for k in range(SLOW)]
        self.fixes = [(k, 35.34 + 1e-5 * k, 2 * math.pi - 1e-9) for k in range(2, SLOW)]
        self.images = [b"one", b"two", b"three"]
        self.extra: list[tuple[str, int, Message]] = []

    def write(self, folder: Path) -> outcome.Archive:
        """The archive in which this shift arrived."""
        self._segment(folder, "readings", self._readings())
        images = [("/camera/front", START + k, CompressedImage(format="jpeg", data=data)) for k, data in enumerate(self.images)]
        self._segment(folder, "images", [Entry(topic, at, 0, message.SerializeToString()) for topic, at, message in images])
        return outcome.read_archive(folder)

    def _readings(self) -> list[Entry]:
        entries = [
            Entry("/imu/block", int(self.times[a]), 0, block.encode(9, self.times[a:b].astype(np.uint64), self.raw[a:b]))
            for a, b in self.blocks
        ]
        rows: list[tuple[str, int, Message]] = list(self.extra)
        rows += [("/head/frames", START, pb.HeadFrames(head_boot=9, first_sequence=a, last_sequence=b)) for a, b in self.frames]
        for sensor, quantity, at, value in self.readings:
            number = pb.Value(quantity=quantity, number=value)
            told = number if not math.isnan(value) else pb.Value(quantity=quantity, reason="saturated")
            rows.append((channels.reading_topic(sensor), at, pb.Reading(sensor=sensor, boottime_ns=at, values=[told])))
        for k, latitude, bearing in self.fixes:
            fix = pb.Position(valid=True, mode=3, utc_ns=UTC + k * SECOND, latitude=latitude, bearing=bearing)
            rows.append(("/position", START + k * SECOND, fix))
        return entries + [Entry(topic, at, 0, message.SerializeToString()) for topic, at, message in rows]

    @staticmethod
    def _segment(folder: Path, stream: str, entries: list[Entry]) -> None:
        cameras = ["front"] if stream == "images" else []
        path = folder / f"000001-{stream}.mcap"
        metadata = {"/imu/block": {"columns": json.dumps(COLUMNS)}}
        writer = SegmentWriter.create(path, Identity("i", "t", stream, "b"), channels.channel_types(stream, cameras), metadata)
        for entry in entries:
            writer.append([entry])
        writer.seal()


def judged(shift: Shift, folder: Path) -> tuple[list[str], dict[str, outcome.Comparison], outcome.Archive]:
    archive = shift.write(folder)
    comparisons = outcome.compare_all(archive, shift.truth, (START, UTC))
    return outcome.problems(archive, comparisons, 200), comparisons, archive


def test_what_arrived_whole_is_whole(tmp_path: Path) -> None:
    problems, comparisons, archive = judged(Shift(), tmp_path)
    assert problems == []
    assert {quantity: c.values for quantity, c in comparisons.items()} == {
        "acceleration_x": 200, "magnetic_field_x": 199, "temperature_imu": 200, "pressure": 12, "illuminance": 12,
        "latitude": 10, "bearing": 10,
    }  # fmt: skip
    assert (archive.images, archive.imu_samples, archive.segments, archive.gaps) == (3, 200, 2, [])
    assert comparisons["acceleration_x"].max_abs_error == pytest.approx(0.4 * SCALE["acceleration_x"])
    assert comparisons["pressure"].max_time_error_s == pytest.approx(0.005)
    assert comparisons["bearing"].max_abs_error < 1e-8, "359.99… and 0 degrees are neighbours"
    row = outcome.rows(comparisons)["pressure"]
    assert (row["count"], row["last"], row["unit"], row["lost"], row["doubled"]) == (12, 101_380.0, "Pa", 0, 0)


def lose_imu_sample(shift: Shift) -> None:
    shift.raw, shift.times = np.delete(shift.raw, 120, 0), np.delete(shift.times, 120)
    shift.blocks = [(0, 100), (100, 199)]


def double_imu_sample(shift: Shift) -> None:
    shift.raw, shift.times = np.insert(shift.raw, 50, shift.raw[50], 0), np.insert(shift.times, 50, shift.times[50])
    shift.blocks = [(0, 100), (100, 201)]


def lose_imu_block(shift: Shift) -> None:
    shift.blocks = shift.blocks[:1]


def shift_imu_value(shift: Shift) -> None:
    shift.raw[33, 0] += 1


def warm_imu_value(shift: Shift) -> None:
    shift.raw[33, 3] += 1


def double_frames(shift: Shift) -> None:
    shift.frames = [(1, 40), (40, 90)]


def lose_frames(shift: Shift) -> None:
    shift.frames = [(1, 40), (42, 90)]


def lose_first_frame(shift: Shift) -> None:
    shift.frames = [(2, 40), (41, 90)]


def lose_reading(shift: Shift) -> None:
    del shift.readings[4]


def lose_first_reading(shift: Shift) -> None:
    del shift.readings[0]


def lose_last_readings(shift: Shift) -> None:
    del shift.readings[SLOW - 2 : SLOW]


def double_reading(shift: Shift) -> None:
    shift.readings.append(shift.readings[3])


def shift_reading(shift: Shift) -> None:
    sensor, quantity, at, value = shift.readings[3]
    shift.readings[3] = (sensor, quantity, at, value + 0.11)


def delay_reading(shift: Shift) -> None:
    sensor, quantity, at, value = shift.readings[3]
    shift.readings[3] = (sensor, quantity, at + SECOND, value)


def shift_dark_reading(shift: Shift) -> None:
    sensor, quantity, at, value = shift.readings[-1]
    shift.readings[-1] = (sensor, quantity, at, value + 1.0)  # 1 lx is nothing in the sun and much at 3 lx


def lose_fix(shift: Shift) -> None:
    del shift.fixes[3]


def shift_fix(shift: Shift) -> None:
    k, latitude, bearing = shift.fixes[3]
    shift.fixes[3] = (k, latitude + 3e-7, bearing)


def double_image(shift: Shift) -> None:
    shift.images.append(b"two")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lose_imu_sample, "acceleration_x: off by"),
        (double_imu_sample, "acceleration_x: off by"),
        (lose_imu_block, "IMU: the chip made 200 samples, 100 arrived"),
        (shift_imu_value, "acceleration_x: off by"),
        (warm_imu_value, "temperature_imu: off by"),
        (double_frames, "head frames: 0 missing, 1 twice"),
        (lose_frames, "head frames: 1 missing, 0 twice"),
        (lose_first_frame, "head frames: 1 missing, 0 twice"),
        (lose_reading, "pressure: 1 conversions lost, and no gap says so"),
        (lose_first_reading, "pressure: 1 conversions lost, and no gap says so"),
        (lose_last_readings, "pressure: 1 conversions lost, and no gap says so"),
        (double_reading, "pressure: 1 readings twice"),
        (shift_reading, "pressure: off by 0.11 Pa, 1.1 times what it may be"),
        (delay_reading, "pressure: off by 5 Pa"),
        (shift_dark_reading, "illuminance: off by 1 lx"),
        (lose_fix, "latitude: 1 conversions lost, and no gap says so"),
        (shift_fix, "latitude: off by"),
        (double_image, "images: 1 twice"),
    ],
)
def test_each_way_in_which_the_data_can_be_wrong_is_seen(tmp_path: Path, spoil: Callable[[Shift], None], said: str) -> None:
    shift = Shift()
    spoil(shift)
    problems, _, _ = judged(shift, tmp_path)
    assert any(line.startswith(said) for line in problems), problems


def test_a_quantity_that_did_not_arrive_has_no_values_and_one_that_is_never_compared_is_wrong(tmp_path: Path) -> None:
    shift = Shift()
    shift.readings = [reading for reading in shift.readings if reading[0] != "bmp390"]
    shift.truth["opt3001"][1]["illuminance"][:] = np.nan
    problems, comparisons, _ = judged(shift, tmp_path)
    assert comparisons["pressure"] == outcome.Comparison(0, None)
    assert problems == ["illuminance: nothing to compare with"]


@pytest.mark.parametrize(("chip", "wrong"), [(199, False), (200, False), (201, False), (202, True), (198, True), (None, True)])
def test_the_imu_may_differ_by_the_one_sample_that_was_under_way(tmp_path: Path, chip: int | None, wrong: bool) -> None:
    archive = Shift().write(tmp_path)
    assert bool(outcome.problems(archive, {}, chip)) == wrong


@pytest.mark.parametrize(
    ("source", "from_s", "to_s", "excused"),
    [
        ("gnss", 4, 6, True),
        ("gnss", 4, 0, True),  # open: until now
        ("readings", 3, 8, True),
        ("gnss", 6, 8, False),
        ("head", 4, 6, False),
        ("camera/front", 4, 6, False),
    ],
)
def test_a_loss_is_excused_by_a_gap_that_reports_it_and_by_no_other(
    tmp_path: Path, source: str, from_s: int, to_s: int, excused: bool
) -> None:
    shift = Shift()
    del shift.fixes[3]  # the epoch of 5 s
    to_ns = START + to_s * SECOND if to_s else 0
    gap = pb.Gap(source=source, reason="lost", from_boottime_ns=START + from_s * SECOND, to_boottime_ns=to_ns, count=1)
    shift.extra = [("/gap", START, gap)]
    problems, _, archive = judged(shift, tmp_path)
    assert (problems == []) == excused
    assert [str(gap) for gap in archive.gaps] == [f"{source}: lost (1)"]


def test_a_reading_with_a_reason_is_neither_a_value_nor_a_loss(tmp_path: Path) -> None:
    shift = Shift()
    shift.readings[3] = (*shift.readings[3][:3], math.nan)
    problems, comparisons, _ = judged(shift, tmp_path)
    assert problems == [] and comparisons["pressure"].values == SLOW - 1


def test_what_the_head_said_of_itself_is_told(tmp_path: Path) -> None:
    shift = Shift()
    shift.extra = [("/event", START, pb.Event(kind="head_identity", source="head", detail='{"runtime": "micropython"}'))]
    assert shift.write(tmp_path).head == {"runtime": "micropython"}


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ({1: [(1, 5), (6, 9)]}, (0, 0)),
        ({1: [(6, 9), (1, 5)]}, (0, 0)),
        ({1: [(1, 5), (5, 9)]}, (0, 1)),
        ({1: [(1, 9), (3, 5)]}, (0, 3)),
        ({1: [(1, 5), (8, 9)], 2: [(3, 3)]}, (4, 0)),
        ({}, (0, 0)),
    ],
)
def test_frames_missing_and_repeated_are_counted_for_each_start_of_the_head(ranges: Any, expected: tuple[int, int]) -> None:
    assert outcome.count_frames(ranges) == expected
