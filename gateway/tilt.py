"""Whether the box still stands as it was fitted: the direction of gravity, as the mean of a second's acceleration, against the box's axis
that must point up.

The reference is configured ([tilt] up; z as hardware.md has it fitted), not learnt: what is learnt at start would take a box that fell
over during the night for a box that stands. A slope (10 %: 5.7°) and the fitting's own error must fit into the angle's 30°.

Only a second whose mean is gravity counts: within 10 % of g. A truck that brakes adds to it; with a mean of at most 1.1 g, an upright
box cannot show more than arccos(1/1.1) = 24.6°, however hard it brakes on a level road. A box that lies on its side shows g, too, as does
one that hangs from its cable."""

import json
import math

import numpy as np
import numpy.typing as npt

from gateway import config
from gateway.events import Events

BOX_TILTED = "box_tilted"
NANO = 1_000_000_000
GRAVITY = 9.80665  # m/s²
WITHIN = 0.10  # of g
WINDOW_NS = NANO  # averages over engine and road; three of them make the default's 3 s
HYSTERESIS = 5.0  # degrees less than the limit: upright again

Floats = npt.NDArray[np.float64]


def axis(name: str) -> Floats:
    """The unit vector [3] of "x", "-x", "y", …"""
    vector = np.zeros(3)
    vector["xyz".index(name[-1])] = -1.0 if name.startswith("-") else 1.0
    return vector


class Tilts:
    """Tells `events` when the box has been tilted for the configured time, once until it has stood upright as long."""

    def __init__(self, settings: config.Tilt, source: str, events: Events) -> None:
        self._up = axis(settings.up)
        self._limit = settings.angle
        self._hold_ns = int(settings.seconds * NANO)
        self._source = source
        self._events = events
        self._tilted = False
        self.interrupted()

    def interrupted(self) -> None:
        """The next samples do not follow those before."""
        self._sum = np.zeros(3)
        self._count = 0
        self._window_ns: int | None = None
        self._since_ns: int | None = None  # the box has been the other way since

    def take(self, times_ns: npt.NDArray[np.uint64], acceleration: Floats) -> None:
        """The next samples, without a gap: boot times [n], m/s² of the three axes [n, 3], NaN where one was beyond the range."""
        while len(times_ns):
            if self._window_ns is None:
                self._window_ns = int(times_ns[0])
            until = self._window_ns + WINDOW_NS
            end = int(np.searchsorted(times_ns, until))
            self._sum += acceleration[:end].sum(axis=0)
            self._count += end
            if end < len(times_ns):
                self._judge(self._sum / self._count, self._window_ns, int(times_ns[end]))
                self._sum = np.zeros(3)
                self._count = 0
                self._window_ns = None
            times_ns, acceleration = times_ns[end:], acceleration[end:]

    def _judge(self, mean: Floats, from_ns: int, to_ns: int) -> None:
        """A second's mean, with the samples of [from_ns, to_ns)."""
        size = float(np.linalg.norm(mean))
        if not (1 - WITHIN) * GRAVITY <= size <= (1 + WITHIN) * GRAVITY:  # NaN neither
            self._since_ns = None
            return
        angle = math.degrees(math.acos(max(-1.0, min(1.0, float(mean @ self._up) / size))))
        other = angle < self._limit - HYSTERESIS if self._tilted else angle > self._limit
        if not other:
            self._since_ns = None
            return
        if self._since_ns is None:
            self._since_ns = from_ns
        if to_ns - self._since_ns < self._hold_ns:
            return
        self._tilted = not self._tilted
        if self._tilted:
            self._events.tell(BOX_TILTED, self._source, json.dumps({"angle": round(angle, 1)}), self._since_ns)
        self._since_ns = None
