"""A ring, an outbox and scripted drivers: what the checks of the head's parts stand on, on both interpreters."""

import struct

from firmware import frames
from firmware.outbox import Outbox
from firmware.ring import Ring

WRAP = 1 << 30


class StillTicks:
    """A clock that the check sets."""

    def __init__(self):
        self.low = 5
        self.wraps = 2

    def stamp(self):
        self.low += 1


class Rig:
    """A ring and an outbox; `sent` decodes everything in the ring."""

    def __init__(self, size=8192):
        self.ring = Ring(size)
        self.outbox = Outbox(self.ring, StillTicks(), 77)

    def sent(self):
        out = bytearray(256)
        decoder = frames.Decoder()
        found = []
        while True:
            n = self.ring.take_next(out)
            if n == 0:
                break
            found += decoder.feed(bytes(out[:n]))
        assert decoder.bad == 0
        return found


class Script:
    """A driver that does what `acts` say, one a poll: a number of samples, an exception, or "configured"."""

    SENSOR = "script"
    RAW_SIZE = 4
    PERIOD_MS = 1000

    def __init__(self, acts, period=1000):
        self.acts = acts
        self.PERIOD_MS = period
        self.starts = 0
        self.gap_reason = 0
        self.degraded = 0
        self.configured = False

    def start(self, now):
        self.starts += 1
        self.configured = False

    def poll(self, now):
        act = self.acts.pop(0) if self.acts else 0
        if isinstance(act, Exception):
            raise act
        if act == "configured":
            self.configured = True
            return 0
        return act

    def read_into(self, buf, offset=0):
        buf[offset : offset + 4] = b"data"
        return 4

    def trim(self):
        return b"trim" if self.configured else b""


def story(found):
    """The frames as short text."""
    lines = []
    for frame in found:
        body = frame.payload
        if frame.type == frames.STATE:
            sensor, state, reason, failures = struct.unpack("<BBBH", body)
            lines.append(f"{frames.STATES[state]} {reason} {failures}")
        elif frame.type == frames.GAP:
            sensor, reason, count = struct.unpack("<BBI", body)
            lines.append(f"gap {reason} {count}")
        elif frame.type == frames.SAMPLE:
            lines.append("sample")
        elif frame.type == frames.TRIM:
            lines.append("trim")
    return lines
