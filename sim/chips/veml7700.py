"""VEML7700 ambient light sensor (facts/sensors-and-head.md 1.6): command code and 16-bit little-endian registers, no ready flag.

The chip sees less than there is above 1000 lx, by Vishay's polynomial run backwards. The polynomial gives 1075 lx for 1000: light between
the two has no reading of its own, the model stays at 1000 there, and `epsilon` says so. Modelled: gain, integration time, shutdown,
saturation of the counter. An integration begins when the chip wakes and takes the gain it had then; a later setting counts from the next
one on. Its light is that at its end. The white channel is the other one's counts. Not modelled: power saving, the interrupt. Unverified:
the power-on value of CONF (0001, shut down, as public headers have it), the wake-up of 2.5 ms.
"""

from sim.chips.faces import Log, Source, WordFace

_CONF, _HIGH, _LOW, _POWER_SAVING, _ALS, _WHITE, _INTERRUPT = range(7)
_POWER_ON = {_CONF: 0x0001, _HIGH: 0, _LOW: 0, _POWER_SAVING: 0, _ALS: 0, _WHITE: 0, _INTERRUPT: 0}
_WRITABLE = (_CONF, _HIGH, _LOW, _POWER_SAVING)
_SHUT_DOWN = 0x0001
_GAIN = {0b00: 1.0, 0b01: 2.0, 0b10: 0.125, 0b11: 0.25}
_TIME_MS = {0b0000: 100, 0b0001: 200, 0b0010: 400, 0b0011: 800, 0b1000: 50, 0b1100: 25}
_WAKE_US = 2_500
_FINEST = 0.0042  # lx a count at 2x and 800 ms
_LINEAR_UP_TO = 1000.0  # lx
_COEFFICIENTS = (0.0, 1.0023, 8.1488e-5, -9.3924e-9, 6.0135e-13)


def _true(seen: float) -> float:
    """The light, lx, of which the linear reading is `seen`."""
    if seen <= _LINEAR_UP_TO:
        return seen
    return sum(factor * seen**power for power, factor in enumerate(_COEFFICIENTS))


def _seen(lux: float) -> float:
    """The linear reading of `lux`; bisection, for the polynomial rises everywhere."""
    if lux <= _LINEAR_UP_TO:
        return max(0.0, lux)
    low, high = _LINEAR_UP_TO, lux  # it never reads more than there is
    for _ in range(80):
        middle = (low + high) / 2
        if _true(middle) <= lux:
            low = middle
        else:
            high = middle
    return low


def _milliseconds(conf: int) -> int:
    return _TIME_MS.get(conf >> 6 & 0x0F, 100)  # a code without time: invention


def _step(conf: int) -> float:
    """lx of one count, before the polynomial."""
    return _FINEST * 800 / _milliseconds(conf) * 2.0 / _GAIN[conf >> 11 & 3]


class VEML7700(WordFace):
    """The chip at 0x10; `ppm` is the error of its oscillator (integrations are longer by so much at the default)."""

    SENSOR = "veml7700"
    ORDER = "little"
    BEHIND = b"\xff\xff"  # the bus floats high
    RANGE = {"illuminance": (0.0, 140_000.0)}
    EPSILON = {"illuminance": 80.0}  # just above 1000 lx, see above; `epsilon` says it for a value

    def __init__(self, source: Source, log: Log, address: int = 0x10, ppm: float = -50_000.0) -> None:
        super().__init__()
        self.address = address
        self._source = source
        self._log = log
        self._rate = 1.0 + ppm * 1e-6
        self._now = 0
        self.samples = 0  # integrations made
        self.power_cycle()

    @staticmethod
    def epsilon(quantity: str, value: float, conf: int = 0x1000) -> float:
        """The largest error of a reading of `value` lx (`quantity` is illuminance) at the gain and time of `conf` (1/8x, 100 ms), lx."""
        seen, half = _seen(value), _step(conf) / 2
        return max(abs(_true(seen - half) - value), abs(_true(seen + half) - value))

    def power_cycle(self) -> None:
        """A brown-out: registers back at their power-on values, shut down."""
        self._registers = dict(_POWER_ON)
        self.forget()
        self._due: float | None = None
        self._integrating = 0  # CONF of the integration under way

    def advance(self, now_us: int) -> None:
        """Ends the integrations due until `now_us`; each is followed by the next."""
        self._now = max(self._now, now_us)
        while self._due is not None and self._due <= self._now:
            due = self._due
            self._integrate(int(due))
            self._begin(due)

    def read(self) -> int:
        """The register of the command code, which must have come in this very transaction."""
        return super().read() if self._bytes else 0xFF

    def get(self, register: int) -> int:
        """A register the chip does not have reads 0."""
        return self._registers.get(register, 0)

    def put(self, register: int, value: int) -> None:
        """Settings only; waking begins an integration, shutting down breaks it off."""
        if register not in _WRITABLE:
            return
        was_shut_down = self._registers[_CONF] & _SHUT_DOWN
        self._registers[register] = value
        if register == _CONF:
            if value & _SHUT_DOWN:
                self._due = None
            elif was_shut_down:
                self._begin(self._now + _WAKE_US)

    def _begin(self, t_us: float) -> None:
        self._integrating = self._registers[_CONF]
        self._due = t_us + _milliseconds(self._integrating) * 1000 / self._rate

    def _integrate(self, t_us: int) -> None:
        self.samples += 1
        lux = self._source(t_us)["illuminance"]
        counts = min(0xFFFF, round(_seen(lux) / _step(self._integrating)))
        self._registers[_ALS] = self._registers[_WHITE] = counts
        self._log(self.SENSOR, t_us, {"illuminance": lux})
