"""What arrived at the center, against the one truth of the simulated world.

The chip models write down what they converted and when (sim/truth.py); the center's archive holds what came out at the other end, through
registers, firmware, frames, segments and SoX. Here the two are matched and the largest difference of each quantity is found:

- IMU: sample by sample in order. The number of samples may differ by one (the last may still be in the chip's FIFO when its clock stops).
- slow sensors: a reading belongs to the newest conversion that was finished when it was read.
- positions: by UTC of the fix, which is the receiver's epoch.

`problems` then says everything that is wrong. A loss that a Gap reports is not wrong (it is the promise), one that nobody reports is.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from logbook import block, reader
from logbook.quantities import BY_ID, TABLE, Quantity

IMU = "icm20948"
GNSS = "gnss"
LATE_NS = 50_000_000  # a reading may carry a time this much before the end of its conversion: two clocks and a bus between them

GAP_NS = 200_000_000  # a Gap's ends are times of arrival, up to so much after the epoch or conversion
AT_THE_END = 1  # conversions that may be missing at the end: the last may still be in the chip, or on the way, when its clock stops

Series = tuple[np.ndarray, np.ndarray]  # boottime_ns (for positions: UTC ns) ascending, SI values with NaN where there is none


class Comparison(NamedTuple):
    """How one quantity came through: values that arrived, the last of them, largest difference (SI; None: nothing to compare) and the
    same in tolerances (more than 1 is wrong). `lost_at`: boottime_ns of conversions without a reading; `doubled`: readings
    of a conversion that has one already."""

    values: int
    last: float | None
    max_abs_error: float | None = None
    max_time_error_s: float | None = None
    tolerances: float | None = None
    lost_at: tuple[int, ...] = ()
    doubled: int = 0


class Missing(NamedTuple):
    """A Gap message: what the truck itself says is missing, between two boottime_ns (0: open)."""

    source: str
    reason: str
    from_ns: int
    to_ns: int
    number: int  # of samples, frames or messages; 0: unknown

    def __str__(self) -> str:
        return f"{self.source}: {self.reason} ({self.number or 'unknown number'})"

    def covers(self, sensor: str, at_ns: int) -> bool:
        """Whether it tells of the sensor's conversion at `at_ns`: it names the sensor, or the way that all of the head's data takes."""
        ways = (sensor,) if sensor == GNSS else (sensor, "head")
        within = self.from_ns - GAP_NS <= at_ns and (not self.to_ns or at_ns <= self.to_ns + GAP_NS)
        return self.source in (*ways, "readings") and within


class Archive(NamedTuple):
    """Everything of one truck in the center's archive."""

    series: dict[str, Series]
    imu_samples: int
    images: int
    segments: int
    repeated_images: int  # images of which another has the very same bytes (each rendered frame has its number in it)
    gaps: list[Missing]
    missing_frames: int  # sequence numbers of the head that no chunk holds, between the first and the last that arrived
    head: dict[str, Any] | None  # what the head said of itself when it started: firmware, runtime, unit
    repeated_frames: int  # sequence numbers of the head that two chunks hold


def read_archive(folder: Path) -> Archive:
    """Reads all segments (*.mcap) of the truck whose archive `folder` is."""
    slow: dict[str, list[tuple[int, float]]] = {}
    imu: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
    frames: dict[int, list[tuple[int, int]]] = {}
    gaps: list[Missing] = []
    pictures: set[bytes] = set()
    head: dict[str, Any] | None = None
    images = segments = 0
    for path in sorted(folder.glob("*.mcap")):
        segments += 1
        for entry in reader.read(path):
            topic, message = entry.topic, cast(Any, entry.message)
            if topic == "/imu/block":
                columns = json.loads(entry.metadata["columns"])
                _, times, raw = block.decode(entry.data)
                imu.append((times.astype(np.int64), {quantity: values for quantity, (values, _) in block.typed(columns, raw).items()}))
            elif topic == "/head/frames":
                frames.setdefault(message.head_boot, []).append((message.first_sequence, message.last_sequence))
            elif topic.startswith("/reading/"):
                for value in message.values:
                    number = value.number if value.WhichOneof("result") == "number" else math.nan  # with a reason: read, but no number
                    slow.setdefault(value.quantity, []).append((message.boottime_ns, number))
            elif topic == "/position":
                if message.valid and message.HasField("utc_ns"):
                    for quantity in ("latitude", "longitude", "altitude", "speed", "bearing"):
                        if message.HasField(quantity):
                            slow.setdefault(quantity, []).append((message.utc_ns, getattr(message, quantity)))
            elif topic.startswith("/camera/"):
                images += 1
                pictures.add(hashlib.sha256(message.data).digest())
            elif topic == "/event" and message.kind == "head_identity":
                head = json.loads(message.detail)
            elif topic == "/gap":
                gaps.append(Missing(message.source, message.reason, message.from_boottime_ns, message.to_boottime_ns, message.count))
    series: dict[str, Series] = {}
    for quantity, pairs in slow.items():
        pairs.sort(key=lambda pair: pair[0])
        series[quantity] = (np.array([t for t, _ in pairs], dtype=np.int64), np.array([v for _, v in pairs]))
    imu.sort(key=lambda part: int(part[0][0]))  # blocks are in order in themselves, files are not
    if imu:
        times = np.concatenate([part[0] for part in imu])
        for quantity in imu[0][1]:
            series[quantity] = (times, np.concatenate([part[1][quantity] for part in imu]))
    missing, repeated = count_frames(frames)
    samples = sum(len(part[0]) for part in imu)
    return Archive(series, samples, images, segments, images - len(pictures), gaps, missing, head, repeated)


