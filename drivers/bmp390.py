"""Bosch BMP390: pressure (Pa) and its own temperature (K). I2C 0x77 (SDO high) or 0x76, up to 400 kHz here. One forced measurement a
second, or (normal=True) the chip's own pace of 640 ms.

Registers, compensation and conversion time: Bosch BMP3_SensorAPI (bmp3.c, bmp3_defs.h), Zephyr bmp388.c. Pressure is oversampled 8x (about
0.016 Pa a step after compensation), temperature once, no IIR filter: a filter would smear a door slam over seconds. `poll` raises OSError
of the bus and BusError: wrong identity, registers at power-on values, bad checksum, time-out, device fault. `decode` gives no number
("implausible") outside -40 to 85 °C and 30 to 125 kPa, and "not ready" for registers that no measurement has written.

I2C carries no checksum: a flipped bit in a reply cannot be seen in that reply. So everything that decides about a value is read twice,
while the chip measures nothing: the trim once at the start, status and data of each sample. Two replies that differ are a bad checksum,
and the data (which stay until the next conversion) are read again at the next poll. Settings are read back after each conversion, before
its data are believed: a command that reached a wrong register, or a brown-out, shows there. Two equal flips in a row would not be seen."""

import struct

from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed, following, later, reached

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "bmp390"
RAW_SIZE = 6  # registers 04-09: pressure LE24, temperature LE24
TRIM_SIZE = 21
PERIOD_MS = 1000
QUANTITIES = ("pressure", "temperature_barometer")
ADDRESSES = (0x77, 0x76)

_CHIP_ID = const(0x00)
_ERR = const(0x02)  # STATUS follows
_DATA = const(0x04)
_EVENT = const(0x10)
_IF_CONF = const(0x1A)
_PWR_CTRL = const(0x1B)
_OSR = const(0x1C)
_ODR = const(0x1D)
_CONFIG = const(0x1F)
_NVM = const(0x31)
_CMD = const(0x7E)

_IDENTITY = const(0x60)
_SOFT_RESET = const(0xB6)
_ERRORS = const(0x07)  # ERR: fatal, command, configuration
_DATA_READY = const(0x60)  # STATUS: pressure and temperature
_POWER_ON = const(0x01)  # EVENT, cleared when read
_I2C_WATCHDOG_40_MS = const(0x06)  # frees the chip from a transaction the head broke off
_PRESSURE_X8 = const(0x03)
_ODR_640_MS = const(0x07)  # 200 Hz / 2**7; the next slower one, 1.28 s, would miss seconds
_SLEEP = const(0x03)  # PWR_CTRL with both sensors on: what it returns to after a forced conversion
_FORCED = const(0x13)
_NORMAL = const(0x33)
_RESET_MS = const(10)  # 2 ms by the data sheet
_CONVERSION_MS = const(20)  # 234 + (392 + 8 * 2000) + (313 + 2000) = 18 939 µs
_DEADLINE_MS = const(200)
_NORMAL_LOOK_MS = const(20)
_NORMAL_PERIOD_MS = const(640)
_NORMAL_QUIET_MS = const(500)  # after a conversion has been seen there is none for so long, whatever the oscillator
_NORMAL_DEADLINE_MS = const(1500)

_RESETTING, _WAITING_RESET, _IDLE, _CONVERTING, _FETCHING, _READY = range(6)


