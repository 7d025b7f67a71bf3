"""Plantower PMS5003 or PMS7003 on its UART (facts/sensors-and-head.md 1.3): 32-byte frames at 9600 baud, unasked or on request.

Modelled: active mode (after power and after a wake) with a frame a second, passive mode with one frame for each request, sleep and wake,
the echo of a change of mode (pimoroni/pms5003-micropython waits for it), the start, the time to warm up in which values rise to what they
should be, the version and error byte. Unverified: mode after a wake, times (Pimoroni saw 9.2 s from a reset to the first frame), that a
request in active mode gets no answer. Requests that are not one of the five commands are ignored."""

import struct

from sim.chips.faces import Log, SerialOutput, Source, word

_READ, _MODE, _SLEEP = 0xE2, 0xE1, 0xE4
_SECOND_US = 1_000_000
_BOOT_US = 2_000_000
_WARM_UP_US = 30_000_000
_REQUEST = 7  # bytes
_MASS = ("pm1", "pm2_5", "pm10")
_COUNTS = tuple(f"particles_above_{size}" for size in ("0_3", "0_5", "1", "2_5", "5", "10"))
_PER_COUNT = 10_000.0  # 1/m³: counted are the particles in 0.1 l
_CF1_FROM = 30  # µg/m³ up to which "standard particle" and "atmospheric" values are the same


def frame(payload: bytes) -> bytes:
    """Mark, length, payload and the sum of all before it."""
    start = b"BM" + struct.pack(">H", len(payload) + 2) + payload
    return start + struct.pack(">H", sum(start))


class PMS5003(SerialOutput):
    """The sensor behind a UART; `ppm` is its oscillator's error. Values beyond RANGE are sent clipped, as the 16 bits allow."""

    SENSOR = "pms5003"
    BAUD = 9600
    RANGE = {**dict.fromkeys(_MASS, (0.0, 1000e-9)), **dict.fromkeys(_COUNTS, (0.0, 65_534 * _PER_COUNT))}
    EPSILON = {**dict.fromkeys(_MASS, 0.5e-9), **dict.fromkeys(_COUNTS, _PER_COUNT / 2)}

    def __init__(self, source: Source, log: Log, ppm: float = 300.0, version: int = 0x97) -> None:
        super().__init__()
        self._source = source
        self._log = log
        self._second_us = _SECOND_US / (1.0 + ppm * 1e-6)
        self._version = version
        self.error = 0  # the error byte
        self.samples = 0  # frames sent with values that are warm
        self._now = 0
        self._asleep = False
        self._due: float | None = None  # when the next frame goes out unasked
        self.power_cycle()

    def power_cycle(self) -> None:
        """A brown-out: it starts anew, in active mode."""
        self._received = bytearray()
        self._output.clear()
        self._boot()

    def advance(self, now_us: int) -> None:
        """Sends the frames of active mode that are due until `now_us`; those of long ago have passed and nobody heard them."""
        while self._due is not None and self._due <= now_us:
            due, self._due = self._due, self._due + self._second_us
            if self._due > now_us:
                self._send(int(due))
        self._now = max(self._now, now_us)

    def write(self, data: bytes) -> None:
        """Bytes from the controller."""
        if self._now < self._deaf_until:
            return
        self._received += data
        while (begin := self._received.find(b"BM")) >= 0 and len(self._received) >= begin + _REQUEST:
            request = bytes(self._received[begin : begin + _REQUEST])
            if sum(request[:5]) == int.from_bytes(request[5:], "big"):
                del self._received[: begin + _REQUEST]
                self._obey(request[2], request[4])
            else:
                del self._received[: begin + 1]
        del self._received[: max(0, len(self._received) - _REQUEST)]

    def _obey(self, command: int, argument: int) -> None:
        if command == _SLEEP:
            if argument and self._asleep:
                self._boot()
            elif not argument:
                self._asleep = True
                self._due = None
        elif self._asleep:
            return
        elif command == _MODE:
            self._output += frame(bytes((command, argument)))
            self._due = self._now + self._second_us if argument else None
        elif command == _READ and self._due is None:
            self._send(self._now)

    def _boot(self) -> None:
        self._asleep = False
        self._deaf_until = self._now + _BOOT_US
        self._due = self._now + _BOOT_US
        self._warm_at = self._now + _WARM_UP_US

    def _send(self, t_us: int) -> None:
        values = self._source(t_us)
        warm = min(1.0, 1.0 - (self._warm_at - t_us) / _WARM_UP_US)
        mass = [word(values[name] * 1e9 * warm, 0, 0xFFFF) for name in _MASS]
        standard = [number if number <= _CF1_FROM else word(number * 1.5, 0, 0xFFFF) for number in mass]
        counts = [word(values[name] / _PER_COUNT * warm, 0, 0xFFFF) for name in _COUNTS]
        self._output += frame(struct.pack(">12HBB", *standard, *mass, *counts, self._version, self.error))
        if t_us >= self._warm_at:
            self.samples += 1
            self._log(self.SENSOR, t_us, {name: values[name] for name in (*_MASS, *_COUNTS)})
