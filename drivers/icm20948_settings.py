"""What an ICM-20948's registers are set to, from its reset to samples in its FIFO, and whether they still are (sources: icm20948.py, where
it is also decided when each step is due).

What is not set here shall stay at its power-on value, which is noted behind the reset: a flipped bit of an address may have written
to it."""

from drivers.errors import TIME_OUT, WRONG_IDENTITY, BusError
from drivers.icm20948_registers import Kept, Registers
from drivers.portable import const

# Bank 0
_WHO_AM_I = const(0x00)
_USER_CTRL = const(0x03)
_LP_CONFIG = const(0x05)
_PWR_MGMT_1 = const(0x06)
_PWR_MGMT_2 = const(0x07)
_FIFO_EN_1 = const(0x66)  # and FIFO_EN_2, FIFO_RST, FIFO_MODE behind it
# Bank 2
_BANK_2 = const(0x20)
_GYRO_SMPLRT_DIV = const(0x00)  # and GYRO_CONFIG_1, _2, six bytes of offsets, ODR_ALIGN_EN behind it
_ACCEL_SMPLRT_DIV = const(0x10)  # two bytes; INTEL_CTRL, WOM_THR, ACCEL_CONFIG, _2 behind it

_IDENTITY = const(0xEA)
_DEVICE_RESET = const(0x80)
_AFTER_RESET = const(0x41)  # PWR_MGMT_1: asleep, best clock
_AWAKE = const(0x01)
_MASTER_ON = const(0x20)
_RUNNING = const(0x60)  # USER_CTRL: FIFO and I2C master on
_MASTER_RESET = const(0x02)  # clears itself
_DIVIDER = const(10)
_FILTER = const(0x19)  # DLPF 3 (gyroscope 51 Hz, accelerometer 50 Hz), filter on; the range's code stands in bits 2:1
_ACCELERATIONS = (2, 4, 8, 16)  # g, by code
_RATES = (250, 500, 1000, 2000)  # °/s, by code


class Settings:
    """Ranges ± `acceleration_g` (2, 4, 8, 16) and ± `rate_dps` (250, 500, 1000, 2000); ValueError for others."""

    def __init__(self, registers: Registers, acceleration_g: int, rate_dps: int) -> None:
        if acceleration_g not in _ACCELERATIONS:
            raise ValueError("icm20948: acceleration_g must be 2, 4, 8 or 16")
        if rate_dps not in _RATES:
            raise ValueError("icm20948: rate_dps must be 250, 500, 1000 or 2000")
        self._acceleration = _FILTER | _ACCELERATIONS.index(acceleration_g) << 1
        self._rate = _FILTER | _RATES.index(rate_dps) << 1
        self._registers = registers
        self._power = bytearray(5)  # USER_CTRL .. PWR_MGMT_2
        self._fifo = Kept(registers, 0, _FIFO_EN_1, 4)
        self._gyro = Kept(registers, _BANK_2, _GYRO_SMPLRT_DIV, 10)
        self._accel = Kept(registers, _BANK_2, _ACCEL_SMPLRT_DIV, 6)

    def known(self) -> bool:
        """Whether it is an ICM-20948."""
        self._registers.select(0)
        return self._registers.read(_WHO_AM_I) == _IDENTITY

    def reset(self) -> None:
        """Begin the reset of the whole chip; it takes some milliseconds."""
        if not self.known():
            raise BusError(WRONG_IDENTITY)
        self._registers.write(_PWR_MGMT_1, _DEVICE_RESET)
        self._registers.bank = -1

    def wake(self) -> None:
        """Behind the reset: its I2C master runs. BusError(TIME_OUT) if it is still in reset."""
        registers = self._registers
        registers.select(0)
        if registers.read(_PWR_MGMT_1) != _AFTER_RESET:
            raise BusError(TIME_OUT)
        self._gyro.note()
        self._accel.note()
        self._fifo.note()
        registers.write(_PWR_MGMT_1, _AWAKE)
        registers.write(_PWR_MGMT_2, 0)
        registers.write(_LP_CONFIG, 0)  # the I2C master runs at each sample, not on a duty cycle of its own
        registers.write(_USER_CTRL, _MASTER_ON)

    def sample(self) -> None:
        """Samples go into the FIFO from here on."""
        gyro, accel, fifo = self._gyro, self._accel, self._fifo
        gyro.put(0, _DIVIDER)
        gyro.put(1, self._rate)
        gyro.put(9, 1)  # ODR_ALIGN_EN: the samples of both begin together
        accel.put(0, 0)
        accel.put(1, _DIVIDER)
        accel.put(4, self._acceleration)
        fifo.put(3, 0)  # stream
        fifo.put(0, 0x01)  # slave 0
        fifo.put(1, 0x1F)  # accelerometer, three gyroscope axes, temperature
        self._registers.write(_USER_CTRL, _RUNNING)

    def powered(self) -> bool:
        """Whether it is awake and samples, by USER_CTRL to PWR_MGMT_2. Allocates nothing."""
        power = self._power
        self._registers.select(0)
        for _ in range(2):  # a bit may flip on the wire: look again
            self._registers.read_into(_USER_CTRL, power)
            if power[0] & ~_MASTER_RESET == _RUNNING and power[2] == 0 and power[3] == _AWAKE and power[4] == 0:
                return True
        return False

    def fifo_intact(self) -> bool:
        """Whether the FIFO is set as `sample` did. Allocates nothing."""
        return self._fifo.intact()

    def ranges_intact(self) -> bool:
        """Whether ranges, rates, filters and offsets are. Allocates nothing."""
        return self._gyro.intact() and self._accel.intact()

    def trim(self) -> bytes:
        """ACCEL_CONFIG, GYRO_CONFIG_1, ACCEL_SMPLRT_DIV, GYRO_SMPLRT_DIV."""
        accel, gyro = self._accel.wanted, self._gyro.wanted
        return bytes((accel[4], gyro[1], accel[0], accel[1], gyro[0]))
