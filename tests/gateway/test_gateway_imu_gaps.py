"""How exactly missing IMU samples are counted: a simulated chip knows what it made, and delivered + missing must be that."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from imu_drains import NOMINAL_US, Chip, Draining

from gateway.imu_gaps import UNSEEN, ImuSamples, Missing, Phase, Settled
from gateway.imu_times import HeadClock

NOW = 10**15  # boot time of the head's tick 0
REASON = "FIFO overflow"


def head_clock(at_ns: int = NOW) -> HeadClock:
    clock = HeadClock()
    clock.exchange(at_ns, 0, at_ns)
    return clock


class Case:
    """A chip, its head and the gateway's count of it. `settle()` every half second of ticks, as batches do."""

    def __init__(
        self, seed: int, oscillator: float = 0.0, batches: bool = True, drift: float = 0.0, last_ns: int = 0, **draining: float
    ) -> None:
        self.random = random.Random(seed)
        self.chip = Chip(self.random, NOMINAL_US * (1 + oscillator), drift, jitter_us=20)
        self.head = Draining(self.chip, self, seed + 1, **draining)
        self.samples = ImuSamples(head_clock(), last_ns=last_ns)
        self.delivered: list[int] = []
        self.times: list[np.ndarray] = []
        self.missing: list[Missing] = []
        self._batches = batches
        self._batch_ticks = 0
        self._late_ticks = 0

    def sample(self, ticks: int, numbers: list[int]) -> None:
        self._batch(ticks)
        self.delivered += numbers
        self.take(self.samples.drained(ticks, len(numbers), True))

    def gap(self, ticks: int) -> None:
        self._batch(ticks)
        self.take(self.samples.missing(REASON, ticks))

    def stopped(self, ticks: int, power_on: bool) -> None:
        self.take(self.samples.interrupted(REASON, Phase.ANEW if power_on else Phase.TESTED))

    def _batch(self, ticks: int) -> None:
        """gateway/head.py: a batch is due after 0.5 s, and 0.25 s later at the latest."""
        if self._batches and ticks - self._batch_ticks >= (750_000 if self.samples.undecided else 500_000):
            self._batch_ticks = ticks
            self.take(self.samples.settle())

    def take(self, settled: list[Settled]) -> None:
        for times, missing in settled:
            if missing is not None:
                self.missing.append(missing)
            if len(times):
                self.times.append(times)

    def end(self) -> None:
        self.head.drain()
        self.take(self.samples.settle())

    @property
    def counted(self) -> int:
        return sum(missing.samples for missing in self.missing)

    @property
    def lost(self) -> int:
        """Made up to the newest one delivered, and not delivered."""
        return self.delivered[-1] + 1 - len(self.delivered) - self.delivered[0]

    def errors_ms(self) -> np.ndarray:
        times = np.concatenate(self.times).astype(np.int64)
        assert len(times) == len(self.delivered) and np.all(np.diff(times) > 0)
        return np.abs((times - NOW) / 1e3 - np.array(self.chip.times)[self.delivered]) / 1e3


OSCILLATORS = (-0.02, -0.0113, 0.0, 0.0065, 0.02)


@pytest.mark.parametrize("oscillator", OSCILLATORS)
def test_outages_up_to_a_minute_are_counted_exactly_after_a_minute_of_running(oscillator: float) -> None:
    for seed in range(2):
        case = Case(seed, oscillator, drift=1e-5)
        case.head.run(62)
        for seconds in (0.3, case.random.uniform(0.3, 3), case.random.uniform(3, 60), 60):
            before = len(case.missing)
            case.head.outage(seconds)
            case.head.run(61)
            assert all(missing.counted and missing.reason == REASON for missing in case.missing[before:])
            assert case.counted == case.lost, f"seed {seed}, {seconds} s"


@pytest.mark.parametrize("oscillator", OSCILLATORS)
def test_short_outages_are_counted_exactly_after_ten_seconds_of_running(oscillator: float) -> None:
    for seed in range(4):
        case = Case(seed, oscillator)
        case.head.run(11)
        for _ in range(5):
            case.head.outage(case.random.uniform(0.1, 5))
            case.head.run(case.random.uniform(3, 6))
            assert case.counted == case.lost
        assert np.quantile(case.errors_ms()[1_100:], 0.999) < 2.0
        assert not any("±" in missing.reason for missing in case.missing)


def burst(case: Case) -> None:
    """Faults one after another, with none to some drains between them."""
    for _ in range(case.random.randint(2, 6)):
        fault = case.random.randrange(4)
        if fault == 0:
            case.head.empty()
        elif fault == 1:
            case.head.broken_read()
        elif fault == 2:
            case.head.stall(case.random.uniform(0.2, 1.0))  # the FIFO overflows
            case.head.drain()
        else:
            case.head.outage(case.random.uniform(0.1, 2.0))
        for _ in range(case.random.choice((0, 0, 1, 2, 3, 6))):
            case.head.drain()


