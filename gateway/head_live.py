"""What a frame of the head says, for the log and, while the disk refuses (`HeadLive`), for the live view alone: nothing is kept of it."""

import struct

from firmware import frames
from gateway.chip_log import show, show_state
from gateway.clock import Clock
from gateway.convert import BadSample, Converter, split_payload
from gateway.imu_times import HeadClock
from gateway.snapshot import Snapshot

HEAD = "head"
HEALTH_COUNTERS = ("heap_free", "ring_used", "ring_dropped", "longest_loop_us", "uptime_s", "refused")
MALFORMED = (BadSample, struct.error, KeyError, IndexError)  # its CRC is right, so head and gateway disagree about the format
_HEALTH = struct.Struct("<6I")
_STATE = struct.Struct("<BBBH")
_GAP = struct.Struct("<BBI")


def source(number: int) -> str:
    """The name of a sensor's number, or of the head itself. KeyError: there is none."""
    return HEAD if number == 0 else frames.SENSORS[number]


def health(payload: bytes) -> dict[str, int]:
    """The counters of a HEALTH frame. Raises struct.error."""
    return dict(zip(HEALTH_COUNTERS, _HEALTH.unpack(payload), strict=True))


def state(payload: bytes) -> tuple[str, int, int, int]:
    """Source, state, reason and failures of a STATE frame. Raises struct.error, KeyError."""
    number, now, reason, failures = _STATE.unpack(payload)
    return source(number), now, reason, failures


def missing(payload: bytes) -> tuple[str, int, int]:
    """Source, reason and count of a GAP frame. Raises struct.error, KeyError."""
    number, reason, count = _GAP.unpack(payload)
    return source(number), reason, count


class HeadLive:
    """Shows frames that come again later. `converter` is its own: the trims it meets are not in force for what is to be written."""

    def __init__(self, snapshot: Snapshot, utc: Clock, converter: Converter) -> None:
        self._snapshot = snapshot
        self._utc = utc
        self._converter = converter

    def show(self, frame: frames.Frame, clock: HeadClock) -> None:
        """One frame, placed in time by `clock`. What is malformed is told when it is written."""
        try:
            self._show(frame, clock.boottime_ns(frame.ticks))
        except MALFORMED:
            return

    def _show(self, frame: frames.Frame, at: int) -> None:
        if frame.type == frames.SAMPLE:
            sensor, samples = split_payload(frame.payload, frames.SENSORS)
            show(self._snapshot, at, sensor, samples[-1], self._converter.typed(sensor, samples[-1], self._utc.utc_ns(at)))
        elif frame.type == frames.TRIM:
            self._converter.trim(frames.SENSORS[frame.payload[0]], bytes(frame.payload[1:]))
        elif frame.type == frames.STATE:
            name, now, reason, _ = state(frame.payload)
            show_state(self._snapshot, name, now, reason)
        elif frame.type == frames.HEALTH:
            self._snapshot.head(health(frame.payload))
