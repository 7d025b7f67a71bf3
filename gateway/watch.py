"""Looks at what the sources write, for events: IMU blocks for shocks and for the box's tilt, positions for depots.

It hears the journal, so the IMU may be the head's or this machine's own. A source's thread only puts the message into a queue, for it
must go on sampling; all work is done on a thread of ours. If that falls behind by WAITING messages, those that come are passed over and a
Gap says so: they are on disk all the same, only no event is found in them.

A box of the first fleet is not looked at: whether its numbers count samples alone is unverified (docs/formats.md 7), and its times are
those of arrival, so a lost sample cannot be told from none, and might make a shock. Its `/box/frames` are on disk; shocks in them are for
the center to find."""

import queue
import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from drivers import icm20948
from gateway.clock import boottime_ns
from gateway.config import Truck
from gateway.convert import IMU_TRIM
from gateway.depots import Depots
from gateway.events import Events
from gateway.journal import Entry, Journal, gap
from gateway.shock import Shocks
from gateway.snapshot import Snapshot
from gateway.tilt import Tilts
from logbook import block
from logbook.channels import IMU_BLOCK, POSITION
from logbook.schemas import cruisers_pb2 as pb

NANO = 1_000_000_000
SOURCE = "events"
NOT_LOOKED_AT = "not looked at for events: too much waited"
WAITING = 600  # messages, 1.3 kB each: some minutes
LOOK_SECONDS = 0.25  # how long a stop may wait
SILENCE_SECONDS = 3.0  # without a block: a shock that went on has ended, perhaps with the IMU
RATE_HZ = icm20948.sample_rate(IMU_TRIM)
LONGEST_STEP_NS = int(1.5 * NANO / RATE_HZ)  # from sample to sample; more, and one is missing between them
AXES = ("acceleration_x", "acceleration_y", "acceleration_z")


class _Waiting(NamedTuple):
    entry: Entry
    columns: str  # how to read a block; "" of a position


class Watch:
    """`run(stop)` works on a thread of its own; `finish()` when the sources have ended. Hears from its making on: to be made before they
    start. `passed_over` counts messages that were not looked at."""

    def __init__(self, config: Truck, events: Events, journal: Journal, snapshot: Snapshot) -> None:
        self._journal = journal
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._working = threading.Lock()
        self._shocks = Shocks(config.shock, RATE_HZ, icm20948.SENSOR, events)
        self._tilts = Tilts(config.tilt, icm20948.SENSOR, events)
        self._depots = Depots(config.depots, events, snapshot)
        self._before: tuple[int, int] | None = None  # head boot and time of the sample looked at last
        self._heard_ns = 0
        self._counting = threading.Lock()
        self._passed_over: list[Entry] = []  # the first and the last of those not told yet
        self._passed_over_now = 0
        self.passed_over = 0
        journal.observe(IMU_BLOCK, self._hear)
        if config.depots:
            journal.observe(POSITION, self._hear)

    def _hear(self, entry: Entry) -> None:
        """In the thread of a source."""
        if self._waiting.qsize() >= WAITING:
            with self._counting:
                self._passed_over = [*self._passed_over[:1], entry]
                self._passed_over_now += 1
                self.passed_over += 1
            return
        columns = self._journal.described(IMU_BLOCK).get("columns", "") if entry.topic == IMU_BLOCK else ""
        self._waiting.put(_Waiting(entry, columns))

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            with self._working:
                self._next(LOOK_SECONDS)

    def finish(self) -> None:
        """The recorder stops: what still waits is looked at, and a shock that went on is told as it stands."""
        with self._working:
            while not self._waiting.empty():
                self._next(0)
            self._shocks.finish()

    def _next(self, seconds: float) -> None:
        try:
            waiting = self._waiting.get(timeout=seconds)
        except queue.Empty:
            waiting = None
        self._tell_passed_over()
        if boottime_ns() - self._heard_ns > SILENCE_SECONDS * NANO:
            self._shocks.finish()
        if waiting is None:
            return
        if waiting.entry.topic == POSITION:
            self._depots.take(pb.Position.FromString(waiting.entry.data))
        else:
            self._heard_ns = boottime_ns()
            self._block(waiting.entry.data, waiting.columns)

    def _tell_passed_over(self) -> None:
        with self._counting:
            entries, self._passed_over = self._passed_over, []
            count, self._passed_over_now = self._passed_over_now, 0
        if count:
            self._journal.write([gap(SOURCE, NOT_LOOKED_AT, entries[0].log_time, entries[-1].log_time, count)])

    def _block(self, data: bytes, columns: str) -> None:
        """One column block."""
        boot, times, raw = block.decode(data)
        typed = block.typed(columns, raw)
        acceleration = np.stack([typed[axis][0] for axis in AXES], axis=1)
        for part in np.split(np.arange(len(times)), _breaks(times)):
            self._part(boot, times[part], acceleration[part])
            self._before = boot, int(times[part[-1]])

    def _part(self, boot: int, times: npt.NDArray[np.uint64], acceleration: npt.NDArray[np.float64]) -> None:
        """Samples without a gap among them."""
        if self._before is None or self._before[0] != boot or not 0 < int(times[0]) - self._before[1] <= LONGEST_STEP_NS:
            self._shocks.interrupted()
            self._tilts.interrupted()
        self._shocks.take(times, acceleration)
        self._tilts.take(times, acceleration)


def _breaks(times: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """The indices of samples before which something is missing."""
    steps = np.diff(times.astype(np.int64))
    return np.flatnonzero((steps <= 0) | (steps > LONGEST_STEP_NS)) + 1
