"""Vishay VEML7700: illuminance (lx) up to 140 klx, one commanded measurement a second; gain and integration time follow the light. The
spare of the OPT3001. I2C 0x10, up to 400 kHz here.

`poll` raises OSError of the bus and BusError: wrong identity, registers at power-on values, bad checksum. `decode` says "saturated" for a
full counter and beyond 140 klx, "implausible" for a setting that cannot be. Registers: eldruin/veml6030-rs, Linux
drivers/iio/light/veml6030.c, Adafruit VEML7700. 0.0042 lx a count at 2x and 800 ms: data sheet rev. 1.7 (2023); older sources have 0.0036,
17 % low. The correction above 1000 lx is Vishay's polynomial (application note 84323): it rises for all counts, but it does not join on:
at 1000 lx it gives 1075, so no reading falls between. How it holds up to 140 klx is unverified; more than that is reported as saturated.

The chip has no ready flag and no identity register of old: it is known by holding what is written to its threshold register, which nothing
here uses otherwise. That mark also shows a brown-out. It is shut down between measurements, so that an integration begins with the command
(wake-up 2.5 ms: Adafruit) and its result is read when the next one is half done: nothing changes then. That the first result after a
shutdown is whole is unverified on hardware.

I2C carries no checksum, so a flipped bit in a reply cannot be seen in that reply: the counts are read twice, and replies that differ are a
bad checksum, read again at the next poll. Settings are read back before an integration and after it, before its counts are believed."""

from drivers.errors import BAD_CHECKSUM, POWER_ON_VALUES, WRONG_IDENTITY, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed, following, reached

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "veml7700"
RAW_SIZE = 4  # ALS, then CONF of its integration: little endian words
TRIM_SIZE = 2
PERIOD_MS = 1000
QUANTITIES = ("illuminance",)
ADDRESSES = (0x10,)

_CONF = const(0x00)
_HIGH_THRESHOLD = const(0x01)
_POWER_SAVING = const(0x03)
_ALS = const(0x04)
_SHUT_DOWN = const(0x0001)
_MARK = const(0x5AC3)

# CONF: gain in bits 12:11, time in 9:6. From the sun to the night: 1/8x, 1/4x, 1x, 2x at 100 ms, 2x at 200 and 400 ms.
_LEVELS = (0x1000, 0x1800, 0x0000, 0x0800, 0x0840, 0x0880)
_READ_AFTER_MS = (155, 155, 155, 155, 305, 605)  # wake-up, and one and a half integrations
_DARKEST = const(5)
_FULL = const(0xFF00)  # the counter ends at FFFF; so near its end it is taken for full
_NEARLY_FULL = const(52429)  # 80 % of 65536
_LOW = const(3277)  # 5 %

_CONFIGURING, _IDLE, _INTEGRATING, _FETCHING, _READY = range(5)


