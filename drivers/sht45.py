"""Sensirion SHT45 (any SHT4x): temperature (K) and relative humidity (%), one high-precision measurement a second. I2C 0x44 (order
variants 0x45, 0x46), up to 400 kHz here.

Commands and times: Linux drivers/hwmon/sht4x.c, Sensirion embedded-sht sht4x.c. `poll` raises OSError of the bus (no acknowledge for more
than 50 ms) and BusError: bad checksum. `decode` gives no number outside -40 to 125 °C ("implausible"). The chip does not stretch the
clock: while it measures it answers a read with NACK. A command is written, stopped, waited for and then read: never one combined
transaction. Each word carries a CRC, commands differ from each other in two bits or more, and an unknown one is not acknowledged: no
single flipped bit passes.

Heater (off unless heater=True): where water condenses on the chip it reads 100 % long after the air is dry again. After 5 min at 95 % or
more, below 65 °C (the heater's limit: with its own warmth the chip stays below 125 °C), one pulse of 110 mW for 1 s: 0.11 J turns some 45
µg of water to vapour, a film of 20 µm on the chip; the pulse of 0.1 s a tenth of that. At most one pulse in 5 min is 0.3 % of the time;
Sensirion's limit is 10 % (general knowledge, unverified). The measurement of the pulse and the 60 s after it are the chip's warmth, not
the air's: they are neither made nor read, and `gap_reason` and `degraded` say why, also when the driver is started again meanwhile. That
60 s suffice is unverified on hardware. Limit: a head that loses its own power within them does not know of the pulse."""

from drivers.crc8 import crc8
from drivers.errors import BAD_CHECKSUM, HEATER_ON, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed, following, reached

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "sht45"
RAW_SIZE = 6  # T hi lo crc, RH hi lo crc
TRIM_SIZE = 4
PERIOD_MS = 1000
QUANTITIES = ("temperature", "humidity")
ADDRESSES = (0x44, 0x45, 0x46)  # order variants

_MEASURE_HIGH = b"\xfd"
_HEAT_110_MW_1_S = b"\x2f"
_SERIAL = b"\x89"
_SOFT_RESET = b"\x94"
_RESET_MS = const(2)  # 1 ms by the data sheet
_REPLY_MS = const(10)  # 8.2 ms by the data sheet; the serial needs 10
_DEADLINE_MS = const(50)

_HEATING_MS = const(1100)
_COOLING_MS = const(60_000)
_WET_MS = const(300_000)  # so long must it be wet before it is heated
_WET = const(52953)  # 95 %RH
_HOT = const(41193)  # 65 °C

_RESETTING, _WAITING_RESET, _ASKING_SERIAL, _IDLE, _MEASURING, _READY, _WARM = range(7)


class SHT45:
    """The chip on an I2C bus with machine.I2C's methods; `heater`: dry it when it is wet."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS

    def __init__(self, i2c: "I2C", address: int = ADDRESSES[0], heater: bool = False) -> None:
        self._i2c = i2c
        self._address = address
        self._heater = heater
        self._reply = bytearray(RAW_SIZE)
        self._serial = bytearray(TRIM_SIZE)
        self._warmed = False
        self._warmed_at = 0
        self.gap_reason = 0
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again from the reset; nothing is sent before the next poll. A warm chip stays silent until it is cool."""
        self.configured = False
        self.degraded = 0
        self._state = _RESETTING
        self._since = now
        self._next = now
        self._wet = False
        self._wet_since = now

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError, or OSError of the bus."""
        state = self._state
        if state == _READY:
            return 1
        if state == _IDLE:
            if reached(now, self._next):
                self._measure_or_heat(now)
        elif state == _MEASURING:
            if self._answered(now):
                self._state = _READY
                self._watch(now)
                return 1
        elif state == _WARM:
            if elapsed(now, self._warmed_at) >= _HEATING_MS + _COOLING_MS:
                self._warmed = False
                self.degraded = 0
                self._state = _IDLE
            elif not self.degraded:
                self.gap_reason = self.degraded = HEATER_ON
        elif state == _RESETTING:
            self._command(now, _SOFT_RESET, _WAITING_RESET)
        elif state == _WAITING_RESET:
            if elapsed(now, self._since) >= _RESET_MS:
                self._command(now, _SERIAL, _ASKING_SERIAL)
        elif self._answered(now):
            self._serial[0:2] = self._reply[0:2]
            self._serial[2:4] = self._reply[3:5]
            self.configured = True
            self._state = _WARM if self._warmed else _IDLE
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

    def _measure_or_heat(self, now: int) -> None:
        if self._heater and self._wet and elapsed(now, self._wet_since) >= _WET_MS:
            self._wet = False
            self._warmed = True
            self._warmed_at = now
            self._state = _WARM
            # Last: a command that fails may have been heard. Its reply is of the warm chip: never read.
            self._i2c.writeto(self._address, _HEAT_110_MW_1_S)
        else:
            self._command(now, _MEASURE_HIGH, _MEASURING)
            self._next = following(self._next, PERIOD_MS, now)

    def _watch(self, now: int) -> None:
        """Since when it has been wet without a break, and cool enough to be heated."""
        reply = self._reply
        if reply[3] << 8 | reply[4] < _WET or reply[0] << 8 | reply[1] > _HOT:
            self._wet = False
        elif not self._wet:
            self._wet = True
            self._wet_since = now

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
    temperature, humidity = raw[0] << 8 | raw[1], raw[3] << 8 | raw[4]
    celsius, percent = convert(temperature, humidity)
    # Both words 8000 is what a chip says that took damage (elixir-sensors/sht4x issue 29 quotes Sensirion).
    if not -40.0 <= celsius <= 125.0 or temperature == humidity == 0x8000:
        return {"temperature": "implausible", "humidity": "implausible"}
    # By the data sheet (4.6) the formula leaves 0..100 % in fog and at very dry air, and is cropped there, as in Sensirion's own code: "air
    # that holds all it can" and "dry" are what was measured. The raw words keep the excess (-6 to 119 %).
    return {"temperature": celsius + 273.15, "humidity": min(100.0, max(0.0, percent))}
