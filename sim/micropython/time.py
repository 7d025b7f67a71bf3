"""The RP2040's `time` on the unix port: ticks of 30 bits that wrap together.

On the RP2040 ticks_us and ticks_ms are the low 30 bits of one 64-bit µs counter (and of that / 1000); on the unix port they wrap at
2**62, which hides every mistake. This counter starts CRUISERS_TICKS_BEFORE_WRAP_MS before both wrap at once, so a short run exercises it.
"""

import os

import utime

gmtime = utime.gmtime
localtime = utime.localtime
mktime = utime.mktime
sleep = utime.sleep
sleep_ms = utime.sleep_ms
sleep_us = utime.sleep_us
time = utime.time
time_ns = utime.time_ns

_PERIOD = 1 << 30
_MASK = _PERIOD - 1
_HALF = _PERIOD >> 1
# 1000 * 2**30 µs is a multiple of both periods.
_AHEAD = 1000 * _PERIOD - 1000 * int(os.getenv("CRUISERS_TICKS_BEFORE_WRAP_MS") or "20000") - utime.ticks_us()


def ticks_us():
    """Microseconds, 0 to 2**30 - 1."""
    return (utime.ticks_us() + _AHEAD) & _MASK


def ticks_ms():
    """Milliseconds, 0 to 2**30 - 1."""
    return ((utime.ticks_us() + _AHEAD) // 1000) & _MASK


def ticks_cpu():
    """The RP2040 has no finer counter than µs here."""
    return ticks_us()


def ticks_add(ticks, delta):
    """`ticks` moved by `delta` (less than half the period), modulo 2**30."""
    if not -_HALF <= delta < _HALF:
        raise OverflowError("ticks interval overflow")
    return (ticks + delta) & _MASK


def ticks_diff(end, start):
    """Ticks from `start` to `end`, -2**29 to 2**29 - 1."""
    return ((end - start + _HALF) & _MASK) - _HALF
