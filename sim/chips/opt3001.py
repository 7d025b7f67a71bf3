"""OPT3001 ambient light sensor (facts/sensors-and-head.md 1.5): 16-bit big-endian registers, a result of exponent and mantissa.

Modelled: auto-range and fixed range, single and continuous conversion, conversion time from the chip's own oscillator, conversion-ready,
overflow and limit flags. A conversion takes the light at its end (not the mean over it). Not modelled: the interrupt pin.
"""

from sim.chips.faces import Log, Source, WordFace

_RESULT, _CONFIG, _LOW_LIMIT, _HIGH_LIMIT, _MANUFACTURER, _DEVICE = 0x00, 0x01, 0x02, 0x03, 0x7E, 0x7F
_POWER_ON = {_RESULT: 0x0000, _CONFIG: 0xC810, _LOW_LIMIT: 0xC000, _HIGH_LIMIT: 0xBFFF, _MANUFACTURER: 0x5449, _DEVICE: 0x3001}
_OVF, _CRF, _FH, _FL = 0x0100, 0x0080, 0x0040, 0x0020
_FLAGS = _OVF | _CRF | _FH | _FL
_LATCH = 0x0010
_MODE = 0x0600
_SINGLE = 0x0200
_LUX = 0.01  # per step at exponent 0
_HIGHEST_EXPONENT = 11
_AUTO = 12


def encode(lux: float, range_number: int) -> tuple[int, bool]:
    """The result register for `lux` and whether it overflowed; range number 12 chooses the smallest exponent that holds it."""
    steps = max(0.0, lux / _LUX)
    exponent = range_number
    if range_number >= _AUTO:
        exponent = 0
        while exponent < _HIGHEST_EXPONENT and round(steps / (1 << exponent)) > 0xFFF:
            exponent += 1
    mantissa = round(steps / (1 << exponent))
    return exponent << 12 | min(mantissa, 0xFFF), mantissa > 0xFFF


def _steps(result: int) -> int:
    return (result & 0xFFF) << (result >> 12)


class OPT3001(WordFace):
    """The chip at 0x45; `ppm` is the error of its oscillator (conversions are short by so much)."""

    SENSOR = "opt3001"
    ORDER = "big"
    RANGE = {"illuminance": (0.0, 83_865.6)}
    EPSILON = {"illuminance": _LUX * (1 << _HIGHEST_EXPONENT) / 2}  # at the top; `epsilon` says it for a value

    def __init__(self, source: Source, log: Log, address: int = 0x45, ppm: float = -20_000.0) -> None:
        super().__init__()
        self.address = address
        self._source = source
        self._log = log
        self._rate = 1.0 + ppm * 1e-6
        self._now = 0
        self.samples = 0  # conversions made
        self.power_cycle()

    @staticmethod
    def epsilon(quantity: str, value: float) -> float:
        """The largest rounding error of a reading of `value` lx of illuminance (the one `quantity`) in auto-range, lx."""
        result, _ = encode(value, _AUTO)
        return _LUX * (1 << (result >> 12)) / 2

    def power_cycle(self) -> None:
        """A brown-out: registers back at their power-on values, shut down."""
        self._registers = dict(_POWER_ON)
        self.forget()
        self._due: float | None = None

    def advance(self, now_us: int) -> None:
        """Makes the conversions due until `now_us`."""
        self._now = max(self._now, now_us)
        while self._due is not None and self._due <= self._now:
            due = self._due
            self._convert(int(due))
            if self._registers[_CONFIG] & _MODE == _SINGLE:
                self._registers[_CONFIG] &= ~_MODE
                self._due = None
            else:
                self._due = due + self._conversion_us()

    def get(self, register: int) -> int:
        """A register the chip does not have reads 0."""
        value = self._registers.get(register, 0)
        if register == _CONFIG:  # reading it clears conversion-ready, and the flags while they are latched
            self._registers[_CONFIG] = value & ~(_CRF | (_FH | _FL if value & _LATCH else 0))
        return value

    def put(self, register: int, value: int) -> None:
        """The setting begins or ends conversions; of the others only the limits can be written."""
        if register == _CONFIG:
            self._registers[_CONFIG] = value & ~_FLAGS | self._registers[_CONFIG] & _FLAGS & ~_CRF
            self._due = self._now + self._conversion_us() if value & _MODE else None
        elif register in (_LOW_LIMIT, _HIGH_LIMIT):
            self._registers[register] = value

    def _conversion_us(self) -> float:
        return (800_000 if self._registers[_CONFIG] & 0x0800 else 100_000) / self._rate

    def _convert(self, t_us: int) -> None:
        self.samples += 1
        lux = self._source(t_us)["illuminance"]
        config = self._registers[_CONFIG]
        result, overflow = encode(lux, config >> 12)
        self._registers[_RESULT] = result
        high = _steps(result) > _steps(self._registers[_HIGH_LIMIT])
        low = _steps(result) < _steps(self._registers[_LOW_LIMIT])
        kept = config & (_FH | _FL) if config & _LATCH else 0
        flags = _CRF | (_OVF if overflow else 0) | (_FH if high else 0) | (_FL if low else 0)
        self._registers[_CONFIG] = config & ~_FLAGS | kept | flags
        self._log(self.SENSOR, t_us, {"illuminance": lux})