@pytest.mark.parametrize("late", [0.0, 0.05])
def test_bursts_of_faults_are_counted_exactly_though_batches_end_between_them(late: float) -> None:
    for seed in range(12):
        case = Case(seed, (seed % 9 - 4) * 0.005, late=late)
        case.head.run(21)
        for _ in range(3):
            burst(case)
            case.head.run(4)
            assert case.counted == case.lost, f"seed {seed}"


def test_a_gap_right_after_the_start_is_counted_within_what_its_reason_says() -> None:
    for seed in range(20):
        case = Case(seed, (seed % 9 - 4) * 0.005)
        case.head.run(case.random.uniform(0.06, 1.0))
        case.head.stall(case.random.uniform(0.25, 1.0))
        case.head.run(12)
        uncertain = sum(int(missing.reason.split("±")[1][:-1]) for missing in case.missing if "±" in missing.reason)
        assert case.missing and abs(case.counted - case.lost) <= uncertain, f"seed {seed}"


def test_a_gap_before_the_first_sample_is_told_with_nothing_to_count_from() -> None:
    case = Case(1)
    case.gap(50_000)
    at = NOW + 50_000_000
    assert case.missing == [Missing(REASON, at, at, 0, False)]
    case.head.run(2)
    assert len(case.missing) == 1 and not case.samples.undecided


@pytest.mark.parametrize("noticed", [True, False])
def test_after_a_loss_of_power_the_count_is_what_would_have_been_made_within_one(noticed: bool) -> None:
    said = 0
    for seed in range(12):
        case = Case(seed, (seed % 5 - 2) * 0.01)
        case.head.run(15)
        case.head.run(case.random.random())
        last = case.chip.times[case.delivered[-1]]
        delivered = len(case.delivered)
        case.head.power_loss(case.random.uniform(0.3, 5.0), noticed)
        case.head.run(5)
        first = case.chip.times[case.delivered[delivered]]
        would_be = (first - last) / case.chip.interval(0) - 1
        assert abs(case.counted - would_be) <= 1.0, f"seed {seed}"
        said += any("(±1)" in missing.reason for missing in case.missing)
        assert np.median(case.errors_ms()[-200:]) < (1.0 if noticed else 2.5)
    assert said == 12 if noticed else said >= 3  # a new phase may happen to fit to the old one


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_samples_lost_unseen_are_found_and_counted(samples: int) -> None:
    for seed in range(6):
        case = Case(seed, (seed % 5 - 2) * 0.01)
        case.head.run(15)
        case.head.lose_unseen(samples)
        at = case.head.now * 1e3 + NOW
        case.head.run(2)
        (missing,) = case.missing
        assert (missing.reason, missing.samples) == (UNSEEN, samples)
        assert abs(missing.to_ns - at) < 600e6


@pytest.mark.parametrize(("late", "late_us"), [(0.2, 5_000), (0.05, 30_000)])
def test_late_stamps_are_not_taken_for_losses(late: float, late_us: float) -> None:
    case = Case(3, 0.0065, late=late, late_us=late_us)
    case.head.run(90)
    assert case.missing == []


def test_a_report_that_proves_to_be_of_no_sample_is_told_with_count_zero() -> None:
    case = Case(4)
    case.head.run(12)
    case.head.drain()
    case.gap(int(case.head.now))  # and nothing was lost
    case.head.run(1)
    (missing,) = case.missing
    assert missing.samples == 0 and missing.counted


def test_a_gap_without_a_sample_behind_it_is_told_as_far_as_it_goes_and_the_rest_later() -> None:
    for seed in range(8):
        case = Case(seed, 0.013, batches=False)
        case.head.run(15)
        case.head.outage(2.0)
        case.gap(int(case.head.now))  # and that is all the head has to say
        assert case.samples.undecided
        case.take(case.samples.settle())
        (part,) = case.missing
        assert 170 < part.samples < 195 and not case.samples.undecided  # what may wait in the FIFO is not missing
        case.head.stall(0.4)
        case.head.drain()  # again all is lost
        case.head.run(1)
        assert case.counted == case.lost > part.samples + 30
        assert case.missing[1].from_ns == part.to_ns


def test_a_batch_that_ends_between_the_report_and_the_samples_behind_it_tells_none_of_these_missing() -> None:
    """The head reports a restart when the chip has samples again; they are in the FIFO by then."""
    for seed in range(12):
        case = Case(seed, (seed % 5 - 2) * 0.01, batches=False)
        case.head.run(15)
        report = case.gap

        def reported(ticks: int, case: Case = case, report: Callable[[int], None] = report) -> None:
            report(ticks)
            case.take(case.samples.settle())

        case.gap = reported  # type: ignore[method-assign]
        case.head.outage(case.random.uniform(0.3, 2))
        if seed % 2:
            case.head.stall(0.1)
        case.head.run(2)
        assert case.counted == case.lost and not any("±" in missing.reason for missing in case.missing), f"seed {seed}"


