"""A battery-backed clock (a Raspberry Pi 5 has one, where a battery is fitted; a Pi 4 none): UTC before any fix or network.

It is read once, when the recorder starts, to a second. What its time is worth nobody can see from it: it may never have been set, and one
whose battery is flat stands still while the truck is off, and goes on. So whenever a better source speaks it is compared with that, and
what came out is kept in a file of the spool:

- never compared, or not yet over a switching-off: an infinite error, so no UTC (gateway/clock.py);
- compared, and in a later boot of the kernel found to have gone on: off by no more than then, READ_S and DRIFT_PPM of the time since;
- earlier than it was when it was compared: it has been reset; no UTC.

Limit: a battery that goes flat after it was found good makes the next start's error too small, until a better source speaks; its mapping
is then the better one for the whole boot (formats.md: /clock)."""

import calendar
import fcntl
import os
import struct
import sys
import threading
from pathlib import Path

import msgspec

from gateway.clock import OSCILLATOR_PPM, Clock, Mapping, boottime_ns, sane_date

NANO = 1_000_000_000
RTC = "/dev/rtc0"
READ_S = 2.0  # it counts whole seconds, is set to one, and its bus and whoever set it take their time
# Crystals of 32 kHz are cut to 20 ppm at 25 °C and lose 0.034 ppm per °C² from there: 60 ppm at -10 and at 60 °C, and some for age.
DRIFT_PPM = 100.0
GOOD_S = 1.0  # a mapping that it can be compared with
LOOK_SECONDS = 10.0
KEEP_SECONDS = 600.0  # between two writes of the file
_RD_TIME = 0x80247009  # linux/rtc.h: _IOR('p', 0x09, struct rtc_time)
_TIME = struct.Struct("9i")  # sec, min, hour, mday, mon from 0, year from 1900, wday, yday, isdst; int on every Linux


class Compared(msgspec.Struct, forbid_unknown_fields=True):
    """The file: at `utc_ns`, in the kernel's boot `boot_id`, the clock was ahead by `ahead_s`. `held`: it has gone on while the truck
    was off."""

    boot_id: str
    utc_ns: int
    ahead_s: float
    held: bool


def read_utc_ns(device: str = RTC) -> int | None:
    """What the clock says, in ns, in the middle of its second; None if there is none, or it says that it has no time."""
    try:
        rtc = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            buffer = bytearray(_TIME.size)
            fcntl.ioctl(rtc, _RD_TIME, buffer)
        finally:
            os.close(rtc)
    except OSError:  # absent, in use, EINVAL: its oscillator has stood still
        return None
    second, minute, hour, day, month, year, *_ = _TIME.unpack(buffer)
    return calendar.timegm((year + 1900, month + 1, day, hour, minute, second)) * NANO + NANO // 2


class Rtc:
    """Read at the start; `file` is what is known of it, `boot_id` the kernel's. `run` is its source's thread: it compares."""

    def __init__(self, file: Path, boot_id: str, device: str = RTC) -> None:
        self._file = file
        self._boot_id = boot_id
        self._device = device
        self._before = _load(file)
        self._start_ns = boottime_ns()
        self._utc_ns = read_utc_ns(device)
        self._kept_ns: int | None = None

    def mapping(self, at_boottime_ns: int) -> Mapping | None:
        """UTC by its reading at the start; None if it had no time that can be true."""
        before = self._before
        if self._utc_ns is None or not sane_date(self._utc_ns):
            return None
        error = float("inf")
        if before is not None:
            since = (self._utc_ns - before.utc_ns) / NANO - before.ahead_s
            if since < -READ_S - GOOD_S:
                return None
            if before.held or before.boot_id == self._boot_id:
                error = _bound(before, since)
        error += abs(at_boottime_ns - self._start_ns) / NANO * OSCILLATOR_PPM * 1e-6
        return Mapping(at_boottime_ns, at_boottime_ns + self._utc_ns - self._start_ns, "rtc", error)

    def run(self, clock: Clock, stop: threading.Event) -> None:
        """Compares it with `clock`'s better sources until `stop` is set."""
        while not stop.wait(LOOK_SECONDS):
            self.compare(clock.mapping())

    def compare(self, mapping: Mapping) -> None:
        """Notes what it says while UTC is known by `mapping`, once in KEEP_SECONDS. A spool that refuses is told on stderr."""
        due = self._kept_ns is None or mapping.boottime_ns - self._kept_ns >= KEEP_SECONDS * NANO
        if mapping.source not in ("gnss", "ntp") or mapping.error_s > GOOD_S or not due:
            return
        now = read_utc_ns(self._device)
        if now is None:
            return
        self._kept_ns = mapping.boottime_ns
        utc = mapping.utc_ns + boottime_ns() - mapping.boottime_ns
        ahead = (now - utc) / NANO
        compared = Compared(self._boot_id, utc, ahead, self._held(utc, ahead))
        try:
            part = self._file.with_name(self._file.name + ".part")
            part.write_bytes(msgspec.json.encode(compared))
            os.replace(part, self._file)
        except OSError as error:
            print(f"recorder: {self._file}: {error.strerror}", file=sys.stderr, flush=True)

    def _held(self, utc_ns: int, ahead_s: float) -> bool:
        """Whether it has gone on over a switching-off: it is where it was, or it is right (somebody has set it)."""
        before = self._before
        if before is None:
            return False
        if before.boot_id == self._boot_id:
            return before.held
        allowed = READ_S + GOOD_S + (utc_ns - before.utc_ns) / NANO * DRIFT_PPM * 1e-6
        return min(abs(ahead_s - before.ahead_s), abs(ahead_s)) <= allowed


def _bound(before: Compared, since_s: float) -> float:
    """The error in s, so long after it was compared: nobody has set it since, or it was set right."""
    return READ_S + GOOD_S + abs(before.ahead_s) + since_s * DRIFT_PPM * 1e-6


def _load(file: Path) -> Compared | None:
    """What is known of it; a file that is none (a power cut may have left anything) is nothing known."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Compared)
    except (OSError, msgspec.DecodeError):
        return None
