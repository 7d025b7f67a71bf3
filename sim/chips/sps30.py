"""SPS30 particulate matter sensor on its UART (facts/sensors-and-head.md 1.2): SHDLC at 115200 baud, one sample a second.

Modelled: idle, measuring and sleeping with the commands each allows, float and integer output, the empty reply when nothing is new, fan
cleaning, auto-clean interval, identity, status register, reset. Frames for another address or with a bad checksum get no answer.
"""

import struct

from sim.chips.faces import Log, Source
from sim.chips.shdlc import Request, RequestReader, reply

_OK, _WRONG_LENGTH, _UNKNOWN, _BAD_PARAMETER, _NOT_ALLOWED = 0x00, 0x01, 0x02, 0x04, 0x43
_START, _STOP, _READ, _SLEEP, _WAKE, _CLEAN, _INTERVAL, _INFO, _VERSION, _STATUS, _RESET = (
    0x00, 0x01, 0x03, 0x10, 0x11, 0x56, 0x80, 0xD0, 0xD1, 0xD2, 0xD3,
)  # fmt: skip
_IDLE, _MEASURING, _SLEEPING = "idle", "measuring", "sleeping"
_FLOAT, _INTEGER = 0x03, 0x05
_SECOND_US = 1_000_000.0
_BOOT_US = 100_000
_CLEAN_US = 10_000_000
_INTERFACE_US = 100_000  # the interface listens for so long after a byte woke it
_PRODUCT_TYPE = b"00080000\0"
_DEFAULT_INTERVAL_S = 604_800

# In the order of the reply, with the factor from SI: µg/m³, 1/cm³, µm.
_MASS, _NUMBER = ("pm1", "pm2_5", "pm4", "pm10"), ("particles_0_5", "particles_1", "particles_2_5", "particles_4", "particles_10")
_FACTORS = {**dict.fromkeys(_MASS, 1e9), **dict.fromkeys(_NUMBER, 1e-6), "particle_size": 1e6}


