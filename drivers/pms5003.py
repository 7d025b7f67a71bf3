"""Plantower PMS5003 or PMS7003 on its serial line (9600 8N1), the spare of the SPS30: particle mass and number, one sample a second.

Frames, commands and the 30 s to wait after a wake: Zephyr pms7003.c (which does not check the checksum; here every frame's is checked, and
by `decode` once more), pimoroni/pms5003-python, airgradienthq/arduino PMS.cpp. A frame is 42 4D, length, 13 words, and the sum of the 30
bytes before: a single wrong bit always shows, two that cancel in the sum pass.

Passive mode: the sensor speaks when asked, once a second. So each sample is of its second, nothing piles up behind a slow reader, and a
lost power shows: the sensor comes back in active mode, in which it speaks every 0.2 to 0.8 s or every 2.3 s (data sheet), first after up to
9.2 s (seen by pimoroni/pms5003-micropython). What it says unasked must not pass as an answer, cold as it is:

- A frame that comes when nothing was asked, or a second one to one request, is active mode: BusError(POWER_ON_VALUES), and 30 s of warm-up.
- A request without an answer may have met a sensor that was starting. From then on an answer counts only when 2.5 s of silence followed it.
- Nothing is asked while a frame is arriving. An answer counts only within the time that this sensor was seen to need; a later one is
  dropped, and if 2.5 s of silence follow, that time is raised (fu-hsi/PMS issue 5: a PMS7003 needs more than a second at times).
- Every eighth request is later by that time, so that a sensor which speaks unasked in step with the requests is found out. Only one that
  is back within a second of losing its power could be in step, for at most eight samples; none is known to be so fast (unverified).

The acknowledgement of a change of mode (Pimoroni, and captures of others) says nothing about the mode before it, so it is not waited for;
changes less than 50 ms apart confuse the sensor (Pimoroni).

Mass is the "atmospheric" one in µg/m³: the data sheet promises 0 to 500 and a maximum of at least 1000, beyond which there is only
"saturated" (unverified). Counts are of particles larger than a size in 0.1 l. The error byte is zero in all frames seen; what its bits mean
is not known: any is BusError(DEVICE_FAULT) and no sample."""

from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, OTHER, POWER_ON_VALUES, TIME_OUT, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed, following, later, reached

if TYPE_CHECKING:
    from drivers.faces import UART

SENSOR = "pms5003"
QUANTITIES = (
    "pm1", "pm2_5", "pm10",
    "particles_above_0_3", "particles_above_0_5", "particles_above_1", "particles_above_2_5", "particles_above_5", "particles_above_10",
)  # fmt: skip
_FRAME_SIZE = const(32)
RAW_SIZE = _FRAME_SIZE  # the frame as it came
TRIM_SIZE = 1  # the version byte
PERIOD_MS = 1000
BAUD = 9600

_WAKE = b"\x42\x4d\xe4\x00\x01\x01\x74"
_SLEEP = b"\x42\x4d\xe4\x00\x00\x01\x73"
_PASSIVE = b"\x42\x4d\xe1\x00\x00\x01\x70"
_READ = b"\x42\x4d\xe2\x00\x00\x01\x71"

_SAMPLE = const(28)  # lengths, as a frame says them
_ECHO = const(4)  # of a command
_ACTIVE_MS = const(2500)  # in which an active sensor must have spoken
_REPLY_MS = const(200)  # 41 ms on the line, both ways, and the polls
_LONGEST_REPLY_MS = const(2000)
_SLACK_MS = const(100)  # beside the longest answer seen
_ARRIVING_MS = const(100)  # no longer is waited for the rest of a frame: it may be noise
_AGAIN_MS = const(300)  # after a broken reply
_QUIET_MS = const(200)  # after a command: its echo, and what was on the way
_OBEYING_MS = const(10_000)  # to go over to passive mode
_WARM_UP_MS = const(30_000)

_WAKING, _QUIETING, _WAITING, _ASKED, _LISTENING, _ASLEEP = range(6)


