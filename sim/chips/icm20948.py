"""ICM-20948: accelerometer, gyroscope, FIFO and the I2C master that reads the AK09916 inside (facts/sensors-and-head.md 1.10).

Modelled: four register banks with their power-on values, sleep and reset, one output rate from the chip's own oscillator, full scales with
saturation, output registers, the die's temperature, the 512-byte FIFO (stream and snapshot, byte-exact count, in the order of the output
registers), SLV0 in every cycle into EXT_SLV_DATA and FIFO, SLV4 single transfers, bypass, TEMP_DIS, the clock stopped by CLKSEL 7. Not
modelled: the low-pass filters (their codes are accepted; a sample is the source's value at its instant), the low-power modes (LP_CONFIG and
LP_EN are only kept), the DMP, interrupts pins, I2C_IF_DIS, SLV1 to 3, SLV0's byte swapping, offset registers, different rates for the two
sensors (both follow the gyroscope's divider while it is on). A read of the empty FIFO gives FF (TDK's datasheets of this family).
"""

from collections.abc import Mapping

from sim.chips.ak09916 import AK09916, TESLA_PER_STEP
from sim.chips.faces import Log, RegisterFace, Source, word
from sim.chips.fifo import SampleFifo

G = 9.80665  # m/s²
_DEGREE = 0.017453292519943295  # rad
_ACCELERATION = ("acceleration_x", "acceleration_y", "acceleration_z")
_ANGULAR_RATE = ("angular_rate_x", "angular_rate_y", "angular_rate_z")
_FIELD = ("magnetic_field_x", "magnetic_field_y", "magnetic_field_z")
_TEMPERATURE = "temperature_imu"
_STEPS_PER_KELVIN, _ZERO_KELVIN = 333.87, 294.15  # the temperature word is 0 at 21 °C

FIFO_BYTES = 512
_BASE_HZ = 1125.0  # output rate = 1125 / (1 + divider); there is no exact 100 Hz
_UNFILTERED_HZ = 9000.0  # FCHOICE 0: the filter is bypassed and with it the divider
_RESET_US = 9_000  # registers take no write for so long after a reset: the public driver that waits least (Pimoroni) waits 10 ms, PX4 100

# Bank 0
_WHO_AM_I, _USER_CTRL, _PWR_1, _PWR_2, _INT_PIN_CFG = 0x00, 0x03, 0x06, 0x07, 0x0F
_MST_STATUS, _INT_STATUS_1, _INT_STATUS_2 = 0x17, 0x1A, 0x1B
_ACCEL_OUT, _GYRO_OUT, _TEMP_OUT, _EXT_SLV = 0x2D, 0x33, 0x39, 0x3B
_FIFO_EN_1, _FIFO_EN_2, _FIFO_RST, _FIFO_MODE, _FIFO_COUNT_H, _FIFO_COUNT_L, _FIFO_R_W, _DATA_RDY = (
    0x66, 0x67, 0x68, 0x69, 0x70, 0x71, 0x72, 0x74,
)  # fmt: skip
_BANK_SELECT = 0x7F
# Bank 2
_GYRO_DIV, _GYRO_CONFIG, _ACCEL_DIV_H, _ACCEL_DIV_L, _ACCEL_CONFIG = 0x00, 0x01, 0x10, 0x11, 0x14
# Bank 3
_SLV0, _SLV4, _SLV4_CTRL, _SLV4_DI = 0x03, 0x13, 0x15, 0x17
_READ_ONLY = {_WHO_AM_I, _MST_STATUS, *range(0x19, 0x1D), *range(_ACCEL_OUT, 0x53), _FIFO_COUNT_H, _FIFO_COUNT_L, _DATA_RDY}

_POWER_ON: tuple[dict[int, int], ...] = ({_WHO_AM_I: 0xEA, 0x05: 0x40, _PWR_1: 0x41}, {}, {_GYRO_CONFIG: 0x01, _ACCEL_CONFIG: 0x01}, {})


