"""What a Sensirion SPS30 says and does on either wire; drivers/sps30.py and drivers/sps30_i2c.py only carry requests and replies.

It makes one sample a second, each read once. Bit 7 of the state byte of a serial reply says that the device has a fault it keeps in its
status register. The register exists from firmware 2.2 on and is read behind every sample, before that sample is delivered: a laser or fan
failure (bits 5, 4) is BusError(DEVICE_FAULT) and no sample, a fan speed out of range (bit 21) makes the sensor degraded. The register is
cleared and watched: a failure must stay away for 3 s, because the sensor looks once a second and believes the second time (own knowledge
of the data sheet's section 4.4, unverified). Before firmware 2.2 bit 7 makes the sensor degraded.

Fan cleaning takes 10 s in which values are not representative: what comes then, and for one sample longer, is thrown away. The sensor's
own weekly cleaning counts hours of power only, so a truck must ask for it; where it does happen, the silence is a time-out. Values settle
for 8 to 30 s after a start (unverified); they are delivered. Sleep and wake need firmware 2.0: an older one is only stopped."""

import struct

from drivers.errors import DEVICE_FAULT, FAN_CLEANING, OTHER, TIME_OUT, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed

SENSOR = "sps30"
QUANTITIES = (
    "pm1", "pm2_5", "pm4", "pm10", "particles_0_5", "particles_1", "particles_2_5", "particles_4", "particles_10", "particle_size",
)  # fmt: skip
RAW_SIZE = 40  # ten big endian floats
TRIM_SIZE = 34  # firmware major, minor, serial (at most 32 ASCII)
PERIOD_MS = 1000

_SLEEP_SINCE = const(0x0200)  # firmware: major << 8 | minor
_STATUS_SINCE = const(0x0202)
_FAILURES = const(0x30)  # lowest byte of the status register: laser, fan
_FAN_SPEED = const(0x20)  # byte above the middle: bit 21
_HOLD_MS = const(3000)  # a failure must stay away for so long
_CLEANING_MS = const(11_000)
_ASK_AGAIN_MS = const(100)
_ASK_MS = const(900)  # after a sample: the next one is due in 1 s of the sensor's own clock
_CHECK_MS = const(2000)  # the status is read without a sample too: a broken sensor may make none

# What is sent: up to _BEGINNING one after the other, then READING for ever, with the others between.
WAKING = const(0)
STOPPING = const(1)
_VERSIONING = const(2)
_SERIAL = const(3)
_BEGINNING = const(4)
READING = const(5)
CHECKING = const(6)
_CLEARING = const(7)
_CLEANING = const(8)
_ASKING_INTERVAL = const(9)
_SETTING_INTERVAL = const(10)
HALTING = const(11)
_FALLING_ASLEEP = const(12)  # 13: a step that only one wire has
_ASLEEP = const(14)


