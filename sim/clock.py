"""The clock of the simulated truck: chip time, which ignition-off freezes, and the map back to CLOCK_BOOTTIME.

Chip time is microseconds since the truck was started. Everything that samples (chips, receiver, camera) takes its time from one Clock, so
that the truth log and the gateway's record meet on one time scale. The only wall-clock call of the room is `utc_ns`.
"""

import time
from collections.abc import Callable


def boottime_ns() -> int:
    """CLOCK_BOOTTIME in nanoseconds: the identity of a moment everywhere in the house."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def utc_ns() -> int:
    """The machine's UTC in nanoseconds since 1970."""
    return time.time_ns()


def sleep_us(microseconds: int) -> None:
    """Sleeps."""
    time.sleep(microseconds / 1e6)


class Clock:
    """Chip time in µs since the clock was made; `read_ns` is the clock it follows (CLOCK_BOOTTIME unless a test brings its own), and
    `wait_us` how its time is passed: a test whose time stands still moves it on there, and nobody sleeps."""

    def __init__(self, read_ns: Callable[[], int] = boottime_ns, wait_us: Callable[[int], None] = sleep_us) -> None:
        self._read_ns = read_ns
        self.wait_us = wait_us
        self.start_boottime_ns = read_ns()
        self._stopped_us: int | None = None

    @property
    def stopped(self) -> bool:
        """True after `stop`: the ignition is off and no chip samples any more."""
        return self._stopped_us is not None

    def running_us(self) -> int:
        """Microseconds since the start; goes on after `stop` (wires and the head's processor do not stop with the ignition)."""
        return (self._read_ns() - self.start_boottime_ns) // 1000

    def now_us(self) -> int:
        """Chip time in µs: like `running_us` until `stop`, then for ever the moment of the stop."""
        stopped = self._stopped_us
        return self.running_us() if stopped is None else stopped

    def stop(self) -> int:
        """Freezes chip time (ignition off) and returns it; a second call changes nothing."""
        if self._stopped_us is None:
            self._stopped_us = self.running_us()
        return self._stopped_us

    def boottime_ns(self, t_us: int) -> int:
        """The CLOCK_BOOTTIME in ns of chip time `t_us`."""
        return self.start_boottime_ns + t_us * 1000
