import random
import time

import numpy as np
import pytest
from imu_drains import NOMINAL_US, Chip, Draining

from gateway.imu_times import FIT_EVERY, HeadClock, SampleTicks
from logbook import block

MS = 1_000_000


class Line:
    """A chip, its head and a SampleTicks. `errors_ms[i]` of the newest sample, dated at drain `at_s[i]`."""

    def __init__(self, seed: int, interval_us: float, drift: float = 0.0, **draining: float) -> None:
        self.chip = Chip(random.Random(seed), interval_us, drift, jitter_us=20)
        self.head = Draining(self.chip, self, seed + 1, **draining)
        self.ticks = SampleTicks()
        self.errors_ms: list[float] = []
        self.at_s: list[float] = []

    def sample(self, ticks: int, numbers: list[int]) -> None:
        self.newest, self.newest_ticks = numbers[-1], ticks
        self.ticks.add(self.newest, ticks, True)
        self.errors_ms.append(abs(self.ticks.ticks_of(self.newest) - self.chip.times[self.newest]) / 1e3)
        self.at_s.append(ticks / 1e6)

    def gap(self, ticks: int) -> None:
        raise AssertionError("this head loses nothing")

    def stopped(self, ticks: int, power_on: bool) -> None:
        raise AssertionError("this head loses nothing")

    def after(self, seconds: float) -> np.ndarray:
        return np.array(self.errors_ms)[np.array(self.at_s) > seconds]


# 10 000 µs: 50 ms is a multiple of the interval, within what the oscillator may be off by
@pytest.mark.parametrize(
    "interval_us", [NOMINAL_US * 0.98, NOMINAL_US * 0.993, NOMINAL_US, NOMINAL_US * 1.013, NOMINAL_US * 1.02, 10_000.0]
)
@pytest.mark.parametrize("jitter_us", [20_000.0, 2_000.0])
def test_from_ten_seconds_on_sample_times_are_within_a_millisecond(interval_us: float, jitter_us: float) -> None:
    errors = []
    for seed in range(3):
        line = Line(seed, interval_us, drift=1e-5, jitter_us=jitter_us)
        line.head.run(70)
        errors.append(line.after(10))
        assert line.ticks.interval_us == pytest.approx(line.chip.interval(35e6), rel=2e-5)
    every = np.concatenate(errors)
    print(f"interval {interval_us:.0f} µs, jitter {jitter_us:.0f} µs: median {np.median(every):.2f} ms, worst {np.max(every):.2f} ms")
    assert np.max(every) < 1.0 and np.median(every) < 0.4


@pytest.mark.parametrize(("late", "late_us", "limit_ms"), [(0.05, 5_000, 2.0), (0.2, 5_000, 2.5), (0.05, 30_000, 2.5)])
def test_late_stamps_do_little_harm(late: float, late_us: float, limit_ms: float) -> None:
    for seed in range(3):
        line = Line(seed, NOMINAL_US * 1.013, late=late, late_us=late_us)
        line.head.run(40)
        assert np.max(line.after(12)) < limit_ms and np.median(line.after(12)) < 1.0


def test_what_the_line_can_be_wrong_by_is_known_a_minute_ahead() -> None:
    for seed in range(12):
        line = Line(seed, NOMINAL_US * (1 + (seed % 5 - 2) * 0.01), drift=(1e-5, -1e-5, 0.0)[seed % 3])
        line.head.run(62)
        ahead_us = 60e6
        later = line.newest + int(ahead_us / line.chip.interval(0))
        line.chip.advance(line.head.now + ahead_us)
        truth = line.chip.times[later]
        assert abs(line.ticks.ticks_of(later) - truth) < line.ticks.error_us(int(truth)) < 4_000


def test_after_a_restart_of_the_chip_the_interval_is_still_known() -> None:
    line = Line(6, NOMINAL_US * 1.02)
    line.head.run(20)
    line.ticks.restart()
    assert not line.ticks.running
    line.head.run(0.5)
    assert line.ticks.interval_us == pytest.approx(line.chip.interval(0), rel=1e-4)


@pytest.mark.parametrize(("ppm", "jitter_us"), [(800, 0.0), (0, 300.0), (-5_000, 1_000.0), (-9_000, 1_000.0), (-15_000, 2_000.0)])
def test_drains_that_nearly_keep_step_with_the_samples_do_not_look_like_another_phase(ppm: int, jitter_us: float) -> None:
    """For seconds on end the newest sample is some milliseconds old: the head's loop is as steady as that."""
    for seed in range(4):
        line = Line(seed, NOMINAL_US / (1 + ppm * 1e-6), jitter_us=jitter_us, delayed=0.0)
        line.head.run(20)
        for _ in range(14):
            line.head.run(5)
            assert line.ticks.rate_error < 1.5e-4  # it was not forgotten
        assert np.max(line.after(10)) < 1.3  # in step for 90 s, they leave that much open