def count_frames(frames: dict[int, list[tuple[int, int]]]) -> tuple[int, int]:
    """(missing, repeated) sequence numbers of the ranges (first, last) of each head boot; a boot begins at 1."""
    missing = repeated = 0
    for ranges in frames.values():
        expected = 1
        for first, last in sorted(ranges):
            missing += max(0, first - expected)
            repeated += max(0, min(last, expected - 1) - first + 1)
            expected = max(expected, last + 1)
    return missing, repeated


def tolerance(quantity: Quantity, true: np.ndarray) -> np.ndarray:
    """What each true value may be off by: one step of the chip's register, half a step of the IMU, which rounds. Two chips send floating
    point numbers: the OPT3001 with a mantissa of 12 bits, of which the highest is set above 40 lx, the SPS30 with 24."""
    mantissa = {"opt3001": 2047.0, "sps30": 2.0**23}.get(quantity.sensor, math.inf)
    step = quantity.resolution * (0.51 if quantity.sensor == IMU else 1.0)
    return np.maximum(step, np.abs(true) / mantissa)


def compare(quantity: Quantity, arrived: Series, truth: Series) -> Comparison:
    """Matches `arrived` with `truth` (both boottime_ns and SI): the IMU's n-th value with the n-th truth, others with the newest truth at
    their time."""
    times, values = arrived
    true_times, true_values = truth
    good = ~np.isnan(values)
    count = int(np.sum(good))
    result = Comparison(count, float(values[good][-1]) if count else None)
    if not len(times) or not len(true_times):
        return result
    if quantity.sensor == IMU:
        index = np.arange(len(times))
    else:
        index = np.searchsorted(true_times, times + LATE_NS, side="right") - 1
        result = result._replace(**_holes(quantity, index[index >= 0], true_times))
    usable = good & (index >= 0) & (index < len(true_times))
    usable[usable] = ~np.isnan(true_values[index[usable]])
    if not np.any(usable):
        return result
    true = true_values[index[usable]]
    errors = values[usable] - true
    if quantity.id == "bearing":
        errors = np.remainder(errors + math.pi, 2 * math.pi) - math.pi  # over north
    errors = np.abs(errors)
    return result._replace(
        max_abs_error=float(np.max(errors)),
        max_time_error_s=float(np.max(np.abs(times[usable] - true_times[index[usable]]))) / 1e9,
        tolerances=float(np.max(errors / tolerance(quantity, true))),
    )


def _holes(quantity: Quantity, index: np.ndarray, true_times: np.ndarray) -> dict[str, Any]:
    """Which conversions have no reading and how many readings are of one that has: `index` is each reading's conversion. Epochs of the
    receiver before the first that arrived were before gpsd ran."""
    matched = np.unique(index)
    first = int(matched[0]) if quantity.sensor == GNSS and len(matched) else 0
    expected = np.arange(first, len(true_times) - AT_THE_END)
    lost = np.setdiff1d(expected, matched)
    return {"lost_at": tuple(int(at) for at in true_times[lost]), "doubled": len(index) - len(matched)}


def compare_all(
    archive: Archive, truth: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]], start: tuple[int, int]
) -> dict[str, Comparison]:
    """Each quantity of the table that the truth knows. `start` = (boottime_ns, utc_ns) of time 0: positions go by UTC."""
    boottime0, utc0 = start
    outcome = {}
    for quantity in TABLE:
        if quantity.sensor not in truth or quantity.id not in truth[quantity.sensor][1]:
            continue
        times, values = truth[quantity.sensor]
        empty: Series = (np.array([], dtype=np.int64), np.array([]))
        arrived = archive.series.get(quantity.id, empty)
        if quantity.sensor == GNSS:
            arrived = (arrived[0] - utc0 + boottime0, arrived[1])
        outcome[quantity.id] = compare(quantity, arrived, (times, values[quantity.id]))
    return outcome


def problems(archive: Archive, comparisons: dict[str, Comparison], chip_samples: int | None) -> list[str]:
    """Everything that is wrong with what arrived, one line each; [] if it is what the chips converted. `chip_samples`: the IMU's count."""
    found = []
    for quantity_id, c in comparisons.items():
        if not c.values:
            continue  # told as missing
        if c.tolerances is None:
            found.append(f"{quantity_id}: nothing to compare with")
        elif c.tolerances > 1:
            found.append(f"{quantity_id}: off by {c.max_abs_error:.3g} {BY_ID[quantity_id].unit}, {c.tolerances:.1f} times what it may be")
        sensor = BY_ID[quantity_id].sensor
        unreported = sum(not any(gap.covers(sensor, at) for gap in archive.gaps) for at in c.lost_at)
        if unreported:
            found.append(f"{quantity_id}: {unreported} conversions lost, and no gap says so")
        if c.doubled:
            found.append(f"{quantity_id}: {c.doubled} readings twice")
    if chip_samples is None or abs(chip_samples - archive.imu_samples) > 1:
        found.append(f"IMU: the chip made {chip_samples} samples, {archive.imu_samples} arrived")
    if archive.missing_frames or archive.repeated_frames:
        found.append(f"head frames: {archive.missing_frames} missing, {archive.repeated_frames} twice")
    if archive.repeated_images:
        found.append(f"images: {archive.repeated_images} twice")
    return found


def rows(comparisons: dict[str, Comparison]) -> dict[str, dict[str, Any]]:
    """The JSON form: per quantity count, last, unit, max_abs_error, the time error of its samples (s), conversions lost, readings twice."""
    return {
        quantity: {
            "count": c.values,
            "last": c.last,
            "unit": BY_ID[quantity].unit,
            "max_abs_error": c.max_abs_error,
            "max_time_error_s": c.max_time_error_s,
            "lost": len(c.lost_at),
            "doubled": c.doubled,
        }
        for quantity, c in comparisons.items()
    }