class VEML7700:
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
        self._level = 0
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self._state = _CONFIGURING
        self._since = now
        self._next = now
        self._level = 0

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError, or OSError of the bus."""
        state = self._state
        if state == _IDLE:
            if reached(now, self._next):
                self._trigger(now)
        elif state == _INTEGRATING:
            if elapsed(now, self._since) >= _READ_AFTER_MS[self._level]:
                self._state = _FETCHING
                self._fetch()
        elif state == _FETCHING:
            self._fetch()
        elif state == _CONFIGURING:
            self._configure(now)
        return 1 if self._state == _READY else 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing, sends nothing: `poll` has read it."""
        buf[offset : offset + RAW_SIZE] = self._raw
        self._adapt(self._raw[0] | self._raw[1] << 8)
        self._state = _IDLE
        return RAW_SIZE

    def trim(self) -> bytes:
        """CONF of the start; empty before the chip is configured."""
        return bytes((_LEVELS[0] & 0xFF, _LEVELS[0] >> 8)) if self.configured else b""

    def _configure(self, now: int) -> None:
        self._write(_CONF, _LEVELS[0] | _SHUT_DOWN)
        self._write(_HIGH_THRESHOLD, _MARK)
        self._write(_POWER_SAVING, 0)
        if self._read(_HIGH_THRESHOLD) != _MARK or self._read(_CONF) != _LEVELS[0] | _SHUT_DOWN:
            raise BusError(WRONG_IDENTITY)
        if self._read(_POWER_SAVING):
            raise BusError(POWER_ON_VALUES)
        self.configured = True
        self._state = _IDLE
        self._next = now

    def _trigger(self, now: int) -> None:
        level = _LEVELS[self._level]
        self._write(_CONF, level | _SHUT_DOWN)  # an integration under way would mix two settings
        self._expect(_CONF, level | _SHUT_DOWN)
        self._write(_CONF, level)
        self._next = following(self._next, PERIOD_MS, now)
        self._state = _INTEGRATING
        self._since = now

    def _fetch(self) -> None:
        counts = self._read(_ALS)
        if self._read(_ALS) != counts:
            raise BusError(BAD_CHECKSUM)
        level = _LEVELS[self._level]
        self._expect(_CONF, level)
        self._expect(_HIGH_THRESHOLD, _MARK)
        self._raw[0] = counts & 0xFF
        self._raw[1] = counts >> 8
        self._raw[2] = level & 0xFF
        self._raw[3] = level >> 8
        self._state = _READY  # before the next command: if that fails, the sample is no worse
        self._write(_CONF, level | _SHUT_DOWN)

    def _adapt(self, counts: int) -> None:
        if counts >= _FULL:
            self._level = 0
        elif counts > _NEARLY_FULL and self._level > 0:
            self._level -= 1
        elif counts < _LOW and self._level < _DARKEST:
            self._level += 1

    def _expect(self, register: int, value: int) -> None:
        if self._read(register) != value:
            raise BusError(POWER_ON_VALUES)

    def _read(self, register: int) -> int:
        self._i2c.readfrom_mem_into(self._address, register, self._two)
        return self._two[0] | self._two[1] << 8

    def _write(self, register: int, value: int) -> None:
        self._two[0] = value & 0xFF
        self._two[1] = value >> 8
        self._i2c.writeto_mem(self._address, register, self._two)


_EIGHTHS = (8, 16, 1, 2)  # of gain, by code: 1x, 2x, 1/8x, 1/4x
_MILLISECONDS = {0: 100, 1: 200, 2: 400, 3: 800, 8: 50, 12: 25}
_GAIN_AND_TIME = 0x1BC0
_BRIGHTEST = 140_000.0  # lx


def lux_per_count(conf: int) -> float:
    """lx of one count at the gain and time of CONF. KeyError if there is no such time."""
    return 0.0042 * (800.0 / _MILLISECONDS[conf >> 6 & 0x0F]) * (16.0 / _EIGHTHS[conf >> 11 & 3])


def corrected(lux: float) -> float:
    """What a reading of `lux` means: itself up to 1000 lx, above by Vishay's polynomial."""
    if lux <= 1000.0:
        return lux
    return lux * (1.0023 + lux * (8.1488e-5 + lux * (-9.3924e-9 + lux * 6.0135e-13)))


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if the length is wrong; the gain is that of the sample, not of the trim."""
    if len(raw) != RAW_SIZE:
        raise ValueError("veml7700: wrong length of raw")
    counts = raw[0] | raw[1] << 8
    conf = raw[2] | raw[3] << 8
    if conf & ~_GAIN_AND_TIME or conf >> 6 & 0x0F not in _MILLISECONDS:  # of an integration, no other bit is set
        return {"illuminance": "implausible"}
    if counts >= _FULL:
        return {"illuminance": "saturated"}
    lux = corrected(counts * lux_per_count(conf))
    return {"illuminance": lux if lux <= _BRIGHTEST else "saturated"}
