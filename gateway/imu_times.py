"""The two clocks that stand between an IMU sample and CLOCK_BOOTTIME (facts 1.10: the chip has an oscillator of its own, so times come
from the host). Which number a sample has, and so how many are missing, is decided in imu_gaps.py.

1. Head ticks -> boot time (`HeadClock`). A PING leaves at t0 and its PONG, stamped with the head's ticks, is back at t1: these ticks
   happened within [t0, t1]. Over a window of exchanges a straight line (the crystal's drift is tens of ppm) is laid through all these
   intervals; the fastest exchanges decide, a slow one cannot harm.
2. Sample number -> head ticks (`SampleTicks`): a straight line, phase + number * interval.

Operation of SampleTicks. The head empties the FIFO every 50 ms, whenever it gets to it: it reads the FIFO's count, stamps its ticks T, and
reads all samples that were counted. With n the number of the newest one, the count was taken at some C in [T - STAMP_US, T], after sample
n and before sample n + 1. So the line runs below the point (n, T) and above the point (n + 1, T - STAMP_US), at each drain: a staircase
with the line between its corners. All lines that pass between all corners of a window are equally possible; the middle of them is taken,
and how far they lie apart is known, too: `error_us`. Late drains do no harm (more samples, further right on the same line), jitter helps.

Limits. A stamp later than STAMP_US after the count lifts the upper corner (harmless, another drain is tighter) and the lower one, which
then contradicts the others. Only lateness exists, so in a contradiction the lower corner is wrong: it is dropped. The window is DRAINS long
(60 s): an oscillator that drifts by 1e-5 a minute bends the line by less than 0.1 ms over it. If drains kept step with the samples
exactly, the line would be known to one interval only; 50 ms and 9.778 ms do not, and the head's loop jitters. From 10 s on, errors stay
below 1 ms, where many stamps are late below 2.5 (tests/gateway/test_gateway_imu_times.py; tests/soak/test_soak_imu_times.py measures them
with the head's program); in the first seconds they are some milliseconds.

Recovery. When the newest RECENT drains say that the line is not theirs any more, those before are forgotten. After a restart of the chip
the phase is new, while the interval is still known, to what it can have drifted since; a window of more than 10 s that contradicts this
(a chip that cooled down while it was off, another head) is believed instead."""

from collections import deque

import numpy as np
import numpy.typing as npt

US = 1_000  # ns

PINGS = 64  # exchanges in the window; at one a second, a minute
CRYSTAL_SIGMA = 50e-6  # a Pico's crystal: 30 ppm, and some for temperature
TURNAROUND_NS = 200_000  # what even the fastest exchange is uncertain by; keeps weights finite

NOMINAL_US = 1e6 * 11 / 1125  # ACCEL_SMPLRT_DIV 10
OSCILLATOR = 0.04  # the chip's against its nominal rate, at most (unverified; one that was measured is 0.4 % slow: facts 1.10)
DRIFT = 1e-5 / 60e6  # of the oscillator, per µs: 1e-5 a minute, by temperature
DRAINS = 1_200  # in the window: 60 s at 20 a second
FIT_EVERY = 20  # drains; in between, each one only narrows the phase
STAMP_US = 600.0  # from the FIFO's count (the first of two, the lesser is read) to its stamp: some bytes over I2C, some MicroPython
NOISE_US = 400.0  # what corners may contradict each other by, for the reasons above and the chip's own jitter
LATE_US = 500.0  # more than that, and a stamp was late
RECENT = 40  # drains: 2 s
SHIFTED_US = 2_000.0  # all of the recent drains this far above the line, and more than a tenth too far: drains in step do only the first
SETTLED = 200  # drains: 10 s; a shorter line may err about what was late
ROUNDS = 8  # of dropping late corners in one fit
HALVINGS = 24  # of 4 %: to 5e-9
EDGE_HALVINGS = 12

Floats = npt.NDArray[np.float64]


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
        self.fit()

    def fit(self) -> None:
        """Lays the line anew through the window; `add` does so by itself every FIT_EVERY drains."""
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


class Drain:
    """One emptying of the FIFO: `ticks` of its stamp and the `number` of its newest sample. Not `whole`: more of the same drain may follow;
    `late`: the stamp was; either way it says nothing about the next sample."""

    __slots__ = ("number", "ticks", "whole", "late")

    def __init__(self, number: int, ticks: int, whole: bool) -> None:
        self.number = number
        self.ticks = ticks
        self.whole = whole
        self.late = False


class Staircase:
    """Corners of drains: lines must run below (number, ticks) and above (next, earliest); see the module's text. At least one corner below
    which to run; all shapes [n]."""

    def __init__(self, number: Floats, ticks: Floats, following: Floats, earliest: Floats) -> None:
        self._number, self._ticks = number, ticks
        self._following, self._earliest = following, earliest

    def lows(self, interval: float) -> Floats:
        """The phase that each lower corner demands at least."""
        return self._earliest - self._following * interval

    def room(self, interval: float) -> tuple[float, float]:
        """The highest and the lowest phase that a line of this interval can have; crossed, if there is none."""
        upper = float((self._ticks - self._number * interval).min())
        lower = float(self.lows(interval).max()) if len(self._following) else upper - interval
        return upper, lower

    def widest(self, low: float, high: float) -> float:
        """The interval within [low, high] at which there is most room (or least contradiction): by halving, for the room is concave."""
        if not len(self._following):
            return (low + high) / 2
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            lowest, highest = self.lows(middle).argmax(), (self._ticks - self._number * middle).argmin()
            if self._following[lowest] > self._number[highest]:  # a longer interval makes room between these two
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def edge(self, inside: float, outside: float, least: float) -> float:
        """How far from `inside` towards `outside` the interval can go until there is less room than `least`."""
        upper, lower = self.room(outside)
        if upper - lower >= least:
            return outside
        for _ in range(EDGE_HALVINGS):
            middle = (inside + outside) / 2
            upper, lower = self.room(middle)
            if upper - lower >= least:
                inside = middle
            else:
                outside = middle
        return outside


