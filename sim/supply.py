"""The load switch of one chip's 5 V, as the head's pins move it.

While ON is low the chip is without its supply. It is really off only where its input was low as well, for as long as the capacitors need:
a UART's idle line is at 3.3 V and feeds the chip through the protection of its input. Then a chip that latched up stays so (sim/faults.py),
whatever its supply did. Both pins are as after a reset of the head until it drives them: ON is pulled up, the line is high."""

from typing import Any

from sim.bus import ClockFace
from sim.faults import Faults

DISCHARGE_US = 1_000_000  # ten times what hardware.md allows for


class LoadSwitch:
    """In front of `chip`; `switched_us` are the moments at which its supply went, by the wires' clock."""

    def __init__(self, chip: Any, faults: Faults, clock: ClockFace) -> None:
        self.switched_us: list[int] = []
        self._chip = chip
        self._faults = faults
        self._clock = clock
        self._on = 1
        self._line = 1
        self._drained_since: int | None = None

    def drive_on(self, level: int) -> None:
        """Pin ON."""
        if level == self._on:
            return
        drained = self._drained_since is not None and self._clock.running_us() - self._drained_since >= DISCHARGE_US
        self._on = level
        if not level:
            self.switched_us.append(self._clock.running_us())
        self._look()
        self._faults.supply(self._chip, bool(level), self._clock.now_us(), drained)

    def drive_line(self, level: int) -> None:
        """The line that leads to the chip's input."""
        self._line = level
        self._look()

    def _look(self) -> None:
        if self._on or self._line:
            self._drained_since = None
        elif self._drained_since is None:
            self._drained_since = self._clock.running_us()
