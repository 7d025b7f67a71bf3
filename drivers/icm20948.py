"""TDK ICM-20948: acceleration, angular rate and die temperature at 102.27 Hz through its FIFO, with the AK09916 magnetometer behind it.

I2C 0x68 or 0x69, 400 kHz. Registers and rules: PX4 InvenSense_ICM20948, SparkFun ICM_20948_C.c, Zephyr icm20948.c. The chip's I2C master
reads nine bytes of the magnetometer (ST1 .. ST2) at each of its own cycles and puts them into the FIFO behind the axes, so a FIFO frame is
one consistent sample of 23 bytes. The FIFO holds 22 of them (0.215 s): it is drained every 50 ms. There is no exact 100 Hz:
1125 / (1 + 10) = 102.27 Hz.

Whatever may have cost frames ends in an emptied FIFO and a `gap_reason`: an overflow, a count that is no multiple of a frame (PX4; more
than ten such in a row reset the chip), a read that broke off. Each read begins at the count and runs on into the FIFO (PX4): frames are
taken only if that count is whole and no less than the one that was asked for before, and if behind it USER_CTRL .. PWR_MGMT_2 are as set:
a chip that lost its supply for a moment otherwise looks healthy. These are also read every 100 ms, and in turn FIFO_EN .. FIFO_MODE, bank 2
(ranges, rates, offsets) and slave 0. A bank counts as selected when it was read back. All that checking is 1.6 % of the bus at 400 kHz.
What it cannot see is a flipped bit of a sample on the wire: the FIFO has no checksum and gives each byte once.

A restart first looks whether the chip still runs as it was set. If so only the FIFO is emptied and the samples go on in their phase.
A magnetometer that falls silent is set up again every 5 s while the other axes go on."""

from drivers.ak09916 import AK09916
from drivers.errors import (
    FIFO_BROKEN,
    FIFO_ODD,
    FIFO_OVERFLOW,
    NO_ACKNOWLEDGE,
    OTHER,
    POWER_ON_VALUES,
    TIME_OUT,
    WRONG_IDENTITY,
    BusError,
)
from drivers.portable import TYPE_CHECKING, const, elapsed

if TYPE_CHECKING:
    from drivers.faces import I2C
    from drivers.icm20948_frame import QUANTITIES, columns, decode, sample_rate, split

__all__ = ("QUANTITIES", "columns", "decode", "sample_rate", "split")

SENSOR = "icm20948"
_FRAME = const(23)
RAW_SIZE = _FRAME
TRIM_SIZE = 5
PERIOD_MS = 0  # the FIFO counts, not the clock
ADDRESSES = (0x68, 0x69)
_AT_ONCE = const(10)
FRAMES_AT_ONCE = _AT_ONCE  # as many as a SAMPLE frame holds
_ST1 = const(14)  # where it stands in a frame

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
_FIFO_COUNT = const(0x70)  # two bytes; FIFO_R_W behind them, where a burst stays
# Bank 2
_BANK_2 = const(0x20)
_GYRO_SMPLRT_DIV = const(0x00)  # and GYRO_CONFIG_1, _2, six bytes of offsets, ODR_ALIGN_EN behind it
_GYRO_CONFIG_1 = const(0x01)
_ODR_ALIGN_EN = const(0x09)
_ACCEL_SMPLRT_DIV = const(0x10)  # two bytes; INTEL_CTRL, WOM_THR, ACCEL_CONFIG, _2 behind it
_ACCEL_CONFIG = const(0x14)

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
_FIFO_SET = b"\x01\x1f\x00\x00"  # slave 0; accelerometer, three gyroscope axes, temperature; not in reset; stream

_FIFO_SIZE = const(512)
_FULL = const(483)  # from 21 frames on, ask the chip whether it has overflowed
_LOOKS = const(3)
_DRAIN_MS = const(50)
_CHECK_MS = const(100)
_RESET_MS = const(100)
_WAKE_MS = const(50)  # the gyroscope needs 35
_SILENT_MS = const(500)  # no frame for 51 periods
_MAG_SILENT_FRAMES = const(205)  # 2 s of frames without one data-ready of the magnetometer
_MEND_MS = const(5000)
_FIFO_FAILURES = const(10)

_RESUMING, _RESETTING, _WAITING_RESET, _WAKING, _MAGNETOMETER, _STARTING, _RUN = range(7)


