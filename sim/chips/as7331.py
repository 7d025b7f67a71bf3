"""AS7331 UV sensor (facts/sensors-and-head.md 1.7): one address space in configuration state, another in measurement state.

Counts follow the data sheet's equation 3 (SparkFun and Linux agree with it): full scale in µW/cm² at 1x is 348160 (UV-A), 387072 (UV-B) and
169984 (UV-C) for 1024 x 2^time counts. Modelled: software reset, power-down, CMD and CONT mode, all gains and times, divider, status bits,
saturation of the converter (ADCOF) and of the result (MRESOF). Not modelled: the SYN modes, the disturbance of bus traffic; a clock above
1.024 MHz only shortens the conversion.
"""

from sim.chips.faces import Log, Source, word

_OSR, _TEMP, _UVA, _OUTCONV_LOW, _OUTCONV_HIGH = 0x00, 0x01, 0x02, 0x05, 0x06
_AGEN, _CREG1, _CREG2, _CREG3, _BREAK = 0x02, 0x06, 0x07, 0x08, 0x09
_POWER_ON = {_OSR: 0x42, _AGEN: 0x21, _CREG1: 0xA6, _CREG2: 0x40, _CREG3: 0x50, _BREAK: 0x19, 0x0A: 0x01, 0x0B: 0x73}
_SS, _PD, _SW_RES, _DOS = 0x80, 0x40, 0x08, 0x07
_CONFIGURATION, _MEASUREMENT = 2, 3
_CONTINUOUS, _COMMAND = 0, 1
_OUTCONVOF, _MRESOF, _ADCOF, _LDATA, _NDATA, _NOTREADY, _STANDBY, _POWER_DOWN = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01
_WAKE_US = 2_000  # leaving power-down
_FULL_SCALE = {"uva": 3481.60, "uvb": 3870.72, "uvc": 1699.84}  # W/m² at gain 1
_KELVIN_AT_ZERO = 273.15 - 66.9
_KELVIN_PER_STEP = 0.05


