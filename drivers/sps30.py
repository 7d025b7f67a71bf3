"""Sensirion SPS30 on its serial line (SHDLC, 115200 8N1): particle mass and number, one sample a second, each read once.

Commands: Sensirion embedded-uart-sps sps30.c, python-shdlc-driver, Linux sps30_serial.c. An empty reply to "read" means that there is no
new sample yet: no error. Any byte may be late, missing or of an earlier command: input is thrown away before each request, a reply to
another one is ignored, a frame of wrong length or checksum is an error and asked for again. A single wrong bit never changes a value
(drivers/shdlc.py); two that cancel in the one-byte checksum pass, and then only the ranges of `decode` stand in their way.

Bit 7 of the state byte says that the device has a fault it keeps in its status register; it is no answer to the command. The register
exists from firmware 2.2 on and is read behind every sample, before that sample is delivered: a laser or fan failure (bits 5, 4) is
BusError(DEVICE_FAULT) and no sample, a fan speed out of range (bit 21) makes the sensor degraded. The register is cleared and watched: a
failure must stay away for 3 s, because the sensor looks once a second and believes the second time (own knowledge of the data sheet's
section 4.4, unverified). Before firmware 2.2 bit 7 makes the sensor degraded.

Fan cleaning takes 10 s in which values are not representative: what comes then, and for one sample longer, is thrown away. The sensor's
own weekly cleaning counts hours of power only, so a truck must ask for it; where it does happen, the silence is a time-out. Values settle
for 8 to 30 s after a start (unverified); they are delivered. Sleep and wake need firmware 2.0: an older one is only stopped."""

import struct

from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, FAN_CLEANING, OTHER, POWER_ON_VALUES, TIME_OUT, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed
from drivers.shdlc import Reply, request
from drivers.sps30_values import CLEANING_MS, FAILURES, FAN_SPEED, HOLD_MS, RAW_SIZE, SLEEP_SINCE, STATUS_SINCE, TRIM_SIZE
from drivers.sps30_values import QUANTITIES as QUANTITIES
from drivers.sps30_values import decode as decode

if TYPE_CHECKING:
    from drivers.faces import UART

SENSOR = "sps30"
_DATA_SIZE = const(40)  # RAW_SIZE
PERIOD_MS = 1000

_START = const(0x00)
_STOP = const(0x01)
_READ = const(0x03)
_SLEEP = const(0x10)
_WAKE = const(0x11)
_CLEAN = const(0x56)
_INTERVAL = const(0x80)
_INFORMATION = const(0xD0)
_VERSION = const(0xD1)
_STATUS = const(0xD2)

_NOT_ALLOWED = const(0x43)  # e.g. stop while not measuring
_UNKNOWN = const(0x02)  # e.g. wake, before firmware 2.0

_REPLY_MS = const(100)  # 20 ms by the data sheet
_ASK_AGAIN_MS = const(100)
_ASK_MS = const(900)  # after a sample: the next one is due in 1 s of the sensor's own clock
_CHECK_MS = const(2000)  # the status is read without a sample too: a broken sensor may make none
_SILENT_MS = const(5000)
_WARM_UP_MS = const(20000)  # the fan starts before the first sample

# What is sent: up to _BEGINNING one after the other, then _READING for ever, with the others between.
_WAKING, _STOPPING, _VERSIONING, _SERIAL, _BEGINNING, _READING, _CHECKING, _CLEARING = range(8)
_CLEANING, _ASKING_INTERVAL, _SETTING_INTERVAL, _HALTING, _FALLING_ASLEEP, _ASLEEP = range(8, 14)
_COMMANDS = (_WAKE, _STOP, _VERSION, _INFORMATION, _START, _READ, _STATUS, _STATUS, _CLEAN, _INTERVAL, _INTERVAL, _STOP, _SLEEP)
_REQUESTS = (
    b"\xff" + request(_WAKE),  # the first byte only wakes the receiver of a sleeping chip
    request(_STOP),
    request(_VERSION),
    request(_INFORMATION, b"\x03"),
    request(_START, b"\x01\x03"),
    request(_READ),
    request(_STATUS, b"\x00"),
    request(_STATUS, b"\x01"),
    request(_CLEAN),
    request(_INTERVAL, b"\x00"),
    b"",  # made by set_auto_clean
    request(_STOP),
    request(_SLEEP),
)


