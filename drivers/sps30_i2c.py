"""Sensirion SPS30 on I2C (SEL pin to ground, 0x69, at most 100 kHz: it holds its whole bus to that): samples as on the serial line.

Commands: Sensirion embedded-sps sps30.c, python-i2c-sps30, Linux sps30_i2c.c. A command is written, stopped, waited for, and then its reply
is read: never one combined transaction. Every two bytes carry a CRC-8; one wrong word of the twenty rejects the whole sample. A sample is
read when the data-ready flag is set, and delivered after the status register was read behind it (drivers/sps30.py says why, and what
cleaning, sleep and the firmware versions mean). No word says whether the sensor measures at all: when no sample has come for 1.6 s (2.5 s
after a start) the measurement is started again, which a measuring sensor does not obey (unverified), and the silence is a time-out."""

import struct

from drivers.crc8 import crc8
from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, FAN_CLEANING, NO_ACKNOWLEDGE, TIME_OUT, BusError, from_oserror
from drivers.portable import TYPE_CHECKING, const, elapsed
from drivers.sps30_values import CLEANING_MS, FAILURES, FAN_SPEED, HOLD_MS, RAW_SIZE, SLEEP_SINCE, STATUS_SINCE, TRIM_SIZE
from drivers.sps30_values import QUANTITIES as QUANTITIES
from drivers.sps30_values import decode as decode

if TYPE_CHECKING:
    from drivers.faces import I2C

SENSOR = "sps30"
ADDRESSES = (0x69,)
_WORDS = const(20)
PERIOD_MS = 1000

_ASK_AGAIN_MS = const(100)
_ASK_MS = const(900)
_CHECK_MS = const(2000)
_SILENT_MS = const(1600)  # a sample a second: one is missing
_START_AGAIN_MS = const(5000)
_FIRST_MS = const(2500)  # to the first sample, due after 1 s: nothing says whether the command to start arrived

# What is written, in order, up to _BEGINNING; then _ASKING (is there a sample?) and _READING for ever, with the others between.
_WAKING, _STOPPING, _VERSIONING, _SERIAL, _BEGINNING, _ASKING, _READING, _CHECKING, _CLEARING = range(9)
_CLEANING, _ASKING_INTERVAL, _SETTING_INTERVAL, _HALTING, _FALLING_ASLEEP, _ASLEEP = range(9, 15)
_REQUESTS = (
    b"\x11\x03",
    b"\x01\x04",
    b"\xd1\x00",
    b"\xd0\x33",
    b"\x00\x10\x03\x00\xac",  # big endian floats
    b"\x02\x02",
    b"\x03\x00",
    b"\xd2\x06",
    b"\xd2\x10",
    b"\x56\x07",
    b"\x80\x04",
    b"",  # made by set_auto_clean
    b"\x01\x04",
    b"\x10\x01",
)
_WAIT_MS = (5, 20, 5, 5, 20, 5, 5, 5, 5, 5, 5, 20, 20, 5)  # before the reply, or the next command
_BUSY_MS = const(50)  # so long is a reply waited for
_REPLY_SIZES = (0, 0, 3, 48, 0, 3, 60, 6, 0, 0, 6, 0, 0, 0)


