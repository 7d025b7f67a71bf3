"""The kernel's clocks as a test wants them: what clock_gettime, ntp_adjtime and the RTC's ioctl answer. Nothing of ours is replaced."""

import ctypes
import datetime
import errno
import fcntl
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

import gateway.clock

NANO = 1_000_000_000
UNSYNC, NANOSECONDS, ERROR = 0x40, 0x2000, 5
RD_TIME = 0x80247009


def utc(text: str) -> int:
    """UTC in ns of an ISO date."""
    moment = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
    return int((moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / datetime.timedelta(microseconds=1)) * 1000


class Kernel:
    """`boot_ns` runs by hand (`standing`), or is the machine's own; the system clock is boot time and `real_offset_ns`, the RTC boot time
    and `rtc_offset_ns`. `synchronised`, `maxerror_us`, `slewing_us` are what ntp_adjtime says; `rtc` whether there is one. `asleep_ns`: the
    thread is put to sleep for so long between each two readings of a clock."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, standing: bool = True) -> None:
        self.real_offset_ns = 0
        self.rtc_offset_ns = 0
        self.synchronised = False
        self.maxerror_us = 1_000
        self.slewing_us = 0
        self.asleep_ns = 0
        self.boot_ns = 1_000 * NANO
        self.device = folder / "rtc0"
        self._standing = standing
        self._clock_gettime_ns = time.clock_gettime_ns
        self._ioctl = fcntl.ioctl
        patch.setattr(time, "clock_gettime_ns", self._gettime)
        patch.setattr(gateway.clock.ctypes, "CDLL", lambda *arguments, **settings: self)
        patch.setattr(fcntl, "ioctl", self._control)

    @property
    def rtc(self) -> bool:
        """Whether the machine has one."""
        return self.device.exists()

    @rtc.setter
    def rtc(self, there: bool) -> None:
        if there:
            self.device.touch()
        else:
            self.device.unlink(missing_ok=True)

    def now_ns(self) -> int:
        """Boot time."""
        return self.boot_ns if self._standing else self._clock_gettime_ns(time.CLOCK_BOOTTIME)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.boot_ns += int(seconds * NANO)

    def set_date(self, text: str) -> None:
        """The system clock is set."""
        self.real_offset_ns = utc(text) - self.now_ns()

    def set_rtc(self, text: str) -> None:
        """The RTC is set."""
        self.rtc = True
        self.rtc_offset_ns = utc(text) - self.now_ns()

    def _gettime(self, clock: int) -> int:
        now = self.now_ns()
        if self._standing:
            self.boot_ns += self.asleep_ns
        if clock == time.CLOCK_REALTIME:
            return now + self.real_offset_ns
        return now if clock == time.CLOCK_BOOTTIME else self._clock_gettime_ns(clock)

    def ntp_adjtime(self, state: Any) -> int:
        """linux/timex.h; `state` is a pointer to a struct timex."""
        timex = ctypes.cast(state, ctypes.POINTER(gateway.clock._Timex)).contents
        timex.maxerror, timex.offset = self.maxerror_us, self.slewing_us
        timex.status = 0 if self.synchronised else UNSYNC
        return 0 if self.synchronised else ERROR

    def _control(self, fd: int, request: int, argument: Any = 0, *more: Any) -> Any:
        if request != RD_TIME:
            return self._ioctl(fd, request, argument, *more)
        assert os.readlink(f"/proc/self/fd/{fd}") == str(self.device) and len(argument) == 36
        seconds = (self.now_ns() + self.rtc_offset_ns) // NANO
        if seconds < 0:
            raise OSError(errno.EINVAL, "Invalid argument")  # its oscillator has stood still
        parts = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
        struct.pack_into(
            "9i", argument, 0, parts.second, parts.minute, parts.hour, parts.day, parts.month - 1, parts.year - 1900, 0, 0, 0
        )  # fmt: skip
        return 0
