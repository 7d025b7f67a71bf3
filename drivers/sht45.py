"""Sensirion SHT45 (any SHT4x): temperature and relative humidity, one high-precision measurement a second, heater never used.

Commands and times: Linux drivers/hwmon/sht4x.c, Sensirion embedded-sht sht4x.c. The chip does not stretch the clock: while it measures it
answers a read with NACK. A command is written, stopped, waited for and then read: never one combined transaction."""

from drivers.crc8 import crc8
from drivers.errors import BAD_CHECKSUM, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed, later, reached

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "sht45"
RAW_SIZE = 6  # T hi lo crc, RH hi lo crc
TRIM_SIZE = 4
PERIOD_MS = 1000

_MEASURE_HIGH = b"\xfd"
_SERIAL = b"\x89"
_SOFT_RESET = b"\x94"
_RESET_MS = const(2)  # 1 ms by the data sheet
_REPLY_MS = const(10)  # 8.2 ms by the data sheet; the serial needs 10
_DEADLINE_MS = const(50)

_RESETTING, _WAITING_RESET, _ASKING_SERIAL, _IDLE, _MEASURING, _READY = range(6)


class SHT45:
    """The chip on an I2C bus with machine.I2C's methods."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    gap_reason = 0  # no FIFO to overflow

    def __init__(self, i2c: "I2C", address: int = 0x44) -> None:
        self._i2c = i2c
        self._address = address
        self._reply = bytearray(RAW_SIZE)
        self._serial = bytearray(TRIM_SIZE)
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again from the reset; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self._state = _RESETTING
        self._since = now
        self._next = now

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError, or OSError of the bus."""
        state = self._state
        if state == _READY:
            return 1
        if state == _IDLE:
            if reached(now, self._next):
                self._command(now, _MEASURE_HIGH, _MEASURING)
                self._next = later(self._next, PERIOD_MS)
                if reached(now, self._next):  # more than a period late: keep the pace from here
                    self._next = later(now, PERIOD_MS)
        elif state == _MEASURING:
            if self._answered(now):
                self._state = _READY
                return 1
        elif state == _RESETTING:
            self._command(now, _SOFT_RESET, _WAITING_RESET)
        elif state == _WAITING_RESET:
            if elapsed(now, self._since) >= _RESET_MS:
                self._command(now, _SERIAL, _ASKING_SERIAL)
        elif self._answered(now):
            self._serial[0:2] = self._reply[0:2]
            self._serial[2:4] = self._reply[3:5]
            self.configured = True
            self._state = _IDLE
            self._next = now
        return 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing."""
        buf[offset : offset + RAW_SIZE] = self._reply
        self._state = _IDLE
        return RAW_SIZE

    def trim(self) -> bytes:
        """The serial number, 4 bytes; empty before the chip is configured."""
        return bytes(self._serial) if self.configured else b""

    def _command(self, now: int, command: bytes, state: int) -> None:
        self._i2c.writeto(self._address, command)
        self._state = state
        self._since = now

    def _answered(self, now: int) -> bool:
        """Whether the reply is there and whole. A broken or missing one is asked for again at the next poll."""
        waited = elapsed(now, self._since)
        if waited < _REPLY_MS:
            return False
        try:
            self._i2c.readfrom_into(self._address, self._reply)
        except OSError:
            if waited <= _DEADLINE_MS:
                return False  # NACK: still measuring
            self._again(now)
            raise
        if crc8(self._reply, 0) != self._reply[2] or crc8(self._reply, 3) != self._reply[5]:
            self._again(now)
            raise BusError(BAD_CHECKSUM)
        return True

    def _again(self, now: int) -> None:
        self._state = _IDLE if self.configured else _RESETTING
        self._next = now


def convert(temperature: int, humidity: int) -> tuple[float, float]:
    """(°C, %RH) of the two 16-bit words, unclamped (data sheet, section 4.6)."""
    return -45.0 + 175.0 * temperature / 65535.0, -6.0 + 125.0 * humidity / 65535.0


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if the length is wrong; `trim` is only the serial number."""
    if len(raw) != RAW_SIZE:
        raise ValueError("sht45: wrong length of raw")
    if crc8(raw, 0) != raw[2] or crc8(raw, 3) != raw[5]:
        return {"temperature": "bad checksum", "humidity": "bad checksum"}
    celsius, percent = convert(raw[0] << 8 | raw[1], raw[3] << 8 | raw[4])
    if not -40.0 <= celsius <= 125.0:
        return {"temperature": "implausible", "humidity": "implausible"}
    # By the data sheet the formula leaves 0..100 % in fog and at very dry air; the value is cropped there.
    return {"temperature": celsius + 273.15, "humidity": min(100.0, max(0.0, percent))}
