"""TI OPT3001: illuminance as the eye sees it (lx), automatic range 0.01 to 83 865.6 lx, one commanded conversion of 800 ms a second. I2C
0x45 (ADDR to VDD), 0x44 (GND), 0x46 (SDA) or 0x47 (SCL), up to 400 kHz here.

Registers: Linux drivers/iio/light/opt3001.c (which measures in single shots too), Zephyr opt3001.c, eldruin/opt300x-rs. Reading the
configuration clears its ready flag. `poll` raises OSError of the bus and BusError: wrong identity, registers at power-on values, bad
checksum, time-out. `decode` says "saturated" above the highest range, "implausible" for a result or a range that cannot be.

I2C carries no checksum, so a flipped bit in a reply cannot be seen in that reply. Single shots make it visible: a conversion has ended
only when two fields say so (ready flag set, mode back at shutdown), and then the result stays until the next command: it is read twice,
with the configuration before and after. Replies that differ are a bad checksum and read again at the next poll. The setting differs from
the power-on value in the fault count (an interrupt's matter, and no interrupt is used): a brown-out shows in each look."""

from drivers.errors import BAD_CHECKSUM, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed, following, reached

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "opt3001"
RAW_SIZE = 4  # result hi lo, configuration hi lo (overflow flag)
TRIM_SIZE = 2
PERIOD_MS = 1000
QUANTITIES = ("illuminance",)
ADDRESSES = (0x45, 0x44, 0x46, 0x47)

_RESULT = const(0x00)
_CONFIGURATION = const(0x01)
_MANUFACTURER = const(0x7E)
_DEVICE = const(0x7F)
_TI = const(0x5449)
_OPT3001 = const(0x3001)
# Range 1100 = automatic, conversion 800 ms, latch as after power-on, fault count 1 (two faults).
_SETTING = const(0xC811)
_SETTING_MASK = const(0xF81F)
_MODE = const(0x0600)
_SINGLE_SHOT = const(0x0200)  # goes back to 0, shutdown, when the conversion has ended
_OVERFLOW = const(0x0100)
_CONVERSION_READY = const(0x0080)
_FIRST_LOOK_MS = const(700)  # 800 ms less the 10 % of its oscillator
_LOOK_MS = const(50)
_DEADLINE_MS = const(2000)  # 883 ms by the data sheet; automatic range may search twice

_IDENTIFYING, _IDLE, _CONVERTING, _FETCHING, _READY = range(5)


class OPT3001:
    """The chip on an I2C bus with machine.I2C's methods."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    gap_reason = 0  # no FIFO to overflow

    def __init__(self, i2c: "I2C", address: int = ADDRESSES[0]) -> None:
        self._i2c = i2c
        self._address = address
        self._two = bytearray(2)
        self._raw = bytearray(RAW_SIZE)
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self._state = _IDENTIFYING
        self._since = now
        self._looked = now
        self._next = now
        self._overflow = 0

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError, or OSError of the bus."""
        state = self._state
        if state == _IDLE:
            if reached(now, self._next):
                self._trigger(now)
        elif state == _CONVERTING:
            if elapsed(now, self._since) >= _FIRST_LOOK_MS and elapsed(now, self._looked) >= _LOOK_MS:
                self._look(now)
        elif state == _FETCHING:
            self._fetch()
        elif state == _IDENTIFYING:
            if self._read(_MANUFACTURER) != _TI or self._read(_DEVICE) != _OPT3001:
                raise BusError(WRONG_IDENTITY)
            self.configured = True
            self._state = _IDLE
            self._next = now
        return 1 if self._state == _READY else 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing, sends nothing: `poll` has read it."""
        buf[offset : offset + RAW_SIZE] = self._raw
        self._state = _IDLE
        return RAW_SIZE

    def trim(self) -> bytes:
        """The device id; empty before the chip is configured."""
        return b"\x30\x01" if self.configured else b""

    def _trigger(self, now: int) -> None:
        self._two[0] = (_SETTING | _SINGLE_SHOT) >> 8
        self._two[1] = _SETTING & 0xFF
        self._i2c.writeto_mem(self._address, _CONFIGURATION, self._two)
        self._next = following(self._next, PERIOD_MS, now)
        self._state = _CONVERTING
        self._since = now
        self._looked = now

    def _look(self, now: int) -> None:
        self._looked = now
        configuration = self._configuration()
        idle = configuration & _MODE == 0
        if idle and configuration & _CONVERSION_READY:
            self._overflow = configuration & _OVERFLOW
            self._state = _FETCHING
            self._fetch()
        elif idle or elapsed(now, self._since) > _DEADLINE_MS:  # idle: the command, or the reply with the ready flag, was lost
            self._state = _IDLE
            self._next = now  # measure again at once
            raise BusError(TIME_OUT)

    def _fetch(self) -> None:
        first = self._read(_RESULT)
        second = self._read(_RESULT)
        configuration = self._configuration()
        overflow = configuration & _OVERFLOW
        same = first == second and overflow == self._overflow and configuration & _MODE == 0
        self._overflow = overflow
        if not same:
            raise BusError(BAD_CHECKSUM)
        self._raw[0] = first >> 8
        self._raw[1] = first & 0xFF
        self._raw[2] = configuration >> 8
        self._raw[3] = configuration & 0xFF
        self._state = _READY

    def _configuration(self) -> int:
        configuration = self._read(_CONFIGURATION)
        if configuration & _SETTING_MASK != _SETTING or configuration & _MODE > _SINGLE_SHOT:
            raise BusError(POWER_ON_VALUES)
        return configuration

    def _read(self, register: int) -> int:
        self._i2c.readfrom_mem_into(self._address, register, self._two)
        return self._two[0] << 8 | self._two[1]


def illuminance(result: int) -> float:
    """Lux of the result register: 0.01 * 2**exponent * mantissa (data sheet, equation 3)."""
    return 0.01 * (1 << (result >> 12)) * (result & 0xFFF)


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if the length is wrong; `trim` is only the device id."""
    if len(raw) != RAW_SIZE:
        raise ValueError("opt3001: wrong length of raw")
    if raw[2] >> 4 != 12 or raw[0] >> 4 > 11:  # not in automatic range (a bus stuck low reads 0000); there are twelve ranges
        return {"illuminance": "implausible"}
    if raw[2] & 0x01:  # OVF: brighter than the highest range
        return {"illuminance": "saturated"}
    return {"illuminance": illuminance(raw[0] << 8 | raw[1])}
