"""When each IMU sample was taken, in CLOCK_BOOTTIME (facts 1.10: the chip's oscillator is off by percents, so times come from the host).

Two clocks stand between a sample and the Pi, and each gets its own small estimator:

1. Head ticks -> boot time (`HeadClock`). A PING leaves at t0 and its PONG, stamped with the head's ticks, is back at t1: these ticks
   happened within [t0, t1]. Over a window of exchanges a straight line (the crystal's drift is tens of ppm) is laid through all these
   intervals; the fastest exchanges decide, a slow one cannot harm.
2. Sample number -> head ticks (`SampleTicks`). The head empties the FIFO every 50 ms, whenever it gets to it. At a drain that leaves
   nothing behind, the newest sample was taken before the drain's ticks, and less than one interval before the FIFO's count was read.
   With T the ticks of a drain and K the number of its newest sample, e = T - K * interval is the phase plus something in [0, interval)
   plus the time of reading. The interval is the slope of T over K (least squares over the window, with the nominal rate as prior); the
   phase lies below the smallest e and above the largest e less one interval: its estimate is the middle between the two.

   "Largest" is taken at a quantile, because a drain delayed between counting and stamping would push it up; only lateness exists, so
   the smallest needs no such care.

Limit: if drains keep step with the samples exactly, e never moves and the phase is known to half an interval (5 ms) only. 50 ms
and 9.778 ms do not keep step, and the head's loop jitters. In doubt the error is a constant shift, never a jitter.

All times given out rise strictly, whatever the estimates do.
"""

from collections import deque

import numpy as np
import numpy.typing as npt

US = 1_000  # ns

PINGS = 64  # exchanges in the window; at one a second, a minute
CRYSTAL_SIGMA = 50e-6  # a Pico's crystal: 30 ppm, and some for temperature
TURNAROUND_NS = 200_000  # what even the fastest exchange is uncertain by; keeps weights finite

DRAINS = 200  # drains in the window: 10 s at 20 a second
ODR_SIGMA = 0.02  # the chip's oscillator against its nominal rate (facts 1.10: 1 % typical; the first estimate must not follow noise)
KNOWN_SIGMA = 0.002  # after a gap in the samples, the rate is known from before
READ_US_PER_SAMPLE = 21 * 9 / 0.4  # reading one FIFO frame: 21 bytes of 9 bits at 400 kHz, between the count and the stamp
QUANTILE = 0.9
LATE = 1.5  # intervals above the line: such a drain was held up between counting and stamping and says nothing about the rate
NOMINAL_US = 1e6 * 11 / 1125  # ACCEL_SMPLRT_DIV 10
MINIMUM_STEP_NS = US  # between two samples, when an estimate moved back

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.uint64]


class HeadClock:
    """The head's tick counter (µs, without wraps) in boot time, for one boot of the head."""

    def __init__(self) -> None:
        self._exchanges: deque[tuple[int, int, int]] = deque(maxlen=PINGS)
        self._ticks0 = 0
        self._boottime0 = 0  # ns, of ticks0
        self._rate = 1.0  # seconds of boot time per second of ticks
        self.error_ns = 0  # half of what the exchanges leave open

    @property
    def ready(self) -> bool:
        """Whether one exchange has been seen: before that no tick can be placed."""
        return bool(self._exchanges)

    @property
    def drift(self) -> float:
        """How much faster boot time runs than the head's ticks (5e-5: the head loses 50 µs a second)."""
        return self._rate - 1.0

    def exchange(self, sent_ns: int, ticks_us: int, received_ns: int) -> None:
        """A PING left at boot time `sent_ns`, was answered at `ticks_us`, its PONG came at `received_ns`."""
        if received_ns < sent_ns:
            raise ValueError("an answer before its question")
        self._exchanges.append((sent_ns, ticks_us, received_ns))
        self._fit()

    def _fit(self) -> None:
        sent, ticks, received = (np.array(column) for column in zip(*self._exchanges, strict=True))
        ticks0, boottime0 = int(ticks[-1]), int(sent[-1])
        x = (ticks - ticks0) * float(US)
        low, high = (sent - boottime0) - x, (received - boottime0) - x  # ns: boot time less ticks; float64 is exact enough here
        middle, weight = (low + high) / 2, 1.0 / ((high - low) / 2 + TURNAROUND_NS) ** 2
        x_mean, y_mean = np.average(x, weights=weight), np.average(middle, weights=weight)
        sxx = float(np.sum(weight * (x - x_mean) ** 2)) + 1 / CRYSTAL_SIGMA**2
        drift = float(np.sum(weight * (x - x_mean) * (middle - y_mean))) / sxx
        lowest, highest = float(np.max(low - drift * x)), float(np.min(high - drift * x))
        # Intervals that do not meet mean that the crystal's rate moved within the window: then the weighted mean is the best there is.
        offset = (lowest + highest) / 2 if lowest <= highest else y_mean - drift * x_mean
        self.error_ns = int(abs(highest - lowest) / 2)
        self._ticks0, self._boottime0, self._rate = ticks0, boottime0 + round(offset), 1.0 + drift

    def boottime_ns(self, ticks_us: int) -> int:
        """Boot time of one tick count."""
        return self._boottime0 + round((ticks_us - self._ticks0) * US * self._rate)

    def boottimes_ns(self, ticks_us: Floats) -> npt.NDArray[np.int64]:
        """Boot times of tick counts with fractions, shape [n]."""
        return self._boottime0 + np.rint((ticks_us - self._ticks0) * US * self._rate).astype(np.int64)


