"""Sensirion SPS30 on I2C (SEL pin to ground, 0x69, at most 100 kHz: it holds its whole bus to that): samples as on the serial line.

Commands: Sensirion embedded-sps sps30.c, python-i2c-sps30, Linux sps30_i2c.c. A command is written, stopped, waited for, and then its reply
is read: never one combined transaction. Every two bytes carry a CRC-8; one wrong word of the twenty rejects the whole sample. A sample is
read when the data-ready flag is set; what else is asked, and when: drivers/sps30_core.py. No word says whether the sensor measures at all:
when no sample has come for 1.6 s (2.5 s after a start) the measurement is started again, which a measuring sensor does not obey
(unverified), and the silence is a time-out."""

from drivers import sps30_core as core
from drivers.crc8 import crc8
from drivers.errors import BAD_CHECKSUM, NO_ACKNOWLEDGE, BusError, from_oserror
from drivers.portable import TYPE_CHECKING, const, elapsed
from drivers.sps30_core import PERIOD_MS as PERIOD_MS
from drivers.sps30_core import QUANTITIES as QUANTITIES
from drivers.sps30_core import RAW_SIZE as RAW_SIZE
from drivers.sps30_core import SENSOR as SENSOR
from drivers.sps30_core import TRIM_SIZE as TRIM_SIZE
from drivers.sps30_core import decode as decode

if TYPE_CHECKING:
    from drivers.faces import I2C

ADDRESSES = (0x69,)

_FETCHING = const(13)  # a step of its own: READING asks whether there is a sample, this one for the sample

# By step.
_REQUESTS = (
    b"\x11\x03",
    b"\x01\x04",
    b"\xd1\x00",
    b"\xd0\x33",
    b"\x00\x10\x03\x00\xac",  # big endian floats
    b"\x02\x02",
    b"\xd2\x06",
    b"\xd2\x10",
    b"\x56\x07",
    b"\x80\x04",
    b"",  # made by set_auto_clean
    b"\x01\x04",
    b"\x10\x01",
    b"\x03\x00",
)
_WAIT_MS = (5, 20, 5, 5, 20, 5, 5, 5, 5, 5, 20, 20, 5, 5)  # before the reply, or the next command
_BUSY_MS = const(50)  # so long is a reply waited for
_REPLY_SIZES = (0, 0, 3, 48, 0, 3, 6, 0, 0, 6, 0, 0, 0, 60)


class SPS30I2C(core.Core):
    """The sensor on an I2C bus with machine.I2C's methods."""

    REQUESTS = _REQUESTS
    FIRST_MS = 2500  # due after 1 s: nothing says whether the command to start arrived
    SILENT_MS = 1600  # a sample a second: one is missing
    AGAIN_MS = 5000

    def __init__(self, i2c: "I2C", address: int = 0x69) -> None:
        self._i2c = i2c
        self._address = address
        reply = memoryview(bytearray(60))
        none = reply[:0]
        self._replies = [reply[:size] if size else none for size in _REPLY_SIZES]
        super().__init__(bytearray(RAW_SIZE))

    def _setting(self, interval: bytes) -> bytes:
        return b"\x80\x04" + interval[:2] + bytes((crc8(interval, 0),)) + interval[2:] + bytes((crc8(interval, 2),))

    def _send(self, message: bytes) -> None:
        # Asleep, the sensor does not acknowledge the first of two wakes; firmware 1 none; idle, perhaps no stop. An absent one is noticed
        # when its version is read.
        for _ in range(2 if self._step == core.WAKING else 1):
            try:
                self._i2c.writeto(self._address, message)
            except OSError as error:
                if self._step > core.STOPPING or from_oserror(error).code != NO_ACKNOWLEDGE:
                    raise

    def _listen(self, now: int) -> None:
        step = self._step
        if elapsed(now, self._since) <= _WAIT_MS[step]:  # more: a tick may be almost over when it is read
            return
        reply = self._replies[step]
        try:
            if reply:
                self._i2c.readfrom_into(self._address, reply)
        except OSError as error:
            if from_oserror(error).code == NO_ACKNOWLEDGE and elapsed(now, self._since) <= _BUSY_MS:
                return  # not acknowledged: not ready. On Linux the command may have gone out some ms after `now`
            self._ended(step)
            raise
        self._ended(step)
        length = 0
        for start in range(0, len(reply), 3):
            if crc8(reply, start) != reply[start + 2]:
                raise BusError(BAD_CHECKSUM)
            self._answer[length] = reply[start]
            self._answer[length + 1] = reply[start + 1]
            length += 2
        if step == core.READING and self._answer[1] & 1:
            self._step = _FETCHING
            self._sampled = now  # it measures, whatever comes of reading it
        else:
            self._answered(now, 0 if step == core.READING else length, 0)

    def _ended(self, step: int) -> None:
        self._over()
        if step == _FETCHING:  # whatever comes of it: it is asked anew whether there is a sample
            self._step = core.READING
