"""An I2C bus of the head, and how it is freed when a chip holds SDA low: rp2's machine.I2C has no recovery of its own."""

import time

from drivers.portable import TYPE_CHECKING, const

if TYPE_CHECKING:
    from firmware.faces import Pin

_HALF_CLOCK_US = const(5)  # 100 kHz
_CLOCKS = const(9)  # a byte and its acknowledge: after at most nine a chip has nothing left to say


def clock_out(sda: "Pin", scl: "Pin") -> bool:
    """Clock a chip out of a half-done byte (open-drain pins); True if SDA was stuck.

    SDA is let go before each clock, and the end is a STOP: without it a chip waits for the rest of a write and takes the next address as
    data (Linux i2c-core-base.c, i2c_generic_scl_recovery)."""
    sda.value(1)
    scl.value(1)
    if sda.value():
        return False
    for _ in range(_CLOCKS):
        scl.value(0)
        time.sleep_us(_HALF_CLOCK_US)
        scl.value(1)
        time.sleep_us(_HALF_CLOCK_US)
        if sda.value():
            break
    scl.value(0)
    sda.value(0)
    time.sleep_us(_HALF_CLOCK_US)
    scl.value(1)
    time.sleep_us(_HALF_CLOCK_US)
    sda.value(1)
    return True


class I2CBus:
    """`machine` is MicroPython's module (given, so that tests can give their own). `i2c` is what drivers talk to."""

    def __init__(self, machine, number: int, sda: int, scl: int, frequency: int) -> None:  # type: ignore[no-untyped-def]
        self._machine = machine
        self._number = number
        self._sda = sda
        self._scl = scl
        self._frequency = frequency
        self.i2c = self._make()

    def recover(self) -> bool:
        """Free the bus; True if SDA was stuck. Afterwards the controller drives the pins again: rp2 has one object per controller."""
        pin = self._machine.Pin
        stuck = clock_out(pin(self._sda, pin.OPEN_DRAIN, value=1), pin(self._scl, pin.OPEN_DRAIN, value=1))
        self.i2c = self._make()
        return stuck

    def _make(self):
        pin = self._machine.Pin
        return self._machine.I2C(self._number, scl=pin(self._scl), sda=pin(self._sda), freq=self._frequency)
