"""Virtual time on MicroPython: it stands still while the program computes, and passes when the event loop waits or a bus is at work.

The truck's side (tests/support/virtual_head.py) keeps the clock, because only it knows how long a transfer took: a chip may stretch it, and
a stuck bus takes the controller's time-out. Here the time is asked for when it may have changed. Operations 200 and 201 are ours."""

import truck_wire as wire
import utime

_WAIT, _NOW = 200, 201

# The scheduler's queue is C and dates tasks that are due at once by the port's own ticks: virtual time starts there and runs ahead.
_start = (utime.ticks_us() // 1000 + 100) * 1000  # a whole millisecond, and well ahead: runs do not differ by where it begins
_us = [0]
_old = [False]  # a transfer has taken its time since it was asked
_answer = bytearray(8)
_call = wire.call


def now_us():
    """Virtual microseconds, on the scale of the port's own ticks."""
    if _old[0]:
        _old[0] = False
        wire.receive_into(_answer, _call(_NOW, 0))
        _us[0] = int.from_bytes(_answer, "little")
    return _start + _us[0]


def advance(us):
    """Let `us` microseconds pass; the truck does what it has to do meanwhile."""
    now_us()
    wire.put_number(0, us, 4)
    _call(_WAIT, 4)
    _us[0] += us


def call(operation, length):
    """As wire.call; a transfer on the bus takes its time."""
    if operation == wire.I2C_TRANSFER:
        _old[0] = True
    return _call(operation, length)


wire.call = call
