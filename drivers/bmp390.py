"""Bosch BMP390: pressure and its own temperature, one forced measurement a second.

Registers, compensation and conversion time: Bosch BMP3_SensorAPI (bmp3.c, bmp3_defs.h), Zephyr bmp388.c. Pressure is oversampled 8x
(about 0.016 Pa a step after compensation), temperature once, no IIR filter: a filter would smear a door slam over seconds."""

import struct

from drivers.errors import POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed, later, reached

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "bmp390"
RAW_SIZE = 6  # registers 04-09: pressure LE24, temperature LE24
TRIM_SIZE = 21
PERIOD_MS = 1000

_CHIP_ID = const(0x00)
_STATUS = const(0x03)
_DATA = const(0x04)
_IF_CONF = const(0x1A)
_PWR_CTRL = const(0x1B)
_OSR = const(0x1C)
_CONFIG = const(0x1F)
_NVM = const(0x31)
_CMD = const(0x7E)

_IDENTITY = const(0x60)
_SOFT_RESET = const(0xB6)
_DATA_READY = const(0x60)  # STATUS: pressure and temperature
_I2C_WATCHDOG_40_MS = const(0x06)  # frees the chip from a transaction the head broke off
_PRESSURE_X8 = const(0x03)
_FORCED = const(0x13)
_RESET_MS = const(10)  # 2 ms by the data sheet
_CONVERSION_MS = const(20)  # 234 + (392 + 8 * 2000) + (313 + 2000) = 18 939 µs
_DEADLINE_MS = const(200)

_RESETTING, _WAITING_RESET, _IDLE, _CONVERTING, _READY = range(5)


class BMP390:
    """The chip on an I2C bus with machine.I2C's methods."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    gap_reason = 0  # no FIFO to overflow

    def __init__(self, i2c: "I2C", address: int = 0x77) -> None:
        self._i2c = i2c
        self._address = address
        self._one = bytearray(1)
        self._settings = bytearray(3)
        self._data = bytearray(RAW_SIZE)
        self._nvm = bytearray(TRIM_SIZE)
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
            if self._read(_CHIP_ID) != _IDENTITY:
                raise BusError(WRONG_IDENTITY)
            self._write(_CMD, _SOFT_RESET)
            self._state = _WAITING_RESET
            self._since = now
        elif elapsed(now, self._since) >= _RESET_MS:
            self._configure(now)
        return 1 if self._state == _READY else 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing."""
        self._i2c.readfrom_mem_into(self._address, _DATA, self._data)
        buf[offset : offset + RAW_SIZE] = self._data
        self._state = _IDLE
        return RAW_SIZE

    def trim(self) -> bytes:
        """NVM 31-45 as read from the chip; empty before it is configured."""
        return bytes(self._nvm) if self.configured else b""

    def _configure(self, now: int) -> None:
        if self._read(_CHIP_ID) != _IDENTITY:
            raise BusError(WRONG_IDENTITY)
        self._i2c.readfrom_mem_into(self._address, _NVM, self._nvm)
        self._write(_IF_CONF, _I2C_WATCHDOG_40_MS)
        self._write(_OSR, _PRESSURE_X8)
        self._write(_CONFIG, 0)
        self.configured = True
        self._next = now
        self._state = _IDLE

    def _trigger(self, now: int) -> None:
        # IF_CONF and OSR are 0 and 2 after a brown-out: without this look it would go on, noisier, for ever.
        self._i2c.readfrom_mem_into(self._address, _IF_CONF, self._settings)
        if self._settings[0] != _I2C_WATCHDOG_40_MS or self._settings[2] != _PRESSURE_X8:
            raise BusError(POWER_ON_VALUES)
        self._write(_PWR_CTRL, _FORCED)
        self._next = later(self._next, PERIOD_MS)
        if reached(now, self._next):  # more than a period late: keep the pace from here, do not catch up
            self._next = later(now, PERIOD_MS)
        self._state = _CONVERTING
        self._since = now

    def _look(self, now: int) -> None:
        if self._read(_STATUS) & _DATA_READY == _DATA_READY:
            self._state = _READY
        elif elapsed(now, self._since) > _DEADLINE_MS:
            self._state = _IDLE
            self._next = now  # measure again at once, in the same second
            raise BusError(TIME_OUT)

    def _read(self, register: int) -> int:
        self._i2c.readfrom_mem_into(self._address, register, self._one)
        return self._one[0]

    def _write(self, register: int, value: int) -> None:
        self._one[0] = value
        self._i2c.writeto_mem(self._address, register, self._one)


def compensate(trim: bytes, pressure: int, temperature: int) -> tuple[float, float]:
    """(°C, Pa) of the two 24-bit registers: Bosch's double form (bmp3.c, compensate_*), unclamped."""
    t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11 = struct.unpack("<HHbhhbbHHbbhbb", trim)
    d = temperature - t1 * 256.0
    t = d * t2 / 2**30 + d * d * t3 / 2**48
    offset = p5 * 8.0 + p6 / 2**6 * t + p7 / 2**8 * t**2 + p8 / 2**15 * t**3
    gain = (p1 - 2**14) / 2**20 + (p2 - 2**14) / 2**29 * t + p3 / 2**32 * t**2 + p4 / 2**37 * t**3
    square = p9 / 2**48 + p10 / 2**48 * t
    return t, offset + pressure * (gain + pressure * (square + pressure * (p11 / 2**65)))


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if a length is wrong."""
    if len(trim) != TRIM_SIZE or len(raw) != RAW_SIZE:
        raise ValueError("bmp390: wrong length of trim or raw")
    pressure = raw[0] | raw[1] << 8 | raw[2] << 16
    temperature = raw[3] | raw[4] << 8 | raw[5] << 16
    celsius, pascal = compensate(trim, pressure, temperature)
    # The data sheet's operating range; Bosch's code clamps there, we say that it is no measurement.
    warm = -40.0 <= celsius <= 85.0
    return {
        "pressure": pascal if warm and 30_000.0 <= pascal <= 125_000.0 else "implausible",
        "temperature_barometer": celsius + 273.15 if warm else "implausible",
    }
