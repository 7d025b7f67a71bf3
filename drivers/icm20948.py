"""TDK ICM-20948: acceleration and angular rate at 102.27 Hz through its FIFO, with the AK09916 magnetometer behind it.

Registers and rules: PX4 InvenSense_ICM20948, SparkFun ICM_20948_C.c, Zephyr icm20948.c. The chip's I2C master reads nine bytes of the
magnetometer (ST1 .. ST2) at each of its own cycles and puts them into the FIFO behind the axes, so a FIFO frame is one consistent sample
of 21 bytes. The FIFO holds 24 of them (0.235 s): it is drained every 50 ms.

From PX4: a count at the FIFO's size, or one that is no multiple of a frame, is answered by emptying the FIFO and counting a gap; more
than ten such in a row by a reset of the chip. USER_CTRL and PWR_MGMT_1 are read back every 100 ms: a chip that lost its supply for a
moment otherwise looks healthy and sends nothing. There is no exact 100 Hz: 1125 / (1 + 10) = 102.27 Hz."""

import struct

from drivers.ak09916 import AK09916
from drivers.errors import FIFO_ODD, FIFO_OVERFLOW, NO_ACKNOWLEDGE, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "icm20948"
_FRAME = const(21)
RAW_SIZE = _FRAME  # accel x y z, gyro x y z (s16 BE), ST1, HX HY HZ (s16 LE), TMPS, ST2
TRIM_SIZE = 5
PERIOD_MS = 0  # the FIFO counts, not the clock
_AT_ONCE = const(11)
FRAMES_AT_ONCE = _AT_ONCE  # as many as a SAMPLE frame holds

_BANK_SELECT = const(0x7F)
# Bank 0
_WHO_AM_I = const(0x00)
_USER_CTRL = const(0x03)
_LP_CONFIG = const(0x05)
_PWR_MGMT_1 = const(0x06)
_PWR_MGMT_2 = const(0x07)
_FIFO_OVERFLOW = const(0x1B)
_FIFO_EN_1 = const(0x66)  # and FIFO_EN_2, FIFO_RST, FIFO_MODE behind it
_FIFO_RST = const(0x68)
_FIFO_MODE = const(0x69)
_FIFO_COUNT = const(0x70)
_FIFO_R_W = const(0x72)
# Bank 2
_GYRO_SMPLRT_DIV = const(0x00)
_GYRO_CONFIG_1 = const(0x01)
_ODR_ALIGN_EN = const(0x09)
_ACCEL_SMPLRT_DIV = const(0x10)
_ACCEL_CONFIG = const(0x14)

_IDENTITY = const(0xEA)
_DEVICE_RESET = const(0x80)
_AFTER_RESET = const(0x41)  # PWR_MGMT_1: asleep, best clock
_AWAKE = const(0x01)
_MASTER_ON = const(0x20)
_RUNNING = const(0x60)  # USER_CTRL: FIFO and I2C master on
_DIVIDER = const(10)
_GYRO_500_DPS = const(0x1B)  # DLPF 3 (51 Hz), ±500 °/s, filter on
_ACCEL_8_G = const(0x1D)  # DLPF 3 (50 Hz), ±8 g, filter on

_FIFO_SIZE = const(512)
_FULL = const(483)  # from 23 frames on, ask the chip whether it has overflowed
_DRAIN_MS = const(50)
_CHECK_MS = const(100)
_RESET_MS = const(100)
_WAKE_MS = const(50)  # the gyroscope needs 35
_SILENT_MS = const(500)  # no frame for 51 periods
_MAG_SILENT_FRAMES = const(205)  # 2 s of frames without one data-ready of the magnetometer
_FIFO_FAILURES = const(10)

_RESETTING, _WAITING_RESET, _WAKING, _MAGNETOMETER, _STARTING, _RUN = range(6)