class ICM20948:
    """The chip on an I2C bus with machine.I2C's methods; ranges ± `acceleration_g` (2, 4, 8, 16) and ± `rate_dps` (250, 500, 1000, 2000).

    `gap_reason` is FIFO_OVERFLOW, FIFO_ODD or FIFO_BROKEN when frames were lost since the reader last cleared it (how many cannot be
    known). `degraded` is a reason while the chip works without its magnetometer."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS

    def __init__(self, i2c: "I2C", address: int = 0x68, acceleration_g: int = 8, rate_dps: int = 500) -> None:
        if acceleration_g not in _ACCELERATIONS:
            raise ValueError("icm20948: acceleration_g must be 2, 4, 8 or 16")
        if rate_dps not in _RATES:
            raise ValueError("icm20948: rate_dps must be 250, 500, 1000 or 2000")
        self._i2c = i2c
        self._address = address
        self._acceleration = _FILTER | _ACCELERATIONS.index(acceleration_g) << 1
        self._rate = _FILTER | _RATES.index(rate_dps) << 1
        self._one = bytearray(1)
        self._two = bytearray(2)
        self._power = bytearray(5)  # USER_CTRL .. PWR_MGMT_2
        self._fifo = bytearray(4)
        self._gyro = bytearray(10)  # of bank 2, as read and as it shall be
        self._gyro_set = bytearray(10)
        self._accel = bytearray(6)
        self._accel_set = bytearray(6)
        burst = memoryview(bytearray(2 + _FRAME * _AT_ONCE))  # the count, and frames behind it
        # A slice of a memoryview allocates: all that are needed are made here.
        self._bursts = [burst[: 2 + _FRAME * count] for count in range(_AT_ONCE + 1)]
        self._frames = [burst[2 : 2 + _FRAME * count] for count in range(_AT_ONCE + 1)]
        self._magnetometer = AK09916(self)
        self.gap_reason = 0
        self._waiting = 0  # bytes in the FIFO, less those read since they were counted
        self._drained = self._checked = self._sampled = self._mended = 0
        self._resumable = False  # it ran as set, and a sample came
        self.start(0)

    def start(self, now: int) -> None:
        """Begin again: where the chip still runs as it was set by emptying its FIFO, else from the reset; nothing is sent before the next
        poll."""
        self.configured = False
        self._begin(now)
        if self._resumable:
            self._state = _RESUMING

    def _begin(self, now: int) -> None:
        self._go(now, _RESETTING)
        self._bank = -1  # not known
        self._ready = 0
        self._spoilt = 0  # why the FIFO must be emptied before its next frame can be trusted
        self._fifo_failures = 0
        if not self._resumable:
            self.degraded = 0
            self._control = _MASTER_ON
            self._magnetometer.start()
            self._magnetometer_set = False
            self._mending = False
            self._mag_silent = 0
            self._turn = 0

    def poll(self, now: int) -> int:
        """Advance; returns how many frames can be read now. Raises BusError, or OSError of the bus."""
        if self._state != _RUN:
            self._configure(now)
            return 0
        if self._ready:
            return self._ready
        if self._bank:  # trouble came while another was selected
            self.select(0)
        if self._spoilt:
            self._empty(now)
            return 0
        if self._mending or self.degraded:
            self._mend(now)
        if elapsed(now, self._drained) < _DRAIN_MS:
            return 0
        self._drained = now
        if elapsed(now, self._checked) >= _CHECK_MS:
            self._check(now)
        return self._look(now)

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Move at most 10 whole frames, oldest first, from the FIFO into `buf`; returns bytes. Allocates nothing."""
        count = min(self._ready, _AT_ONCE, (len(buf) - offset) // _FRAME)
        if count <= 0:
            return 0
        size = count * _FRAME
        frames = self._frames[count]
        left = self._ready - count
        self._ready = 0
        self._spoilt = FIFO_BROKEN  # an error may leave the FIFO anywhere, also just between two frames
        burst = self._bursts[count]
        self._i2c.readfrom_mem_into(self._address, _FIFO_COUNT, burst)
        self._spoilt = self._flaw((burst[0] & 0x1F) << 8 | burst[1])
        if self._spoilt:
            return 0
        for start in range(0, size, _FRAME):
            if not self._magnetometer_set:  # its mode is not known: no sample
                frames[start + _ST1] = 0
            self._mag_silent = 0 if frames[start + _ST1] & 1 else self._mag_silent + 1
        buf[offset : offset + size] = frames
        self._ready = left
        self._waiting -= size
        self._fifo_failures = 0
        self._resumable = True
        if self._mag_silent == 0:
            self.degraded = 0
        elif self._mag_silent > _MAG_SILENT_FRAMES:
            self.degraded = self.degraded or TIME_OUT
            self._mag_silent = _MAG_SILENT_FRAMES
        return size

    def trim(self) -> bytes:
        """ACCEL_CONFIG, GYRO_CONFIG_1, ACCEL_SMPLRT_DIV, GYRO_SMPLRT_DIV as read back; empty before the chip is configured."""
        accel, gyro = self._accel_set, self._gyro_set
        return bytes((accel[4], gyro[1], accel[0], accel[1], gyro[0])) if self.configured else b""

    # --- the FIFO

    def _count(self) -> int:
        self._i2c.readfrom_mem_into(self._address, _FIFO_COUNT, self._two)
        return (self._two[0] & 0x1F) << 8 | self._two[1]

    def _look(self, now: int) -> int:
        """Count what waits, again if it is not whole: the chip may just be writing, or the wire have flipped a bit (which no multiple of a
        frame survives as one)."""
        count = self._count()
        for _ in range(_LOOKS):
            if count % _FRAME == 0 and count < _FIFO_SIZE:
                break
            count = self._count()
        if count >= _FIFO_SIZE or (count >= _FULL and self.read(_FIFO_OVERFLOW) & 0x1F):
            self._spoilt = FIFO_OVERFLOW
        elif count % _FRAME:
            self._spoilt = FIFO_ODD
        if self._spoilt:
            self._empty(now)
        elif count:
            self._waiting = count
            self._ready = count // _FRAME
            self._sampled = now
        elif elapsed(now, self._sampled) > _SILENT_MS:
            self._resumable = False
            raise BusError(TIME_OUT)
        return self._ready

    def _flaw(self, counted: int) -> int:
        """Why the frames just read cannot be trusted, 0 if they can. `counted`: what the FIFO held when that read began."""
        if counted == _FIFO_SIZE or (counted >= _FULL and self.read(_FIFO_OVERFLOW) & 0x1F):
            return FIFO_OVERFLOW  # since it was asked
        if counted % _FRAME or counted < self._waiting or counted > _FIFO_SIZE or not self._powered():
            return FIFO_BROKEN
        return 0

    def _empty(self, now: int) -> None:
        self._fifo_failures += 1
        if self._fifo_failures > _FIFO_FAILURES:
            self._resumable = False
            raise BusError(self._spoilt)
        self._reset_fifo()
        self.gap_reason = self._spoilt
        self._spoilt = 0
        self._sampled = now

    def _reset_fifo(self) -> None:
        self.write(_FIFO_RST, 0x1F)
        self.write(_FIFO_RST, 0x00)
        self.read(_FIFO_OVERFLOW)  # reading clears it

    # --- whether the chip is as it was set

    def _check(self, now: int) -> None:
        self._checked = now
        turn = self._turn
        self._turn = 0 if turn == 2 else turn + 1
        same = self._powered()
        if same:
            same = self._fifo_as_set() if turn == 0 else self._ranges_as_set() if turn == 1 else self._magnetometer.intact()
        if not same:
            self._resumable = False
            raise BusError(POWER_ON_VALUES)

    def _powered(self) -> bool:
        power = self._power
        for _ in range(2):  # a bit may flip on the wire: look again
            self.read_block(_USER_CTRL, power)
            if power[0] & ~_MASTER_RESET == _RUNNING and power[2] == 0 and power[3] == _AWAKE and power[4] == 0:
                return True
        return False

    def _fifo_as_set(self) -> bool:
        return self.holds(_FIFO_EN_1, self._fifo, _FIFO_SET)

    def _ranges_as_set(self) -> bool:
        self.select(_BANK_2)
        same = self.holds(_GYRO_SMPLRT_DIV, self._gyro, self._gyro_set) and self.holds(_ACCEL_SMPLRT_DIV, self._accel, self._accel_set)
        self.select(0)
        return same

    def _mend(self, now: int) -> None:
        """Set up the magnetometer again, one step a poll."""
        if not self._mending:
            if elapsed(now, self._mended) >= _MEND_MS:
                self._magnetometer.start()
                self._magnetometer_set = False
                self._mending = True
            return
        result = self._magnetometer.configure(now)
        if result:
            self._mending = False
            self._mended = now
            self._magnetometer_set = result > 0
            if not self._magnetometer.intact():
                self._resumable = False
                raise BusError(POWER_ON_VALUES)

    # --- configuration: one step a poll

    def _configure(self, now: int) -> None:
        state = self._state
        waited = elapsed(now, self._since)
        if state == _RESUMING:
            self._resume(now)
        elif state == _RESETTING:
            self.select(0)
            if self.read(_WHO_AM_I) != _IDENTITY:
                raise BusError(WRONG_IDENTITY)
            self.write(_PWR_MGMT_1, _DEVICE_RESET)
            self._bank = -1
            self._go(now, _WAITING_RESET)
        elif state == _WAITING_RESET:
            if waited >= _RESET_MS:
                self._wake(now)
        elif state == _WAKING:
            if waited >= _WAKE_MS:
                self._go(now, _MAGNETOMETER)
        elif state == _MAGNETOMETER:
            if self._bank:
                self.select(0)
            result = self._magnetometer.configure(now)
            if result < 0:  # six axes are better than none: go on, and say so
                self.degraded = NO_ACKNOWLEDGE
            self._magnetometer_set = result > 0
            if result:
                self._go(now, _STARTING)
        else:
            self._start_sampling(now)

    def _go(self, now: int, state: int) -> None:
        self._state = state
        self._since = now

    def _resume(self, now: int) -> None:
        self.select(0)
        known = self.read(_WHO_AM_I) == _IDENTITY
        same = known and self._powered()
        if same:
            self._reset_fifo()
            same = self._fifo_as_set() and self._ranges_as_set() and self._magnetometer.intact()
        self._resumable = False  # until a sample comes
        if same:
            self._run(now)
            return
        self._begin(now)
        if known:  # said, because its samples come in a new phase: the gateway counts what is missing by it
            raise BusError(POWER_ON_VALUES)

    def _wake(self, now: int) -> None:
        self.select(0)
        if self.read(_PWR_MGMT_1) != _AFTER_RESET:
            raise BusError(TIME_OUT)  # still in reset
        # What is not set here shall stay at its power-on value: a flipped bit of an address may have written to it.
        self._magnetometer.note_power_on()
        self.select(_BANK_2)
        self.read_block(_GYRO_SMPLRT_DIV, self._gyro_set)
        self.read_block(_ACCEL_SMPLRT_DIV, self._accel_set)
        self.select(0)
        self.write(_PWR_MGMT_1, _AWAKE)
        self.write(_PWR_MGMT_2, 0)
        self.write(_LP_CONFIG, 0)  # the I2C master runs at each sample, not on a duty cycle of its own
        self.write(_USER_CTRL, _MASTER_ON)
        self._go(now, _WAKING)

    def _start_sampling(self, now: int) -> None:
        self._magnetometer.begin_reading()
        gyro, accel = self._gyro_set, self._accel_set
        gyro[0], gyro[1], gyro[9] = _DIVIDER, self._rate, 1
        accel[0], accel[1], accel[4] = 0, _DIVIDER, self._acceleration
        self.select(_BANK_2)
        self.write(_GYRO_SMPLRT_DIV, _DIVIDER)
        self.write(_GYRO_CONFIG_1, self._rate)
        self.write(_ODR_ALIGN_EN, 1)
        self.write(_ACCEL_SMPLRT_DIV, 0)
        self.write(_ACCEL_SMPLRT_DIV + 1, _DIVIDER)
        self.write(_ACCEL_CONFIG, self._acceleration)
        self.select(0)
        self.write(_FIFO_MODE, 0)  # stream
        self.write(_FIFO_EN_1, 0x01)  # slave 0
        self.write(_FIFO_EN_1 + 1, 0x1F)  # accelerometer, three gyroscope axes, temperature
        self._control = _RUNNING
        self.write(_USER_CTRL, _RUNNING)
        self._reset_fifo()
        if not (self._powered() and self._fifo_as_set() and self._ranges_as_set() and self._magnetometer.intact()):
            raise BusError(POWER_ON_VALUES)
        self._mended = now
        self._run(now)

    def _run(self, now: int) -> None:
        self.configured = True
        self._drained = now
        self._checked = now
        self._sampled = now
        self._state = _RUN

    # --- the bus, also for the magnetometer's set-up

    def select(self, bank: int) -> None:
        """Select a register bank (bits 5:4) and see that it is; BusError if it is not."""
        self._bank = -1
        for _ in range(2):
            self.write(_BANK_SELECT, bank)
            if self.read(_BANK_SELECT) & 0x30 == bank:
                self._bank = bank
                return
        raise BusError(OTHER)

    def read(self, register: int) -> int:
        """One register of the selected bank."""
        self._i2c.readfrom_mem_into(self._address, register, self._one)
        return self._one[0]

    def read_block(self, register: int, buf: bytearray) -> None:
        """Registers from `register` on, of the selected bank."""
        self._i2c.readfrom_mem_into(self._address, register, buf)

    def holds(self, register: int, buf: bytearray, wanted: bytes | bytearray) -> bool:
        """Whether the registers from `register` on are `wanted`; a second look decides. `buf` is room to read them."""
        self.read_block(register, buf)
        if buf != wanted:
            self.read_block(register, buf)
        return buf == wanted

    def write(self, register: int, value: int) -> None:
        """Write one register of the selected bank."""
        self._one[0] = value
        self._i2c.writeto_mem(self._address, register, self._one)

    def reset_master(self) -> None:
        """Reset the chip's own I2C master; all else goes on."""
        self.write(_USER_CTRL, self._control | _MASTER_RESET)


def __getattr__(name: str) -> object:
    """What a frame means (QUANTITIES, decode, split, …) is loaded when it is asked for: the head only moves bytes and needs its room."""
    if name not in __all__:
        raise AttributeError(name)
    from drivers import icm20948_frame

    found: object = getattr(icm20948_frame, name)
    globals()[name] = found
    return found
