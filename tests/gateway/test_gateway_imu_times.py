import random

import numpy as np
import pytest

from gateway.imu_times import NOMINAL_US, READ_US_PER_SAMPLE, HeadClock, ImuTimes, SampleTicks

MS = 1_000_000


class Truth:
    """A head and a chip with oscillators of their own, drained every 50 ms and late now and then, pinged once a second."""

    def __init__(self, seed: int, oscillator: float, crystal: float) -> None:
        self.random = random.Random(seed)
        self.crystal = crystal
        self.ticks0, self.boottime0 = self.random.randrange(1 << 40), self.random.randrange(10**15)
        self.interval_ns = NOMINAL_US * 1000 * (1 + oscillator)
        self.phase_ns = self.random.random() * self.interval_ns
        self.now_ns, self.next_ping_ns, self.next_sample = 0.0, 0.0, 0
        self.clock = HeadClock()
        self.times = ImuTimes(self.clock)
        self.given: list[np.ndarray] = []

    def ticks(self, now_ns: float) -> int:
        return int(self.ticks0 + now_ns / 1000 / (1 + self.crystal))

    def ping(self) -> None:
        out = self.random.uniform(0.2, 2.0) * MS * self.random.choice((1, 1, 1, 5))
        back = self.random.uniform(0.2, 2.0) * MS
        sent = self.next_ping_ns
        self.clock.exchange(int(self.boottime0 + sent), self.ticks(sent + out), int(self.boottime0 + sent + out + back))
        self.next_ping_ns += 1e9

    def run(self, seconds: float, jitter_ms: float = 8.0, late: float = 0.02) -> float:
        """Drains for `seconds`; the largest error in ms."""
        worst = 0.0
        end = self.now_ns + seconds * 1e9
        while self.now_ns < end:
            self.now_ns += (50 + self.random.random() * jitter_ms) * MS
            if self.random.random() < late:
                self.now_ns += self.random.random() * 200 * MS
            while self.next_ping_ns < self.now_ns:
                self.ping()
            waiting = int((self.now_ns - self.phase_ns) // self.interval_ns) + 1 - self.next_sample
            while waiting > 0:
                count = min(waiting, 11)
                stamp = self.ticks(self.now_ns + count * READ_US_PER_SAMPLE * 1000 * self.random.random())
                times = self.times.times(stamp, count, emptied=waiting < 11)
                truth = self.boottime0 + self.phase_ns + (self.next_sample + np.arange(count)) * self.interval_ns
                worst = max(worst, float(np.max(np.abs(times.astype(np.int64) - truth))) / MS)
                self.given.append(times)
                self.next_sample += count
                waiting -= count
        return worst


@pytest.mark.parametrize(("seed", "oscillator", "crystal"), [(1, 0.0, 40e-6), (2, 0.03, -30e-6), (3, -0.03, 50e-6), (4, 0.011, 0.0)])
def test_at_rest_sample_times_are_within_two_milliseconds_of_the_truth(seed: int, oscillator: float, crystal: float) -> None:
    truth = Truth(seed, oscillator, crystal)
    truth.run(15)
    assert truth.run(25) < 2.0
    assert truth.times.interval_us == pytest.approx(truth.interval_ns / 1000, abs=2.5)  # 0.7 µs is one sigma of the slope


def test_sample_times_rise_strictly_also_while_the_estimates_settle() -> None:
    truth = Truth(5, 0.02, 30e-6)
    truth.run(10, late=0.1)
    times = np.concatenate(truth.given)
    assert np.all(np.diff(times.astype(np.int64)) > 0)


def test_after_a_gap_the_interval_is_still_known() -> None:
    truth = Truth(6, 0.02, 0.0)
    truth.run(20)
    truth.times.restart()
    truth.next_sample += 40  # lost in the FIFO
    truth.now_ns += 40 * truth.interval_ns
    assert truth.run(2, late=0.0) < 6.0
    assert truth.times.interval_us == pytest.approx(truth.interval_ns / 1000, rel=1e-3)


def test_times_rise_across_a_boot_of_the_head_whose_ticks_start_anew() -> None:
    truth = Truth(7, 0.0, 0.0)
    truth.run(3)
    before = int(truth.given[-1][-1])
    clock = HeadClock()
    clock.exchange(before + 10 * MS, 1_000, before + 11 * MS)
    truth.times.reboot(clock)
    times = truth.times.times(60_000, 5, emptied=True)
    assert int(times[0]) > before and np.all(np.diff(times.astype(np.int64)) > 0)


def test_a_slow_exchange_does_not_move_the_clock_that_a_fast_one_has_set() -> None:
    clock = HeadClock()
    clock.exchange(1_000 * MS, 500_000, 1_001 * MS)  # ticks 500 000 are 1000.5 ms ± 0.5
    clock.exchange(2_000 * MS, 1_580_000, 2_081 * MS)  # answered late: ticks say 2080.5 ms, the middle says 2040.5
    assert clock.boottime_ns(1_500_000) == pytest.approx(2_000.5 * MS, abs=0.6 * MS)


def test_drift_of_the_heads_crystal_is_found_from_a_minute_of_exchanges() -> None:
    truth = Truth(8, 0.0, 45e-6)
    truth.run(60)
    assert truth.clock.drift == pytest.approx(45e-6, abs=15e-6)


def test_an_answer_before_its_question_is_refused() -> None:
    with pytest.raises(ValueError, match="before its question"):
        HeadClock().exchange(2, 1, 1)


def test_a_drain_that_left_samples_behind_says_nothing_about_the_phase() -> None:
    samples = SampleTicks()
    for drain in range(1, 60):
        samples.drained(round(drain * 5 * NOMINAL_US + 3_000), 5, emptied=True)
    before = samples.interval_us
    first = 59 * 5
    late = samples.drained(round((first + 40) * NOMINAL_US), 11, emptied=False)
    assert samples.interval_us == before
    assert late[-1] == pytest.approx((first + 11) * NOMINAL_US, abs=NOMINAL_US)