class ICM20948:
    """The chip on an I2C bus with machine.I2C's methods.

    `gap_reason` is FIFO_OVERFLOW or FIFO_ODD when frames were lost since the reader last cleared it (how many cannot be known).
    `degraded` is a reason while the chip works without its magnetometer."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS

    def __init__(self, i2c: "I2C", address: int = 0x68) -> None:
        self._i2c = i2c
        self._address = address
        self._one = bytearray(1)
        self._two = bytearray(2)
        self._power = bytearray(4)  # USER_CTRL .. PWR_MGMT_1
        self._settings = bytearray(TRIM_SIZE)
        frames = memoryview(bytearray(_FRAME * _AT_ONCE))
        # A slice of a memoryview allocates: all that are needed are made here.
        self._frames = [frames[: _FRAME * count] for count in range(_AT_ONCE + 1)]
        self._magnetometer = AK09916(self)
        self.gap_reason = 0
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again from the reset; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self._state = _RESETTING
        self._since = now
        self._magnetometer.start()
        self._ready = 0
        self._drained = now
        self._checked = now
        self._sampled = now
        self._mag_silent = 0
        self._fifo_failures = 0

    def poll(self, now: int) -> int:
        """Advance; returns how many frames can be read now. Raises BusError, or OSError of the bus."""
        if self._state != _RUN:
            self._configure(now)
            return 0
        if self._ready:
            return self._ready
        if elapsed(now, self._drained) < _DRAIN_MS:
            return 0
        self._drained = now
        if elapsed(now, self._checked) >= _CHECK_MS:
            self._check(now)
        return self._count(now)

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Move at most 11 whole frames, oldest first, from the FIFO into `buf`; returns bytes. Allocates nothing."""
        count = min(self._ready, _AT_ONCE, (len(buf) - offset) // _FRAME)
        if count <= 0:
            return 0
        frames = self._frames[count]
        try:
            self._i2c.readfrom_mem_into(self._address, _FIFO_R_W, frames)
        except OSError:
            # It may have stopped anywhere within a frame: what is left in the FIFO is counted anew, and if odd, dropped.
            self._ready = 0
            raise
        size = count * _FRAME
        buf[offset : offset + size] = frames
        self._ready -= count
        for start in range(0, size, _FRAME):
            self._mag_silent = 0 if frames[start + 12] & 1 else self._mag_silent + 1
        if self._mag_silent == 0:
            self.degraded = 0
        elif self._mag_silent > _MAG_SILENT_FRAMES:
            self.degraded = self.degraded or TIME_OUT
            self._mag_silent = _MAG_SILENT_FRAMES
        return size

    def trim(self) -> bytes:
        """ACCEL_CONFIG, GYRO_CONFIG_1, ACCEL_SMPLRT_DIV, GYRO_SMPLRT_DIV as read back; empty before the chip is configured."""
        return bytes(self._settings) if self.configured else b""

    # --- running

    def _count(self, now: int) -> int:
        self._i2c.readfrom_mem_into(self._address, _FIFO_COUNT, self._two)
        count = (self._two[0] & 0x1F) << 8 | self._two[1]
        if count % _FRAME and count < _FIFO_SIZE:  # perhaps it was just writing a frame: look again
            self._i2c.readfrom_mem_into(self._address, _FIFO_COUNT, self._two)
            count = (self._two[0] & 0x1F) << 8 | self._two[1]
        if count >= _FIFO_SIZE or (count >= _FULL and self.read(_FIFO_OVERFLOW) & 0x1F):
            self._empty(now, FIFO_OVERFLOW)
        elif count % _FRAME:
            self._empty(now, FIFO_ODD)
        elif count:
            self._ready = count // _FRAME
            self._sampled = now
            self._fifo_failures = 0
        elif elapsed(now, self._sampled) > _SILENT_MS:
            self._sampled = now
            raise BusError(TIME_OUT)
        return self._ready

    def _empty(self, now: int, reason: int) -> None:
        self.gap_reason = reason
        self._fifo_failures += 1
        if self._fifo_failures > _FIFO_FAILURES:
            raise BusError(reason)
        self._reset_fifo()
        self._sampled = now

    def _reset_fifo(self) -> None:
        self.write(_FIFO_RST, 0x1F)
        self.write(_FIFO_RST, 0x00)
        self.read(_FIFO_OVERFLOW)  # reading clears it

    def _check(self, now: int) -> None:
        self._checked = now
        self._i2c.readfrom_mem_into(self._address, _USER_CTRL, self._power)
        if self._power[0] != _RUNNING or self._power[3] != _AWAKE:
            raise BusError(POWER_ON_VALUES)

    # --- configuration: one step a poll

    def _configure(self, now: int) -> None:
        state = self._state
        waited = elapsed(now, self._since)
        if state == _RESETTING:
            self.select(0)
            if self.read(_WHO_AM_I) != _IDENTITY:
                raise BusError(WRONG_IDENTITY)
            self.write(_PWR_MGMT_1, _DEVICE_RESET)
            self._go(now, _WAITING_RESET)
        elif state == _WAITING_RESET:
            if waited >= _RESET_MS:
                self._wake(now)
        elif state == _WAKING:
            if waited >= _WAKE_MS:
                self._go(now, _MAGNETOMETER)
        elif state == _MAGNETOMETER:
            result = self._magnetometer.configure(now)
            if result < 0:  # six axes are better than none: go on, and say so
                self.degraded = NO_ACKNOWLEDGE
            if result:
                self._go(now, _STARTING)
        else:
            self._start_sampling(now)

    def _go(self, now: int, state: int) -> None:
        self._state = state
        self._since = now

    def _wake(self, now: int) -> None:
        if self.read(_PWR_MGMT_1) != _AFTER_RESET:
            raise BusError(TIME_OUT)  # still in reset
        self.write(_PWR_MGMT_1, _AWAKE)
        self.write(_PWR_MGMT_2, 0)
        self.write(_LP_CONFIG, 0)  # the I2C master runs at each sample, not on a duty cycle of its own
        self.write(_USER_CTRL, _MASTER_ON)
        self._go(now, _WAKING)

    def _start_sampling(self, now: int) -> None:
        self._magnetometer.begin_reading()
        self.select(0x20)
        self.write(_GYRO_SMPLRT_DIV, _DIVIDER)
        self.write(_GYRO_CONFIG_1, _GYRO_500_DPS)
        self.write(_ODR_ALIGN_EN, 1)
        self.write(_ACCEL_SMPLRT_DIV, 0)
        self.write(_ACCEL_SMPLRT_DIV + 1, _DIVIDER)
        self.write(_ACCEL_CONFIG, _ACCEL_8_G)
        settings = self._settings
        settings[0] = self.read(_ACCEL_CONFIG)
        settings[1] = self.read(_GYRO_CONFIG_1)
        settings[2] = self.read(_ACCEL_SMPLRT_DIV) & 0x0F
        settings[3] = self.read(_ACCEL_SMPLRT_DIV + 1)
        settings[4] = self.read(_GYRO_SMPLRT_DIV)
        self.select(0)
        if bytes(settings) != bytes((_ACCEL_8_G, _GYRO_500_DPS, 0, _DIVIDER, _DIVIDER)):
            raise BusError(POWER_ON_VALUES)
        self.write(_FIFO_MODE, 0)  # stream
        self.write(_FIFO_EN_1, 0x01)  # SLV0
        self.write(_FIFO_EN_1 + 1, 0x1E)  # accelerometer and three gyroscope axes
        self.write(_USER_CTRL, _RUNNING)
        self._reset_fifo()
        self.configured = True
        self._drained = now
        self._checked = now
        self._sampled = now
        self._state = _RUN

    # --- the bus, also for the magnetometer's set-up

    def select(self, bank: int) -> None:
        """Select a register bank (bits 5:4)."""
        self.write(_BANK_SELECT, bank)

    def read(self, register: int) -> int:
        """One register of the selected bank."""
        self._i2c.readfrom_mem_into(self._address, register, self._one)
        return self._one[0]

    def write(self, register: int, value: int) -> None:
        """Write one register of the selected bank."""
        self._one[0] = value
        self._i2c.writeto_mem(self._address, register, self._one)


# --- arithmetic, without the chip

_G = 9.80665  # m/s², standard gravity
_DEGREE = 0.017453292519943295  # rad
_MICROTESLA_PER_STEP = 0.15
_ACCEL_LIMIT = const(32766)  # 8 g would be 32768
_GYRO_LIMIT = const(32749)  # 500 °/s are 32750
_MAG_SIGN = (1.0, -1.0, -1.0)  # mount matrix
_ACCEL_STEPS = (16384.0, 8192.0, 4096.0, 2048.0)  # per g, by FS code
_GYRO_STEPS = (131.0, 65.5, 32.8, 16.4)  # per °/s, by FS code
_MAG_STATUS_MASK = const(0x0801)  # ST2 HOFL (magnetic overflow) and ST1 DRDY ...
_MAG_STATUS_GOOD = const(0x0001)  # ... a sample counts if it is new and did not overflow
_AXES = ("x", "y", "z")


def _scales(trim: bytes) -> tuple[float, float]:
    if len(trim) != TRIM_SIZE:
        raise ValueError("icm20948: wrong length of trim")
    return _G / _ACCEL_STEPS[trim[0] >> 1 & 3], _DEGREE / _GYRO_STEPS[trim[1] >> 1 & 3]


def sample_rate(trim: bytes) -> float:
    """Nominal samples a second (Hz). The chip's oscillator is off by up to some percent: times come from the gateway."""
    _scales(trim)
    return 1125.0 / (1 + trim[4])


def split(raw: bytes) -> tuple[int, ...]:
    """The ten s16 columns of one FIFO frame: accel x y z, gyro x y z, mag x y z, ST1 + 256 * ST2. ValueError if the length is wrong."""
    if len(raw) != RAW_SIZE:
        raise ValueError("icm20948: wrong length of raw")
    status = raw[12] | raw[20] << 8
    return struct.unpack_from(">6h", raw, 0) + struct.unpack_from("<3h", raw, 13) + (status - 0x10000 if status & 0x8000 else status,)


def columns(trim: bytes) -> "list[dict]":
    """How to read the columns of `split` (docs/formats.md section 3): typed = raw * scale within lowest..highest.

    The magnetometer's Y and Z point the other way than the accelerometer's (SparkFun, mount matrix 1 -1 -1): in the sign of `scale`.
    Accelerometer and gyroscope stay at their end values beyond their range, so those count as saturated; the magnetometer has its
    own flag."""
    acceleration, rate = _scales(trim)
    table = []
    for name, scale, limit in (("acceleration", acceleration, _ACCEL_LIMIT), ("angular_rate", rate, _GYRO_LIMIT)):
        for axis in _AXES:
            table.append(_column(name + "_" + axis, scale, -limit, limit, None, 0, 0))
    for index, axis in enumerate(_AXES):
        scale = _MAG_SIGN[index] * _MICROTESLA_PER_STEP * 1e-6
        table.append(_column("magnetic_field_" + axis, scale, -32752, 32752, 9, _MAG_STATUS_MASK, _MAG_STATUS_GOOD))
    table.append(_column("mag_status", 1.0, -32768, 32767, None, 0, 0))
    return table


def _column(name: str, scale: float, lowest: int, highest: int, status: "int | None", mask: int, value: int) -> "dict":
    return {"id": name, "scale": scale, "lowest": lowest, "highest": highest, "status": status, "mask": mask, "value": value}


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one FIFO frame, or why there is none. ValueError if a length is wrong."""
    numbers = split(raw)
    values: dict[str, float | str] = {}
    for index, column in enumerate(columns(trim)):
        number = numbers[index]
        if column["status"] is not None and numbers[9] & column["mask"] != column["value"]:
            values[column["id"]] = "saturated" if raw[20] & 0x08 else "no new sample"
        elif not column["lowest"] <= number <= column["highest"]:
            values[column["id"]] = "saturated"
        else:
            values[column["id"]] = number * column["scale"]
    del values["mag_status"]
    return values
