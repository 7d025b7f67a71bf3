"""ams-OSRAM AS7331: UV-A, UV-B and UV-C irradiance (W/m²) and its own temperature (K), one commanded measurement of 64 ms a second; the
gain follows the light. I2C 0x74 to 0x77 (A1 A0), up to 400 kHz here.

Registers, factors, sequence: Linux drivers/iio/light/as73211.c, SparkFun sfDevAS7331, data sheet DS001047 v4-00. Adafruit's factors are
0.13 % (UV-A) to 0.56 % (UV-C) higher. The same address means another register in configuration and in measurement state: OSR is the one
register both states share, so every step goes through it. The internal clock stays at 1.024 MHz (CCLK 0). `poll` raises OSError of the bus
and BusError: wrong identity, registers at power-on values, bad checksum, time-out. `decode` says "saturated" with either overflow flag or
a full counter, "not ready" without new data, "implausible" for a setting that cannot be and outside -40 to 85 °C.

Traffic disturbs a conversion (Linux keeps the bus locked for it; how much, on hardware, is unverified). Nothing is sent to this chip while
it converts; what is sent to others on its bus is not in its hands: `quiet` is True meanwhile, for who polls them. On the head it has I2C1
for itself; `cruisers sense` on a machine's one bus lets the other chips wait.

Gain (1x to 2048x; at 64 ms full scale is 3482 to 1.7 W/m² of UV-A, one step 0.053 to 0.000026): a saturated sample sets 1x for the next
one, one above 80 % halves the gain, one below 5 % doubles it. So a drive out of a tunnel costs one saturated sample, and dusk is followed
within 11 s. The gain of a sample goes with it: the last byte of the raw bytes is CREG1 as read back after its conversion.

I2C carries no checksum, so a flipped bit in a reply cannot be seen in that reply. Status and results are read twice, while nothing
converts: replies that differ are a bad checksum and read again at the next poll. Settings are read back before a conversion and after it,
before its results are believed; CREG3 differs from its power-on value, so a brown-out shows there."""

from drivers.errors import BAD_CHECKSUM, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed, following, reached

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "as7331"
RAW_SIZE = 11  # OSR/STATUS, TEMP, UVA, UVB, UVC: little endian words; CREG1
TRIM_SIZE = 3
PERIOD_MS = 1000
QUANTITIES = ("uva", "uvb", "uvc", "temperature_uv")
ADDRESSES = (0x74, 0x75, 0x76, 0x77)

_OSR = const(0x00)
_AGEN = const(0x02)  # configuration state
_CREG1 = const(0x06)
_TEMP = const(0x01)  # measurement state
_IDENTITY = const(0x21)
_RESET_TO_CONFIGURATION = const(0x0A)
_TO_CONFIGURATION = const(0x02)
_START_MEASUREMENT = const(0x83)
_STATE = const(0x07)  # OSR, DOS: 2 configuration, 3 measurement
_MEASUREMENT = const(3)
_RUNNING_OR_DOWN = const(0xC0)  # OSR: start still set, powered down
_SETTINGS = b"\xa6\x40\x40"  # at the start gain 2x and 64 ms; temperature on, no divider; one measurement per command
_TIME_64_MS = const(6)
_LOWEST_GAIN = const(11)  # code of 1x; code 0 is 2048x
# STATUS, the high byte of the first word
_RESULT_OVERFLOW = const(0x40)
_CONVERTER_OVERFLOW = const(0x20)
_NEW_DATA = const(0x08)
_NOT_READY = const(0x04)
_NEARLY_FULL = const(52429)  # 80 % of 65536
_LOW = const(3277)  # 5 %

_RESET_MS = const(3)
_CONVERSION_MS = const(88)  # 64 ms, a third more as Linux waits, 2 ms to leave power-down
_DEADLINE_MS = const(300)

_RESETTING, _WAITING_RESET, _IDLE, _CONVERTING, _FETCHING, _CHECKING, _READY = range(7)


