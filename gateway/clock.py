"""The truck's time. CLOCK_BOOTTIME (ns) is the identity of a moment; UTC is a mapping with its source and error (docs/formats.md 1).

The only module of the truck that may read the wall clock. Three sources are known, in the order of trust:

- gnss: the date of a valid fix, seen at the boot time its report arrived. A report can only be late, so the largest difference
  UTC - boot time of the last minute is the best one. What no report can tell is the constant part of the delay (receiver, serial line,
  gpsd): it is part of the stated error until PPS disciplines the system clock. A difference that has become smaller by whole seconds, and
  stays so, is a leap second: then those before it are forgotten.
- ntp: the system clock, only while the kernel itself says that it is synchronised (ntp_adjtime, STA_UNSYNC clear), with the kernel's
  own maximum error and what it is still slewing. Whoever sets the clock by hand makes the kernel say that it is not.
- rtc: a battery-backed clock, as far as it has been compared (gateway/rtc.py), until one of the others speaks.

Otherwise there is no UTC: source `none`, 0. A system clock nobody disciplines is not passed off as time; the center computes UTC
backwards as soon as one mapping of the same boot is known.

The stated error is a bound, under these limits: reports of a receiver are at most GNSS_DELAY_S late, this machine's oscillator is within
OSCILLATOR_PPM, the network's delays are within NTP_LEAST_S of symmetrical.
"""

import ctypes
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

NANO = 1_000_000_000

BUILD_UTC_NS = 1_767_225_600 * NANO  # 2026-01-01T00:00:00Z: the year this was written; no truck that runs it lives earlier
# A receiver that has lost the week counts 1024 weeks (19.6 years) wrong, and one without a week says 0xFFFF (design: Time). Both are
# outside of [build date, build date + 1024 weeks).
WEEKS_1024_NS = 1024 * 7 * 86_400 * NANO

GNSS_EPOCHS = 60  # of which the least delayed counts; a Pi's oscillator (50 ppm at worst) drifts 3 ms meanwhile
GNSS_WINDOW_NS = 600 * NANO  # older ones are forgotten when the next one comes: behind a tunnel a new report is the better one
GNSS_DELAY_S = 0.3  # receiver's computation + 100 bytes serial + gpsd, at most; unknown without PPS, so it is stated as error
OSCILLATOR_PPM = 50.0  # how fast an unobserved mapping gets worse
GNSS_HOLD_NS = 3_600 * NANO  # after this long without a fix, a synchronised system clock is the better source
LEAP_REPORTS = 5  # in a row that are behind by whole seconds: late ones are not, and not so many
LEAP_TOLERANCE_S = 0.25

# systemd-timesyncd tells the kernel a maximum error of 0 (timesyncd-manager.c), but asks one server over a mobile network: half of a round
# trip of 200 ms.
NTP_LEAST_S = 0.1

_STA_UNSYNC = 0x0040  # linux/timex.h
_STA_NANO = 0x2000  # `offset` is in ns, else in µs
_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """The beginning of the kernel's struct timex (linux/timex.h); the rest is room for what we do not read."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),  # µs
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 40),
    ]


class Mapping(NamedTuple):
    """UTC at a boot time: `source` is `gnss`, `ntp`, `rtc` or `none` (then utc_ns is 0 and error_s infinite)."""

    boottime_ns: int
    utc_ns: int
    source: str
    error_s: float


def boottime_ns() -> int:
    """Now, in ns of CLOCK_BOOTTIME (goes on while the machine sleeps; never set)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def sane_date(utc_ns: int) -> bool:
    """Whether a receiver's date can be true: not before this program was built, not after 1024 weeks from then."""
    return BUILD_UTC_NS <= utc_ns < BUILD_UTC_NS + WEEKS_1024_NS


def kernel_error_s() -> float | None:
    """The kernel's bound on the error of the system clock in seconds, and what it is still slewing; None if it does not call the clock
    synchronised."""
    adjtime = getattr(ctypes.CDLL(None, use_errno=True), "ntp_adjtime", None)
    if adjtime is None:
        return None
    state = _Timex()
    code = adjtime(ctypes.byref(state))
    if code < 0 or code == _TIME_ERROR or state.status & _STA_UNSYNC:
        return None
    return state.maxerror * 1e-6 + abs(state.offset) * (1e-9 if state.status & _STA_NANO else 1e-6)


