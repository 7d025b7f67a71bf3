"""BMP390 barometer (facts/sensors-and-head.md 1.9): the physical pressure and temperature run backwards through the compensation.

Modelled: identity, NVM trim, forced and normal mode with the conversion time of the oversampling, data-ready and power-on flags, command
register, configuration error. Not modelled: the FIFO (always empty), the IIR filter, noise. Data registers carry all 24 bits.
"""

import math
import struct

from sim.chips.faces import Log, RegisterFace, Source

_CHIP_ID, _ERR, _STATUS, _PRESSURE, _TEMPERATURE, _SENSOR_TIME, _EVENT, _INT_STATUS = 0x00, 0x02, 0x03, 0x04, 0x07, 0x0C, 0x10, 0x11
_FIFO_DATA, _PWR_CTRL, _OSR, _ODR, _NVM, _CMD = 0x14, 0x1B, 0x1C, 0x1D, 0x31, 0x7E
_CMD_READY, _DRDY_PRESSURE, _DRDY_TEMPERATURE = 0x10, 0x20, 0x40
_ERR_CMD, _ERR_CONF = 0x02, 0x04
_SOFT_RESET, _FIFO_FLUSH = 0xB6, 0xB0
_SLEEP, _NORMAL = 0, 3
_FORCED = (1, 2)
_RESET_US = 2_000
_FASTEST_US = 5_000  # ODR 0 = 200 Hz, each step halves
_MOST = (1 << 24) - 1

# A golden vector of the facts: trim of a real chip, run through Bosch's own C code.
NVM = bytes.fromhex("a86bd749f9a2feb0f62300a061d67503f6064018c4")


class Compensation:
    """The double-precision form of the data sheet, and its inverse."""

    def __init__(self, nvm: bytes) -> None:
        t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11 = struct.unpack("<HHbhhbbHHbbhbb", nvm)
        self._t = (t1 * 2.0**8, t2 / 2**30, t3 / 2**48)
        self._offset = (p5 * 2.0**3, p6 / 2**6, p7 / 2**8, p8 / 2**15)
        self._slope = ((p1 - 2**14) / 2**20, (p2 - 2**14) / 2**29, p3 / 2**32, p4 / 2**37)
        self._square = (p9 / 2**48, p10 / 2**48)
        self._cube = p11 / 2**65

    def celsius(self, ut: int) -> float:
        """Temperature in °C of the raw temperature."""
        d = ut - self._t[0]
        return d * self._t[1] + d * d * self._t[2]

    def pascal(self, up: float, celsius: float) -> float:
        """Pressure in Pa of the raw pressure at a temperature in °C."""
        constant, linear, square = self._polynomial(celsius)
        return constant + up * (linear + up * (square + up * self._cube))

    def raw_temperature(self, celsius: float) -> int:
        """The raw temperature whose reading is nearest to `celsius`."""
        t1, t2, t3 = self._t
        d = celsius / t2 if not t3 else (-t2 + math.sqrt(t2 * t2 + 4.0 * t3 * celsius)) / (2.0 * t3)
        return max(0, min(_MOST, round(t1 + d)))

    def raw_pressure(self, pascal: float, celsius: float) -> int:
        """The raw pressure whose reading, at the reading `celsius`, is nearest to `pascal` (Newton from mid-scale)."""
        constant, linear, square = self._polynomial(celsius)
        up = 2.0**23
        for _ in range(30):
            error = constant + up * (linear + up * (square + up * self._cube)) - pascal
            step = error / (linear + up * (2.0 * square + 3.0 * up * self._cube))
            up -= step
            if abs(step) < 1e-3:
                break
        return max(0, min(_MOST, round(up)))

    def _polynomial(self, celsius: float) -> tuple[float, float, float]:
        constant = sum(factor * celsius**power for power, factor in enumerate(self._offset))
        linear = sum(factor * celsius**power for power, factor in enumerate(self._slope))
        return constant, linear, self._square[0] + self._square[1] * celsius


