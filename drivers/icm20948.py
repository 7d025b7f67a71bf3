"""TDK ICM-20948: acceleration, angular rate and die temperature at 102.27 Hz through its FIFO, with the AK09916 magnetometer behind it.

I2C 0x68 or 0x69, 400 kHz. Registers and rules: PX4 InvenSense_ICM20948, SparkFun ICM_20948_C.c, Zephyr icm20948.c. The chip's I2C master
reads nine bytes of the magnetometer (ST1 .. ST2) at each of its own cycles and puts them into the FIFO behind the axes, so a FIFO frame is
one consistent sample of 23 bytes. The FIFO holds 22 of them (512 bytes: PX4; 0.215 s): it is drained every 50 ms. There is no exact 100 Hz:
1125 / (1 + 10) = 102.27 Hz. What a frame means: icm20948_frame.py; what the registers are set to: icm20948_settings.py.

Whatever may have cost frames ends in an emptied FIFO and a `gap_reason`: an overflow, a count that is no multiple of a frame (PX4; more
than ten such in a row reset the chip), a read that broke off. Each read begins at the count and runs on into the FIFO (PX4): frames are
taken only if that count is whole and no less than the one that was asked for before, and if behind it USER_CTRL .. PWR_MGMT_2 are as set:
a chip that lost its supply for a moment otherwise looks healthy. These are also read every 100 ms, and in turn FIFO_EN .. FIFO_MODE, bank 2
(ranges, rates, offsets) and slave 0. All that checking is less than 2 % of the bus at 400 kHz. What it cannot see is a flipped bit of a
sample on the wire: the FIFO has no checksum and gives each byte once.

A restart first looks whether the chip still runs as it was set. If so only the FIFO is emptied and the samples go on in their phase.
A magnetometer that falls silent is set up again every 5 s while the other axes go on. While it does not acknowledge slave 0 (Linux
inv_mpu_aux.c looks for that, too), its old bytes would stand in the frames as new ones: they lose their data-ready.

Unverified, for no public driver shows it on this chip: that the temperature stands behind the gyroscope in a FIFO frame (TDK says of its
family: in the order of the output registers); that a read from the count runs on into the FIFO on I2C as it does on PX4's SPI; what
slave 0's bytes are in a cycle without acknowledge (here: the old ones, the worst case)."""

from drivers.ak09916 import AK09916
from drivers.errors import FIFO_BROKEN, FIFO_ODD, FIFO_OVERFLOW, NO_ACKNOWLEDGE, POWER_ON_VALUES, TIME_OUT, BusError
from drivers.icm20948_registers import Registers
from drivers.icm20948_settings import Settings
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

_FIFO_OVERFLOW = const(0x1B)
_FIFO_RST = const(0x68)
_FIFO_COUNT = const(0x70)  # two bytes; FIFO_R_W behind them, where a burst stays

