"""What is behind both wires of the SPS30 (facts/sensors-and-head.md 1.2): modes, one sample a second, fan cleaning, status register.

By firmware version: sleep and wake from 2.0 on, status register from 2.2 on; before that the auto-clean interval reads back its old value
until a reset. Unverified, from the data sheet as remembered: while the fan cleans no sample is made; the bits of fan speed and laser clear
themselves, that of the fan stays until it is cleared. A defect (`failing`) shows in the register with the next sample, where a real sensor
needs two checks, and its samples read zero."""

import struct

from sim.chips.faces import Log, Source

IDLE, MEASURING, SLEEPING = "idle", "measuring", "sleeping"
FLOAT, INTEGER = 0x03, 0x05
FAN_SPEED, LASER, FAN = 1 << 21, 1 << 5, 1 << 4  # bits of the status register
PRODUCT_TYPE = b"00080000"
_SECOND_US = 1_000_000.0
BOOT_US = 100_000
_CLEAN_US = 10_000_000
_DEFAULT_INTERVAL_S = 604_800

# In the order of the reply, with the factor from SI: µg/m³, 1/cm³, µm.
_MASS, _NUMBER = ("pm1", "pm2_5", "pm4", "pm10"), ("particles_0_5", "particles_1", "particles_2_5", "particles_4", "particles_10")
_FACTORS = {**dict.fromkeys(_MASS, 1e9), **dict.fromkeys(_NUMBER, 1e-6), "particle_size": 1e6}

RANGE = {
    **dict.fromkeys(_MASS, (0.0, 1000e-9)),
    **dict.fromkeys(_NUMBER, (0.0, 3000e6)),
    "particle_size": (0.0, 10e-6),
}
# float32 has 24 bits: half a step just below the top of each range, rounded up.
EPSILON = {name: high * 2.0**-24 for name, (low, high) in RANGE.items()}


class SPS30Core:
    """The sensor without its wire; `ppm` is its oscillator's error. Values beyond RANGE are sent clipped."""

    SENSOR = "sps30"

    def __init__(
        self, source: Source, log: Log, ppm: float = 300.0, serial: bytes = b"5A1D0C0FFEE00301", version: tuple[int, int] = (2, 3)
    ) -> None:
        self.serial = serial
        self.version = version
        self.samples = 0  # samples measured
        self.status = 0  # the register
        self.failing = 0  # what is out of order: FAN_SPEED, LASER, FAN
        self.now = 0
        self._source = source
        self._log = log
        self._rate = 1.0 + ppm * 1e-6
        self._interval_s = self._interval_shown = _DEFAULT_INTERVAL_S  # kept over power cuts
        self.power_cycle()

    def power_cycle(self) -> None:
        """A brown-out: idle, nothing measured."""
        self.mode = IDLE
        self.new: bytes | None = None
        self._format = FLOAT
        self._origin = 0.0
        self._count = 0
        self._cleaning_until = 0.0
        self._interval_shown = self._interval_s

    def advance(self, now_us: int) -> None:
        """Makes the samples due until `now_us`; while the fan cleans, none."""
        while self.mode == MEASURING:
            due = self._origin + (self._count + 1) * _SECOND_US / self._rate
            if due > now_us:
                break
            self._count += 1
            self.status = self.status & FAN | self.failing
            if due >= self._cleaning_until:
                self._measure(int(due))
        self.now = max(self.now, now_us)

    def start(self, output: int) -> None:
        """Begins to measure, in FLOAT or INTEGER."""
        self.mode = MEASURING
        self.new = None
        self._format = output
        self._origin = float(self.now)
        self._count = 0

    def rest(self, mode: str) -> None:
        """IDLE or SLEEPING: laser and fan off."""
        self.mode = mode
        self.new = None
        self._cleaning_until = 0.0

    def clean(self) -> None:
        """The fan runs at full speed for 10 s."""
        self._cleaning_until = self.now + _CLEAN_US

    def take(self) -> bytes:
        """The newest sample if it was not taken yet, else nothing."""
        data, self.new = self.new or b"", None
        return data

    def interval(self) -> bytes:
        """The auto-clean interval as it is shown, s."""
        return struct.pack(">I", self._interval_shown)

    def set_interval(self, data: bytes) -> None:
        """Four bytes, s."""
        (self._interval_s,) = struct.unpack(">I", data)
        if self.version >= (2, 2):
            self._interval_shown = self._interval_s

    def _measure(self, t_us: int) -> None:
        self.samples += 1
        values = self._source(t_us)
        shown = []
        for name, factor in _FACTORS.items():
            low, high = RANGE[name]
            shown.append(max(low, min(high, values[name])) * factor if not self.failing & (LASER | FAN) else 0.0)
        if self._format == FLOAT:
            self.new = struct.pack(">10f", *shown)
        else:
            self.new = struct.pack(">10H", *(round(value) for value in shown[:-1]), round(shown[-1] * 1000))
        self._log(self.SENSOR, t_us, {name: values[name] for name in _FACTORS})
