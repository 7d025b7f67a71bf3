"""Sensirion SPS30 on its serial line (SHDLC, 115200 8N1); what the sensor does, and what is asked of it when: drivers/sps30_core.py.

Commands: Sensirion embedded-uart-sps sps30.c, python-shdlc-driver, Linux sps30_serial.c. An empty reply to "read" means that there is no
new sample yet: no error. Any byte may be late, missing or of an earlier command: input is thrown away before each request, a reply to
another one is ignored, a frame of wrong length or checksum is an error and asked for again. A single wrong bit never changes a value
(drivers/shdlc.py); two that cancel in the one-byte checksum pass, and then only the ranges of `decode` stand in their way. Bit 7 of the
state byte is the device's fault and no answer to the command."""

from drivers import sps30_core as core
from drivers.errors import BAD_CHECKSUM, OTHER, POWER_ON_VALUES, TIME_OUT, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed
from drivers.shdlc import Reply, request
from drivers.sps30_core import CHECKING as _CHECKING
from drivers.sps30_core import PERIOD_MS as PERIOD_MS
from drivers.sps30_core import QUANTITIES as QUANTITIES
from drivers.sps30_core import RAW_SIZE as RAW_SIZE
from drivers.sps30_core import SENSOR as SENSOR
from drivers.sps30_core import TRIM_SIZE as TRIM_SIZE
from drivers.sps30_core import decode as decode

if TYPE_CHECKING:
    from drivers.faces import UART

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

# By step.
_COMMANDS = (_WAKE, _STOP, _VERSION, _INFORMATION, _START, _READ, _STATUS, _STATUS, _CLEAN, _INTERVAL, _INTERVAL, _STOP, _SLEEP)


class SPS30(core.Core):
    """The sensor on a line with machine.UART's methods (`readinto` that does not wait)."""

    REQUESTS = (
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
    FIRST_MS = 20000  # the fan starts before the first sample
    SILENT_MS = 5000
    AGAIN_MS = 0

    def __init__(self, uart: "UART") -> None:
        self._uart = uart
        self._chunk = bytearray(32)
        self._reply = Reply(48)
        super().__init__(memoryview(self._reply.body)[4 : 4 + RAW_SIZE])

    def _setting(self, interval: bytes) -> bytes:
        return request(_INTERVAL, b"\x00" + interval)

    def _send(self, message: bytes) -> None:
        while self._uart.any():
            if not self._uart.readinto(self._chunk):
                break
        self._reply.clear()
        self._uart.write(message)

    def _listen(self, now: int) -> None:
        reply = self._reply
        while self._uart.any():
            count = self._uart.readinto(self._chunk)
            if not count:
                break
            for index in range(count):
                if reply.feed(self._chunk[index]):
                    if reply.broken():
                        self._over()
                        raise BusError(BAD_CHECKSUM)
                    if reply.body[1] == _COMMANDS[self._step]:
                        self._over()
                        self._received(now, self._step)
                        return
        if elapsed(now, self._since) > _REPLY_MS:
            self._over()
            if self._step != core.WAKING:  # an awake chip of firmware 1 may ignore it
                raise BusError(TIME_OUT)
            self._step = core.STOPPING

    def _received(self, now: int, step: int) -> None:
        body = self._reply.body
        length = body[3]
        error = body[2] & 0x7F
        if error and not ((step <= core.STOPPING or step == core.HALTING) and error in (_NOT_ALLOWED, _UNKNOWN)):
            if step > core.READING:
                self._step = core.READING
                self._held = False
            # Not measuring any more: its power was away.
            raise BusError(POWER_ON_VALUES if step >= core.READING and error == _NOT_ALLOWED else OTHER)
        if step == _CHECKING and length != 5:
            raise BusError(OTHER)
        self._answered(now, length, body[2] & 0x80)