_FIFO_SIZE = const(512)
_FULL = const(483)  # from 21 frames on, ask the chip whether it has overflowed
_LOOKS = const(3)
_DRAIN_MS = const(50)
_CHECK_MS = const(100)
_RESET_MS = const(100)
_WAKE_MS = const(50)  # the gyroscope needs 35 (unverified: no public driver waits for it by name)
_SILENT_MS = const(500)  # no frame for 51 periods
_MAG_SILENT_FRAMES = const(205)  # 2 s of frames without one data-ready of the magnetometer
_MEND_MS = const(5000)
_FIFO_FAILURES = const(10)
_RESUMES = const(4)  # without a sample; then from the reset

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
        self._registers = Registers(i2c, address)
        self._settings = Settings(self._registers, acceleration_g, rate_dps)
        self._magnetometer = AK09916(self._registers)
        burst = memoryview(bytearray(2 + _FRAME * _AT_ONCE))  # the count, and frames behind it
        # A slice of a memoryview allocates: all that are needed are made here.
        self._bursts = [burst[: 2 + _FRAME * count] for count in range(_AT_ONCE + 1)]
        self._frames = [burst[2 : 2 + _FRAME * count] for count in range(_AT_ONCE + 1)]
        self.gap_reason = self.degraded = 0
        self._magnetometer_set = self._mending = False
        self._mag_silent = 0  # frames since it had a new sample
        self._doubt = self._old_field = self._unheard = False  # see _listen
        self._turn = 0  # of the checks
        self._waiting = 0  # bytes in the FIFO, less those read since they were counted
        self._drained = self._checked = self._sampled = self._mended = 0
        self._resumes = 0  # how often it may still be taken to run as set, before a sample comes
        self.start(0)

    def start(self, now: int) -> None:
        """Begin again: where the chip still runs as it was set by emptying its FIFO, else from the reset; nothing is sent before the next
        poll."""
        self.configured = False
        self._registers.bank = -1
        self._ready = 0
        self._spoilt = 0  # why the FIFO must be emptied before its next frame can be trusted
        self._fifo_failures = 0
        self._go(now, _RESUMING if self._resumes else _RESETTING)

    def poll(self, now: int) -> int:
        """Advance; returns how many frames can be read now. Raises BusError, or OSError of the bus."""
        if self._state != _RUN:
            self._configure(now)
            return 0
        if self._ready:
            return self._ready
        self._registers.select(0)
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
        self._spoilt = self._flaw(self._count(count))
        if self._spoilt:
            return 0
        for start in range(0, size, _FRAME):
            if self._old_field:
                frames[start + _ST1] = 0
            self._mag_silent = 0 if frames[start + _ST1] & 1 else self._mag_silent + 1
        buf[offset : offset + size] = frames
        self._ready = left
        self._waiting -= size
        self._fifo_failures = 0
        self._resumes = _RESUMES
        if self._mag_silent == 0:
            self.degraded = 0
        elif self._mag_silent > _MAG_SILENT_FRAMES:
            self.degraded = self.degraded or TIME_OUT
            self._mag_silent = _MAG_SILENT_FRAMES
        return size

    def trim(self) -> bytes:
        """ACCEL_CONFIG, GYRO_CONFIG_1, ACCEL_SMPLRT_DIV, GYRO_SMPLRT_DIV as read back; empty before the chip is configured."""
        return self._settings.trim() if self.configured else b""

    # --- the FIFO

    def _count(self, frames: int = 0) -> int:
        """What the FIFO holds, in bytes; so many `frames` are read behind it."""
        burst = self._bursts[frames]
        self._registers.select(0)
        self._registers.read_into(_FIFO_COUNT, burst)
        return (burst[0] & 0x1F) << 8 | burst[1]

    def _look(self, now: int) -> int:
        """Count what waits, again if it is not whole: the chip may just be writing, or the wire have flipped a bit (which no multiple of a
        frame survives as one)."""
        count = self._count()
        for _ in range(_LOOKS):
            if count % _FRAME == 0 and count < _FIFO_SIZE:
                break
            count = self._count()
        if self._overflowed(count):
            self._spoilt = FIFO_OVERFLOW
        elif count % _FRAME:
            self._spoilt = FIFO_ODD
        if self._spoilt:
            self._empty(now)
        elif count:
            self._unheard = True
            self._waiting = count
            self._ready = count // _FRAME
            self._sampled = now
        elif elapsed(now, self._sampled) > _SILENT_MS:
            self._resumes = 0
            raise BusError(TIME_OUT)
        return self._ready

    def _overflowed(self, count: int) -> bool:
        return count >= _FIFO_SIZE or (count >= _FULL and self._registers.read(_FIFO_OVERFLOW) & 0x1F != 0)

    def _flaw(self, counted: int) -> int:
        """Why the frames just read cannot be trusted, 0 if they can. `counted`: what the FIFO held when that read began."""
        if self._overflowed(counted):
            return FIFO_OVERFLOW  # since it was asked
        if counted % _FRAME or counted < self._waiting or not self._settings.powered():
            return FIFO_BROKEN
        if self._unheard:
            self._listen()
        return 0

    def _listen(self) -> None:
        """Whether the magnetometer answered in each cycle of the frames that were counted: asked behind the first read of a drain, for
        its time is taken between the two. It also tells of cycles since then, so a drain with a doubt casts it on the next one, too."""
        doubted, self._doubt = self._doubt, True
        self._doubt = not (self._magnetometer_set and self._magnetometer.answered())
        self._old_field = doubted or self._doubt
        self._unheard = False

    def _empty(self, now: int) -> None:
        self._fifo_failures += 1
        if self._fifo_failures > _FIFO_FAILURES:
            self._resumes = 0
            raise BusError(self._spoilt)
        self._reset_fifo()
        self.gap_reason = self._spoilt
        self._spoilt = 0
        self._sampled = now

    def _reset_fifo(self) -> None:
        registers = self._registers
        registers.select(0)
        registers.write(_FIFO_RST, 0x1F)
        registers.write(_FIFO_RST, 0x00)
        registers.read(_FIFO_OVERFLOW)  # reading clears it

    # --- whether the chip is as it was set

    def _check(self, now: int) -> None:
        self._checked = now
        turn = self._turn
        self._turn = 0 if turn == 2 else turn + 1
        settings = self._settings
        same = settings.powered()
        if same:
            same = settings.fifo_intact() if turn == 0 else settings.ranges_intact() if turn == 1 else self._magnetometer.intact()
        self._must_be(same)

    def _must_be(self, same: bool) -> None:
        if not same:
            self._resumes = 0
            raise BusError(POWER_ON_VALUES)

    def _as_set(self) -> bool:
        settings = self._settings
        return settings.powered() and settings.fifo_intact() and settings.ranges_intact() and self._magnetometer.intact()

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
            self._must_be(self._magnetometer.intact())

    # --- configuration: one step a poll

    def _configure(self, now: int) -> None:
        state = self._state
        waited = elapsed(now, self._since)
        if state == _RESUMING:
            self._resume(now)
        elif state == _RESETTING:
            self._reset(now)
        elif state == _WAITING_RESET:
            if waited >= _RESET_MS:
                self._settings.wake()
                self._magnetometer.note_power_on()
                self._go(now, _WAKING)
        elif state == _WAKING:
            if waited >= _WAKE_MS:
                self._go(now, _MAGNETOMETER)
        elif state == _MAGNETOMETER:
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
        known = self._settings.known()
        if known:
            self._reset_fifo()
        if known and self._as_set():
            self._resumes -= 1
            self._run(now)
            return
        self._resumes = 0
        self._go(now, _RESETTING)
        if known:  # said, because its samples come in a new phase: the gateway counts what is missing by it
            raise BusError(POWER_ON_VALUES)

    def _reset(self, now: int) -> None:
        self.degraded = 0
        self._magnetometer.start()
        self._magnetometer_set = False
        self._mending = False
        self._mag_silent = 0
        self._turn = 0
        self._settings.reset()
        self._go(now, _WAITING_RESET)

    def _start_sampling(self, now: int) -> None:
        self._magnetometer.begin_reading()
        self._settings.sample()
        self._reset_fifo()
        self._must_be(self._as_set())
        # Where its set-up failed it is tried again at once: what it goes through is only now known to be as set.
        self._mended = (now - _MEND_MS) & 0x3FFF_FFFF
        self._run(now)

    def _run(self, now: int) -> None:
        self.configured = True
        self._drained = now
        self._checked = now
        self._sampled = now
        self._go(now, _RUN)


def __getattr__(name: str) -> object:
    """What a frame means (QUANTITIES, decode, split, …) is loaded when it is asked for: the head only moves bytes and needs its room."""
    if name not in __all__:
        raise AttributeError(name)
    from drivers import icm20948_frame

    found: object = getattr(icm20948_frame, name)
    globals()[name] = found
    return found