class Frames:
    """Collects bytes to frames and takes up again behind bytes that are none. Allocates nothing after construction."""

    def __init__(self) -> None:
        self.frame = bytearray(_FRAME_SIZE)
        self.heard = False  # anything since `clear`
        self._length = 0

    def begun(self) -> bool:
        """Whether the beginning of a frame has come, and not yet its end."""
        return 0 < self._length < _FRAME_SIZE

    def clear(self) -> None:
        """Forget what has come so far."""
        self.heard = False
        self._length = 0

    def feed(self, byte: int) -> bool:
        """Take one byte; True when `frame` is a whole sample, until the next byte."""
        self.heard = True
        if self._length == _FRAME_SIZE:
            self._length = 0
        self.frame[self._length] = byte
        self._length += 1
        while self._length:
            if self._may_be():
                size = 4 + self.frame[3]
                if self._length < 4 or self._length < size:
                    return False
                if checked(self.frame, size):
                    if size == _FRAME_SIZE:
                        return True
                    self._length = 0  # an echo
                    return False
            self._shift()
        return False

    def _may_be(self) -> bool:
        frame, length = self.frame, self._length
        if frame[0] != 0x42 or (length > 1 and frame[1] != 0x4D) or (length > 2 and frame[2] != 0):
            return False
        return length < 4 or frame[3] == _SAMPLE or frame[3] == _ECHO

    def _shift(self) -> None:
        """Drop the first byte."""
        self._length -= 1
        for index in range(self._length):
            self.frame[index] = self.frame[index + 1]


def checked(frame: bytes | bytearray, size: int = RAW_SIZE) -> bool:
    """Whether the last two of `size` bytes are the sum of those before. Allocates nothing."""
    total = 0
    for index in range(size - 2):
        total += frame[index]
    return frame[size - 2] == total >> 8 & 0xFF and frame[size - 1] == total & 0xFF