class BMP390:
    """The chip on an I2C bus with machine.I2C's methods. `normal`: it measures by itself, and `PERIOD_MS` of the object is 640."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    gap_reason = 0  # no FIFO to overflow

    def __init__(self, i2c: "I2C", address: int = ADDRESSES[0], normal: bool = False) -> None:
        self._i2c = i2c
        self._address = address
        self._normal = normal
        self._mode = _NORMAL if normal else _SLEEP  # of PWR_CTRL whenever data are read
        self._odr = _ODR_640_MS if normal else 0
        self._wait = _NORMAL_LOOK_MS if normal else _CONVERSION_MS
        self._patience = _NORMAL_DEADLINE_MS if normal else _DEADLINE_MS
        self.OWN_PACE = normal
        if normal:
            self.PERIOD_MS = _NORMAL_PERIOD_MS
        self._one = bytearray(1)
        self._flags = bytearray(2)  # ERR, STATUS
        self._settings = bytearray(6)  # IF_CONF, PWR_CTRL, OSR, ODR, one that is reserved, CONFIG
        self._data = bytearray(RAW_SIZE)
        self._again = bytearray(RAW_SIZE)
        self._nvm = bytearray(TRIM_SIZE)
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again from the reset; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self._state = _RESETTING
        self._since = now
        self._looked = now
        self._next = now

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError, or OSError of the bus."""
        state = self._state
        if state == _IDLE:
            if reached(now, self._next):
                self._trigger(now)
        elif state == _CONVERTING:
            if elapsed(now, self._looked) >= self._wait and (not self._normal or reached(now, self._next)):
                self._look(now)
        elif state == _FETCHING:
            self._fetch(now)
        elif state == _RESETTING:
            self._identify()
            self._write(_CMD, _SOFT_RESET)
            self._state = _WAITING_RESET
            self._since = now
        elif state == _WAITING_RESET and elapsed(now, self._since) >= _RESET_MS:
            self._configure(now)
        return 1 if self._state == _READY else 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing, sends nothing: `poll` has read it."""
        buf[offset : offset + RAW_SIZE] = self._data
        self._state = _CONVERTING if self._normal else _IDLE
        return RAW_SIZE

    def trim(self) -> bytes:
        """NVM 31-45 as read from the chip, twice the same; empty before it is configured."""
        return bytes(self._nvm) if self.configured else b""

    def _identify(self) -> None:
        self._read(_CHIP_ID, self._one)
        if self._one[0] != _IDENTITY:
            raise BusError(WRONG_IDENTITY)

    def _configure(self, now: int) -> None:
        self._identify()
        second = bytearray(TRIM_SIZE)
        self._read(_NVM, self._nvm)
        self._read(_NVM, second)
        # A wrong trim would give wrong values for as long as the head runs.
        if self._nvm != second or not _is_trim(self._nvm):
            raise BusError(BAD_CHECKSUM)
        self._write(_IF_CONF, _I2C_WATCHDOG_40_MS)
        self._write(_OSR, _PRESSURE_X8)
        self._write(_ODR, self._odr)
        self._write(_CONFIG, 0)
        self._write(_PWR_CTRL, self._mode)
        self._read(_EVENT, self._one)  # reading clears what the reset left there
        self._read(_ERR, self._flags)
        self._verify()
        self.configured = True
        self._since = now
        self._looked = now
        self._next = now
        self._state = _CONVERTING if self._normal else _IDLE

    def _trigger(self, now: int) -> None:
        self._write(_PWR_CTRL, _FORCED)
        self._next = following(self._next, PERIOD_MS, now)
        self._state = _CONVERTING
        self._since = now
        self._looked = now

    def _look(self, now: int) -> None:
        self._looked = now
        # Twice: one flipped bit must not make the last sample a new one. Reading the data clears both flags.
        if self._is_ready() and self._is_ready():
            self._state = _FETCHING
            self._fetch(now)
        elif elapsed(now, self._since) > self._patience:
            self._since = now
            if self._normal:
                self._verify()  # it sleeps after a brown-out
            else:
                self._state = _IDLE
                self._next = now  # measure again at once, in the same second
            raise BusError(TIME_OUT)

    def _is_ready(self) -> bool:
        self._read(_ERR, self._flags)
        if self._flags[0] & _ERRORS:
            self.configured = False  # it measures nothing, or something else than it was told: from the reset again
            raise BusError(DEVICE_FAULT)
        return self._flags[1] & _DATA_READY == _DATA_READY

    def _fetch(self, now: int) -> None:
        self._read(_DATA, self._data)
        self._read(_DATA, self._again)
        if self._data != self._again:
            raise BusError(BAD_CHECKSUM)
        self._read(_EVENT, self._one)
        if self._one[0] & _POWER_ON:
            raise BusError(POWER_ON_VALUES)
        self._verify()
        if self._normal:
            self._since = now
            self._next = later(now, _NORMAL_QUIET_MS)
        self._state = _READY

    def _verify(self) -> None:
        """The settings are ours; after a brown-out IF_CONF and OSR are 0 and 2."""
        settings = self._settings
        self._read(_IF_CONF, settings)
        if (
            settings[0] != _I2C_WATCHDOG_40_MS
            or settings[1] != self._mode
            or settings[2] != _PRESSURE_X8
            or settings[3] != self._odr
            or settings[5]
        ):
            raise BusError(POWER_ON_VALUES)

    def _read(self, register: int, buf: bytearray) -> None:
        self._i2c.readfrom_mem_into(self._address, register, buf)

    def _write(self, register: int, value: int) -> None:
        self._one[0] = value
        self._i2c.writeto_mem(self._address, register, self._one)


# The data registers after power-on (80 on top, as in Bosch's memory maps). With a real trim that is some 73 kPa at 23 °C: it would pass
# for a reading. That both words of a real one are just these happens once in 2**48.
_NOTHING_MEASURED = b"\x00\x00\x80\x00\x00\x80"


def _is_trim(trim: bytes | bytearray) -> bool:
    """Whether `trim` can be one: all bytes the same are a bus that was stuck, and might give a plausible temperature."""
    return bytes(trim) != bytes(trim[:1]) * TRIM_SIZE


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
    if raw == _NOTHING_MEASURED:
        return {"pressure": "not ready", "temperature_barometer": "not ready"}
    if not _is_trim(trim):
        return {"pressure": "implausible", "temperature_barometer": "implausible"}
    pressure = raw[0] | raw[1] << 8 | raw[2] << 16
    temperature = raw[3] | raw[4] << 8 | raw[5] << 16
    celsius, pascal = compensate(trim, pressure, temperature)
    # The data sheet's operating range; Bosch's code clamps there, we say that it is no measurement.
    warm = -40.0 <= celsius <= 85.0
    return {
        "pressure": pascal if warm and 30_000.0 <= pascal <= 125_000.0 else "implausible",
        "temperature_barometer": celsius + 273.15 if warm else "implausible",
    }
