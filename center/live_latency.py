"""How long live values take from collection to here: a fixed histogram, cheap enough for every item of a fleet (under 1 µs each)."""

from bisect import bisect_left
from collections.abc import Iterable

LEAST_S = 0.001
STEPS_PER_OCTAVE = 8  # a bound is 9 % above the one before: a quantile is at most so much too high
OCTAVES = 20  # up to 1,049 s

BOUNDS_S = tuple(LEAST_S * 2 ** (step / STEPS_PER_OCTAVE) for step in range(STEPS_PER_OCTAVE * OCTAVES + 1))


class Latency:
    """Counts of latencies in seconds. `ahead` of them were negative: the truck's clock was ahead of ours by more than the way took.
    `most_s` is the longest, as it was."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.ahead = 0
        self.most_s = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.ahead += seconds < 0
        self.most_s = max(self.most_s, seconds)
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self._counts)

    def quantile(self, part: float) -> float | None:
        """The latency in seconds that `part` (0 to 1) of them do not exceed, rounded up to a bound; None if there are none."""
        left = part * self.count
        if not self.count:
            return None
        for bound, count in zip((*BOUNDS_S, float("inf")), self._counts, strict=True):
            left -= count
            if left <= 0 and count:
                return bound
        return float("inf")

    @staticmethod
    def total(of: Iterable["Latency"]) -> "Latency":
        """All of them in one."""
        joined = Latency()
        for one in of:
            joined.ahead += one.ahead
            joined.most_s = max(joined.most_s, one.most_s)
            joined._counts = [a + b for a, b in zip(joined._counts, one._counts, strict=True)]
        return joined