def test_drains_that_cannot_wait_get_times_and_what_they_could_not_tell_is_told_later() -> None:
    for seed in range(10):
        case = Case(seed, batches=False)
        case.head.run(12)
        case.head.outage(case.random.uniform(0.3, 3))
        case.head.drain()
        case.take(case.samples.settle())
        assert sum(map(len, case.times)) == len(case.delivered)
        case.head.run(1)
        case.end()
        assert case.counted == case.lost
        assert np.quantile(case.errors_ms()[1_000:], 0.9) < 1.0  # the one drain may be dated an interval wrong


@pytest.mark.parametrize("late_us", [4_500, 9_500])
def test_one_late_drain_before_the_end_of_a_batch_does_not_make_a_sample_too_many_for_good(late_us: float) -> None:
    """What a part told cannot be taken back; but the samples behind it get their own numbers, and the doubt is said."""
    for seed in range(20):
        case = Case(seed, (seed % 5 - 2) * 0.01, batches=False)
        case.head.run(12)
        case.head.outage(case.random.uniform(0.3, 1))
        case.chip.advance(case.head.now + 50_000)
        numbers = case.chip.take()
        case.head.now += 50_000 + case.random.uniform(0.6, 1) * late_us
        case.sample(int(case.head.now), numbers)
        case.take(case.samples.settle())
        case.head.run(2)
        said = sum("(±1)" in missing.reason for missing in case.missing)
        assert 0 <= case.counted - case.lost <= said, f"seed {seed}"
        assert late_us > 5_000 or not said
        assert np.max(case.errors_ms()[-150:]) < 1.5, f"seed {seed}"


def test_after_a_boot_of_the_head_missing_samples_are_counted_by_boot_time() -> None:
    case = Case(6)
    case.head.run(12)
    last = case.chip.times[case.delivered[-1]]
    started = case.head.now + 2e6  # of the old ticks
    case.take(case.samples.reboot(head_clock(NOW + int(started * 1000)), "head restarted (watchdog)"))
    settled: list[Settled] = []
    for drain in range(1, 8):
        settled += case.samples.drained(60_000 * drain, 6, True)
    (missing,) = [item.missing for item in settled if item.missing]
    first = int(settled[0].times[0])
    assert missing.reason == "head restarted (watchdog) (±1)"
    assert abs(missing.samples - ((first - NOW) / 1e3 - last) / NOMINAL_US + 1) <= 1
    assert missing.from_ns < missing.to_ns == first


@pytest.mark.parametrize("away_s", [0.3, 5.0, 60.0])
def test_what_is_missing_since_the_recorder_before_is_counted_within_what_the_reason_says(away_s: float) -> None:
    """That recorder's line is forgotten: a long time is only as sure as what three drains say of the interval."""
    for seed in range(6):
        case = Case(seed, (seed - 3) * 0.006, last_ns=NOW - int(away_s * 1e9))
        case.gap(20_000)
        case.head.run(2)
        first = case.chip.times[case.delivered[0]]
        would_be = (first + away_s * 1e6) / case.chip.interval(0) - 1
        (missing,) = case.missing
        assert missing.counted and missing.from_ns == NOW - int(away_s * 1e9) < missing.to_ns == int(case.times[0][0])
        uncertain = int(missing.reason.split("±")[1][:-1])
        assert abs(missing.samples - would_be) <= uncertain <= 2 + away_s * 4.5


def test_a_recorder_that_goes_on_where_the_one_before_ended_misses_nothing() -> None:
    case = Case(2, 0.01, last_ns=NOW + 3_000_000)
    case.head.run(15)
    assert case.missing == [] and np.max(case.errors_ms()[-100:]) < 1.0


def test_a_boot_of_the_head_in_its_first_second_leaves_the_count_as_unsure_as_its_interval() -> None:
    for seed in range(20):
        case = Case(seed, (seed % 9 - 4) * 0.005)
        case.head.run(0.2)
        case.end()
        last = case.chip.times[case.delivered[-1]]
        started = case.head.now + 8e6
        case.take(case.samples.reboot(head_clock(NOW + int(started * 1000)), "head restarted"))
        other = Case(seed + 100, (seed % 9 - 4) * 0.005)
        other.samples = case.samples
        other.head.run(1)
        (missing,) = other.missing
        first = started + other.chip.times[other.delivered[0]]
        uncertain = int(missing.reason.split("±")[1][:-1])
        assert abs(missing.samples - ((first - last) / case.chip.interval(0) - 1)) <= uncertain


def test_a_frame_full_to_its_end_is_whole_only_when_it_is_said_so() -> None:
    """A drain of which the rest is still to come must not look like samples lost."""
    samples = ImuSamples(head_clock())
    number = 0
    missing: list[Missing] = []
    for drain in range(1, 400):
        ticks = drain * 60_000 + drain * 7919 % 15_000
        newest = int((ticks - 300) / NOMINAL_US) + 1
        count, number = newest - number, newest
        if drain % 10 == 0 and count > 4:  # in two parts, and a batch ends between them
            parts = samples.drained(ticks, 4, False) + samples.settle() + samples.drained(ticks, count - 4, True)
        else:
            parts = samples.drained(ticks, count, True)
        missing += [item.missing for item in parts if item.missing]
    assert missing == []
    assert samples.interval_us == pytest.approx(NOMINAL_US, rel=1e-4)
