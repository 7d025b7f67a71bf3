"""AK09916 magnetometer, the second die inside the ICM-20948 (facts/sensors-and-head.md 1.10).

It measures at its own rate from its own oscillator, into registers that the ICM's I2C master reads. Its axes are not the IMU's:
mount matrix diag(+1, -1, -1), so the field along the body's y and z arrives with the other sign.
"""

from collections.abc import Callable, Mapping

from sim.chips.faces import RegisterFace, Source, word

_WIA1, _WIA2, _ST1, _HXL, _HZH, _TMPS, _ST2, _CNTL2, _CNTL3 = 0x00, 0x01, 0x10, 0x11, 0x16, 0x17, 0x18, 0x31, 0x32
_DRDY, _DOR, _HOFL = 0x01, 0x02, 0x08

TESLA_PER_STEP = 0.15e-6
_LIMIT = 32_752  # range of the registers, ±4912.8 µT
_OVERFLOW_TESLA = 4912e-6  # |x| + |y| + |z| from which HOFL says that the value is not to be trusted
_MOUNT = {"magnetic_field_x": 1.0, "magnetic_field_y": -1.0, "magnetic_field_z": -1.0}
_PERIODS_US = {0x02: 100_000.0, 0x04: 50_000.0, 0x06: 20_000.0, 0x08: 10_000.0}  # continuous modes by CNTL2
_SINGLE, _SELF_TEST = 0x01, 0x10
_SINGLE_US = 7_200.0


class AK09916(RegisterFace):
    """The die at 0x0C; on the outer bus it answers only while `reachable()` (the ICM's bypass) says so."""

    address = 0x0C

    def __init__(self, source: Source, ppm: float, reachable: Callable[[], bool]) -> None:
        super().__init__()
        self._source = source
        self._rate = 1.0 + ppm * 1e-6
        self._reachable = reachable
        self._now = 0
        self.samples = 0  # conversions made
        self.newest: Mapping[str, float] = {}  # exact field of the newest conversion, body frame, tesla
        self.power_cycle()

    def power_cycle(self) -> None:
        """All registers to their power-on values, power-down mode."""
        self._data = bytes(6)
        self._st1 = 0
        self._st2 = 0
        self._locked = False
        self._set_mode(0)

    def start(self, read: bool) -> bool:
        """Acknowledges only while the ICM connects it to the outer bus."""
        return super().start(read) and self._reachable()

    def advance(self, now_us: int) -> None:
        """Makes the conversions due until `now_us`."""
        while self._period is not None:
            due = self._origin + (self._count + 1) * self._period
            if due > now_us:
                break
            self._count += 1
            self._convert(int(due))
            if self._mode in (_SINGLE, _SELF_TEST):
                self._set_mode(0)
        self._now = max(self._now, now_us)

    def get(self, register: int) -> int:
        """One register; reading data locks it until ST2 is read, reading either clears DRDY and DOR."""
        if register == _WIA1:
            return 0x48
        if register == _WIA2:
            return 0x09
        if register == _ST1:
            return self._st1
        if _HXL <= register <= _TMPS:
            self._locked = True
            self._st1 = 0
            return self._data[register - _HXL] if register <= _HZH else 0
        if register == _ST2:
            self._locked = False
            self._st1 = 0
            return self._st2
        return self._mode if register == _CNTL2 else 0

    def put(self, register: int, value: int) -> None:
        """CNTL2 sets the mode, CNTL3 bit 0 resets; nothing else can be written."""
        if register == _CNTL2:
            self._set_mode(value & 0x1F)
        elif register == _CNTL3 and value & 1:
            self.power_cycle()

    def _set_mode(self, mode: int) -> None:
        self._mode = mode
        self._origin = float(self._now)
        self._count = 0
        nominal = _SINGLE_US if mode in (_SINGLE, _SELF_TEST) else _PERIODS_US.get(mode)
        self._period = None if nominal is None else nominal / self._rate

    def _convert(self, t_us: int) -> None:
        self.samples += 1
        if self._st1 & _DRDY or self._locked:
            self._st1 |= _DOR
        if self._locked:  # the host has begun to read and not yet ended with ST2: the new sample is lost
            return
        values = self._source(t_us)
        self.newest = {axis: values[axis] for axis in _MOUNT}
        raw = [word(sign * values[axis] / TESLA_PER_STEP, -_LIMIT, _LIMIT) for axis, sign in _MOUNT.items()]
        self._data = b"".join(value.to_bytes(2, "little", signed=True) for value in raw)
        self._st2 = _HOFL if sum(abs(value) for value in self.newest.values()) >= _OVERFLOW_TESLA else 0
        self._st1 |= _DRDY
