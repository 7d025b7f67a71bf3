"""TI OPT3001: illuminance as the eye sees it, automatic range, one conversion in 800 ms, every conversion read once.

Registers: Linux drivers/iio/light/opt3001.c, Zephyr opt3001.c, eldruin/opt300x-rs. Reading the configuration clears its ready flag, so the
flag says "a conversion nobody has read yet"."""

from drivers.errors import POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "opt3001"
RAW_SIZE = 4  # result hi lo, configuration hi lo (overflow flag)
TRIM_SIZE = 2
PERIOD_MS = 800

_RESULT = const(0x00)
_CONFIGURATION = const(0x01)
_MANUFACTURER = const(0x7E)
_DEVICE = const(0x7F)
_TI = const(0x5449)
_OPT3001 = const(0x3001)
# Range 1100 = automatic, conversion 800 ms, continuous, latch as after power-on. The flags OVF, CRF, FH and FL read back beside it.
_SETTING = const(0xCE10)
_SETTING_MASK = const(0xFE1F)
_CONVERSION_READY = const(0x80)  # low byte
_LOOK_MS = const(50)
_DEADLINE_MS = const(2000)  # 883 ms by the data sheet; the first conversion may search its range twice

_IDENTIFYING, _WAITING, _READY = range(3)


class OPT3001:
    """The chip on an I2C bus with machine.I2C's methods."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    gap_reason = 0  # no FIFO to overflow

    def __init__(self, i2c: "I2C", address: int = 0x45) -> None:
        self._i2c = i2c
        self._address = address
        self._two = bytearray(2)
        self._result = bytearray(2)
        self._flags = bytearray(2)
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self._state = _IDENTIFYING
        self._since = now
        self._looked = now

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError, or OSError of the bus."""
        if self._state == _READY:
            return 1
        if self._state == _IDENTIFYING:
            self._configure(now)
        elif elapsed(now, self._looked) >= _LOOK_MS:
            self._looked = now
            return self._look(now)
        return 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing."""
        self._i2c.readfrom_mem_into(self._address, _RESULT, self._result)
        buf[offset : offset + 2] = self._result
        buf[offset + 2 : offset + 4] = self._flags
        self._state = _WAITING
        return RAW_SIZE

    def trim(self) -> bytes:
        """The device id; empty before the chip is configured."""
        return b"\x30\x01" if self.configured else b""

    def _configure(self, now: int) -> None:
        if self._read(_MANUFACTURER) != _TI or self._read(_DEVICE) != _OPT3001:
            raise BusError(WRONG_IDENTITY)
        self._two[0] = _SETTING >> 8
        self._two[1] = _SETTING & 0xFF
        self._i2c.writeto_mem(self._address, _CONFIGURATION, self._two)
        self.configured = True
        self._state = _WAITING
        self._since = now
        self._looked = now

    def _look(self, now: int) -> int:
        setting = self._read(_CONFIGURATION)
        if setting & _SETTING_MASK != _SETTING:
            raise BusError(POWER_ON_VALUES)
        if setting & _CONVERSION_READY:
            self._flags[:] = self._two
            self._state = _READY
            self._since = now
            return 1
        if elapsed(now, self._since) > _DEADLINE_MS:
            self._since = now
            raise BusError(TIME_OUT)
        return 0

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
    if raw[2] & 0x01:  # OVF: brighter than the highest range
        return {"illuminance": "saturated"}
    if raw[0] >> 4 > 11:  # there are twelve ranges
        return {"illuminance": "implausible"}
    return {"illuminance": illuminance(raw[0] << 8 | raw[1])}