class ICM20948(RegisterFace):
    """The chip at 0x68. `ppm` is its oscillator's error (its output data rate is fast by so much), `magnetometer_ppm` the AK09916's."""

    SENSOR = "icm20948"
    RANGE = {
        **dict.fromkeys(_ACCELERATION, (-8 * G, 8 * G)),
        **dict.fromkeys(_ANGULAR_RATE, (-500 * _DEGREE, 500 * _DEGREE)),
        **dict.fromkeys(_FIELD, (-1600e-6, 1600e-6)),  # each axis alone may go to 4912 µT; the sum of all three may not
        _TEMPERATURE: (233.15, 358.15),
    }
    # Half a step at ±8 g and ±500 °/s.
    EPSILON = {
        **dict.fromkeys(_ACCELERATION, G / 4096 / 2),
        **dict.fromkeys(_ANGULAR_RATE, _DEGREE / 65.5 / 2),
        **dict.fromkeys(_FIELD, TESLA_PER_STEP / 2),
        _TEMPERATURE: 0.5 / _STEPS_PER_KELVIN,
    }

    def __init__(self, source: Source, log: Log, address: int = 0x68, ppm: float = 800.0, magnetometer_ppm: float = -1_200.0) -> None:
        super().__init__()
        self.address = address
        self._source = source
        self._log = log
        self._rate = 1.0 + ppm * 1e-6
        self._now = 0
        self._reset_until = 0
        self._period: float | None = None
        self._origin = 0.0
        self._count = 0
        self.fifo = SampleFifo(FIFO_BYTES)
        self.magnetometer = AK09916(source, magnetometer_ppm, self._bypassed)
        self._reset(0)

    @property
    def samples(self) -> int:
        """Samples written to the FIFO, ever."""
        return self.fifo.made

    def power_cycle(self) -> None:
        """A brown-out: both dies back at their power-on values."""
        self.magnetometer.power_cycle()
        self._reset(0)

    def advance(self, now_us: int) -> None:
        """Makes the samples due until `now_us`."""
        if self._reset_until and now_us >= self._reset_until:
            self._reset_until = 0
            self._banks[0][_PWR_1] &= 0x7F
        while self._period is not None:
            due = self._origin + (self._count + 1) * self._period
            if due > now_us:
                break
            self._count += 1
            following = due + self._period
            self._sample(int(due), newest=following > now_us)
        self.magnetometer.advance(now_us)
        self._now = max(self._now, now_us)

    def after(self, register: int) -> int:
        """Bursts move on, except at FIFO_R_W, which stays."""
        if register == _FIFO_R_W and self._bank == 0:
            return register
        return (register + 1) & 0x7F

    def get(self, register: int) -> int:
        """One register of the selected bank (an address has 7 bits); status registers clear when read."""
        register &= 0x7F
        if register == _BANK_SELECT:
            return self._bank << 4
        bank = self._banks[self._bank]
        value = bank[register]
        if self._bank == 0:
            if register == _FIFO_COUNT_H:  # reading the high byte latches the low one
                count = len(self.fifo)
                bank[_FIFO_COUNT_L] = count & 0xFF
                return count >> 8
            if register == _FIFO_R_W:
                return self.fifo.pop()
            if register in (_MST_STATUS, _INT_STATUS_1, _INT_STATUS_2):
                bank[register] = 0
        return value

    def put(self, register: int, value: int) -> None:
        """Writes one register of the selected bank; nothing is taken while a reset runs, read-only registers stay."""
        register &= 0x7F
        if register == _BANK_SELECT:
            self._bank = (value >> 4) & 3
            return
        if self._reset_until or (self._bank == 0 and register in _READ_ONLY):
            return
        bank = self._banks[self._bank]
        if self._bank == 0 and register == _PWR_1 and value & 0x80:
            self._reset(self._now + _RESET_US)
            return
        before = bank[register]
        bank[register] = value
        if self._bank == 0:
            self._put_bank_0(register, value)
            if register == _USER_CTRL and value & ~before & 0x20 and not bank[_PWR_1] & 0x40:
                # It does not wait for the next sample: Pimoroni's public driver enables it for 5 ms of a sample's 9.8, and reads.
                self.magnetometer.advance(self._now)
                self._master()
        if (self._bank, register) in ((0, _PWR_1), (0, _PWR_2), (2, _GYRO_DIV), (2, _GYRO_CONFIG), (2, _ACCEL_DIV_H), (2, _ACCEL_DIV_L)):
            self._set_rate()

    def _put_bank_0(self, register: int, value: int) -> None:
        if register == _USER_CTRL:
            if value & 0x04:
                self.fifo.clear()
            self._banks[0][_USER_CTRL] = value & ~0x0E  # the reset bits clear themselves
        elif register == _FIFO_RST and value & 1:
            self.fifo.clear()
        elif register == _FIFO_MODE:
            self.fifo.stream = not value & 1

    def _reset(self, until_us: int) -> None:
        """Registers to power-on values; the device-reset bit reads back until `until_us`."""
        self._banks = tuple(bytearray(0x80) for _ in range(4))
        for bank, values in zip(self._banks, _POWER_ON, strict=True):
            for register, value in values.items():
                bank[register] = value
        self._bank = 0
        self._reset_until = until_us
        if until_us:
            self._banks[0][_PWR_1] |= 0x80
        self.fifo.clear()
        self.fifo.stream = True
        self._period = None
        self._set_rate()

    def _set_rate(self) -> None:
        """Derives the sample period from power and dividers; a change begins a new series at the present."""
        powered, off = self._banks[0][_PWR_1], self._banks[0][_PWR_2]
        gyro_on, accel_on = off & 0x07 != 0x07, off & 0x38 != 0x38
        period = None
        if not powered & 0x40 and powered & 0x07 != 0x07 and (gyro_on or accel_on):
            second = self._banks[2]
            divider = second[_GYRO_DIV] if gyro_on else (second[_ACCEL_DIV_H] & 0x0F) << 8 | second[_ACCEL_DIV_L]
            filtered = second[_GYRO_CONFIG if gyro_on else _ACCEL_CONFIG] & 1
            hertz = _BASE_HZ / (1 + divider) if filtered else _UNFILTERED_HZ
            period = 1e6 / (hertz * self._rate)
        if period != self._period:
            self._period = period
            self._origin = float(self._now)
            self._count = 0

    def _sample(self, t_us: int, newest: bool) -> None:
        """One cycle: the I2C master, then the sensors. Values are asked of the world only if somebody can see them."""
        self.magnetometer.advance(t_us)
        bank = self._banks[0]
        if bank[_USER_CTRL] & 0x20:
            self._master()
        into_fifo = self._fifo_on()
        if not (into_fifo or newest):
            return
        values = self._source(t_us)
        bank[_ACCEL_OUT:_GYRO_OUT] = self._acceleration(values)
        bank[_GYRO_OUT:_TEMP_OUT] = self._angular_rate(values)
        kelvin = values.get(_TEMPERATURE, values.get("temperature", 298.15))  # a world without this box: air, or a room
        if not bank[_PWR_1] & 0x08:
            bank[_TEMP_OUT:_EXT_SLV] = word((kelvin - _ZERO_KELVIN) * _STEPS_PER_KELVIN).to_bytes(2, "big", signed=True)
        bank[_INT_STATUS_1] |= 1
        if into_fifo:
            self._push(t_us, values, kelvin)

    def _acceleration(self, values: Mapping[str, float]) -> bytes:
        step = G / (16384 >> (self._banks[2][_ACCEL_CONFIG] >> 1 & 3))
        return b"".join(word(values[axis] / step).to_bytes(2, "big", signed=True) for axis in _ACCELERATION)

    def _angular_rate(self, values: Mapping[str, float]) -> bytes:
        step = _DEGREE / (131.0, 65.5, 32.8, 16.4)[self._banks[2][_GYRO_CONFIG] >> 1 & 3]
        return b"".join(word(values[axis] / step).to_bytes(2, "big", signed=True) for axis in _ANGULAR_RATE)

    def _fifo_on(self) -> bool:
        bank = self._banks[0]
        return bool(bank[_USER_CTRL] & 0x40 and (bank[_FIFO_EN_1] & 0x0F or bank[_FIFO_EN_2] & 0x1F) and not bank[_FIFO_RST] & 1)

    def _push(self, t_us: int, values: Mapping[str, float], kelvin: float) -> None:
        """One FIFO sample: acceleration, angular rate by axis, temperature, SLV0's bytes, as FIFO_EN_1 and _2 choose."""
        bank = self._banks[0]
        chosen = bank[_FIFO_EN_2]
        frame = bytearray()
        if chosen & 0x10:
            frame += bank[_ACCEL_OUT:_GYRO_OUT]
        for axis in range(3):
            if chosen & (0x02 << axis):
                frame += bank[_GYRO_OUT + 2 * axis : _GYRO_OUT + 2 * axis + 2]
        if chosen & 0x01:
            frame += bank[_TEMP_OUT:_EXT_SLV]
        control = self._banks[3][_SLV0 + 2]
        if bank[_FIFO_EN_1] & 0x01 and control & 0x80:
            frame += bank[_EXT_SLV : _EXT_SLV + (control & 0x0F)]
        if not frame:
            return
        self.fifo.push(bytes(frame))
        if self.fifo.overflowed:
            self.fifo.overflowed = False
            bank[_INT_STATUS_2] |= 0x01
        exact = {axis: values[axis] for axis in (*_ACCELERATION, *_ANGULAR_RATE)}
        exact[_TEMPERATURE] = kelvin
        exact.update(self.magnetometer.newest)
        self._log(self.SENSOR, t_us, exact)

    def _bypassed(self) -> bool:
        bank = self._banks[0]
        return bool(bank[_INT_PIN_CFG] & 0x02) and not bank[_USER_CTRL] & 0x20

    def _master(self) -> None:
        """The I2C master's cycle: SLV0 as configured, and one pending SLV4 transfer."""
        third = self._banks[3]
        address, register, control, data_out = third[_SLV0 : _SLV0 + 4]
        if control & 0x80:
            if address & 0x7F != self.magnetometer.address:
                self._banks[0][_MST_STATUS] |= 0x01
            elif address & 0x80:
                for offset in range(control & 0x0F):
                    self._banks[0][_EXT_SLV + offset] = self.magnetometer.get(register + offset)
            else:
                self.magnetometer.put(register, data_out)
        if third[_SLV4_CTRL] & 0x80:
            address, register, control, data_out = third[_SLV4 : _SLV4 + 4]
            third[_SLV4_CTRL] = control & 0x7F
            self._banks[0][_MST_STATUS] |= 0x40
            if address & 0x7F != self.magnetometer.address:
                self._banks[0][_MST_STATUS] |= 0x10
            elif address & 0x80:
                third[_SLV4_DI] = self.magnetometer.get(register)
            else:
                self.magnetometer.put(register, data_out)
