"""What arrived at the center, against the one truth of the simulated world.

The chip models write down what they converted and when (sim/truth.py); the center's archive holds what came out at the other end, through
registers, firmware, frames, segments and SoX. Here the two are matched and the largest difference of each quantity is found:

- IMU: sample by sample in order. The number of samples may differ by one (the last may still be in the chip's FIFO when its clock stops).
- slow sensors: a reading belongs to the newest conversion that was finished when it was read.
- positions: by UTC of the fix, which is the receiver's epoch.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from logbook import block, reader
from logbook.quantities import BY_ID, TABLE

IMU = "icm20948"
GNSS = "gnss"
LATE_NS = 50_000_000  # a reading may carry a time this much before the end of its conversion: two clocks and a bus between them

Series = tuple[np.ndarray, np.ndarray]  # boottime_ns (for positions: UTC ns) ascending, SI values with NaN where there is none


class Comparison(NamedTuple):
    """How one quantity came through: values that arrived, the last of them, largest difference (SI; None: nothing to compare)."""

    values: int
    last: float | None
    max_abs_error: float | None
    max_time_error_s: float | None


class Archive(NamedTuple):
    """Everything of one truck in the center's archive."""

    series: dict[str, Series]
    imu_samples: int
    images: int
    segments: int
    gaps: list[str]
    missing_frames: int  # sequence numbers of the head that no chunk holds, between the first and the last that arrived
    head: dict[str, Any] | None  # what the head said of itself when it started: firmware, runtime, unit
    repeated_frames: int  # sequence numbers of the head that two chunks hold


def read_archive(folder: Path) -> Archive:
    """Reads all segments (*.mcap) of the truck whose archive `folder` is."""
    slow: dict[str, list[tuple[int, float]]] = {}
    imu: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
    frames: dict[int, list[tuple[int, int]]] = {}
    gaps: list[str] = []
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
                    if value.WhichOneof("result") == "number":
                        slow.setdefault(value.quantity, []).append((message.boottime_ns, value.number))
            elif topic == "/position":
                if message.valid and message.HasField("utc_ns"):
                    for quantity in ("latitude", "longitude", "altitude", "speed", "bearing"):
                        if message.HasField(quantity):
                            slow.setdefault(quantity, []).append((message.utc_ns, getattr(message, quantity)))
            elif topic.startswith("/camera/"):
                images += 1
            elif topic == "/event" and message.kind == "head_identity":
                head = json.loads(message.detail)
            elif topic == "/gap":
                gaps.append(f"{message.source}: {message.reason} ({message.count or 'unknown number'})")
    series: dict[str, Series] = {}
    for quantity, pairs in slow.items():
        pairs.sort()
        series[quantity] = (np.array([t for t, _ in pairs], dtype=np.int64), np.array([v for _, v in pairs]))
    imu.sort(key=lambda part: int(part[0][0]))  # blocks are in order in themselves, files are not
    if imu:
        times = np.concatenate([part[0] for part in imu])
        for quantity in imu[0][1]:
            series[quantity] = (times, np.concatenate([part[1][quantity] for part in imu]))
    missing, repeated = count_frames(frames)
    return Archive(series, sum(len(part[0]) for part in imu), images, segments, gaps, missing, head, repeated)


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


def compare(arrived: Series, truth: Series, *, in_order: bool) -> Comparison:
    """Matches `arrived` with `truth` (times in the same ns, values in the same unit).

    `in_order`: the n-th value is the n-th truth (IMU); otherwise each value is compared with the newest truth at its time.
    """
    times, values = arrived
    good = ~np.isnan(values)
    count = int(np.sum(good))
    last = float(values[good][-1]) if count else None
    if not count or not len(truth[0]):
        return Comparison(count, last, None, None)
    if in_order:
        n = min(len(times), len(truth[0]))
        index = np.arange(n)
    else:
        index = np.searchsorted(truth[0], times + LATE_NS, side="right") - 1
        n = len(times)
    usable = good[:n] & (index >= 0)
    if not np.any(usable):
        return Comparison(count, last, None, None)
    matched = index[usable]
    errors = np.abs(values[:n][usable] - truth[1][matched])
    time_errors = np.abs(times[:n][usable] - truth[0][matched]) / 1e9
    finite = ~np.isnan(errors)
    if not np.any(finite):
        return Comparison(count, last, None, None)
    return Comparison(count, last, float(np.max(errors[finite])), float(np.max(time_errors[finite])))


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
        if quantity.sensor == GNSS:
            times = times - boottime0 + utc0
        empty: Series = (np.array([], dtype=np.int64), np.array([]))
        arrived = archive.series.get(quantity.id, empty)
        outcome[quantity.id] = compare(arrived, (times, values[quantity.id]), in_order=quantity.sensor == IMU)
    return outcome


def rows(comparisons: dict[str, Comparison]) -> dict[str, dict[str, Any]]:
    """The JSON form: per quantity count, last, unit, max_abs_error (and the time error of the sample in seconds)."""
    return {
        quantity: {
            "count": c.values,
            "last": c.last,
            "unit": BY_ID[quantity].unit,
            "max_abs_error": c.max_abs_error,
            "max_time_error_s": c.max_time_error_s,
        }
        for quantity, c in comparisons.items()
    }
