"""The sensor box of the first fleet (66 trucks in Fujisawa) on its line, 115200 8N1: a sample of all its sensors 100 times a second.

Source: ychen1986/CarSensorJLib, the old gateway (project facts, sox.md 2.1); the box's maker published nothing. Its parts are not named:
humidity, temperature and pressure have the scalings of ALPS's Smart Module, the dust sensor those of Sharp's DN7C3CA006 (both derived).

What is in a sample: drivers/first_fleet_sample.py; the frames: drivers/first_fleet_frames.py.

We send info 10, sensing 13 (start with or without the fan, stop), Vs 3D, GNSS state 3C. It answers 90 (serial, version, model: ASCII), 8F
(result, code), BD (dust sensor's mV in clean air u16, at 0.1 °C s16), BC (1: GNSS ready), and sends the events 8A (sample), 8B (PM2.5 and
temperature only), 8C (an NMEA sentence), 88 (0: GNSS ready). Numbers are little endian (Vs of version 0000: big). As the old gateway did,
we stop it before we ask what it is.

Samples are numbered modulo 2**24, so it is known how many are missing. Whether events B and C take numbers of the same count is unverified:
those that come are told apart either way, those that are lost would count as samples then (three of 103). The old library knew boxes whose
event A has no byte of errors, "test version"; its last reader did not understand them, and neither does this driver: time-out."""

from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, OTHER, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.first_fleet_frames import (
    CLEAN_AIR,
    EVENT_A,
    EVENT_C,
    EVENT_GNSS,
    GNSS_STATE,
    INFORMATION,
    RESULT,
    Frames,
    commands,
)
from drivers.first_fleet_sample import QUANTITIES, RAW_SIZE, TRIM_SIZE, decode
from drivers.portable import TYPE_CHECKING, const, elapsed

if TYPE_CHECKING:
    from drivers.faces import UART, Tap

__all__ = ("BAUD", "FRAMES_AT_ONCE", "PERIOD_MS", "QUANTITIES", "RAW_SIZE", "SENSOR", "TRIM_SIZE", "FirstFleetBox", "decode")

SENSOR = "first_fleet"
BAUD = 115200
PERIOD_MS = 10
_RAW = const(36)  # RAW_SIZE
FRAMES_AT_ONCE = 16  # samples that read_into may give at once

_REPLY_MS = const(1000)  # what the old gateway waited; unverified
_FIRST_MS = const(5000)  # for the first sample after the start; unverified
_SILENT_MS = const(1000)  # a hundred samples; what a slow reader has not read yet is read first
_IDLE_MS = const(50)  # then nothing follows; a USB adapter holds bytes back for at most 16 ms
_CHUNK = const(64)
_ROOM = const(8)  # whole samples that one chunk can complete: six in what a wrong length of event C has held back, and two
_MANY = const(16)
_INDEX = const(0xFFFFFF)
_HALF = const(0x800000)

_STOPPING, _ASKING, _CLEANING, _LOCATING, _STARTING, _RUNNING = range(6)
_REPLIES = (RESULT, INFORMATION, CLEAN_AIR, GNSS_STATE, RESULT)


