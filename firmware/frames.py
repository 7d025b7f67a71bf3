"""Frames between head and gateway as the gateway needs them: whole frames made and read, and the numbers in them as words.

What the head uses of it is firmware/wire.py."""

import struct

from firmware.wire import (
    ABSENT,
    ACK,
    BODY_BUFFER,
    BODY_MAX,
    CONFIGURING,
    DEGRADED,
    ENCODED_MAX,
    FAILED,
    GAP,
    HEAD,
    HEADER_SIZE,
    HEALTH,
    HELLO,
    HELLO_REQUEST,
    MAINTENANCE,
    OK,
    PARTS_REFUSED,
    PAYLOAD_MAX,
    PING,
    PONG,
    POWER_SWITCHED,
    RING_FULL,
    SAMPLE,
    SENSORS,
    STATE,
    TRIM,
    decode_in_place,
    encode,
)  # fmt: skip

__all__ = (
    "ABSENT", "ACK", "BODY_BUFFER", "BODY_MAX", "CONFIGURING", "DEGRADED", "ENCODED_MAX", "FAILED", "GAP", "HEAD", "HEADER_SIZE", "HEALTH",
    "HELLO", "HELLO_REQUEST", "MAINTENANCE", "OK", "PARTS_REFUSED", "PAYLOAD_MAX", "PING", "PONG", "POWER_SWITCHED", "REASONS", "RING_FULL",
    "SAMPLE", "SENSORS", "STATE", "STATES", "TRIM", "Decoder", "Frame", "decode_in_place", "encode", "pack",
)  # fmt: skip

STATES = ("absent", "configuring", "ok", "degraded", "failed")
REASONS = (
    "none",
    "no acknowledge",
    "time-out",
    "bus stuck",
    "bad checksum",
    "wrong identity",
    "FIFO overflow",
    "FIFO count not a multiple of a frame",
    "registers back at power-on values",
    "ring full",
    "other",
    "FIFO read broken off",
    "heater on",
    "fan cleaning",
    "device reports a fault",
    "list of parts refused",
    "power switched",
)


def pack(kind: int, boot: int, sequence: int, ticks_low: int, ticks_wraps: int, payload: bytes) -> bytes:
    """One encoded frame with its 00, for the gateway and for tests. ValueError if the payload is longer than 233 bytes."""
    body = bytearray(BODY_BUFFER)
    size = HEADER_SIZE + len(payload)
    if size > BODY_MAX:
        raise ValueError("payload of more than 233 bytes")
    struct.pack_into("<BIIII", body, 0, kind, boot, sequence, ticks_low, ticks_wraps)
    body[HEADER_SIZE:size] = payload
    out = bytearray(ENCODED_MAX)
    return bytes(out[: encode(body, size, out)])


class Frame:
    """One received frame. `ticks` is the head's microsecond count since its start (wraps * 2**30 + low); `payload` bytes."""

    def __init__(self, kind: int, boot: int, sequence: int, ticks: int, payload: bytes) -> None:
        self.type = kind
        self.boot = boot
        self.sequence = sequence
        self.ticks = ticks
        self.payload = payload

    def __repr__(self) -> str:
        return f"Frame(type=0x{self.type:02x}, boot={self.boot}, sequence={self.sequence}, ticks={self.ticks}, payload={self.payload!r})"


class Decoder:
    """Bytes in any pieces to frames. What does not decode is dropped and counted in `bad`; the next 00 starts afresh."""

    def __init__(self) -> None:
        self.bad = 0
        self._buffer = bytearray(ENCODED_MAX)
        self._length = 0
        self._too_long = False

    def feed(self, chunk: bytes) -> "list[Frame]":
        """The frames that `chunk` completes, in order."""
        frames = []
        for byte in chunk:
            if byte:
                if self._length < ENCODED_MAX:
                    self._buffer[self._length] = byte
                    self._length += 1
                else:
                    self._too_long = True
            elif self._length:  # 00 directly behind 00 is only a resynchronisation
                frame = None if self._too_long else self._frame()
                if frame is None:
                    self.bad += 1
                else:
                    frames.append(frame)
                self._length = 0
                self._too_long = False
        return frames

    def _frame(self) -> "Frame | None":
        size = decode_in_place(self._buffer, self._length)
        if size < 0:
            return None
        kind, boot, sequence, low, wraps = struct.unpack_from("<BIIII", self._buffer, 0)
        return Frame(kind, boot, sequence, wraps << 30 | low, bytes(self._buffer[HEADER_SIZE:size]))