class AS7331:
    """The chip on an I2C bus with machine.I2C's methods. `quiet`: it converts, and wants no traffic on its bus (for 88 ms at most)."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    gap_reason = 0  # no FIFO to overflow

    def __init__(self, i2c: "I2C", address: int = ADDRESSES[0]) -> None:
        self._i2c = i2c
        self._address = address
        self._one = bytearray(1)
        self._status = bytearray(2)
        self._status_again = bytearray(2)
        self._words = bytearray(8)
        self._words_again = bytearray(8)
        self._settings = bytearray(_SETTINGS)  # as they must be
        self._found = bytearray(TRIM_SIZE)
        self._gain_next = _SETTINGS[0] >> 4
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again from the reset; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self.quiet = False
        self._state = _RESETTING
        self._since = now
        self._next = now

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError, or OSError of the bus."""
        state = self._state
        if state == _IDLE:
            if reached(now, self._next):
                self._trigger(now)
        elif state == _CONVERTING:
            if elapsed(now, self._since) >= _CONVERSION_MS:
                self._look(now)
        elif state == _FETCHING:
            self._fetch()
        elif state == _CHECKING:
            self._check()
        elif state == _RESETTING:
            self._write(_OSR, _RESET_TO_CONFIGURATION)
            self._state = _WAITING_RESET
            self._since = now
        elif state == _WAITING_RESET and elapsed(now, self._since) >= _RESET_MS:
            self._configure(now)
        return 1 if self._state == _READY else 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing, sends nothing: `poll` has read it."""
        buf[offset : offset + 2] = self._status
        buf[offset + 2 : offset + 10] = self._words
        buf[offset + 10] = self._settings[0]
        self._adapt()
        self._state = _IDLE
        return RAW_SIZE

    def trim(self) -> bytes:
        """CREG1, CREG2, CREG3 of the start, as read back; empty before the chip is configured."""
        return _SETTINGS if self.configured else b""

    def _configure(self, now: int) -> None:
        self._read(_AGEN, self._one)
        if self._one[0] != _IDENTITY:
            raise BusError(WRONG_IDENTITY)
        for index, value in enumerate(_SETTINGS):
            self._settings[index] = value
            self._write(_CREG1 + index, value)
        self._gain_next = _SETTINGS[0] >> 4
        self._verify()
        self.configured = True
        self._state = _IDLE
        self._next = now

    def _trigger(self, now: int) -> None:
        self._write(_OSR, _TO_CONFIGURATION)
        self._settings[0] = self._gain_next << 4 | _TIME_64_MS
        self._write(_CREG1, self._settings[0])
        self._verify()
        self._write(_OSR, _START_MEASUREMENT)
        self._next = following(self._next, PERIOD_MS, now)
        self.quiet = True
        self._state = _CONVERTING
        self._since = now

    def _look(self, now: int) -> None:
        self.quiet = False
        self._read(_OSR, self._status)
        if self._status[0] & _STATE != _MEASUREMENT:  # after a brown-out it is in configuration state, with other meanings
            raise BusError(POWER_ON_VALUES)
        # Linux as73211.c asks the same of a measurement that has ended. A start that went astray leaves no new data.
        if not self._status[0] & _RUNNING_OR_DOWN and self._status[1] & (_NEW_DATA | _NOT_READY) == _NEW_DATA:
            self._read(_OSR, self._status_again)
            if self._status == self._status_again:
                self._state = _FETCHING
                self._fetch()
        elif elapsed(now, self._since) > _DEADLINE_MS:
            self._state = _IDLE
            self._next = now  # measure again at once, in the same second
            raise BusError(TIME_OUT)

    def _fetch(self) -> None:
        self._read(_TEMP, self._words)
        self._read(_TEMP, self._words_again)
        if self._words != self._words_again:
            raise BusError(BAD_CHECKSUM)
        # From here on the chip may be in configuration state: the words are not read again, whatever fails.
        self._state = _CHECKING
        self._check()

    def _check(self) -> None:
        self._write(_OSR, _TO_CONFIGURATION)
        self._verify()
        self._state = _READY

    def _verify(self) -> None:
        """CREG1 to CREG3 are as they must be (configuration state)."""
        self._read(_CREG1, self._found)
        if self._found != self._settings:
            raise BusError(POWER_ON_VALUES)

    def _adapt(self) -> None:
        """The gain of the next measurement, from the brightest channel of this one."""
        words = self._words
        peak = words[2] | words[3] << 8
        for index in (4, 6):
            counts = words[index] | words[index + 1] << 8
            if counts > peak:
                peak = counts
        if self._status[1] & (_RESULT_OVERFLOW | _CONVERTER_OVERFLOW) or peak == 0xFFFF:
            self._gain_next = _LOWEST_GAIN
        elif peak > _NEARLY_FULL and self._gain_next < _LOWEST_GAIN:
            self._gain_next += 1
        elif peak < _LOW and self._gain_next > 0:
            self._gain_next -= 1

    def _read(self, register: int, buf: bytearray) -> None:
        self._i2c.readfrom_mem_into(self._address, register, buf)

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


_COLDEST = const(538)  # -40.0 °C: 0.05 * 538 - 66.9
_HOTTEST = const(3038)  # 85.0 °C


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if a length is wrong; the gain is that of the sample, not of the trim."""
    if len(trim) != TRIM_SIZE or len(raw) != RAW_SIZE:
        raise ValueError("as7331: wrong length of trim or raw")
    status, creg1 = raw[1], raw[10]
    if status & (_NEW_DATA | _NOT_READY) != _NEW_DATA:
        return {"uva": "not ready", "uvb": "not ready", "uvc": "not ready", "temperature_uv": "not ready"}
    overflow = status & (_RESULT_OVERFLOW | _CONVERTER_OVERFLOW)
    known = creg1 >> 4 <= 11 and creg1 & 0x0F <= 14
    word = raw[2] | raw[3] << 8  # 12 bits: with one above them it is beyond every limit
    # The data sheet's operating range, with half a step for the arithmetic.
    values: dict[str, float | str] = {"temperature_uv": "implausible"}
    if _COLDEST <= word <= _HOTTEST:  # one division of whole numbers: at the limits not a rounding beyond them
        values["temperature_uv"] = (5 * word + 20_625) / 100.0
    for index, (quantity, full_scale) in enumerate(_FULL_SCALE):
        counts = raw[4 + 2 * index] | raw[5 + 2 * index] << 8
        if not known or counts > 1024 << (creg1 & 0x0F):  # more than a conversion of that time can count
            values[quantity] = "implausible"
        elif overflow or counts == 0xFFFF:
            values[quantity] = "saturated"
        else:
            values[quantity] = counts * irradiance_per_count(full_scale, creg1)
    return values
