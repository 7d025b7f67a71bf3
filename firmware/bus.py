"""The head's wires: an I2C bus and how it is freed when a chip holds SDA low (rp2's machine.I2C has no recovery of its own), and the load
switch of the particle sensor.

What a stuck bus looks like depends on the moment: a line that is low before a transfer is a time-out of 50 ms, one that a chip pulls low
within it is lost arbitration, which rp2 gives as EIO like a missing acknowledge. So after either the lines are looked at: a pin can be read
while the controller has it.

A sensor that latched up, or hangs, hears no command; only a supply that was away ends it. So its load switch is the last rung: after a
minute without a sample, once the retries with full set-up have failed all that time, and then after 2, 4, 8 … 60 minutes: a dead sensor is
clicked once an hour. One that has not answered since the head started may not be fitted: it is tried once, and then once an hour. One that
delivered for an hour since it was switched has the first minute again. When it may be is firmware/supervisor.py's to say: never while the
fan spins up."""

import time

from drivers.portable import TYPE_CHECKING, const, elapsed

if TYPE_CHECKING:
    from types import ModuleType

    from firmware.faces import Pin

_HALF_CLOCK_US = const(5)  # 100 kHz
_CLOCKS = const(9)  # a byte and its acknowledge: after at most nine a chip has nothing left to say
_FIRST_MS = const(60_000)
_LONGEST_MS = const(3_600_000)
_OFF_MS = const(3000)  # the fan runs down (allowance); the switch discharges 1000 µF through some 25 Ω in 0.1 s
_BOOT_MS = const(500)  # from power to the first command: Linux waits so long after a reset of the SPS30


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


class Supply:
    """The 5 V of a sensor on a UART, through the load switch on pin `power` (high: on) of `machine` (hardware.md). `since` is the tick from
    which it is waited: when the sensor delivered or was started last, or the head is about to be reset, which takes 13 s.

    While it is off, the UART's line to the sensor on pin `tx` is driven low: an idle line is at 3.3 V and would feed the sensor through the
    protection of its input, which keeps it from ever being off. After a reset of the head both pins are inputs, and the pull-up of the
    switch gives the sensor its power. Allocates nothing after construction."""

    def __init__(self, machine: "ModuleType", power: int, tx: int) -> None:
        pin = machine.Pin
        self._power = pin(power, pin.OUT, value=1)
        self._line = pin(tx)
        self._off = False
        self._wait = _FIRST_MS
        self._switched = 0
        self.since = 0

    def turn(self, now: int, delivered: bool) -> int:
        """Switch what is due; for how many ms the sensor is then to be left alone (0: nothing was done). `delivered`: ever since the head
        started."""
        line = self._line
        if self._off:
            self._off = False
            self._power.value(1)
            line.init(line.ALT, alt=line.ALT_UART)
            return _BOOT_MS
        if elapsed(self.since, self._switched) >= _LONGEST_MS:
            self._wait = _FIRST_MS
        if elapsed(now, self.since) < self._wait:
            return 0
        self._off = True
        self._power.value(0)
        line.init(line.OUT, value=0)
        self._wait = min(self._wait * 2, _LONGEST_MS) if delivered else _LONGEST_MS
        self._switched = self.since = now
        return _OFF_MS