class PMS5003:
    """The sensor on a line with machine.UART's methods (`readinto` that does not wait), opened at 9600 baud."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    gap_reason = 0  # no FIFO to overflow

    def __init__(self, uart: "UART") -> None:
        self._uart = uart
        self._chunk = bytearray(64)
        self._frames = Frames()
        self._data = bytearray(RAW_SIZE)
        self._patience = _REPLY_MS  # what this sensor was seen to need for an answer, and a little more
        self.start(0)

    def start(self, now: int) -> None:
        """Wake it and begin configuration again; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self._ready = False
        self._step = _WAKING
        self._since = now
        self._next = now
        self._began = now
        self._warm = False
        self._warming = now
        self._sleep = False
        self._asked = now
        self._owed = False  # an answer may still come
        self._doubt = False  # whether it is in passive mode
        self._turn = 0
        self._aside = 0

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError."""
        if self._ready:
            return 1
        step = self._step
        if step == _ASLEEP:
            return 0
        if self._sleep:
            self._uart.write(_SLEEP)
            self._step = _ASLEEP
        elif step == _WAKING:
            self._uart.write(_WAKE)
            self._step = _QUIETING
            self._since = now
            self._warming = now
        elif step == _QUIETING:
            if elapsed(now, self._since) >= _QUIET_MS:
                self._quiet(now)
        elif step == _ASKED:
            self._answered(now)
        elif step == _LISTENING:
            self._listen(now)
        elif self._receive():
            self._spoke_unasked(now)
        elif reached(now, later(self._next, self._aside)) and not self._arriving(now, later(self._next, self._aside)):
            self._ask(now)
        return 1 if self._ready else 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing."""
        buf[offset : offset + RAW_SIZE] = self._data
        self._ready = False
        return RAW_SIZE

    def trim(self) -> bytes:
        """The sensor's version, one byte; empty before it is configured."""
        return bytes(self._data[28:29]) if self.configured else b""

    def sleep(self) -> None:
        """Stop laser and fan at the next poll, until `start`."""
        self._sleep = True

    def asleep(self) -> bool:
        """Whether it was told to stop (it acknowledges nothing), and was not started again."""
        return self._step == _ASLEEP

    def _quiet(self, now: int) -> None:
        """Go over to passive mode. Nothing is asked before it was silent for so long that it must have obeyed."""
        while self._uart.any():
            if not self._uart.readinto(self._chunk):
                break
        self._frames.clear()
        self._uart.write(_PASSIVE)
        self._step = _LISTENING
        self._since = self._next = now
        self._owed = self._doubt = False

    def _listen(self, now: int) -> None:
        """Nothing is asked until it was silent for so long that it must be in passive mode."""
        if self._receive():
            if not self._owed:
                self._spoke_unasked(now)
            else:
                self._late(now)
        elif elapsed(now, self._since) >= _ACTIVE_MS:
            self._step = _WAITING
            if self._doubt and not self._owed:  # it answered, and was silent
                self._doubt = False
                needed = elapsed(self._since, self._asked) + _SLACK_MS
                self._patience = max(self._patience, min(needed, _LONGEST_REPLY_MS))

    def _late(self, now: int) -> None:
        """Perhaps the answer, but it counts as proof only."""
        self._owed = False
        self._step = _LISTENING
        self._since = now

    def _spoke_unasked(self, now: int) -> None:
        """It is in active mode: it has just been started, or did not hear the command."""
        if self._warm:
            raise BusError(POWER_ON_VALUES)
        if not self.configured and elapsed(now, self._began) >= _OBEYING_MS:
            raise BusError(OTHER)
        self._warming = now
        self._quiet(now)

    def _ask(self, now: int) -> None:
        self._frames.clear()
        self._uart.write(_READ)
        self._step = _ASKED
        self._asked = now
        self._next = following(self._next, PERIOD_MS, now)
        self._turn = (self._turn + 1) & 7
        self._aside = 0 if self._turn else self._patience

    def _receive(self) -> bool:
        """Take what has come; whether it completed a sample frame (the rest of what has come is then dropped)."""
        while self._uart.any():
            count = self._uart.readinto(self._chunk)
            if not count:
                return False
            for index in range(count):
                if self._frames.feed(self._chunk[index]):
                    return True
        return False

    def _arriving(self, now: int, due: int) -> bool:
        """Whether a frame is arriving that may be waited for; `due` is when it should have been whole."""
        return self._frames.begun() and elapsed(now, due) <= _ARRIVING_MS

    def _answered(self, now: int) -> None:
        """Take the reply, or notice that there is none."""
        if not self._receive():
            due = later(self._asked, self._patience)
            if reached(now, due) and not self._arriving(now, due):
                if self._frames.heard:
                    self._frames.clear()
                    self._step = _WAITING
                    self._next = later(now, _AGAIN_MS)
                    raise BusError(BAD_CHECKSUM)
                self._late(now)
                self._owed = self._doubt = True
                raise BusError(TIME_OUT)
            return
        if self._doubt:
            self._late(now)
            return
        self._step = _WAITING
        frame = self._frames.frame
        for index in range(_FRAME_SIZE):
            self._data[index] = frame[index]
        self.configured = True  # also with a fault: it is asked on, for a new start would cost its warm-up
        if frame[29]:
            raise BusError(DEVICE_FAULT)
        if not self._warm:
            if elapsed(now, self._warming) < _WARM_UP_MS:
                return
            self._warm = True
        self._ready = True


def _word(raw: bytes, index: int) -> int:
    return raw[4 + 2 * index] << 8 | raw[5 + 2 * index]


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if the length is wrong; `trim` is only the version."""
    if len(raw) != RAW_SIZE:
        raise ValueError("pms5003: wrong length of raw")
    reason = ""
    if raw[:4] != b"\x42\x4d\x00\x1c" or not checked(raw):
        reason = "bad checksum"
    elif raw[29]:  # the sensor's own error
        reason = "implausible"
    values: dict[str, float | str] = {}
    for index, quantity in enumerate(QUANTITIES):
        number = _word(raw, 3 + index)
        if reason:
            values[quantity] = reason
        elif index < 3:
            values[quantity] = number / 1e9 if number <= 1000 else "saturated"
        else:
            values[quantity] = number * 1e4 if number < 0xFFFF else "saturated"
    return values