class SPS30:
    """The sensor behind a UART; `ppm` is its oscillator's error. Values beyond RANGE are sent clipped."""

    SENSOR = "sps30"
    RANGE = {
        **dict.fromkeys(_MASS, (0.0, 1000e-9)),
        **dict.fromkeys(_NUMBER, (0.0, 3000e6)),
        "particle_size": (0.0, 10e-6),
    }
    # float32 has 24 bits: half a step just below the top of each range, rounded up.
    EPSILON = {name: high * 2.0**-24 for name, (low, high) in RANGE.items()}

    def __init__(
        self, source: Source, log: Log, ppm: float = 300.0, serial: bytes = b"5A1D0C0FFEE00301", version: tuple[int, int] = (2, 3)
    ) -> None:
        self._source = source
        self._log = log
        self._rate = 1.0 + ppm * 1e-6
        self._serial = serial + b"\0"
        self._version = version
        self._interval_s = _DEFAULT_INTERVAL_S  # kept over power cuts
        self._now = 0
        self.samples = 0  # samples measured
        self.status = 0  # bit 21 fan speed, 5 laser, 4 fan
        self._output = bytearray()
        self.power_cycle()

    def power_cycle(self) -> None:
        """A brown-out: idle, nothing measured, nothing on the wire."""
        self._reader = RequestReader()
        self._mode = _IDLE
        self._format = _FLOAT
        self._new: bytes | None = None
        self._origin = 0.0
        self._count = 0
        self._cleaning_until = 0.0
        self._deaf_until = 0
        self._interface_until = 0
        self._output.clear()

    def advance(self, now_us: int) -> None:
        """Makes the samples due until `now_us`; while the fan cleans, none."""
        while self._mode == _MEASURING:
            due = self._origin + (self._count + 1) * _SECOND_US / self._rate
            if due > now_us:
                break
            self._count += 1
            if due >= self._cleaning_until:
                self._measure(int(due))
        self._now = max(self._now, now_us)

    def write(self, data: bytes) -> None:
        """Bytes from the controller; complete requests are answered at once (the line adds the time it takes)."""
        if self._now < self._deaf_until or not data:
            return
        if self._mode == _SLEEPING and self._now >= self._interface_until:
            self._interface_until = self._now + _INTERFACE_US  # the first byte only wakes the interface
            self._reader = RequestReader()
            data = data[1:]
        for request in self._reader.feed(data):
            if request.address == 0:
                state, answer = self._answer(request)
                self._output += reply(0, request.command, state, answer)

    def any(self) -> int:
        """Bytes of replies waiting."""
        return len(self._output)

    def read(self, count: int) -> bytes:
        """Takes at most `count` bytes of its replies."""
        taken = bytes(self._output[:count])
        del self._output[:count]
        return taken

    def _answer(self, request: Request) -> tuple[int, bytes]:
        """State byte and data of the reply to one request."""
        command, data = request.command, request.data
        if self._mode == _SLEEPING and command != _WAKE:
            return _NOT_ALLOWED, b""
        if command == _START:
            return self._start(data)
        if command == _INTERVAL:
            return self._auto_clean(data)
        if command == _INFO:
            if len(data) != 1:
                return _WRONG_LENGTH, b""
            answer = {0x00: _PRODUCT_TYPE, 0x03: self._serial}.get(data[0])
            return (_BAD_PARAMETER, b"") if answer is None else (_OK, answer)
        if command == _STATUS:
            return self._read_status(data)
        if data and command in (_STOP, _READ, _SLEEP, _WAKE, _CLEAN, _VERSION, _RESET):
            return _WRONG_LENGTH, b""
        if command == _READ:
            return self._read()
        if command == _VERSION:
            return _OK, bytes([*self._version, 0, 7, 0, 2, 0])
        return self._change(command), b""

    def _change(self, command: int) -> int:
        """Commands without data that only change the mode; returns the state byte."""
        allowed = {_STOP: _MEASURING, _CLEAN: _MEASURING, _SLEEP: _IDLE, _WAKE: _SLEEPING, _RESET: self._mode}
        if command not in allowed:
            return _UNKNOWN
        if self._mode != allowed[command]:
            return _NOT_ALLOWED
        if command == _CLEAN:
            self._cleaning_until = self._now + _CLEAN_US
        elif command == _RESET:
            self.power_cycle()
            self._deaf_until = self._now + _BOOT_US
        else:
            self._mode = _SLEEPING if command == _SLEEP else _IDLE
            self._new = None
        return _OK

    def _start(self, data: bytes) -> tuple[int, bytes]:
        if len(data) != 2:
            return _WRONG_LENGTH, b""
        if data[0] != 0x01 or data[1] not in (_FLOAT, _INTEGER):
            return _BAD_PARAMETER, b""
        if self._mode != _IDLE:
            return _NOT_ALLOWED, b""
        self._mode = _MEASURING
        self._format = data[1]
        self._new = None
        self._origin = float(self._now)
        self._count = 0
        return _OK, b""

    def _read(self) -> tuple[int, bytes]:
        if self._mode != _MEASURING:
            return _NOT_ALLOWED, b""
        data, self._new = self._new or b"", None
        return _OK, data

    def _auto_clean(self, data: bytes) -> tuple[int, bytes]:
        if data == b"\0":
            return _OK, struct.pack(">I", self._interval_s)
        if len(data) not in (1, 5):
            return _WRONG_LENGTH, b""
        if len(data) == 1 or data[0] != 0:
            return _BAD_PARAMETER, b""
        (self._interval_s,) = struct.unpack(">I", data[1:])
        return _OK, b""

    def _read_status(self, data: bytes) -> tuple[int, bytes]:
        if len(data) != 1:
            return _WRONG_LENGTH, b""
        if data[0] > 1:
            return _BAD_PARAMETER, b""
        answer = struct.pack(">IB", self.status, 0)
        if data[0] == 1:
            self.status = 0
        return _OK, answer

    def _measure(self, t_us: int) -> None:
        self.samples += 1
        values = self._source(t_us)
        shown = []
        for name, factor in _FACTORS.items():
            low, high = self.RANGE[name]
            shown.append(max(low, min(high, values[name])) * factor)
        if self._format == _FLOAT:
            self._new = struct.pack(">10f", *shown)
        else:
            self._new = struct.pack(">10H", *(round(value) for value in shown[:-1]), round(shown[-1] * 1000))
        self._log(self.SENSOR, t_us, {name: values[name] for name in _FACTORS})