class BMP390(RegisterFace):
    """The chip at 0x77; `nvm` are its 21 trim bytes."""

    SENSOR = "bmp390"
    RANGE = {"pressure": (30_000.0, 125_000.0), "temperature_barometer": (233.15, 358.15)}
    EPSILON = {"pressure": 0.02, "temperature_barometer": 1e-5}

    def __init__(self, source: Source, log: Log, address: int = 0x77, nvm: bytes = NVM) -> None:
        super().__init__()
        self.address = address
        self._source = source
        self._log = log
        self._compensation = Compensation(nvm)
        self._nvm = nvm
        self._now = 0
        self.samples = 0  # conversions made
        self._register: int | None = None
        self._busy_until = 0
        self._due: float | None = None
        self._reset(0)

    def power_cycle(self) -> None:
        """A brown-out: registers back at their power-on values."""
        self._reset(0)

    def start(self, read: bool) -> bool:
        """Acknowledges always; in a write the bytes are pairs of register and value."""
        self._register = None
        return super().start(read)

    def write(self, byte: int) -> bool:
        """Register, value, register, value …: a written burst does not count up (only reading does)."""
        if self._register is None:
            self._register = self._pointer = byte
        else:
            self.put(self._register, byte)
            self._register = None
        return True

    def advance(self, now_us: int) -> None:
        """Makes the conversions due until `now_us`."""
        self._now = max(self._now, now_us)
        if self._busy_until and self._now >= self._busy_until:
            self._busy_until = 0
            self._registers[_STATUS] |= _CMD_READY
        while self._due is not None and self._due <= self._now:
            due = self._due
            if self._mode() == _NORMAL:
                self._due = due + self._interval_us()
            else:
                self._due = None
                self._registers[_PWR_CTRL] &= ~0x30  # a forced conversion ends in sleep
            self._convert(int(due))

    def get(self, register: int) -> int:
        """One register; data-ready, event and interrupt flags clear as the data sheet says."""
        value = self._registers[register & 0x7F]
        if _PRESSURE <= register < _TEMPERATURE:
            self._registers[_STATUS] &= ~_DRDY_PRESSURE
        elif _TEMPERATURE <= register < _TEMPERATURE + 3:
            self._registers[_STATUS] &= ~_DRDY_TEMPERATURE
        elif _SENSOR_TIME <= register < _SENSOR_TIME + 3:
            ticks = self._now * 32 // 1250  # 25.6 kHz
            return ticks >> 8 * (register - _SENSOR_TIME) & 0xFF
        elif register in (_ERR, _EVENT, _INT_STATUS):
            self._registers[register] = 0
        return value

    def put(self, register: int, value: int) -> None:
        """Commands and the configuration registers; the others cannot be written. A running reset takes nothing."""
        if self._busy_until:
            return
        if register == _CMD:
            if value == _SOFT_RESET:
                self._reset(self._now + _RESET_US)
            elif value != _FIFO_FLUSH:
                self._registers[_ERR] |= _ERR_CMD
        elif 0x15 <= register <= 0x1F:
            self._registers[register] = value
            if register in (_PWR_CTRL, _OSR, _ODR):
                self._configure(register)

    def _reset(self, busy_until_us: int) -> None:
        self._registers = bytearray(0x80)
        self._registers[_CHIP_ID] = 0x60
        self._registers[_STATUS] = 0 if busy_until_us else _CMD_READY
        self._registers[_PRESSURE + 2] = self._registers[_TEMPERATURE + 2] = 0x80
        self._registers[_EVENT] = 0x01
        self._registers[_FIFO_DATA] = 0x80
        self._registers[_OSR] = 0x02
        self._registers[_NVM : _NVM + len(self._nvm)] = self._nvm
        self._busy_until = busy_until_us
        self._due = None
        self._register = None

    def _mode(self) -> int:
        return self._registers[_PWR_CTRL] >> 4 & 3

    def _conversion_us(self) -> int:
        power, oversampling = self._registers[_PWR_CTRL], self._registers[_OSR]
        pressure = 392 + (2_000 << (oversampling & 7)) if power & 1 else 0
        temperature = 313 + (2_000 << (oversampling >> 3 & 7)) if power & 2 else 0
        return 234 + pressure + temperature

    def _interval_us(self) -> int:
        return _FASTEST_US << min(self._registers[_ODR] & 0x1F, 0x11)

    def _configure(self, register: int) -> None:
        mode = self._mode()
        if mode == _SLEEP or not self._registers[_PWR_CTRL] & 3:
            self._due = None
        elif mode == _NORMAL:
            if self._conversion_us() > self._interval_us():
                self._registers[_ERR] |= _ERR_CONF
                self._due = None
            else:
                self._due = self._now + self._conversion_us()
        elif register == _PWR_CTRL and mode in _FORCED:
            self._due = self._now + self._conversion_us()

    def _convert(self, t_us: int) -> None:
        """One conversion at `t_us`; pressure is compensated with the temperature the reader will decode."""
        self.samples += 1
        values = self._source(t_us)
        power = self._registers[_PWR_CTRL]
        low, high = self.RANGE["temperature_barometer"]
        ut = self._compensation.raw_temperature(max(low, min(high, values["temperature_barometer"])) - 273.15)
        exact = {}
        if power & 2:
            self._registers[_TEMPERATURE : _TEMPERATURE + 3] = ut.to_bytes(3, "little")
            self._registers[_STATUS] |= _DRDY_TEMPERATURE
            exact["temperature_barometer"] = values["temperature_barometer"]
        if power & 1:
            low, high = self.RANGE["pressure"]
            up = self._compensation.raw_pressure(max(low, min(high, values["pressure"])), self._compensation.celsius(ut))
            self._registers[_PRESSURE : _PRESSURE + 3] = up.to_bytes(3, "little")
            self._registers[_STATUS] |= _DRDY_PRESSURE
            exact["pressure"] = values["pressure"]
        self._registers[_INT_STATUS] |= 0x08
        self._log(self.SENSOR, t_us, exact)
