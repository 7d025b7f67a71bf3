"""SDA and SCL of one I2C bus as levels: what a controller sees that has let go of its pins, and what chips do at the edges it makes.

Both lines are wired AND of everybody on them. A transaction in order never comes here (sim/bus.py moves bytes); what does is a chip left
in the middle of a byte: one that was sending goes on with its bits at each falling edge of SCL, one that was listening takes whatever it is
clocked as data, acknowledges it and writes it into its registers. Only a STOP (SDA rises while SCL is high) ends either; facts 2, Linux
Documentation/i2c/gpio-fault-injection.rst.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol


class Listener(Protocol):
    """A chip as the lines see it."""

    def write(self, byte: int) -> bool:
        """One whole byte from the controller; returns the acknowledge."""

    def stop(self) -> None:
        """The stop condition."""


class Lines:
    """`sda` and `scl` are levels, 0 or 1. `held_sda` and `held_scl` are set by the bus for what pulls a line low regardless of clocks."""

    def __init__(self) -> None:
        self.held_sda = False
        self.held_scl = False
        self._out_sda = 1  # what the controller's open-drain pins do; 1 = let go
        self._out_scl = 1
        self._sending: list[int] = []  # bits that a chip has yet to send, the one on the line first
        self._listener: Listener | None = None  # a chip in the middle of a write
        self._acknowledging = False
        self._bits = 0
        self._byte = 0

    @property
    def sda(self) -> int:
        """Level of SDA."""
        return int(not (self.held_sda or self._acknowledging or not self._out_sda or (self._sending and not self._sending[0])))

    @property
    def scl(self) -> int:
        """Level of SCL."""
        return int(not (self.held_scl or not self._out_scl))

    @property
    def idle(self) -> bool:
        """Both lines are high: a controller can begin."""
        return bool(self.sda and self.scl)

    def leave_sending(self, bits: Sequence[int]) -> None:
        """A transaction broke off while a chip sent a byte: `bits` are still to come, the first is on the line."""
        self._sending = list(bits)

    def leave_acknowledging(self, chip: Listener) -> None:
        """A transaction broke off within a written byte: its eight bits are out, `chip` pulls SDA low to acknowledge and waits for more."""
        self._listener = chip
        self._acknowledging = True
        self._bits = self._byte = 0

    def forget(self) -> None:
        """Every chip has forgotten the transaction it was in: its supply went, or a transaction began anew."""
        self._sending = []
        self._listener = None
        self._acknowledging = False

    def release(self) -> None:
        """The controller has its pins again and drives neither."""
        self._out_sda = self._out_scl = 1

    def drive_scl(self, level: int) -> None:
        """The controller's SCL pin; what chips do at the edge that follows from it."""
        before = self.scl
        self._out_scl = int(bool(level))
        if before and not self.scl:
            self._fell()
        elif self.scl and not before:
            self._rose()

    def drive_sda(self, level: int, chips: Iterable[Listener]) -> None:
        """The controller's SDA pin; with SCL high its rise is a STOP, which all `chips` see, its fall a (repeated) START."""
        before = self.sda
        self._out_sda = int(bool(level))
        if self.scl and before != self.sda:
            self.forget()
            if not before:
                for chip in chips:
                    chip.stop()

    def _fell(self) -> None:
        if self._sending:
            del self._sending[0]
        elif self._acknowledging:
            self._acknowledging = False
        elif self._listener is not None and self._bits == 8:
            self._acknowledging = self._listener.write(self._byte)
            self._bits = self._byte = 0

    def _rose(self) -> None:
        if self._listener is not None and not self._acknowledging:
            self._byte = (self._byte << 1 | self.sda) & 0xFF
            self._bits += 1
