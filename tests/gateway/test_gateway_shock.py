"""Shocks and tilts in what an IMU delivers: found where they are, and nowhere else."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from chip_bench import Bench as ChipBench
from imu_watched import BLOCK, RATE, SECOND, START_NS, Floats, Watched, details, entry, still, times, with_pulse

from drivers.icm20948 import ICM20948
from gateway.convert import imu_rows
from gateway.journal import Entry
from gateway.shock import Band
from logbook import block
from logbook.channels import IMU_BLOCK
from sim.chips import icm20948 as chip
from sim.world import World

pytestmark = pytest.mark.timeout(60)

DRIVE = Path(__file__).parents[3] / "shared" / "data" / "drive-comma2k19"
recorded = pytest.mark.skipif(not DRIVE.is_dir(), reason="../shared/data/drive-comma2k19 is not there")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.release()


def drive() -> tuple[npt.NDArray[np.uint64], Floats]:
    """The recorded drive's acceleration: boot times, m/s² [n, 3]."""
    table = np.loadtxt(DRIVE / "accelerometer.csv", delimiter=",", skiprows=1)
    return (START_NS + table[:, 0] * SECOND).astype(np.uint64), table[:, 1:]


def write(watched: Watched, at: npt.NDArray[np.uint64], acceleration: Floats) -> None:
    for start in range(0, len(at), BLOCK):
        watched.bench.journal.write([entry(at[start : start + BLOCK], acceleration[start : start + BLOCK])])


def simulated(seconds: float, seed: int = 1) -> Floats:
    world = World(seed=seed)
    rows = [world.at(round(number * 1e6 / RATE)) for number in range(round(seconds * RATE))]
    return np.array([[row[f"acceleration_{axis}"] for axis in "xyz"] for row in rows])


