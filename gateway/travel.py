"""How far the truck has come, and whether it stands: for the choice of images, from the positions that the recorder writes."""

import threading
from typing import NamedTuple

from gateway.journal import Entry
from logbook.schemas import cruisers_pb2 as pb

NANO = 1_000_000_000
EXTRAPOLATED_NS = 2 * NANO  # how long a fix holds: one that comes once a second may be missed once
STANDING_BELOW = 0.3  # m/s: a receiver at rest shows some cm/s, and no truck collects at a quarter of walking pace


class Moved(NamedTuple):
    """Metres driven since the start of this recorder (only differences mean something), and whether the truck stands."""

    metres: float
    standing: bool


class Travel:
    """The odometer: speed over ground integrated over the boot times of valid fixes. Any thread may tell and ask; nothing waits.

    Between two fixes at most EXTRAPOLATED_NS apart the speed is taken to change evenly; behind the last one it is taken to stay, for
    that long. Then nothing is known until the next fix, and what was driven meanwhile is not counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_ns: int | None = None
        self._metres = 0.0
        self._speed = 0.0  # m/s, 0 while standing: noise of a receiver at rest is no way

    def heard(self, entry: Entry) -> None:
        """A message of the topic POSITION (for `Journal.observe`). Only a valid fix with a speed counts."""
        position = pb.Position.FromString(entry.data)
        if position.valid and position.HasField("speed"):
            self.drive(position.boottime_ns, position.speed)

    def drive(self, at_ns: int, speed: float) -> None:
        """The truck's speed over ground (m/s) at boot time `at_ns`. One that is not newer than the last is not taken."""
        speed = speed if speed >= STANDING_BELOW else 0.0
        with self._lock:
            if self._at_ns is not None:
                apart = at_ns - self._at_ns
                if apart <= 0:
                    return
                mean = (self._speed + speed) / 2 if apart <= EXTRAPOLATED_NS else self._speed
                self._metres += mean * min(apart, EXTRAPOLATED_NS) / NANO
            self._at_ns, self._speed = at_ns, speed

    def at(self, at_ns: int) -> Moved | None:
        """Where the odometer stands at boot time `at_ns`, about now; None if no fix says so."""
        with self._lock:
            if self._at_ns is None or at_ns - self._at_ns > EXTRAPOLATED_NS:
                return None
            return Moved(self._metres + self._speed * max(0, at_ns - self._at_ns) / NANO, self._speed == 0.0)
