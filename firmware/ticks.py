"""The head's clock: `time.ticks_us` wraps at 2**30 on the RP2040 (17.9 min), so the wraps are counted beside it."""

import time

from drivers.portable import const

_MASK = const(0x3FFF_FFFF)  # the unix port wraps at 2**62: cut there too


class Ticks:
    """`low` (µs modulo 2**30) and `wraps` as of the last `stamp`. Call it at least every 17 min; the sampling loop does so every 10 ms."""

    def __init__(self) -> None:
        self.low = time.ticks_us() & _MASK  # type: ignore[operator]  # the stubs make ticks opaque
        self.wraps = 0

    def stamp(self) -> None:
        """Take the time. Allocates nothing."""
        low = time.ticks_us() & _MASK  # type: ignore[operator]  # the stubs make ticks opaque
        if low < self.low:
            self.wraps += 1
        self.low = low


def milliseconds() -> int:
    """The tick that drivers are given: ms modulo 2**30."""
    return time.ticks_ms() & _MASK  # type: ignore[operator]
