"""ams-OSRAM AS7331: UV-A, UV-B and UV-C irradiance, one commanded measurement a second at gain 2x, 64 ms.

Registers, factors, sequence: Linux drivers/iio/light/as73211.c, SparkFun sfDevAS7331, data sheet DS001047 v4-00. The same address means
another register in configuration and in measurement state: OSR is the one register both states share, so every start goes through it.
The internal clock stays at 1.024 MHz (CCLK 0). Nothing is sent to the chip while it converts: traffic disturbs it."""

from drivers.errors import POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed, later, reached

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "as7331"
RAW_SIZE = 10  # OSR/STATUS, TEMP, UVA, UVB, UVC: little endian words
TRIM_SIZE = 3
PERIOD_MS = 1000

_OSR = const(0x00)
_AGEN = const(0x02)  # configuration state
_CREG1 = const(0x06)
_TEMP = const(0x01)  # measurement state
_IDENTITY = const(0x21)
_RESET_TO_CONFIGURATION = const(0x0A)
_START_MEASUREMENT = const(0x83)
_STATE = const(0x07)  # OSR, DOS: 2 configuration, 3 measurement
_MEASUREMENT = const(3)
_SETTINGS = b"\xa6\x40\x40"  # gain 2x and 64 ms; temperature on, no divider; one measurement per command
# STATUS, the high byte of the first word
_RESULT_OVERFLOW = const(0x40)
_CONVERTER_OVERFLOW = const(0x20)
_NOT_READY = const(0x04)

_RESET_MS = const(3)
_CONVERSION_MS = const(88)  # 64 ms, a third more as Linux waits, 2 ms to leave power-down
_DEADLINE_MS = const(300)

_RESETTING, _WAITING_RESET, _IDLE, _CONVERTING, _READY = range(5)


class AS7331:
    """The chip on an I2C bus with machine.I2C's methods."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    gap_reason = 0  # no FIFO to overflow

    def __init__(self, i2c: "I2C", address: int = 0x74) -> None:
        self._i2c = i2c
        self._address = address
        self._one = bytearray(1)
        self._status = bytearray(2)
        self._words = bytearray(RAW_SIZE - 2)
        self._settings = bytearray(TRIM_SIZE)
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
        if self._state == _READY:
            return 1
        if self._state == _IDLE:
            if reached(now, self._next):
                self._trigger(now)
        elif self._state == _CONVERTING:
            if elapsed(now, self._since) >= _CONVERSION_MS:
                self._look(now)
        elif self._state == _RESETTING:
            self._write(_OSR, _RESET_TO_CONFIGURATION)
            self._state = _WAITING_RESET
            self._since = now
        elif elapsed(now, self._since) >= _RESET_MS:
            self._configure(now)
        return 1 if self._state == _READY else 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing."""
        self._i2c.readfrom_mem_into(self._address, _TEMP, self._words)
        buf[offset : offset + 2] = self._status
        buf[offset + 2 : offset + RAW_SIZE] = self._words
        self._state = _IDLE
        return RAW_SIZE

    def trim(self) -> bytes:
        """CREG1, CREG2, CREG3 as read back; empty before the chip is configured."""
        return bytes(self._settings) if self.configured else b""

    def _configure(self, now: int) -> None:
        self._i2c.readfrom_mem_into(self._address, _AGEN, self._one)
        if self._one[0] != _IDENTITY:
            raise BusError(WRONG_IDENTITY)
        for index, value in enumerate(_SETTINGS):
            self._write(_CREG1 + index, value)
        self._i2c.readfrom_mem_into(self._address, _CREG1, self._settings)
        if self._settings != _SETTINGS:
            raise BusError(POWER_ON_VALUES)
        self.configured = True
        self._state = _IDLE
        self._next = now

    def _trigger(self, now: int) -> None:
        self._write(_OSR, _START_MEASUREMENT)
        self._next = later(self._next, PERIOD_MS)
        if reached(now, self._next):  # more than a period late: keep the pace from here
            self._next = later(now, PERIOD_MS)
        self._state = _CONVERTING
        self._since = now

    def _look(self, now: int) -> None:
        self._i2c.readfrom_mem_into(self._address, _OSR, self._status)
        if self._status[0] & _STATE != _MEASUREMENT:  # after a brown-out it is in configuration state, with other meanings
            raise BusError(POWER_ON_VALUES)
        if not self._status[1] & _NOT_READY:
            self._state = _READY
        elif elapsed(now, self._since) > _DEADLINE_MS:
            self._state = _IDLE
            self._next = now  # measure again at once, in the same second
            raise BusError(TIME_OUT)

    def _write(self, register: int, value: int) -> None:
        self._one[0] = value
        self._i2c.writeto_mem(self._address, register, self._one)


# Full scale in µW/cm² at gain 1 and 1 ms per 1024 counts (data sheet, equation 3; the same numbers as in Linux). The constants of
# older data sheets are 9 % off.
_FULL_SCALE = (("uva", 348_160.0), ("uvb", 387_072.0), ("uvc", 169_984.0))


def irradiance_per_count(full_scale: float, creg1: int) -> float:
    """W/m² per count at the gain and time of CREG1. 1 µW/cm² = 0.01 W/m²."""
    gain = 1 << (11 - (creg1 >> 4))
    milliseconds = 1 << (creg1 & 0x0F)
    return 0.01 * full_scale / (gain * milliseconds * 1024.0)


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if a length is wrong or CREG1 holds no gain."""
    if len(trim) != TRIM_SIZE or len(raw) != RAW_SIZE or trim[0] >> 4 > 11:
        raise ValueError("as7331: wrong trim or length of raw")
    status = raw[1]
    if status & _NOT_READY:
        return {"uva": "not ready", "uvb": "not ready", "uvc": "not ready", "temperature_uv": "not ready"}
    overflow = status & (_RESULT_OVERFLOW | _CONVERTER_OVERFLOW)
    values: dict[str, float | str] = {"temperature_uv": 0.05 * ((raw[2] | raw[3] << 8) & 0xFFF) - 66.9 + 273.15}
    for index, (quantity, full_scale) in enumerate(_FULL_SCALE):
        counts = raw[4 + 2 * index] | raw[5 + 2 * index] << 8
        if overflow or counts == 0xFFFF:
            values[quantity] = "saturated"
        else:
            values[quantity] = counts * irradiance_per_count(full_scale, trim[0])
    return values
