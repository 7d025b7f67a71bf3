"""SHT45 humidity and temperature sensor (facts/sensors-and-head.md 1.4): one-byte commands, no registers, deaf while it measures.

The heater warms the chip itself: its own temperature rises towards 0.3 K for each mW and falls back, both with a time constant of 4 s
(the two numbers are inventions of the right order, not the data sheet's), and the warm chip sees the same vapour at a lower relative
humidity (Magnus). What it logs is the air, so a warm reading taken for air is a wrong one. Not modelled: water on the chip.
"""

import math

from sim.chips.checksums import with_crc
from sim.chips.faces import Log, Source, word

_SERIAL, _RESET = 0x89, 0x94
# Measuring commands and the time each takes, µs. Heater commands heat for 1 s or 0.1 s first.
_MEASURE_US = {
    0xFD: 8_300, 0xF6: 5_000, 0xE0: 2_000,
    0x39: 1_100_000, 0x32: 110_000, 0x2F: 1_100_000, 0x24: 110_000, 0x1E: 1_100_000, 0x15: 110_000,
}  # fmt: skip
# Heater power and time of the commands that heat: mW, µs.
_HEATER = {
    0x39: (200, 1_000_000), 0x32: (200, 100_000), 0x2F: (110, 1_000_000), 0x24: (110, 100_000), 0x1E: (20, 1_000_000), 0x15: (20, 100_000),
}  # fmt: skip
_KELVIN_PER_MILLIWATT = 0.3
_THERMAL_US = 4_000_000.0
_SERIAL_US = 1_000  # Sensirion's own Python driver reads it after so long (the facts' 10 ms are what another one waits)
_RESET_US = 1_000


def _saturation(celsius: float) -> float:
    """Saturation vapour pressure over water (Magnus), hPa."""
    return 6.112 * math.exp(17.62 * celsius / (243.12 + celsius))


class SHT45:
    """The chip at 0x44; `serial` is its 32-bit serial number."""

    SENSOR = "sht45"
    RANGE = {"temperature": (233.15, 398.15), "humidity": (0.0, 100.0)}
    EPSILON = {"temperature": 175 / 65535 / 2, "humidity": 125 / 65535 / 2}

    def __init__(self, source: Source, log: Log, address: int = 0x44, serial: int = 0x0F1E2D3C) -> None:
        self.address = address
        self._source = source
        self._log = log
        self._serial = serial
        self._now = 0
        self.samples = 0  # measurements made
        self._warmth = 0.0  # K above the air, at the end of the newest pulse
        self._warm_at = 0
        self.pulses = 0  # of the heater
        self.power_cycle()

    def power_cycle(self) -> None:
        """A brown-out: idle, nothing to read."""
        self._reply: list[int] = []
        self._command = 0
        self._busy_until = 0

    def advance(self, now_us: int) -> None:
        """Ends what is due until `now_us`."""
        self._now = max(self._now, now_us)
        if self._busy_until and self._now >= self._busy_until:
            finished, self._busy_until = self._busy_until, 0
            if self._command in _HEATER:
                self._heat(finished)
            if self._command in _MEASURE_US:
                self._measure(finished)
            elif self._command == _SERIAL:
                self._reply = list(with_crc(self._serial >> 16) + with_crc(self._serial & 0xFFFF))

    def start(self, read: bool) -> bool:
        """Acknowledges unless it is busy, or asked for a reply it does not have."""
        return not self._busy_until and (not read or bool(self._reply))

    def write(self, byte: int) -> bool:
        """A command; what it does not know it does not acknowledge."""
        if byte in _MEASURE_US:
            duration = _MEASURE_US[byte]
        elif byte in (_SERIAL, _RESET):
            duration = _SERIAL_US if byte == _SERIAL else _RESET_US
        else:
            return False
        self._reply = []
        self._command = byte
        self._busy_until = self._now + duration
        return True

    def read(self) -> int:
        """The next byte of the reply; after its end the bus floats high."""
        return self._reply.pop(0) if self._reply else 0xFF

    def stop(self) -> None:
        """The stop condition: what was not read of a reply stays readable."""

    def _warmth_at(self, t_us: float) -> float:
        return self._warmth * math.exp((self._warm_at - t_us) / _THERMAL_US)

    def _heat(self, finished: int) -> None:
        """The pulse of the command, then what is left until `finished`: the heater is off while it measures."""
        power, duration = _HEATER[self._command]
        begun = finished - _MEASURE_US[self._command]
        left = math.exp(-duration / _THERMAL_US)
        self._warmth = self._warmth_at(begun) * left + power * _KELVIN_PER_MILLIWATT * (1 - left)
        self._warm_at = begun + duration
        self.pulses += 1

    def _measure(self, t_us: int) -> None:
        self.samples += 1
        values = self._source(t_us)
        air = values["temperature"] - 273.15
        chip = air + self._warmth_at(t_us)
        seen = values["humidity"] * _saturation(air) / _saturation(chip)
        temperature = word((chip + 45.0) / 175.0 * 65535.0, 0, 0xFFFF)
        humidity = word((seen + 6.0) / 125.0 * 65535.0, 0, 0xFFFF)
        self._reply = list(with_crc(temperature) + with_crc(humidity))
        self._log(self.SENSOR, t_us, {"temperature": values["temperature"], "humidity": values["humidity"]})