class SPS30I2C:
    """The sensor on an I2C bus with machine.I2C's methods; `auto_clean` as of drivers.sps30.SPS30."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    OWN_PACE = True

    def __init__(self, i2c: "I2C", address: int = 0x69) -> None:
        self.auto_clean = -1
        self._i2c = i2c
        self._address = address
        self._replies = [bytearray(size) for size in _REPLY_SIZES]
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
        self._step = _WAKING
        self._jobs = 0
        self._asked = False
        self._since = now
        self._pause = 0
        self._sampled = now
        self._checked = now
        self._silent = _FIRST_MS

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError, or OSError of the bus."""
        if self._ready:
            return 1
        if self._step == _ASLEEP:
            return 0
        if not self._asked:
            if self._jobs and self._step == _ASKING:
                self._next_job()
            if elapsed(now, self._since) >= self._pause:
                self._ask(now)
        elif elapsed(now, self._since) > _WAIT_MS[self._step]:  # more: a tick may be almost over when it is read
            step = self._step
            reply = self._replies[step]
            if reply:
                try:
                    self._i2c.readfrom_into(self._address, reply)
                except OSError as error:
                    if from_oserror(error).code == NO_ACKNOWLEDGE and elapsed(now, self._since) <= _BUSY_MS:
                        return 0  # not acknowledged: not ready. On Linux the command may have gone out some ms after `now`
                    self._over(step)
                    raise
            self._over(step)
            for start in range(0, len(reply), 3):
                if crc8(reply, start) != reply[start + 2]:
                    raise BusError(BAD_CHECKSUM)
            self._answered(now, step, reply)
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
        """Set that interval, as drivers.sps30.SPS30.set_auto_clean."""
        self._interval = seconds
        words = struct.pack(">I", seconds)
        self._interval_request = b"\x80\x04" + words[:2] + bytes((crc8(words, 0),)) + words[2:] + bytes((crc8(words, 2),))
        self._jobs |= 1 << _SETTING_INTERVAL

    def sleep(self) -> None:
        """Stop laser and fan until `start`. Before firmware 2.0 the sensor cannot sleep: it is only stopped."""
        self._jobs |= 1 << _HALTING

    # --- talk

    def _next_job(self) -> None:
        job = _CLEANING
        while not self._jobs >> job & 1:
            job += 1
        self._jobs &= ~(1 << job)
        self._step = job
        self._pause = 0

    def _ask(self, now: int) -> None:
        step = self._step
        if step == _CLEANING:  # from here on: whether a request without acknowledge was obeyed is unknown
            self._cleaning = True
            self._cleaned = now
        if step <= _STOPPING:
            # Asleep, the sensor does not acknowledge the first of two wakes; firmware 1 none; idle, perhaps no stop. An absent one is
            # noticed when its version is read.
            for _ in range(2 if step == _WAKING else 1):
                try:
                    self._i2c.writeto(self._address, _REQUESTS[step])
                except OSError as error:
                    if from_oserror(error).code != NO_ACKNOWLEDGE:
                        raise
        else:
            self._i2c.writeto(self._address, self._interval_request if step == _SETTING_INTERVAL else _REQUESTS[step])
        self._asked = True
        self._since = now

    def _over(self, step: int) -> None:
        self._asked = False
        self._pause = 0
        if step == _READING:  # whatever comes of it: it is asked anew whether there is a sample
            self._step = _ASKING

    def _answered(self, now: int, step: int, reply: bytearray) -> None:
        if step == _ASKING:
            self._flag(now, reply[1] & 1)
        elif step == _READING:
            self._take(now, reply)
        elif step == _CHECKING:
            self._judge(now, reply)
        elif step < _ASKING:
            self._configure(now, step, reply)
        else:
            self._done(step, reply)

    def _configure(self, now: int, step: int, reply: bytearray) -> None:
        if step == _VERSIONING:
            self._version = reply[0] << 8 | reply[1]
            self._identity = bytes(reply[:2])
        elif step == _SERIAL:
            text = b""
            for start in range(0, len(reply), 3):
                text += bytes(reply[start : start + 2])
            self._identity = self._identity[:2] + text.split(b"\x00")[0]
        elif step == _BEGINNING:
            self.configured = True
            self._sampled = self._checked = self._failed = now
        self._step = step + 1

    def _flag(self, now: int, fresh: int) -> None:
        if self._cleaning and elapsed(now, self._cleaned) >= CLEANING_MS:
            self._cleaning = False
            self.degraded = 0
        if fresh:
            self._step = _READING
            return
        self._since = now
        self._pause = _ASK_AGAIN_MS
        if self._cleaning:
            self._sampled = now
        elif elapsed(now, self._sampled) > self._silent:
            self._sampled = now
            self._silent = _START_AGAIN_MS
            self._step = _BEGINNING
            self._pause = 0
            raise BusError(TIME_OUT)
        elif self._version >= STATUS_SINCE and elapsed(now, self._checked) >= _CHECK_MS:
            self._check()

    def _take(self, now: int, reply: bytearray) -> None:
        self._sampled = now
        self._silent = _SILENT_MS
        self._since = now
        self._pause = _ASK_MS
        if self._cleaning:
            return
        for word in range(_WORDS):
            self._data[2 * word] = reply[3 * word]
            self._data[2 * word + 1] = reply[3 * word + 1]
        if self._version < STATUS_SINCE:
            self._ready = True
        else:
            self._held = True
            self._check()

    def _check(self) -> None:
        self._step = _CHECKING
        self._pause = 0

    def _judge(self, now: int, reply: bytearray) -> None:
        """The status register has come: deliver the sample that was held for it, or not."""
        held = self._held
        self._held = False
        self._checked = now
        self._step = _ASKING
        if held:
            self._since = self._sampled
            self._pause = _ASK_MS
        else:
            self._pause = _ASK_AGAIN_MS
        if reply[4] & FAILURES:  # bits 31-24, 23-16, CRC, 15-8, 7-0, CRC
            self._suspect = True
            self._failed = now
            self._step = _CLEARING
            self._pause = 0
            raise BusError(DEVICE_FAULT)
        if self._suspect:
            if elapsed(now, self._failed) < HOLD_MS:
                return
            self._suspect = False
        self.degraded = DEVICE_FAULT if reply[1] & FAN_SPEED else FAN_CLEANING if self._cleaning else 0
        self._ready = held

    def _done(self, step: int, reply: bytearray) -> None:
        """One of the commands between the samples was obeyed."""
        self._step = _ASKING
        if step == _CLEANING:
            self.gap_reason = self.degraded = FAN_CLEANING
        elif step == _ASKING_INTERVAL:
            self.auto_clean = int.from_bytes(bytes((reply[0], reply[1], reply[3], reply[4])), "big")
        elif step == _SETTING_INTERVAL:
            if self._version < STATUS_SINCE:
                self.auto_clean = self._interval
            else:
                self._step = _ASKING_INTERVAL
        elif step == _HALTING:
            self._step = _FALLING_ASLEEP if self._version >= SLEEP_SINCE else _ASLEEP
        elif step == _FALLING_ASLEEP:
            self._step = _ASLEEP