def response(hertz: float, low: float = 1.0, high: float = 30.0) -> float:
    """How much of a sine of one axis comes through, measured."""
    count = round(RATE * 40)
    sine = np.sin(2 * np.pi * hertz * np.arange(count) / RATE)
    band = Band(low, high, RATE)
    band.begin(np.zeros(3))
    passed = band.magnitude(np.stack([np.zeros(count), sine, np.zeros(count)], axis=1))[count // 2 :]
    return math.sqrt(float(np.mean(passed**2)) * 2)


# --- the band


@pytest.mark.parametrize(
    ("hertz", "least", "most"),
    [(0.1, 0, 0.011), (0.3, 0, 0.1), (1.0, 0.7, 0.714), (5.0, 0.99, 1.01), (30.0, 0.7, 0.714), (45.0, 0, 0.2)],
)
def test_half_the_power_passes_at_the_ends_of_the_band_and_little_beyond(hertz: float, least: float, most: float) -> None:
    assert least <= response(hertz) <= most


def test_the_borders_of_blocks_change_nothing() -> None:
    samples = simulated(5.0)
    whole = Band(1.0, 30.0, RATE)
    whole.begin(samples[0])
    parts = Band(1.0, 30.0, RATE)
    parts.begin(samples[0])
    cuts = [0, 1, 2, 53, 104, 300, len(samples)]
    pieces = [parts.magnitude(samples[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    assert np.array_equal(np.concatenate(pieces), whole.magnitude(samples))


# --- no false alarm


@recorded
def test_a_recorded_minute_of_city_streets_has_no_shock_at_the_defaults(watched: Watched) -> None:
    write(watched, *drive())
    assert watched.end().events("shock") == []


@recorded
def test_the_recorded_minute_has_shocks_below_its_largest_magnitude_and_none_above(tmp_path: Path) -> None:
    at, acceleration = drive()
    band = Band(1.0, 30.0, RATE)
    band.begin(acceleration[0])
    largest = float(band.magnitude(acceleration)[round(RATE) + 2 :].max())
    assert 6.5 < largest < 7.0  # the margin to 10 m/s² that gateway/shock.py states
    found = []
    for name, threshold in (("below", largest - 0.1), ("above", largest + 0.1)):
        (tmp_path / name).mkdir()
        watched = Watched(tmp_path / name, lambda config, threshold=threshold: setattr(config.shock, "threshold", threshold))
        write(watched, at, acceleration)
        found.append(len(details(watched.end(), "shock")))
    assert found == [1, 0]


def test_a_simulated_minute_has_no_shock_at_the_defaults(watched: Watched) -> None:
    watched.samples(simulated(60.0))
    assert watched.end().events("shock") == []


def test_after_a_gap_another_slope_is_no_shock_but_without_the_gap_it_would_be(tmp_path: Path) -> None:
    found = []
    for name, gap_seconds in (("gap", 0.5), ("none", 0.0)):
        (tmp_path / name).mkdir()
        watched = Watched(tmp_path / name)
        behind = watched.samples(still(5.0))
        watched.samples(still(5.0, (0, 1, 0)), behind + round(gap_seconds * SECOND))
        found.append(len(watched.end().events("shock")))
    assert found == [0, 1]


def test_one_lost_sample_in_the_middle_of_a_block_is_a_gap_too(watched: Watched) -> None:
    acceleration = np.concatenate([still(2.0), still(2.0, (1, 0, 0))])
    at, cut = times(len(acceleration)), round(2.0 * RATE)
    assert cut % BLOCK
    write(watched, np.delete(at, cut), np.delete(acceleration, cut, axis=0))
    assert watched.end().events("shock") == []


def test_another_start_of_the_head_is_a_gap_even_if_the_times_go_on(watched: Watched) -> None:
    behind = watched.samples(still(2.0), boot=7)
    watched.samples(still(2.0, (1, 0, 0)), behind, boot=8)
    assert watched.end().events("shock") == []


def test_a_beginning_amidst_hard_vibration_is_no_shock(watched: Watched) -> None:
    """8 m/s² at 12 Hz, begun at its crest: what the filter takes for the mean is wrong by all of it."""
    acceleration = still(10.0)
    acceleration[:, 2] += 8.0 * np.cos(2 * np.pi * 12.0 * np.arange(len(acceleration)) / RATE)
    watched.samples(acceleration)
    assert watched.end().events("shock") == []


# --- shocks


@pytest.mark.parametrize(("milliseconds", "size"), [(11, 66.0), (20, 19.0), (30, 15.0), (60, 13.0)])
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5, 0.75])
def test_a_half_sine_is_found_at_its_time_wherever_it_falls_between_the_samples(
    watched: Watched, milliseconds: float, size: float, phase: float
) -> None:
    at_s = 2.0 + phase / RATE
    watched.samples(with_pulse(still(5.0), at_s, milliseconds, size, axis=0))
    recording = watched.end()
    (shock,), (detail,) = recording.events("shock"), details(recording, "shock")
    crest = START_NS + (at_s + milliseconds / 2000) * SECOND
    assert abs(detail["peak_boottime_ns"] - crest) <= 0.015 * SECOND
    assert 10.0 <= detail["peak"] <= size and detail["saturated"] == 0
    assert shock.boottime_ns <= detail["peak_boottime_ns"] <= shock.boottime_ns + detail["duration"] * SECOND + 1e6
    assert (shock.source, detail["duration"] < 0.1) == ("icm20948", True)


@pytest.mark.parametrize(("milliseconds", "size"), [(11, 17.0), (20, 14.0), (30, 12.0), (60, 11.0)])
def test_a_smaller_one_is_not(watched: Watched, milliseconds: float, size: float) -> None:
    for number in range(8):
        watched.samples(with_pulse(still(4.0), 2.0 + number / 8 / RATE, milliseconds, size), START_NS + number * 10 * SECOND)
    assert watched.end().events("shock") == []


@recorded
@pytest.mark.parametrize(("at_s", "milliseconds"), [(10.0, 20.0), (25.0, 30.0), (50.0, 60.0)])
def test_a_shock_laid_over_the_recorded_drive_is_found_at_its_time(watched: Watched, at_s: float, milliseconds: float) -> None:
    at, acceleration = drive()
    seconds = (at - np.uint64(START_NS)).astype(float) / SECOND
    phase = (seconds - at_s) * 1000 / milliseconds
    acceleration[:, 2] += np.where((phase >= 0) & (phase <= 1), np.sin(np.pi * np.clip(phase, 0, 1)), 0.0) * 35.0
    write(watched, at, acceleration)
    (detail,) = details(watched.end(), "shock")
    assert abs(detail["peak_boottime_ns"] - START_NS - (at_s + milliseconds / 2000) * SECOND) <= 0.02 * SECOND


class Struck:
    """The simulated world, in which something hits the truck from the side: a half sine of 40 m/s² and 30 ms, `at_us` after the start."""

    def __init__(self, at_us: int) -> None:
        self._world = World(seed=3)
        self._at_us = at_us

    def __call__(self, t_us: int) -> dict[str, float]:
        values = self._world.at(t_us)
        phase = (t_us - self._at_us) / 30_000
        if 0 <= phase <= 1:
            values["acceleration_y"] += 40.0 * math.sin(math.pi * phase)
        return values


def drained(seconds: int, struck_at_us: int) -> Iterator[bytes]:
    """The FIFO frames of the simulated chip, as the head's driver takes them out."""
    bench = ChipBench()
    driver = ICM20948(bench.i2c(chip.ICM20948(Struck(struck_at_us), bench.record, ppm=0.0)))
    buffer = bytearray(driver.RAW_SIZE * 10)
    for millisecond in range(0, seconds * 1000, 5):
        while count := driver.poll(millisecond):
            driver.read_into(memoryview(buffer)[: count * driver.RAW_SIZE])
            yield from (bytes(buffer[at : at + driver.RAW_SIZE]) for at in range(0, count * driver.RAW_SIZE, driver.RAW_SIZE))
        bench.wait_us(5_000)


def test_a_blow_in_the_simulated_world_is_found_through_chip_and_driver(watched: Watched) -> None:
    rows = imu_rows(drained(12, 8_000_000))
    assert len(rows) > 1000
    at = times(len(rows))
    for start in range(0, len(rows), BLOCK):
        data = block.encode(7, at[start : start + BLOCK], rows[start : start + BLOCK])
        watched.bench.journal.write([Entry(IMU_BLOCK, int(at[start]), data)])
    (detail,) = details(watched.end(), "shock")
    struck = int(np.argmax(np.abs(rows[:, 1])))
    assert abs(detail["peak_boottime_ns"] - int(at[struck])) <= 0.025 * SECOND
    assert 20.0 < detail["peak"] < 40.0


def test_shocks_closer_than_the_quiet_time_are_one_with_the_larger_peak(watched: Watched) -> None:
    acceleration = with_pulse(still(20.0), 5.0, 30, 20.0)
    acceleration = with_pulse(acceleration, 6.5, 30, 40.0)
    watched.samples(with_pulse(acceleration, 10.0, 30, 20.0))
    first, second = details(watched.end(), "shock")
    assert abs(first["peak_boottime_ns"] - START_NS - 6.515 * SECOND) < 0.015 * SECOND and 1.4 < first["duration"] < 1.6
    assert second["peak"] < first["peak"] / 1.9


def test_shaking_that_does_not_end_is_told_in_parts(watched: Watched) -> None:
    acceleration = still(30.0)
    acceleration[:, 0] += 20.0 * np.sin(2 * np.pi * 8.0 * np.arange(len(acceleration)) / RATE)
    watched.samples(acceleration)
    found = details(watched.end(), "shock")
    assert len(found) == 3 and max(detail["duration"] for detail in found) <= 10.0


def test_a_shock_is_foretold_when_it_begins_and_told_when_it_ended(watched: Watched) -> None:
    acceleration = with_pulse(still(10.0), 3.0, 60, 40.0)
    half = round(3.5 * RATE)
    behind = watched.samples(acceleration[:half])
    watched.look_until(lambda: watched.heard, "the beginning of a shock")
    assert [kind for kind, _ in watched.heard] == ["shock"]  # the pictures are kept from here on
    assert "events.shock" not in watched.bench.snapshot.counts()
    watched.samples(acceleration[half:], behind)
    (shock,) = watched.end().events("shock")
    assert watched.heard == [("shock", shock.boottime_ns)] * 2


def test_a_shock_that_ends_the_imu_is_told_all_the_same(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.watch.SILENCE_SECONDS", 0.3)
    watched.samples(with_pulse(still(5.0), 4.9, 60, 40.0))
    watched.look_until(lambda: "events.shock" in watched.bench.snapshot.counts(), "a shock that ended with the samples")
    (detail,) = details(watched.end(), "shock")
    assert detail["peak"] > 20


# --- beyond the range


def test_beyond_the_range_is_a_shock_without_a_number(watched: Watched) -> None:
    acceleration = with_pulse(still(10.0), 5.0, 60, 120.0)
    beyond = np.flatnonzero(acceleration[:, 2] * 4096 / 9.80665 > 32766)
    watched.samples(acceleration)
    (detail,) = details(watched.end(), "shock")
    assert detail["peak"] is None and detail["saturated"] == len(beyond) > 3
    assert detail["peak_boottime_ns"] == times(len(acceleration))[beyond[0]]


def test_behind_samples_beyond_the_range_nothing_is_made_up(watched: Watched) -> None:
    """One sample at the end of the range, then the box lies on another side: only the first is a shock."""
    acceleration = np.concatenate([still(5.0), still(10.0, (1, 0, 0))])
    acceleration[round(5.0 * RATE), 1] = 200.0
    watched.samples(acceleration)
    (detail,) = details(watched.end(), "shock")
    assert (detail["saturated"], detail["duration"]) == (1, 0.0)


# --- tilt


def tilted(degrees: float, seconds: float, noise: float = 0.0) -> Floats:
    angle = math.radians(degrees)
    acceleration = still(seconds, (math.sin(angle), 0, math.cos(angle)))
    return acceleration + np.random.default_rng(1).normal(0, noise, acceleration.shape)


def test_a_box_that_is_tilted_is_told_once_and_again_only_after_it_stood_upright(watched: Watched) -> None:
    phases = [(0, 10), (40, 20), (28, 20), (40, 20), (10, 10), (50, 10)]
    watched.samples(np.concatenate([tilted(degrees, seconds, noise=1.0) for degrees, seconds in phases]))
    recording = watched.end()
    found = recording.events("box_tilted")
    assert [detail["angle"] for detail in details(recording, "box_tilted")] == pytest.approx([40, 50], abs=1.5)
    assert [(event.boottime_ns - START_NS) / SECOND for event in found] == pytest.approx([10, 80], abs=1.1)
    assert {event.source for event in found} == {"icm20948"}


def test_a_fall_shorter_than_three_seconds_and_a_slope_are_none(watched: Watched) -> None:
    watched.samples(np.concatenate([tilted(0, 5), tilted(80, 2), tilted(0, 5), tilted(25, 30)]))
    assert watched.end().events("box_tilted") == []


def test_hard_braking_is_no_tilt_however_long(watched: Watched) -> None:
    braking = still(30.0)
    braking[:, 0] = -7.0  # 35.5° from the vertical, but 1.23 g
    watched.samples(braking)
    assert watched.end().events("box_tilted") == []


def test_seconds_on_both_sides_of_a_gap_are_not_added_up(watched: Watched) -> None:
    behind = START_NS
    for _ in range(6):
        behind = watched.samples(tilted(60, 2.5), behind) + SECOND
    assert watched.end().events("box_tilted") == []


@recorded
@pytest.mark.parametrize(("up", "told"), [("-z", 0), ("z", 1), ("x", 1)])
def test_the_recorded_drive_stands_upright_on_the_axis_that_was_up(tmp_path: Path, up: str, told: int) -> None:
    watched = Watched(tmp_path, lambda config: setattr(config.tilt, "up", up))
    at, acceleration = drive()
    write(watched, at[:1000], acceleration[:1000])
    assert len(watched.end().events("box_tilted")) == told
