"""Virtual time on MicroPython: it stands still while the program computes, and passes when the event loop waits or a bus is at work.

The truck's side (tests/support/virtual_head.py) keeps the clock; both count the same. Operations 200 and 201 of the wire are ours."""

import truck_wire as wire
import utime

_WAIT, _NOW = 200, 201
US_PER_BYTE = 25  # 9 bits at 400 kHz, rounded up; virtual_head.py counts the same

# The scheduler's queue is C and dates tasks that are due at once by the port's own ticks: virtual time starts there and runs ahead.
_start = utime.ticks_us()
_us = [0]
_call = wire.call


def now_us():
    """Virtual microseconds, on the scale of the port's own ticks."""
    return _start + _us[0]


def advance(us):
    """Let `us` microseconds pass; the truck does what it has to do meanwhile."""
    wire.put_number(0, us, 4)
    _call(_WAIT, 4)
    _us[0] += us


def call(operation, length):
    """As wire.call; a transfer on the bus takes its time."""
    transfer = operation == wire.I2C_TRANSFER
    if transfer:
        cost = US_PER_BYTE * (2 + length - 5 + wire.request[wire.BODY + 3] + (wire.request[wire.BODY + 4] << 8))
    try:
        size = _call(operation, length)
    except OSError:
        _call(_NOW, 0)  # a stuck bus takes the controller's time-out
        now = wire.receive(8)
        _us[0] = int.from_bytes(now, "little")
        raise
    if transfer:
        _us[0] += cost
    return size


wire.call = call