@pytest.mark.parametrize("changed", [-4e-4, -1e-4, 2e-4, 1e-3, 0.02])
def test_an_interval_that_is_another_since_the_restart_is_learned_anew(changed: float) -> None:
    """The chip has another temperature, or it is another chip (the head was changed)."""
    for seed in range(4):
        line = Line(seed, NOMINAL_US * 0.995, late=0.01)
        line.head.run(65)
        line.ticks.restart(new_ticks=True)
        line.chip._start_interval *= 1 + changed
        line.head.run(35)
        assert line.ticks.interval_us == pytest.approx(line.chip.interval(0), rel=6e-5)  # what 35 s leave open
        assert np.max(line.errors_ms[-20:]) < 1.0


def test_a_phase_that_is_not_the_lines_any_more_is_learned_anew() -> None:
    line = Line(7, NOMINAL_US * 0.99)
    line.head.run(30)
    line.chip.shift(4_000)  # and nobody says so
    line.head.run(15)
    assert np.max(line.errors_ms[-20:]) < 1.0


def test_a_drain_that_is_not_whole_bounds_the_phase_from_above_only() -> None:
    line = Line(8, NOMINAL_US)
    line.head.run(20)
    before = line.ticks.ticks_of(0)
    line.ticks.add(line.newest + 3, int(line.ticks.ticks_of(line.newest + 9)), whole=False)
    line.ticks.fit()
    assert line.ticks.ticks_of(0) == pytest.approx(before, abs=100)


def test_the_line_costs_no_more_than_a_few_blocks() -> None:
    """20 drains a second, one fit among them, some stamps late; the ratio to encoding a second's blocks holds on any machine."""
    line = Line(9, NOMINAL_US, late=0.05)
    line.head.run(65)
    assert len(line.at_s) > 900  # the window is full, nearly

    def second() -> None:
        for _ in range(FIT_EVERY):
            line.newest += 5
            line.newest_ticks += int(5 * line.chip.interval(0))
            line.ticks.add(line.newest, line.newest_ticks, True)

    times = np.arange(51, dtype=np.uint64) * np.uint64(9_778_000) + np.uint64(10**15)
    rows = np.random.default_rng(1).integers(-3_000, 3_000, (51, 11)).astype(np.int16)
    lines, blocks = [], []
    for _ in range(20):
        began = time.process_time()
        second()
        then = time.process_time()
        for _ in range(2):
            block.encode(1, times, rows)
        lines.append(then - began)
        blocks.append(time.process_time() - then)
    print(f"a second of drains {min(lines) * 1e3:.2f} ms, its two blocks {min(blocks) * 1e3:.2f} ms")
    assert min(lines) < 4 * min(blocks)


# --- head ticks to boot time


class Pings:
    """A head whose crystal is off, pinged once a second."""

    def __init__(self, seed: int, crystal: float) -> None:
        self.random = random.Random(seed)
        self.crystal = crystal
        self.ticks0, self.boottime0 = self.random.randrange(1 << 40), self.random.randrange(10**15)
        self.clock = HeadClock()
        self.next_ns = 0.0

    def ticks(self, now_ns: float) -> int:
        return int(self.ticks0 + now_ns / 1000 / (1 + self.crystal))

    def ping(self) -> None:
        out = self.random.uniform(0.2, 2.0) * MS * self.random.choice((1, 1, 1, 5))
        back = self.random.uniform(0.2, 2.0) * MS
        sent = self.next_ns
        self.clock.exchange(int(self.boottime0 + sent), self.ticks(sent + out), int(self.boottime0 + sent + out + back))
        self.next_ns += 1e9


def test_a_slow_exchange_does_not_move_the_clock_that_a_fast_one_has_set() -> None:
    clock = HeadClock()
    clock.exchange(1_000 * MS, 500_000, 1_001 * MS)  # ticks 500 000 are 1000.5 ms ± 0.5
    clock.exchange(2_000 * MS, 1_580_000, 2_081 * MS)  # answered late: ticks say 2080.5 ms, the middle says 2040.5
    assert clock.boottime_ns(1_500_000) == pytest.approx(2_000.5 * MS, abs=0.6 * MS)


@pytest.mark.parametrize("crystal", [45e-6, -30e-6])
def test_drift_of_the_heads_crystal_is_found_from_a_minute_of_exchanges(crystal: float) -> None:
    pings = Pings(8, crystal)
    for _ in range(60):
        pings.ping()
    assert pings.clock.drift == pytest.approx(crystal, abs=15e-6)
    assert pings.clock.boottime_ns(pings.ticks(60e9)) == pytest.approx(pings.boottime0 + 60e9, abs=0.5 * MS)


def test_an_answer_before_its_question_is_refused() -> None:
    with pytest.raises(ValueError, match="before its question"):
        HeadClock().exchange(2, 1, 1)