class SPS30:
    """The sensor on a line with machine.UART's methods (`readinto` that does not wait).

    `auto_clean` is the interval of the sensor's own fan cleaning in s as it last said (0 = never, -1 = not asked yet)."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS
    OWN_PACE = True

    def __init__(self, uart: "UART") -> None:
        self.auto_clean = -1
        self._uart = uart
        self._chunk = bytearray(64)
        self._data = bytearray(RAW_SIZE)
        self._reply = Reply(48)
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
        self._silent = _WARM_UP_MS

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError."""
        if self._ready:
            return 1
        if self._step == _ASLEEP:
            return 0
        if not self._asked:
            if self._jobs and self._step == _READING:
                self._next_job()
            if elapsed(now, self._since) >= self._pause:
                self._ask(now)
        elif not self._listen(now) and elapsed(now, self._since) > _REPLY_MS:
            self._asked = False
            self._pause = 0
            if self._step != _WAKING:  # an awake chip of firmware 1 may ignore it
                raise BusError(TIME_OUT)
            self._step = _STOPPING
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
        self._interval_request = request(_INTERVAL, b"\x00" + struct.pack(">I", seconds))
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
        while self._uart.any():
            if not self._uart.readinto(self._chunk):
                break
        self._reply.clear()
        if self._step == _CLEANING:  # from here on: whether an unanswered request was obeyed is unknown
            self._cleaning = True
            self._cleaned = now
        self._uart.write(self._interval_request if self._step == _SETTING_INTERVAL else _REQUESTS[self._step])
        self._asked = True
        self._since = now

    def _listen(self, now: int) -> bool:
        """Whether the reply to the request under way has come (and has been dealt with)."""
        reply = self._reply
        while self._uart.any():
            count = self._uart.readinto(self._chunk)
            if not count:
                return False
            for index in range(count):
                if reply.feed(self._chunk[index]):
                    if reply.broken():
                        self._asked = False
                        self._pause = 0
                        raise BusError(BAD_CHECKSUM)
                    if reply.body[1] == _COMMANDS[self._step]:
                        self._answered(now)
                        return True
        return False

    def _answered(self, now: int) -> None:
        step = self._step
        body = self._reply.body
        length = body[3]
        self._asked = False
        self._pause = 0
        error = body[2] & 0x7F
        if error and not ((step <= _STOPPING or step == _HALTING) and error in (_NOT_ALLOWED, _UNKNOWN)):
            if step > _READING:
                self._step = _READING
                self._held = False
            # Not measuring any more: its power was away.
            raise BusError(POWER_ON_VALUES if step >= _READING and error == _NOT_ALLOWED else OTHER)
        if step == _READING:
            self._take(now, length)
            if self._version < STATUS_SINCE:
                self._say(body[2] & 0x80)
        elif step == _CHECKING:
            self._judge(now, length)
        elif step < _READING:
            self._configure(now, step, length)
        else:
            self._done(step, length)

    def _configure(self, now: int, step: int, length: int) -> None:
        body = self._reply.body
        if step == _VERSIONING:
            if length < 2:
                raise BusError(OTHER)
            self._version = body[4] << 8 | body[5]
            self._identity = bytes(body[4:6])
        elif step == _SERIAL:
            self._identity = self._identity[:2] + bytes(body[4 : 4 + min(length, TRIM_SIZE - 2)]).rstrip(b"\x00")
        elif step == _BEGINNING:
            self.configured = True
            self._sampled = self._checked = self._failed = now
        self._step = step + 1

    def _take(self, now: int, length: int) -> None:
        self._pause = _ASK_AGAIN_MS
        self._since = now
        if self._cleaning and elapsed(now, self._cleaned) >= CLEANING_MS:
            self._cleaning = False
        if length == RAW_SIZE:
            self._sampled = now
            self._silent = _SILENT_MS
            self._pause = _ASK_MS
            if self._cleaning:
                return
            for index in range(_DATA_SIZE):
                self._data[index] = self._reply.body[4 + index]
            if self._version < STATUS_SINCE:
                self._ready = True
            else:
                self._held = True
                self._check()
        elif length:
            raise BusError(OTHER)
        elif self._cleaning:
            self._sampled = now
        elif elapsed(now, self._sampled) > self._silent:
            self._sampled = now
            raise BusError(TIME_OUT)
        elif self._version >= STATUS_SINCE and elapsed(now, self._checked) >= _CHECK_MS:
            self._check()

    def _check(self) -> None:
        self._step = _CHECKING
        self._pause = 0

    def _judge(self, now: int, length: int) -> None:
        """The status register has come: deliver the sample that was held for it, or not."""
        if length != 5:
            raise BusError(OTHER)
        held = self._held
        self._held = False
        self._checked = now
        self._step = _READING
        if held:
            self._since = self._sampled
            self._pause = _ASK_MS
        else:
            self._pause = _ASK_AGAIN_MS
        body = self._reply.body  # status bits 31-24, 23-16, 15-8, 7-0 from index 4
        if body[7] & FAILURES:
            self._suspect = True
            self._failed = now
            self._step = _CLEARING
            self._pause = 0
            raise BusError(DEVICE_FAULT)
        if self._suspect:
            if elapsed(now, self._failed) < HOLD_MS:
                return
            self._suspect = False
        self._say(body[5] & FAN_SPEED)
        self._ready = held

    def _say(self, fault: int) -> None:
        self.degraded = DEVICE_FAULT if fault else FAN_CLEANING if self._cleaning else 0

    def _done(self, step: int, length: int) -> None:
        """One of the commands between the samples was obeyed."""
        self._step = _READING
        if step == _CLEANING:
            self.gap_reason = self.degraded = FAN_CLEANING
        elif step == _ASKING_INTERVAL:
            if length != 4:
                self._step = step
                raise BusError(OTHER)
            self.auto_clean = int.from_bytes(bytes(self._reply.body[4:8]), "big")
        elif step == _SETTING_INTERVAL:
            if self._version < STATUS_SINCE:
                self.auto_clean = self._interval
            else:
                self._step = _ASKING_INTERVAL
        elif step == _HALTING:
            self._step = _FALLING_ASLEEP if self._version >= SLEEP_SINCE else _ASLEEP
        elif step == _FALLING_ASLEEP:
            self._step = _ASLEEP