class SampleTicks:
    """Ticks of each sample from the ticks of the drains; see the module's text. `nominal_us` is the chip's nominal interval."""

    def __init__(self, nominal_us: float = NOMINAL_US) -> None:
        self.interval_us = nominal_us
        self._prior_us = nominal_us
        self._sigma = ODR_SIGMA
        self._drains: deque[tuple[int, int, int]] = deque(maxlen=DRAINS)  # number of the newest sample, ticks, count
        self._newest = -1

    def restart(self) -> None:
        """Samples are missing: counting starts anew. What is known of the interval stays."""
        if len(self._drains) >= DRAINS // 4:
            self._prior_us, self._sigma = self.interval_us, KNOWN_SIGMA
        self._drains.clear()
        self._newest = -1

    def drained(self, ticks_us: int, count: int, emptied: bool) -> Floats:
        """Ticks (µs) of the `count` >= 1 samples, oldest first, of a drain stamped `ticks_us`.

        `emptied`: the FIFO held no more than these; else the drain says nothing about phase and rate and is only dated."""
        first = self._newest + 1
        self._newest += count
        unknown = not self._drains  # nothing better to date them by than this drain, but it must not speak later
        if emptied or unknown:
            self._drains.append((self._newest, ticks_us, count))
        self._estimate()
        if unknown and not emptied:
            self._drains.clear()
        numbers = np.arange(first - self._reference, self._newest - self._reference + 1, dtype=np.float64)
        return numbers * self.interval_us + self._phase_us

    def _estimate(self) -> None:
        number, ticks, count = (np.array(column, dtype=np.int64) for column in zip(*self._drains, strict=True))
        # Numbers and ticks are taken relative to the newest drain: the phase is wanted there, and differences stay small.
        self._reference, ticks0 = int(number[-1]), int(ticks[-1])
        k, t = (number - number[-1]).astype(np.float64), (ticks - ticks0).astype(np.float64)
        interval = self._slope(k, t)
        in_time = t - k * interval <= np.min(t - k * interval) + LATE * interval
        interval = self._slope(k[in_time], t[in_time])
        e = t - k * interval
        above = float(np.min(e))
        below = float(np.quantile(e - count * READ_US_PER_SAMPLE, QUANTILE)) - QUANTILE * interval
        # When reading took longer than allowed for, the two cross; the upper bound holds all the same.
        self._phase_us = ticks0 + min((above + below) / 2, above)
        self.interval_us = interval

    def _slope(self, k: Floats, t: Floats) -> float:
        noise = self._prior_us / 12**0.5  # of a drain's ticks: anywhere within one interval
        prior = (noise / (self._sigma * self._prior_us)) ** 2
        k, t = k - k.mean(), t - t.mean()
        return (float(np.dot(k, t)) + prior * self._prior_us) / (float(np.dot(k, k)) + prior)


class ImuTimes:
    """Boot times of IMU samples, strictly rising over the life of the object, also across restarts and boots of the head."""

    def __init__(self, clock: HeadClock, nominal_us: float = NOMINAL_US) -> None:
        self._clock = clock
        self._samples = SampleTicks(nominal_us)
        self._last_ns = 0

    @property
    def interval_us(self) -> float:
        """The estimated sample interval in µs of head ticks."""
        return self._samples.interval_us

    def reboot(self, clock: HeadClock, nominal_us: float = NOMINAL_US) -> None:
        """Another boot of the head: its ticks start anew."""
        self._clock = clock
        self._samples = SampleTicks(nominal_us)

    def restart(self) -> None:
        """Samples are missing before the next drain."""
        self._samples.restart()

    def times(self, ticks_us: int, count: int, emptied: bool) -> Times:
        """Boot times (ns, uint64, shape [count]) of the samples of one drain, oldest first. See SampleTicks.drained."""
        times = self._clock.boottimes_ns(self._samples.drained(ticks_us, count, emptied))
        steps = np.arange(count) * MINIMUM_STEP_NS
        rising = np.maximum.accumulate(np.maximum(times, self._last_ns + MINIMUM_STEP_NS) - steps) + steps
        self._last_ns = int(rising[-1])
        return rising.astype(np.uint64)
