"""A version on trial is good once every configured sensor is ok and the gateway acknowledges, for 10 s without a break.

If it was not within 180 s the head resets, which costs the version one of its starts; with none left the board starts the other slot
(firmware/slots.py). Imported only on trial."""

from drivers.portable import TYPE_CHECKING, const, elapsed
from firmware.wire import OK

if TYPE_CHECKING:
    from firmware.link import Link
    from firmware.supervisor import Watched

_WELL_MS = const(10_000)
_TRIAL_MS = const(180_000)  # the particle sensor's fan is at speed after 30 s
_ACKNOWLEDGED_MS = const(2000)  # the gateway acknowledges twice a second


class Trial:
    """Begins at `now`, in ticks of milliseconds."""

    def __init__(self, now: int, sensors: "list[Watched]", link: "Link") -> None:
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
        """Write it down, with a module that is in memory only for that. OSError where the flash refuses: the trial goes on."""
        import sys

        from firmware import boot_switch

        try:
            boot_switch.confirm()
        finally:
            del sys.modules["firmware.boot_switch"]
            delattr(sys.modules["firmware"], "boot_switch")