class SampleTicks:
    """Head ticks (µs) of samples by their number; see the module's text. `nominal_us` is the chip's nominal interval."""

    def __init__(self, nominal_us: float = NOMINAL_US) -> None:
        self.interval_us = nominal_us
        self._drains: deque[Drain] = deque(maxlen=DRAINS)
        self._possible = (nominal_us * (1 - OSCILLATOR), nominal_us * (1 + OSCILLATOR))
        self._known = self._possible  # intervals, before the window
        self._shortest, self._longest = self._possible  # ... that agree with the window
        self._known_since: int | None = None  # ticks
        self._number0 = self._ticks0 = 0  # where phases are counted from, so that differences stay small
        self._upper = self._lower = 0.0  # bounds of the phase
        self._unfitted = 0

    @property
    def running(self) -> bool:
        """Whether there is a phase: before the first drain no sample has a time."""
        return bool(self._drains)

    @property
    def rate_error(self) -> float:
        """The interval is known to this fraction of itself."""
        return (self._longest - self._shortest) / 2 / self.interval_us

    def restart(self, new_ticks: bool = False) -> None:
        """The chip began anew: its phase is another. `new_ticks`: so is the head's counter."""
        self._known = (self._shortest, self._longest)
        self._known_since = None if new_ticks or not self._drains else self._drains[-1].ticks
        self._drains.clear()

    def ticks_of(self, number: int) -> float:
        """When sample `number` was taken, or will be."""
        return self._ticks0 + (number - self._number0) * self.interval_us + (self._upper + self._lower) / 2

    def error_us(self, ticks: int) -> float:
        """What `ticks_of` can be wrong by at a moment `ticks`, far from the newest drain or not. In a line's first seconds it can be
        wrong by more, half an interval: `rate_error` says that it is young."""
        ahead = max(0, ticks - self._drains[-1].ticks)
        span = self._drains[-1].ticks - self._drains[0].ticks
        rate = self.rate_error + DRIFT * (span + ahead) / 2  # the window gives the rate at its middle
        return max(0.0, self._upper - self._lower) / 2 + NOISE_US + ahead * rate

    def add(self, number: int, ticks: int, whole: bool) -> None:
        """The newest sample of a drain stamped `ticks` has this number. `whole`: the FIFO held no more than that."""
        drain = Drain(number, ticks, whole)
        if self._drains:
            ahead = ticks - self._ticks0
            above = ahead - (number - self._number0) * self.interval_us
            low = above - STAMP_US - self.interval_us
            drain.late = low > self._upper + LATE_US + max(0, ahead) * self.rate_error
            self._upper = min(self._upper, above)
            if whole and not drain.late:
                self._lower = max(self._lower, low)
            self._unfitted += 1
        else:
            self._number0, self._ticks0 = number, ticks
            self._upper, self._lower = 0.0, -STAMP_US - self.interval_us
            self._known_since = ticks if self._known_since is None else self._known_since
            self._unfitted = 0
        self._drains.append(drain)
        if self._unfitted >= min(FIT_EVERY, len(self._drains) / 4) and len(self._drains) > 1:
            self.fit()

    def fit(self) -> None:
        """Lays the line anew through the window; `add` does so by itself every FIT_EVERY drains."""
        self._unfitted = 0
        newest = self._drains[-1]
        number = np.array([drain.number - newest.number for drain in self._drains], dtype=np.float64)
        ticks = np.array([drain.ticks - newest.ticks for drain in self._drains], dtype=np.float64)
        settled = len(self._drains) > SETTLED
        whole = np.array([drain.whole and not (drain.late and settled) for drain in self._drains])
        drifted = 1 + DRIFT * (newest.ticks - (self._known_since or 0))
        known = self._known[0] / drifted, self._known[1] * drifted
        shortest, longest = self._possible if settled else known
        for _ in range(ROUNDS):
            stairs = Staircase(number, ticks, number[whole] + 1, ticks[whole] - STAMP_US)
            best = stairs.widest(shortest, longest)
            upper, lower = stairs.room(best)
            if lower - upper <= LATE_US:
                break
            for index in np.flatnonzero(whole)[stairs.lows(best) > (upper + lower) / 2]:
                whole[index], self._drains[index].late = False, True
        least = min(0.0, upper - lower) - NOISE_US
        self._shortest, self._longest = stairs.edge(best, shortest, least), stairs.edge(best, longest, least)
        if self._shortest <= known[1] and known[0] <= self._longest:  # else the window is right: the chip is warmer, or another one
            self._shortest, self._longest = max(self._shortest, known[0]), min(self._longest, known[1])
        self.interval_us = (self._shortest + self._longest) / 2
        self._number0, self._ticks0 = newest.number, newest.ticks
        self._upper, self._lower = stairs.room(self.interval_us)
        recent = (ticks - number * self.interval_us)[-RECENT:]
        late = np.count_nonzero(~whole[-RECENT:])
        shifted = late * 10 > RECENT and recent.min() > self._upper + SHIFTED_US
        if len(whole) >= 2 * RECENT and (late * 4 > RECENT or shifted):
            self._forget()

    def _forget(self) -> None:
        """Only the newest drains count. What they were said to be (late) was said against the line of others; the rate may be off, too."""
        recent = list(self._drains)[-RECENT:]
        self._shortest, self._longest = self._possible
        self.restart()
        for drain in recent:
            self.add(drain.number, drain.ticks, drain.whole)