class Core:
    """The sensor without its wire: a base of the two classes for this one chip.

    `auto_clean` is the interval of the sensor's own fan cleaning in s as it last said (0 = never, -1 = not asked yet)."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    OWN_PACE = True

    if TYPE_CHECKING:  # what a wire adds; a head has no room for empty methods
        REQUESTS: tuple[bytes, ...]  # by step
        FIRST_MS: int  # after so long without the first sample it is silent,
        SILENT_MS: int  # after so long without one later,
        AGAIN_MS: int  # and then it is started again, and silent after so long; 0: it is only waited for

        def _send(self, message: bytes) -> None:
            """Send it; raises OSError of the bus."""

        def _listen(self, now: int) -> None:
            """Take what has come of the reply. All: `_over`, its data into `_answer`, `_answered`. None in time: `_over`, an error."""

        def _setting(self, interval: bytes) -> bytes:
            """The request that sets the interval of the sensor's own cleaning to these four bytes."""
            return interval

    def __init__(self, answer: bytearray | memoryview) -> None:
        """`answer` is where the wire puts the data of a reply, RAW_SIZE bytes."""
        self.auto_clean = -1
        self._answer = answer
        self._data = bytearray(RAW_SIZE)
        self._identity = b""
        self._version = 0
        self._interval_request = b""
        self._interval = -1
        self._cleaning = False  # this and the fault outlast a start: they are of the sensor, not of the talk with it
        self._cleaned = 0
        self._suspect = False
        self._failed = 0
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again (this also wakes it); nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self.gap_reason = 0
        self._ready = False
        self._held = False
        self._step = WAKING
        self._jobs = 0
        self._asked = False
        self._since = now
        self._pause = 0
        self._sampled = now
        self._checked = now
        self._silent = self.FIRST_MS

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError, or OSError of an I2C bus."""
        if self._ready:
            return 1
        if self._step == _ASLEEP:
            return 0
        if self._asked:
            self._listen(now)
        else:
            if self._jobs and self._step == READING:
                self._pause = 0
                self._step = _CLEANING
                while not self._jobs >> self._step & 1:
                    self._step += 1
                self._jobs &= ~(1 << self._step)
            if elapsed(now, self._since) >= self._pause:
                self._ask(now)
        return 1 if self._ready else 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing."""
        buf[offset : offset + RAW_SIZE] = self._data
        self._ready = False
        return RAW_SIZE

    def trim(self) -> bytes:
        """Firmware major and minor, then the serial number in ASCII; empty before the sensor is configured."""
        return self._identity if self.configured else b""

    # --- what a technician asks for; carried out by the polls that follow, once the sensor is configured

    def start_cleaning(self) -> None:
        """Blow the dust out of the fan: 10 s without samples, reported as a gap for FAN_CLEANING."""
        self._jobs |= 1 << _CLEANING

    def ask_auto_clean(self) -> None:
        """Read the interval of the sensor's own cleaning into `auto_clean`."""
        self._jobs |= 1 << _ASKING_INTERVAL

    def set_auto_clean(self, seconds: int) -> None:
        """Set that interval (kept over power cuts; 0 = never). `auto_clean` is what the sensor then says; before firmware 2.2, which says
        the old value until its next reset, what was written."""
        self._interval = seconds
        self._interval_request = self._setting(struct.pack(">I", seconds))
        self._jobs |= 1 << _SETTING_INTERVAL

    def sleep(self) -> None:
        """Stop laser and fan until `start`. Before firmware 2.0 the sensor cannot sleep: it is only stopped."""
        self._jobs |= 1 << HALTING

    def asleep(self) -> bool:
        """Whether the sensor has said that it stopped, and was not started again."""
        return self._step == _ASLEEP

    # --- talk

    def _ask(self, now: int) -> None:
        if self._step == _CLEANING:  # from here on: whether an unanswered request was obeyed is unknown
            self._cleaning = True
            self._cleaned = now
        self._send(self._interval_request if self._step == _SETTING_INTERVAL else self.REQUESTS[self._step])
        self._asked = True
        self._since = now

    def _over(self) -> None:
        """The request under way is none any more, whatever came of it."""
        self._asked = False
        self._pause = 0

    def _answered(self, now: int, length: int, fault: int) -> None:
        """`length` bytes of data stand in `_answer`. `fault`: not 0 when the wire says that the device has one."""
        step = self._step
        answer = self._answer
        if (step == _VERSIONING and length < 2) or (step == _ASKING_INTERVAL and length != 4):
            raise BusError(OTHER)
        if step == READING:
            self._take(now, length)
            if self._version < _STATUS_SINCE:
                self._say(fault)
            return
        if step == CHECKING:
            self._judge(now)
            return
        self._step = step + 1 if step < READING else READING
        if step == _VERSIONING:
            self._version = answer[0] << 8 | answer[1]
            self._identity = bytes(answer[:2])
        elif step == _SERIAL:
            self._identity = self._identity[:2] + bytes(answer[: min(length, TRIM_SIZE - 2)]).split(b"\x00")[0]
        elif step == _BEGINNING:
            self.configured = True
            self._sampled = self._checked = self._failed = now
        elif step == _CLEANING:
            self.gap_reason = self.degraded = FAN_CLEANING
        elif step == _ASKING_INTERVAL:
            self.auto_clean = int.from_bytes(bytes(answer[:4]), "big")
        elif step == _SETTING_INTERVAL:
            if self._version < _STATUS_SINCE:
                self.auto_clean = self._interval
            else:
                self._step = _ASKING_INTERVAL
        elif step == HALTING:
            self._step = _FALLING_ASLEEP if self._version >= _SLEEP_SINCE else _ASLEEP
        elif step == _FALLING_ASLEEP:
            self._step = _ASLEEP

    def _take(self, now: int, length: int) -> None:
        """A sample, or nothing where there is no new one."""
        self._pause = _ASK_AGAIN_MS
        self._since = now
        if self._cleaning and elapsed(now, self._cleaned) >= _CLEANING_MS:
            self._cleaning = False
        if length == RAW_SIZE:
            self._sampled = now
            self._silent = self.SILENT_MS
            self._pause = _ASK_MS
            if self._cleaning:
                return
            self._data[:] = self._answer
            if self._version < _STATUS_SINCE:
                self._ready = True
            else:
                self._held = True
                self._step = CHECKING
                self._pause = 0
        elif length:
            raise BusError(OTHER)
        elif self._cleaning:
            self._sampled = now
        elif elapsed(now, self._sampled) > self._silent:
            self._sampled = now
            if self.AGAIN_MS:
                self._silent = self.AGAIN_MS
                self._step = _BEGINNING
                self._pause = 0
            raise BusError(TIME_OUT)
        elif self._version >= _STATUS_SINCE and elapsed(now, self._checked) >= _CHECK_MS:
            self._step = CHECKING
            self._pause = 0

    def _judge(self, now: int) -> None:
        """The status register has come (bits 31-24 first): deliver the sample that was held for it, or not."""
        held = self._held
        self._held = False
        self._checked = now
        self._step = READING
        if held:
            self._since = self._sampled
            self._pause = _ASK_MS
        else:
            self._pause = _ASK_AGAIN_MS
        if self._answer[3] & _FAILURES:
            self._suspect = True
            self._failed = now
            self._step = _CLEARING
            self._pause = 0
            raise BusError(DEVICE_FAULT)
        if self._suspect:
            if elapsed(now, self._failed) < _HOLD_MS:
                return
            self._suspect = False
        self._say(self._answer[1] & _FAN_SPEED)
        self._ready = held

    def _say(self, fault: int) -> None:
        self.degraded = DEVICE_FAULT if fault else FAN_CLEANING if self._cleaning else 0


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if the length is wrong; `trim` is only the identity."""
    if len(raw) != RAW_SIZE:
        raise ValueError("sps30: wrong length of raw")
    values: dict[str, float | str] = {}
    for index, quantity in enumerate(QUANTITIES):
        # The sensor's highest value in its own unit (µg/m³, 1/cm³, µm: data sheet, table 1 and section 4.3), and SI per own unit as a
        # fraction of whole numbers, by which the highest value stays exactly what it is.
        highest, factor, divisor = (1000.0, 1.0, 1e9) if index < 4 else (3000.0, 1e6, 1.0) if index < 9 else (10.0, 1.0, 1e6)
        number = struct.unpack_from(">f", raw, 4 * index)[0]
        if number > highest:
            values[quantity] = "implausible" if number > 1e9 else "saturated"
        elif number >= 0.0:
            values[quantity] = number * factor / divisor
        else:  # negative, or not a number
            values[quantity] = "implausible"
    return values
