"""A version on trial is good once every configured sensor is ok and the gateway acknowledges, for 10 s without a break.

If it was not within 180 s the head resets, which costs the version one of its starts; with none left the board starts the other slot
(firmware/slots.py). Imported only on trial."""

import os

from drivers.portable import TYPE_CHECKING, const, elapsed
from firmware.wire import OK

if TYPE_CHECKING:
    from firmware.link import Link
    from firmware.supervisor import Watched

_WELL_MS = const(10_000)
_TRIAL_MS = const(180_000)  # the particle sensor's fan is at speed after 30 s
_ACKNOWLEDGED_MS = const(2000)  # the gateway acknowledges twice a second


class Trial:
    """Of the version that the switch's file `record` is about; begins at `now`, in ticks of milliseconds."""

    def __init__(self, record: str, now: int, sensors: "list[Watched]", link: "Link") -> None:
        self._record = record
        self._sensors = sensors
        self._link = link
        self._began = now
        self._ill = now  # when something was not well last

    def step(self, now: int) -> int:
        """1: good, to be confirmed; -1: its time is over; 0: neither yet."""
        well = self._link.acknowledged and elapsed(now, self._link.acknowledged_at) < _ACKNOWLEDGED_MS
        for watched in self._sensors:
            well = well and watched.state == OK
        if not well:
            self._ill = now
        elif elapsed(now, self._ill) >= _WELL_MS:
            return 1
        return -1 if elapsed(now, self._began) >= _TRIAL_MS else 0

    def confirm(self) -> None:
        """Good from now on (firmware/boot_switch.py). OSError where the flash refuses: the trial goes on."""
        os.rename(self._record, "switch.good")
