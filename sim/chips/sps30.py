"""SPS30 particulate matter sensor on its UART (facts/sensors-and-head.md 1.2): SHDLC at 115200 baud, one sample a second.

Modelled: idle, measuring and sleeping with the commands each allows, float and integer output, the empty reply when nothing is new, fan
cleaning, auto-clean interval, identity, status register with its bit in every reply's state, reset, the commands that old firmware does
not know. Frames for another address or with a bad checksum get no answer.
"""

from sim.chips.faces import Log, SerialOutput, Source
from sim.chips.shdlc import Request, RequestReader, reply
from sim.chips.sps30_core import BOOT_US, EPSILON, FLOAT, IDLE, INTEGER, MEASURING, PRODUCT_TYPE, RANGE, SLEEPING, SPS30Core

_OK, _WRONG_LENGTH, _UNKNOWN, _BAD_PARAMETER, _NOT_ALLOWED = 0x00, 0x01, 0x02, 0x04, 0x43
_START, _STOP, _READ, _SLEEP, _WAKE, _CLEAN, _INTERVAL, _INFO, _VERSION, _STATUS, _RESET = (
    0x00, 0x01, 0x03, 0x10, 0x11, 0x56, 0x80, 0xD0, 0xD1, 0xD2, 0xD3,
)  # fmt: skip
_FAULT_FLAG = 0x80  # in the state byte: the status register is not zero
_SINCE = {_SLEEP: (2, 0), _WAKE: (2, 0), _STATUS: (2, 2)}
_INTERFACE_US = 100_000  # the interface listens for so long after a byte woke it


class SPS30(SerialOutput):
    """The sensor behind a UART; `core` is what measures."""

    SENSOR = "sps30"
    RANGE = RANGE
    EPSILON = EPSILON

    def __init__(
        self, source: Source, log: Log, ppm: float = 300.0, serial: bytes = b"5A1D0C0FFEE00301", version: tuple[int, int] = (2, 3)
    ) -> None:
        super().__init__()
        self.core = SPS30Core(source, log, ppm, serial, version)
        self.power_cycle()

    @property
    def samples(self) -> int:
        """Samples measured."""
        return self.core.samples

    def power_cycle(self) -> None:
        """A brown-out: idle, nothing measured, nothing on the wire."""
        self.core.power_cycle()
        self._reader = RequestReader()
        self._deaf_until = 0
        self._interface_until = 0
        self._output.clear()

    def advance(self, now_us: int) -> None:
        """Makes the samples due until `now_us`."""
        self.core.advance(now_us)

    def write(self, data: bytes) -> None:
        """Bytes from the controller; complete requests are answered at once (the line adds the time it takes)."""
        now = self.core.now
        if now < self._deaf_until or not data:
            return
        if self.core.mode == SLEEPING and now >= self._interface_until:
            self._interface_until = now + _INTERFACE_US  # the first byte only wakes the interface
            self._reader = RequestReader()
            data = data[1:]
        for request in self._reader.feed(data):
            if request.address == 0:
                state, answer = self._answer(request)
                self._output += reply(0, request.command, state | (_FAULT_FLAG if self.core.status else 0), answer)

    def _answer(self, request: Request) -> tuple[int, bytes]:
        """State byte and data of the reply to one request."""
        command, data = request.command, request.data
        if self.core.version < _SINCE.get(command, (0, 0)):
            return _UNKNOWN, b""
        if self.core.mode == SLEEPING and command != _WAKE:
            return _NOT_ALLOWED, b""
        if command == _START:
            return self._start(data)
        if command == _INTERVAL:
            return self._auto_clean(data)
        if command == _INFO:
            if len(data) != 1:
                return _WRONG_LENGTH, b""
            answer = {0x00: PRODUCT_TYPE, 0x03: self.core.serial}.get(data[0])
            return (_BAD_PARAMETER, b"") if answer is None else (_OK, answer + b"\0")
        if command == _STATUS:
            return self._read_status(data)
        if data and command in (_STOP, _READ, _SLEEP, _WAKE, _CLEAN, _VERSION, _RESET):
            return _WRONG_LENGTH, b""
        if command == _READ:
            return (_OK, self.core.take()) if self.core.mode == MEASURING else (_NOT_ALLOWED, b"")
        if command == _VERSION:
            return _OK, bytes([*self.core.version, 0, 7, 0, 2, 0])
        return self._change(command), b""

    def _change(self, command: int) -> int:
        """Commands without data that only change the mode; returns the state byte."""
        allowed = {_STOP: MEASURING, _CLEAN: MEASURING, _SLEEP: IDLE, _WAKE: SLEEPING, _RESET: self.core.mode}
        if command not in allowed:
            return _UNKNOWN
        if self.core.mode != allowed[command]:
            return _NOT_ALLOWED
        if command == _CLEAN:
            self.core.clean()
        elif command == _RESET:
            self.power_cycle()
            self._deaf_until = self.core.now + BOOT_US
        else:
            self.core.rest(SLEEPING if command == _SLEEP else IDLE)
        return _OK

    def _start(self, data: bytes) -> tuple[int, bytes]:
        if len(data) != 2:
            return _WRONG_LENGTH, b""
        if data[0] != 0x01 or data[1] not in (FLOAT, INTEGER):
            return _BAD_PARAMETER, b""
        if self.core.mode != IDLE:
            return _NOT_ALLOWED, b""
        self.core.start(data[1])
        return _OK, b""

    def _auto_clean(self, data: bytes) -> tuple[int, bytes]:
        if data == b"\0":
            return _OK, self.core.interval()
        if len(data) not in (1, 5):
            return _WRONG_LENGTH, b""
        if len(data) == 1 or data[0] != 0:
            return _BAD_PARAMETER, b""
        self.core.set_interval(data[1:])
        return _OK, b""

    def _read_status(self, data: bytes) -> tuple[int, bytes]:
        if len(data) != 1:
            return _WRONG_LENGTH, b""
        if data[0] > 1:
            return _BAD_PARAMETER, b""
        answer = self.core.status.to_bytes(4, "big") + b"\0"
        if data[0] == 1:
            self.core.status = 0
        return _OK, answer
