"""Makes the head's frames: writes bodies in place, numbers them, encodes them and keeps them in the ring. Steady work allocates nothing."""

import struct

from drivers.portable import TYPE_CHECKING, const
from firmware.ring import Ring
from firmware.ticks import Ticks
from firmware.wire import (
    BODY_BUFFER,
    ENCODED_MAX,
    GAP,
    HEAD,
    HEADER_SIZE,
    HEALTH,
    PAYLOAD_MAX,
    RING_FULL,
    SAMPLE,
    STATE,
    TRIM,
    encode,
)

if TYPE_CHECKING:
    from firmware.faces import Driver

_PAYLOAD = const(17)  # HEADER_SIZE, folded


class Outbox:
    """`boot` is this start's number (30 bits, not 0). One body buffer serves all frames: a frame is finished before the next is begun."""

    def __init__(self, ring: Ring, ticks: Ticks, boot: int) -> None:
        self.ring = ring
        self.ticks = ticks
        self.boot = boot
        self.sequence = 0
        self._drops_reported = 0
        self._body = bytearray(BODY_BUFFER)
        self._encoded = bytearray(ENCODED_MAX)
        # What a driver writes into: it must not reach the room for the CRC.
        self._room = memoryview(self._body)[: HEADER_SIZE + PAYLOAD_MAX]

    def sample(self, sensor: int, driver: "Driver") -> int:
        """Read what the driver has ready, as much as one frame holds, and keep it; returns the number of samples. Bus errors pass through.

        The frame's ticks are those of the last `ticks.stamp()`: all frames of one FIFO drain carry the same."""
        body = self._body
        size = driver.read_into(self._room, _PAYLOAD + 2)
        if size == 0:
            return 0
        count = size // driver.RAW_SIZE
        body[_PAYLOAD] = sensor
        body[_PAYLOAD + 1] = count
        self._keep(SAMPLE, 2 + size)
        return count

    def state(self, sensor: int, state: int, reason: int, failures: int) -> None:
        """Keep a STATE frame."""
        self._put_state(sensor, state, reason, failures)
        self._keep(STATE, 5)

    def gap(self, sensor: int, reason: int, count: int) -> None:
        """Keep a GAP frame: `count` samples (sensor 0: frames) are missing, 0 if that cannot be known."""
        struct.pack_into("<BBI", self._body, _PAYLOAD, sensor, reason, count)
        self._keep(GAP, 6)

    def trim(self, sensor: int, trim: bytes) -> None:
        """Keep a TRIM frame."""
        self._put_trim(sensor, trim)
        self._keep(TRIM, 1 + len(trim))

    def health(self, heap_free: int, longest_us: int, uptime_s: int, refused: int) -> None:
        """Keep a HEALTH frame; the ring's own counters are added."""
        ring = self.ring
        struct.pack_into("<6I", self._body, _PAYLOAD, heap_free, ring.used, ring.dropped, longest_us, uptime_s, refused)
        self._keep(HEALTH, 24)

    def report_drops(self) -> None:
        """Keep a GAP for frames the ring had to drop, once there is room again: in a full ring it would drop more."""
        ring = self.ring
        if ring.dropped != self._drops_reported and ring.used * 4 < ring.size * 3:
            count = ring.dropped - self._drops_reported
            self._drops_reported = ring.dropped
            self.gap(HEAD, RING_FULL, count)

    def passing_trim(self, sensor: int, trim: bytes, out: bytearray) -> int:
        """Encode a TRIM frame that is not kept (sequence 0) into `out`; returns its length."""
        self._put_trim(sensor, trim)
        return self._encode(TRIM, 0, 1 + len(trim), out)

    def passing_state(self, sensor: int, state: int, reason: int, failures: int, out: bytearray) -> int:
        """Encode a STATE frame that is not kept (sequence 0) into `out`; returns its length."""
        self._put_state(sensor, state, reason, failures)
        return self._encode(STATE, 0, 5, out)

    def passing(self, kind: int, payload: bytes | bytearray, out: bytearray) -> int:
        """Encode a frame that is not kept (sequence 0) into `out`; returns its length."""
        self._body[_PAYLOAD : _PAYLOAD + len(payload)] = payload
        return self._encode(kind, 0, len(payload), out)

    def _put_state(self, sensor: int, state: int, reason: int, failures: int) -> None:
        struct.pack_into("<BBBH", self._body, _PAYLOAD, sensor, state, reason, failures)

    def _put_trim(self, sensor: int, trim: bytes) -> None:
        self._body[_PAYLOAD] = sensor
        self._body[_PAYLOAD + 1 : _PAYLOAD + 1 + len(trim)] = trim

    def _keep(self, kind: int, payload_size: int) -> None:
        self.sequence += 1
        n = self._encode(kind, self.sequence, payload_size, self._encoded)
        self.ring.append(self._encoded, n, self.sequence)

    def _encode(self, kind: int, sequence: int, payload_size: int, out: bytearray) -> int:
        ticks = self.ticks
        struct.pack_into("<BIIII", self._body, 0, kind, self.boot, sequence, ticks.low, ticks.wraps)
        return encode(self._body, _PAYLOAD + payload_size, out)
