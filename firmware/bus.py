"""An I2C bus of the head, and how it is freed when a chip holds SDA low: rp2's machine.I2C has no recovery of its own.

What a stuck bus looks like depends on the moment: a line that is low before a transfer is a time-out of 50 ms, one that a chip pulls low
within it is lost arbitration, which rp2 gives as EIO like a missing acknowledge. So after either the lines are looked at: a pin can be read
while the controller has it."""

import time

from drivers.portable import TYPE_CHECKING, const

if TYPE_CHECKING:
    from firmware.faces import Pin

_HALF_CLOCK_US = const(5)  # 100 kHz
_CLOCKS = const(9)  # a byte and its acknowledge: after at most nine a chip has nothing left to say


def clock_out(sda: "Pin", scl: "Pin") -> bool:
    """Clock a chip out of a half-done byte (open-drain pins, both let go); True if SDA is free afterwards.

    Every clock is a STOP, if SDA can rise: a chip in the middle of a write takes clocks without one as data and writes 0xFF to the register
    it was at, and one that sends a 1 between two 0 lets SDA look free for a moment (Linux i2c-core-base.c, i2c_generic_scl_recovery;
    gpio-fault-injection.rst). The other chips on the bus see no START, so they do nothing. A low SCL cannot be freed from here."""
    for _ in range(_CLOCKS):
        scl.value(0)
        time.sleep_us(_HALF_CLOCK_US)
        sda.value(0)
        scl.value(1)
        time.sleep_us(_HALF_CLOCK_US)
        if not scl.value():
            break
        sda.value(1)
        time.sleep_us(_HALF_CLOCK_US)
        if sda.value():
            return True
    sda.value(1)
    return False


class I2CBus:
    """`machine` is MicroPython's module (given, so that tests can give their own). `i2c` is what drivers talk to.

    `stuck` says that a line was low when it was looked at last, and could not be freed."""

    def __init__(self, machine, number: int, sda: int, scl: int, frequency: int) -> None:  # type: ignore[no-untyped-def]
        self._machine = machine
        self._number = number
        self._sda = sda
        self._scl = scl
        self._frequency = frequency
        self.stuck = False
        self.i2c = self._make()

    def recover(self) -> bool:
        """Look at the lines, and free SDA if it is low; True if the bus was stuck, freed or not. Harmless while no transfer runs.

        Afterwards the controller drives the pins again: rp2 has one object per controller, so `i2c` stays good."""
        pin = self._machine.Pin
        if pin(self._sda).value() and pin(self._scl).value():
            self.stuck = False
            return False
        sda = pin(self._sda, pin.OPEN_DRAIN, value=1)
        scl = pin(self._scl, pin.OPEN_DRAIN, value=1)
        self.stuck = not scl.value() or not (sda.value() or clock_out(sda, scl))
        self.i2c = self._make()
        return True

    def _make(self):
        pin = self._machine.Pin
        return self._machine.I2C(self._number, scl=pin(self._scl), sda=pin(self._sda), freq=self._frequency)
