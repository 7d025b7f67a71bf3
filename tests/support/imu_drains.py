"""An IMU that samples by an oscillator of its own, and a head that empties its FIFO, for tests of the gateway: who made what when is known.

Times in µs of the head's ticks. `Chip` makes samples; `Draining` drains it as firmware/ and drivers/icm20948.py do, with MicroPython's
lateness, and tells a listener."""

import random
from typing import Protocol

NOMINAL_US = 1e6 * 11 / 1125
FIFO_FRAMES = 22
DRAIN_US = 50_000


class Listener(Protocol):
    """What the head tells, in its order."""

    def sample(self, ticks: int, numbers: list[int]) -> None:
        """These samples came of one drain."""

    def gap(self, ticks: int) -> None:
        """The driver emptied the FIFO, or the sensor is back."""

    def stopped(self, ticks: int, power_on: bool) -> None:
        """The sensor failed; `power_on`: its registers are back at power-on values."""


class Chip:
    """Samples numbered from 0, taken at `times`. `drift`: of its interval, a minute. `jitter_us` of single samples."""

    def __init__(self, source: random.Random, interval_us: float, drift: float = 0.0, jitter_us: float = 0.0) -> None:
        self._random = source
        self._start_interval = interval_us
        self._drift = drift
        self._jitter = jitter_us
        self._next = source.random() * interval_us
        self.times: list[float] = []
        self.fifo: list[int] = []
        self.overflowed = False
        self.powered = True

    def interval(self, now: float) -> float:
        return self._start_interval * (1 + self._drift * now / 60e6)

    def advance(self, now: float) -> None:
        """Takes the samples that are due. Without power there are none."""
        while self._next <= now:
            if self.powered:
                self.fifo.append(len(self.times))
                self.times.append(self._next + self._random.uniform(-1, 1) * self._jitter)
            self._next += self.interval(self._next)
        if len(self.fifo) > FIFO_FRAMES:
            self.overflowed = True

    def take(self) -> list[int]:
        """Reads all frames."""
        taken, self.fifo = self.fifo, []
        return taken

    def empty(self) -> None:
        """The driver empties the FIFO."""
        self.fifo = []
        self.overflowed = False

    def shift(self, us: float) -> None:
        """All samples from the next on are taken that much later."""
        self._next += us

    def power_cycle(self, now: float, seconds: float) -> None:
        """Off for that long; the phase begins anew."""
        self.advance(now)
        self.powered = False
        self.empty()
        self.advance(now + seconds * 1e6)
        self.powered = True
        self._next = now + seconds * 1e6 + self._random.random() * self.interval(now)


class Draining:
    """The head. Drains come 50 ms and up to `jitter_us` apart, `delayed` of them 100 ms more; a stamp follows its count by 200 to 600 µs,
    `late` of them by up to `late_us` more."""

    def __init__(self, chip: Chip, listener: Listener, seed: int, jitter_us: float = 20_000, delayed: float = 0.01, late: float = 0.0,
                 late_us: float = 5_000) -> None:  # fmt: skip
        self.chip = chip
        self._listener = listener
        self._random = random.Random(seed)
        self._jitter = jitter_us
        self.delayed = delayed
        self._late = late
        self._late_us = late_us
        self._restarted = False
        self.now = 0.0

    def run(self, seconds: float) -> None:
        """Drains for so long."""
        until = self.now + seconds * 1e6
        while self.now < until:
            self.drain()

    def drain(self) -> None:
        """Waits until the next one is due, and does it."""
        self.now += DRAIN_US + self._random.random() * self._jitter
        if self._random.random() < self.delayed:
            self.now += 100_000
        self.chip.advance(self.now)
        if self.chip.overflowed:
            self.empty()
            return
        numbers = self.chip.take()
        self.now += self._random.uniform(200, 600)
        if self._random.random() < self._late:
            self.now += self._random.random() * self._late_us
        if numbers:
            if self._restarted:  # said when the first ones come again: firmware/supervisor.py
                self._restarted = False
                self._listener.gap(int(self.now))
            self._listener.sample(int(self.now), numbers)
        self.now += 600 * len(numbers)

    def empty(self) -> None:
        """Whatever waits is lost, and the head says that something is."""
        self.chip.advance(self.now)
        self.chip.empty()
        self._listener.gap(int(self.now + 300))

    def stall(self, seconds: float) -> None:
        """The head does something else: the FIFO may overflow."""
        self.now += seconds * 1e6

    def broken_read(self) -> None:
        """A drain of which nothing comes through."""
        self.now += DRAIN_US + self._random.random() * self._jitter
        self.empty()

    def outage(self, seconds: float) -> None:
        """The bus is out; the chip samples on. Behind it the driver finds it as it was set."""
        self._listener.stopped(int(self.now), False)
        self.now += seconds * 1e6
        self._restart()

    def power_loss(self, seconds: float, noticed: bool = True) -> None:
        """The chip is off; set up again it samples in another phase."""
        self._listener.stopped(int(self.now), noticed)
        self.chip.power_cycle(self.now, seconds)
        self.now += seconds * 1e6
        self._restart()

    def _restart(self) -> None:
        """The FIFO is emptied, or began empty."""
        self.chip.advance(self.now)
        self.chip.empty()
        self._restarted = True

    def lose_unseen(self, samples: int) -> None:
        """The next samples vanish, and nobody says so."""
        while len(self.chip.fifo) < samples:
            self.now += 1_000
            self.chip.advance(self.now)
        del self.chip.fifo[:samples]
