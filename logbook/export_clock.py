"""UTC of boot times after the fact: by the best of everything the clock said in that boot, also backwards to its beginning."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from logbook.schemas.cruisers_pb2 import ClockMapping

NANO = 1_000_000_000
OSCILLATOR = 50e-6  # how fast a statement gets worse away from its moment: a Pi's crystal at worst (gateway/clock.py)

Times = npt.NDArray[np.int64]


class Statement(NamedTuple):
    """What the clock said once: `utc_ns` at `boottime_ns`, 0 where it knew none."""

    boottime_ns: int
    utc_ns: int
    source: str
    error_s: float

    @classmethod
    def of(cls, message: ClockMapping) -> "Statement":
        """Of a message of the segment."""
        return cls(message.boottime_ns, message.utc_ns, message.source, message.error_s)

    def error_at(self, boottime_ns: int) -> float:
        """How wrong it can be at another moment, in s."""
        return self.error_s + abs(boottime_ns - self.boottime_ns) / NANO * OSCILLATOR


class Utc:
    """UTC of any boot time of one boot: by the statement whose error is the least at that moment.

    Where two statements take over from each other UTC can step, by no more than their errors; boot time never does."""

    def __init__(self, statements: Iterable[Statement]) -> None:
        # Only those count that no other one, grown worse on the way to them, surpasses; of these the nearest before or behind is the best.
        best: list[Statement] = []
        for one in sorted(statement for statement in statements if statement.utc_ns and np.isfinite(statement.error_s)):
            if best and best[-1].error_at(one.boottime_ns) <= one.error_s:
                continue
            while best and one.error_at(best[-1].boottime_ns) <= best[-1].error_s:
                best.pop()
            best.append(one)
        self._times = np.array([one.boottime_ns for one in best], np.int64)
        self._offsets = np.array([one.utc_ns - one.boottime_ns for one in best], np.int64)
        self._errors = np.array([one.error_s for one in best], np.float64)

    def of(self, boottimes_ns: Times) -> Times:
        """UTC in ns of boot times in ns [n]; 0 where nothing is known of the whole boot."""
        if not len(self._times):
            return np.zeros(len(boottimes_ns), np.int64)
        behind = np.searchsorted(self._times, boottimes_ns)
        left, right = np.maximum(behind - 1, 0), np.minimum(behind, len(self._times) - 1)
        errors = [self._errors[side] + np.abs(boottimes_ns - self._times[side]) * (OSCILLATOR / NANO) for side in (left, right)]
        return boottimes_ns + self._offsets[np.where(errors[0] <= errors[1], left, right)]

    def at(self, boottime_ns: int) -> int:
        """As `of`, of one moment."""
        return int(self.of(np.array([boottime_ns], np.int64))[0])