class AS7331:
    """The chip at 0x74; `ppm` is its oscillator's error: at the default a conversion takes 5 % longer than its code says."""

    SENSOR = "as7331"
    RANGE = {
        **{channel: (0.0, full_scale * 0.999) for channel, full_scale in _FULL_SCALE.items()},
        "temperature_uv": (233.15, 358.15),  # what the part is made for; the word holds -66.9 to 137.85 °C
    }
    # Half a step at 1x and 64 ms, the coarsest of 64 ms; `epsilon` says it for another gain.
    EPSILON = {
        **{channel: full_scale / 65536 / 2 for channel, full_scale in _FULL_SCALE.items()},
        "temperature_uv": _KELVIN_PER_STEP / 2,
    }

    def __init__(self, source: Source, log: Log, address: int = 0x74, ppm: float = -50_000.0) -> None:
        self.address = address
        self._source = source
        self._log = log
        self._rate = 1.0 + ppm * 1e-6
        self._now = 0
        self.samples = 0  # conversions made
        self._pointer_next = False
        self.power_cycle()

    @staticmethod
    def epsilon(quantity: str, value: float, creg1: int = 0xB6) -> float:
        """The largest rounding error of a reading of `quantity`, W/m² or K: half a step at the gain and time of `creg1` (1x, 64 ms: the
        coarsest of 64 ms), the same for each `value` in range."""
        if quantity not in _FULL_SCALE:
            return _KELVIN_PER_STEP / 2
        return _FULL_SCALE[quantity] / (1 << 11 - (creg1 >> 4)) / (1024 << (creg1 & 0x0F)) / 2

    def power_cycle(self) -> None:
        """A brown-out or software reset: configuration state, powered down, registers at their power-on values."""
        self._registers = dict(_POWER_ON)
        self._results = [0] * 7
        self._flags = 0
        self._due: float | None = None
        self._break_until = 0.0
        self._pointer = 0
        self._half: int | None = None

    def advance(self, now_us: int) -> None:
        """Makes the conversions due until `now_us`."""
        self._now = max(self._now, now_us)
        while self._due is not None and self._due <= self._now:
            due = self._due
            self._convert(int(due))
            if self._registers[_CREG3] >> 6 == _CONTINUOUS:
                self._break_until = due + self._registers[_BREAK] * 8
                self._due = self._break_until + self._conversion_us()
            else:
                self._registers[_OSR] &= ~_SS
                self._due = None

    def start(self, read: bool) -> bool:
        """Acknowledges always; after a start for writing the next byte is the register."""
        self._pointer_next = not read
        self._half = None
        return True

    def write(self, byte: int) -> bool:
        """The register, then data for it and those that follow."""
        if self._pointer_next:
            self._pointer = byte & 0x1F
            self._pointer_next = False
        else:
            self._put(self._pointer, byte)
            self._pointer += 1
        return True

    def read(self) -> int:
        """Configuration state: one byte a register. Measurement state: two, low byte first."""
        if not self._measuring():
            value = self._registers.get(self._pointer, 0)
            self._pointer += 1
            return value
        if self._half is None:
            value = self._word(self._pointer)
            self._pointer += 1
            self._half = value >> 8
            return value & 0xFF
        value, self._half = self._half, None
        return value

    def stop(self) -> None:
        """The stop condition: the second half of a word is forgotten."""
        self._half = None

    def _measuring(self) -> bool:
        return self._registers[_OSR] & _DOS == _MEASUREMENT

    def _word(self, register: int) -> int:
        if register == _OSR:
            return self._registers[_OSR] | self._status() << 8
        if register <= _OUTCONV_HIGH:
            if register <= _UVA + 2:
                self._flags &= ~(_NDATA | _LDATA)
            return self._results[register]
        return 0

    def _status(self) -> int:
        status = self._flags
        if self._registers[_OSR] & _PD:
            status |= _POWER_DOWN
        if self._due is not None and self._now >= self._break_until:
            status |= _NOTREADY
        elif self._registers[_CREG3] & 0x10:
            status |= _STANDBY
        return status

    def _put(self, register: int, value: int) -> None:
        if register == _OSR:
            self._control(value)
        elif not self._measuring() and _CREG1 <= register <= 0x0B:
            self._registers[register] = value

    def _control(self, value: int) -> None:
        """Writes OSR: reset, state, power, start and stop."""
        if value & _SW_RES:
            self.power_cycle()
            return
        was_down = bool(self._registers[_OSR] & _PD)
        state = value & _DOS if value & _DOS in (_CONFIGURATION, _MEASUREMENT) else self._registers[_OSR] & _DOS
        self._registers[_OSR] = value & (_SS | _PD) | state
        if state == _MEASUREMENT and value & _SS and not value & _PD and self._registers[_CREG3] >> 6 in (_CONTINUOUS, _COMMAND):
            self._break_until = 0.0
            self._due = self._now + (_WAKE_US if was_down else 0) + self._conversion_us()
        else:
            self._due = None

    def _conversion_us(self) -> float:
        return (1 << self._time_code()) * 1000.0 / (1 << (self._registers[_CREG3] & 3)) / self._rate

    def _time_code(self) -> int:
        code = self._registers[_CREG1] & 0x0F
        return 0 if code == 15 else code

    def _convert(self, t_us: int) -> None:
        self.samples += 1
        values = self._source(t_us)
        gain = 1 << (11 - min(self._registers[_CREG1] >> 4, 11))
        counts_at_full_scale = 1024 << self._time_code()
        divider = 2 << (self._registers[_CREG2] & 7) if self._registers[_CREG2] & 0x08 else 1
        flags = _NDATA | (_LDATA if self._flags & _NDATA else 0)
        for index, (channel, full_scale) in enumerate(_FULL_SCALE.items()):
            share = max(0.0, values[channel]) * gain / full_scale
            if share > 1.0:
                flags |= _ADCOF
            counts = round(min(share, 1.0) * counts_at_full_scale / divider)
            if counts > 0xFFFF:
                flags |= _MRESOF
            self._results[_UVA + index] = min(counts, 0xFFFF)
        self._results[_TEMP] = word((values["temperature_uv"] - _KELVIN_AT_ZERO) / _KELVIN_PER_STEP, 0, 0xFFF)
        self._results[_OUTCONV_LOW] = counts_at_full_scale & 0xFFFF
        self._results[_OUTCONV_HIGH] = counts_at_full_scale >> 16
        self._flags = flags
        self._log(self.SENSOR, t_us, {name: values[name] for name in ("uva", "uvb", "uvc", "temperature_uv")})
