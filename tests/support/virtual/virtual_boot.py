"""Boots the head's program in virtual time (sim/micropython/truck_boot.py does the rest): see virtual_clock.py."""

import sys

import utime as _utime
import virtual_clock


class _Utime:
    """Stands in for the port's `utime`: sim/micropython/time.py and truck_boot.py take all time from there."""

    def __getattr__(self, name):
        return getattr(_utime, name)

    @staticmethod
    def ticks_us():
        return virtual_clock.now_us()

    @staticmethod
    def ticks_ms():
        return virtual_clock.now_us() // 1000

    @staticmethod
    def sleep_us(us):
        virtual_clock.advance(us)

    @staticmethod
    def sleep_ms(ms):
        virtual_clock.advance(1000 * ms)


class _Waiting:
    """Stands in for asyncio's queue of streams, which the head does not use: what is left of it is the waiting."""

    def wait_io_event(self, dt):
        """Nothing is due for `dt` ms (-1: never again)."""
        if dt < 0:
            raise RuntimeError("every task waits for ever")
        virtual_clock.advance(1000 * dt)

    def remove(self, task):
        """No task waits for a stream."""


sys.modules["utime"] = _Utime()  # before anything imports `time`

import asyncio.core  # noqa: E402

asyncio.core._io_queue = _Waiting()

import truck_boot  # noqa: E402, F401  # runs the program
