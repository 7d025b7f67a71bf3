"""Where each sample that the IMU made has gone: delivered, or in which gap, and whether that gap tells as many.

A sample's own number stands in it (the world's acceleration along x counts samples), so those delivered are known one by one. Where some
are missing, or the chip began anew, is a *hole*; what the gateway told of it are the gaps there. Holes that follow each other closer than
the gateway takes to decide (gateway/imu_gaps.py: PATIENCE drains) are judged together with all their gaps: it tells the first as far as
it is sure, and the rest with the second.

While the chip samples on in one phase what is missing is a number of samples, and the gaps must tell it exactly. A chip that lost its
supply or was reset makes none for a while and then begins a new phase. What is missing then is a length of time: so many periods, no
whole number. The gateway tells it in samples, rounded, from stamps of the head that are 50 ms apart: off by one sample at most, which
its reason says ("±1")."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.imu_gaps import PATIENCE
from logbook.schemas import cruisers_pb2 as pb

CODES = 50_000  # samples told apart by their acceleration: 8 minutes of them
FIRST_CODE = -25_000
JITTER_US = 2  # the model's times are whole µs
DRAIN_NS = 50_000_000
_MARK = re.compile(r"±(\d+)")

Numbers = npt.NDArray[np.int64]


class Account(NamedTuple):
    """Holes and gaps that belong together: `missing` samples (periods, where the chip began anew in `restarts` of the holes), what was
    `reported`, and by how many it says that may be off."""

    at_s: float
    missing: float
    reported: int
    restarts: int
    doubt: int

    @property
    def difference(self) -> float:
        """Reported less missing."""
        return self.reported - self.missing

    @property
    def right(self) -> bool:
        """Whether it tells what it must."""
        return abs(self.difference) <= max(self.restarts, self.doubt if self.restarts else 0)


def code(number: int) -> int:
    """What stands in sample `number`."""
    return FIRST_CODE + number % CODES


def numbers(codes: Sequence[int]) -> Numbers:
    """The numbers of delivered samples, in their order. AssertionError if one came twice or late."""
    steps = np.diff(np.array(codes, dtype=np.int64), prepend=code(0)) % CODES
    assert np.all(steps[1:] > 0) and np.all(steps < CODES // 2), "a sample was delivered twice, late, or is none that was made"
    return np.cumsum(steps)


def accounts(made_us: Sequence[int], delivered: Numbers, dated_ns: Sequence[int], gaps: Sequence[pb.Gap]) -> list[Account]:
    """Every hole and gap, in the order of time. `made_us`: when the chip made each sample; `delivered` their numbers, and `dated_ns` the
    times the gateway gave them."""
    made, dated = np.array(made_us, dtype=np.int64), np.array(dated_ns, dtype=np.int64)
    steps = np.diff(made)
    interval = float(np.median(steps))
    interval = float(np.mean(steps[np.abs(steps - interval) <= JITTER_US]))
    breaks = np.concatenate(([0], np.cumsum(np.abs(steps - interval) > JITTER_US)))  # how often it had begun anew, at each sample
    before, behind = delivered[:-1], delivered[1:]
    holes = np.flatnonzero((behind - before > 1) | (breaks[behind] > breaks[before]))
    # (from, to, hole or -1, gap or -1)
    spans = [(int(dated[hole]), int(dated[hole + 1]), int(hole), -1) for hole in holes]
    spans += [(gap.from_boottime_ns, gap.to_boottime_ns, -1, index) for index, gap in enumerate(gaps)]
    together: list[list[tuple[int, int, int, int]]] = []
    end = -PATIENCE * DRAIN_NS - 1
    for span in sorted(spans):
        if span[0] > end + PATIENCE * DRAIN_NS:
            together.append([])
        together[-1].append(span)
        end = max(end, span[1])
    found = []
    for some in together:
        its_holes = [hole for _, _, hole, _ in some if hole >= 0]
        its_gaps = [gaps[index] for _, _, _, index in some if index >= 0]
        missing = 0.0
        restarts = 0
        if its_holes:
            first, last = min(its_holes), max(its_holes) + 1
            restarts = sum(int(breaks[delivered[hole + 1]] > breaks[delivered[hole]]) for hole in its_holes)
            if restarts:
                missing = float(made[delivered[last]] - made[delivered[first]]) / interval - (last - first)
            else:
                missing = float(delivered[last] - delivered[first] - (last - first))
        marks = [int(mark[1]) for gap in its_gaps if (mark := _MARK.search(gap.reason))]
        found.append(Account(some[0][0] / 1e9, missing, sum(gap.count for gap in its_gaps), restarts, sum(marks)))
    return found