class FirstFleetBox:
    """The box on a line with machine.UART's methods. `tap(frame, length)` is called with every verified frame, whole, before it is read.

    `missing` counts samples that the index says were made and did not come, `gap_reason` says why (POWER_ON_VALUES: the box began anew, how
    many are missing cannot be known); the reader clears both. `bad` counts broken frames, `errors` are the newest sample's error bits,
    `gnss_ready` is None before the box has said it. Another serial number is WRONG_IDENTITY: start again."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    PERIOD_MS = PERIOD_MS

    def __init__(self, uart: "UART", fan: bool = True, tap: "Tap | None" = None) -> None:
        self._uart = uart
        self._tap = tap
        self._requests = commands(fan)
        self._chunk = bytearray(_CHUNK)
        self._frames = Frames()
        self._samples = bytearray(FRAMES_AT_ONCE * _RAW)
        self._others = [0] * _MANY  # numbers of the events B and C since the newest sample
        self._identity = bytearray(TRIM_SIZE)
        self.gap_reason = 0
        self.missing = 0
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = self.errors = 0
        self.gnss_ready: bool | None = None
        self._step = _STOPPING
        self._asked = False
        self._since = self._heard = now
        self._silent = _FIRST_MS
        self._count = 0
        self._failure = 0
        self._serial = self._newest = -1
        self._between = 0
        self._bad = self._frames.bad
        self._frames.clear()

    @property
    def bad(self) -> int:
        """Broken frames since construction."""
        return self._frames.bad

    def stop(self) -> None:
        """Tell the box to stop sensing (and its fan), without waiting for its reply."""
        self.configured = False
        self._uart.write(self._requests[0])

    def poll(self, now: int) -> int:
        """Advance; how many samples can be read. Raises BusError."""
        self._listen(now)
        if self._count:
            return self._count
        if self._failure:
            raise BusError(self._failure)
        if self._step != _RUNNING:
            self._ask(now)
        elif elapsed(now, self._since) > self._silent:
            raise BusError(TIME_OUT)
        return 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the samples into `buf`, oldest first; returns their bytes. Allocates nothing."""
        size = self._count * _RAW
        for index in range(size):
            buf[offset + index] = self._samples[index]
        self._count = 0
        return size

    def trim(self) -> bytes:
        """Serial number, version, model, Vs and its temperature; empty before the box is configured."""
        return bytes(self._identity) if self.configured else b""

    def _ask(self, now: int) -> None:
        if not self._asked:
            self._uart.write(self._requests[self._step])
            self._asked = True
            self._since = now
        elif elapsed(now, self._since) > _REPLY_MS:
            self._asked = False
            if self._step != _STOPPING and self._step != _LOCATING:
                raise BusError(TIME_OUT)
            self._step += 1

    def _listen(self, now: int) -> None:
        frames = self._frames
        while self._count <= FRAMES_AT_ONCE - _ROOM:  # else the rest stays on the line until these are read
            if not self._uart.any():
                if elapsed(now, self._heard) >= _IDLE_MS and frames.again(True):
                    self._take_all(now, True)
                return
            count = self._uart.readinto(self._chunk)
            if not count:
                return
            self._heard = now
            for index in range(count):
                if frames.feed(self._chunk[index]):
                    self._take_all(now, False)

    def _take_all(self, now: int, idle: bool) -> None:
        there = True
        while there:
            self._take(now)
            there = self._frames.again(idle)

    def _take(self, now: int) -> None:
        frame = self._frames.frame
        code = frame[1]
        if self._tap is not None:
            self._tap(frame, self._frames.length)
        if EVENT_A <= code <= EVENT_C:
            if self._step == _RUNNING or (self._step == _STARTING and self._asked):
                self._event(now, code)
        elif code == EVENT_GNSS:
            self.gnss_ready = frame[2] == 0
        elif self._step != _RUNNING and self._asked and code == _REPLIES[self._step]:
            self._answered(now)

    def _answered(self, now: int) -> None:
        frame = self._frames.frame
        if self._step == _ASKING:
            for index in range(18):
                self._identity[index] = frame[2 + index]
        elif self._step == _CLEANING:
            for index in range(4):
                self._identity[18 + index] = frame[2 + index]
        elif self._step == _LOCATING:
            self.gnss_ready = frame[2] == 1
        elif self._step == _STARTING:
            if frame[2]:
                self._failure = OTHER  # it refuses to start
                return
            self._run(now)
            return
        self._asked = False
        self._step += 1

    def _run(self, now: int) -> None:
        self._step = _RUNNING
        self.configured = True
        self._since = now

    def _event(self, now: int, code: int) -> None:
        frame = self._frames.frame
        serial = frame[2] | frame[3] << 8
        if self._serial < 0:
            self._serial = serial
        if serial != self._serial:
            self._failure = WRONG_IDENTITY
        if self._failure:
            return
        number = frame[4] | frame[5] << 8 | frame[6] << 16
        if code != EVENT_A:
            if self._between < _MANY:
                self._others[self._between] = number
                self._between += 1
            return
        if self._step == _STARTING:
            self._run(now)  # its reply was lost
        self._since = now
        self._silent = _SILENT_MS
        if self._newest >= 0:
            self._follow(number)
        self._newest = number
        self._between = 0
        self._bad = self._frames.bad
        self.errors = frame[7]
        self.degraded = DEVICE_FAULT if self.errors else 0
        begin = self._count * _RAW
        for index in range(_RAW):
            self._samples[begin + index] = frame[2 + index]
        self._count += 1

    def _follow(self, number: int) -> None:
        """Whether sample `number` is the next one; what is missing is counted."""
        distance = (number - self._newest) & _INDEX
        if distance == 0 or distance >= _HALF:
            self.gap_reason = POWER_ON_VALUES
            return
        lost = distance - 1
        for index in range(self._between):
            other = (self._others[index] - self._newest) & _INDEX
            if 0 < other < distance:
                lost -= 1
        if lost:
            self.missing += lost
            self.gap_reason = BAD_CHECKSUM if self._frames.bad != self._bad else OTHER
