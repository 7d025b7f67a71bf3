"""Sensirion SPS30 on its serial line (SHDLC, 115200 8N1): particle mass and number, one sample a second, each read once.

Commands: Sensirion embedded-uart-sps sps30.c, python-shdlc-driver, Linux sps30_serial.c. An empty reply to "read" means that there is no
new sample yet: no error. Bit 7 of the state byte says that the device has a fault it keeps in its status register; it is not an answer to
the command. Any byte may be late, missing or of an earlier command: input is thrown away before each request, a reply to another one is
ignored."""

import struct

from drivers.errors import BAD_CHECKSUM, OTHER, TIME_OUT, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed
from drivers.shdlc import Reply, request

if TYPE_CHECKING:
    from drivers.faces import UART

SENSOR = "sps30"
_DATA_SIZE = const(40)
RAW_SIZE = _DATA_SIZE  # ten big endian floats
TRIM_SIZE = 34  # firmware major, minor, serial (at most 32 ASCII)
PERIOD_MS = 1000

_START = const(0x00)
_STOP = const(0x01)
_READ = const(0x03)
_WAKE = const(0x11)
_INFORMATION = const(0xD0)
_VERSION = const(0xD1)

_NOT_ALLOWED = const(0x43)  # e.g. stop while not measuring
_UNKNOWN = const(0x02)  # e.g. wake, before firmware 2.0

_REPLY_MS = const(100)  # 20 ms by the data sheet
_ASK_AGAIN_MS = const(100)
_ASK_MS = const(900)  # after a sample: the next one is due in 1 s of the sensor's own clock
_SILENT_MS = const(5000)
_WARM_UP_MS = const(20000)  # the fan starts before the first sample

# What is sent, in order, and from which state the next one follows; reading goes on for ever.
_WAKING, _STOPPING, _VERSIONING, _SERIAL, _BEGINNING, _READING = range(6)
_COMMANDS = (_WAKE, _STOP, _VERSION, _INFORMATION, _START, _READ)
_REQUESTS = (
    b"\xff" + request(_WAKE),  # the first byte only wakes the receiver of a sleeping chip
    request(_STOP),
    request(_VERSION),
    request(_INFORMATION, b"\x03"),
    request(_START, b"\x01\x03"),
    request(_READ),
)


class SPS30:
    """The sensor on a line with machine.UART's methods (`readinto` that does not wait)."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    gap_reason = 0  # no FIFO to overflow

    def __init__(self, uart: "UART") -> None:
        self._uart = uart
        self._chunk = bytearray(64)
        self._data = bytearray(RAW_SIZE)
        self._reply = Reply(48)
        self._identity = b""
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self._ready = False
        self._step = _WAKING
        self._asked = False
        self._since = now
        self._pause = 0
        self._sampled = now
        self._silent = _WARM_UP_MS

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError."""
        if self._ready:
            return 1
        if not self._asked:
            if elapsed(now, self._since) >= self._pause:
                self._ask(now)
        elif not self._listen(now) and elapsed(now, self._since) > _REPLY_MS:
            self._asked = False
            self._pause = 0
            if self._step != _WAKING:  # an awake chip of firmware 1 may ignore it
                raise BusError(TIME_OUT)
            self._step = _STOPPING
        return 1 if self._ready else 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing."""
        buf[offset : offset + RAW_SIZE] = self._data
        self._ready = False
        return RAW_SIZE

    def trim(self) -> bytes:
        """Firmware major and minor, then the serial number in ASCII; empty before the sensor is configured."""
        return self._identity if self.configured else b""

    def _ask(self, now: int) -> None:
        while self._uart.any():
            if not self._uart.readinto(self._chunk):
                break
        self._reply.clear()
        self._uart.write(_REQUESTS[self._step])
        self._asked = True
        self._since = now

    def _listen(self, now: int) -> bool:
        """Whether the reply to the request under way has come (and has been dealt with)."""
        reply = self._reply
        while self._uart.any():
            count = self._uart.readinto(self._chunk)
            if not count:
                return False
            for index in range(count):
                if reply.feed(self._chunk[index]):
                    if reply.broken():
                        self._asked = False
                        self._pause = 0
                        raise BusError(BAD_CHECKSUM)
                    if reply.body[1] == _COMMANDS[self._step]:
                        self._answered(now)
                        return True
        return False

    def _answered(self, now: int) -> None:
        body = self._reply.body
        length = body[3]
        self._asked = False
        self._pause = 0
        error = body[2] & 0x7F
        self.degraded = OTHER if body[2] & 0x80 else 0
        if error and not (self._step <= _STOPPING and error in (_NOT_ALLOWED, _UNKNOWN)):
            raise BusError(OTHER)
        if self._step == _READING:
            self._take(now, length)
            return
        if self._step == _VERSIONING and length >= 2:
            self._identity = bytes(body[4:6])
        elif self._step == _SERIAL:
            self._identity += bytes(body[4 : 4 + min(length, TRIM_SIZE - 2)]).rstrip(b"\x00")
        elif self._step == _BEGINNING:
            self.configured = True
            self._sampled = now
        self._step += 1

    def _take(self, now: int, length: int) -> None:
        self._pause = _ASK_AGAIN_MS
        self._since = now
        if length == RAW_SIZE:
            for index in range(_DATA_SIZE):
                self._data[index] = self._reply.body[4 + index]
            self._ready = True
            self._pause = _ASK_MS
            self._sampled = now
            self._silent = _SILENT_MS
        elif length:
            raise BusError(OTHER)
        elif elapsed(now, self._sampled) > self._silent:
            self._sampled = now
            raise BusError(TIME_OUT)


# Quantity, the sensor's highest value in its own unit, SI per own unit: µg/m³, 1/cm³ and µm (data sheet, table 1 and section 4.3).
_VALUES = (
    ("pm1", 1000.0, 1e-9),
    ("pm2_5", 1000.0, 1e-9),
    ("pm4", 1000.0, 1e-9),
    ("pm10", 1000.0, 1e-9),
    ("particles_0_5", 3000.0, 1e6),
    ("particles_1", 3000.0, 1e6),
    ("particles_2_5", 3000.0, 1e6),
    ("particles_4", 3000.0, 1e6),
    ("particles_10", 3000.0, 1e6),
    ("particle_size", 10.0, 1e-6),
)


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if the length is wrong; `trim` is only the identity."""
    if len(raw) != RAW_SIZE:
        raise ValueError("sps30: wrong length of raw")
    values: dict[str, float | str] = {}
    for index, (quantity, highest, factor) in enumerate(_VALUES):
        number = struct.unpack_from(">f", raw, 4 * index)[0]
        if number > highest:
            values[quantity] = "implausible" if number > 1e9 else "saturated"
        elif number >= 0.0:
            values[quantity] = number * factor
        else:  # negative, or not a number
            values[quantity] = "implausible"
    return values