def system_offset_ns() -> tuple[int, float]:
    """The system clock's UTC less boot time, and the error in s of reading the two (a thread may be put to sleep between)."""
    before = boottime_ns()
    utc = time.clock_gettime_ns(time.CLOCK_REALTIME)
    after = boottime_ns()
    return utc - (before + after) // 2, (after - before) / 2 / NANO


def no_rtc(at_boottime_ns: int) -> Mapping | None:
    """A machine without a battery-backed clock."""
    return None


class Clock:
    """The best known mapping from boot time to UTC; any thread may ask and tell. `rejected` counts GNSS dates that cannot be true.

    `system` gives the error in s of the system clock, or None; `rtc` the mapping of a battery-backed one for a boot time."""

    def __init__(self, system: Callable[[], float | None] = kernel_error_s, rtc: Callable[[int], Mapping | None] = no_rtc) -> None:
        self._system = system
        self._rtc = rtc
        self._lock = threading.Lock()
        self._offsets: deque[tuple[int, int, float]] = deque(maxlen=GNSS_EPOCHS)  # boottime_ns, utc - boottime, the fix's error
        self.rejected = 0

    def observe_gnss(self, received_boottime_ns: int, utc_ns: int, time_error_s: float | None) -> bool:
        """A valid fix of `utc_ns` was received at this boot time; False (counted) if its date cannot be true."""
        if not sane_date(utc_ns):
            with self._lock:
                self.rejected += 1
            return False
        with self._lock:
            while self._offsets and received_boottime_ns - self._offsets[0][0] > GNSS_WINDOW_NS:
                self._offsets.popleft()
            self._offsets.append((received_boottime_ns, utc_ns - received_boottime_ns, time_error_s or 0.0))
            self._leap()
        return True

    def _leap(self) -> None:
        """Forgets what was before a leap second. The lock is held."""
        recent = list(self._offsets)[-LEAP_REPORTS:]
        behind = (max(offset for _, offset, _ in self._offsets) - max(offset for _, offset, _ in recent)) / NANO
        if len(recent) == LEAP_REPORTS and round(behind) >= 1 and abs(behind - round(behind)) <= LEAP_TOLERANCE_S:
            self._offsets.clear()
            self._offsets.extend(recent)

    def mapping(self, at_boottime_ns: int | None = None) -> Mapping:
        """The best mapping, stated for `at_boottime_ns` (default: now)."""
        at = boottime_ns() if at_boottime_ns is None else at_boottime_ns
        gnss = self._gnss(at)
        if gnss is not None and at - self._last_fix() < GNSS_HOLD_NS:
            return gnss
        offset, reading_error = system_offset_ns()
        error = self._system()  # asked behind the reading: a clock that was set meanwhile is not synchronised any more
        if error is not None and sane_date(at + offset):
            ahead = abs(at - boottime_ns()) / NANO * OSCILLATOR_PPM * 1e-6
            return Mapping(at, at + offset, "ntp", max(error, NTP_LEAST_S) + reading_error + ahead)
        rtc = self._rtc(at)
        if rtc is not None and not math.isfinite(rtc.error_s):  # a time that may be anything is none
            rtc = None
        return gnss or rtc or Mapping(at, 0, "none", float("inf"))

    def utc_ns(self, at_boottime_ns: int) -> int:
        """UTC of a boot time by the best mapping, 0 if there is none."""
        return self.mapping(at_boottime_ns).utc_ns

    def _last_fix(self) -> int:
        with self._lock:
            return self._offsets[-1][0]

    def _gnss(self, at: int) -> Mapping | None:
        with self._lock:
            if not self._offsets:
                return None
            offsets = list(self._offsets)
        best_at, best, fix_error = max(offsets, key=lambda one: one[1])
        # The newest report is late, or the best one was early: nobody can tell which, until more have come.
        behind = (best - offsets[-1][1]) / NANO
        age = abs(at - best_at) / NANO
        return Mapping(at, at + best, "gnss", fix_error + GNSS_DELAY_S + behind + age * OSCILLATOR_PPM * 1e-6)
