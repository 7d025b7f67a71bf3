"""On the way to a reset that can wait: no sensor may be starting, and the particle sensor's fan must be off, for a fan that is reset while
it runs up may stay locked (airrohr-firmware issue 586). Neither is waited for without end. Imported only then."""

from drivers.portable import TYPE_CHECKING, const
from firmware.ticks import milliseconds
from firmware.wire import CONFIGURING

if TYPE_CHECKING:
    from types import ModuleType

    from firmware.supervisor import Watched

MAINTENANCE, FAN_RUNNING, TRIAL_OVER = const(1), const(2), const(3)  # firmware/starts.py names them

_CONFIGURING_TURNS = const(20)  # 10 s
_STOPPING_TURNS = const(6)  # 3 s; an SPS30 that answers takes 0.1 s


class Leave:
    """The reset, which is to be made because of `why`; MAINTENANCE: into maintenance (firmware/boot_main.py)."""

    def __init__(self, machine: "ModuleType", sensors: "list[Watched]", why: int) -> None:
        self._machine = machine
        self._sensors = sensors
        self._why = why
        self._turns = 0
        self._stopping = 0
        for watched in sensors:
            if watched.supply is not None:
                watched.supply.since = milliseconds()  # it is not switched meanwhile

    def turn(self) -> None:
        """To be called every 0.5 s; resets when it may be. A fan that was not stopped in time is told in place of MAINTENANCE."""
        self._turns += 1
        if not self._stopping and self._turns < _CONFIGURING_TURNS:
            for watched in self._sensors:
                if watched.state == CONFIGURING:
                    return
        self._stopping += 1
        why = self._why
        if not self._stopped():
            if self._stopping <= _STOPPING_TURNS:
                return
            if why == MAINTENANCE:
                why = FAN_RUNNING
        if why != TRIAL_OVER:
            from firmware import boot_duty

            boot_duty.mark()
        from firmware.main import restart

        restart(self._machine, why)

    def _stopped(self) -> bool:
        """Whether every fan is off; tells those that are not, each time: a sensor that was started again meanwhile has forgotten it."""
        stopped = True
        for watched in self._sensors:
            driver = watched.driver
            if hasattr(driver, "sleep") and not driver.asleep():
                stopped = False
                driver.sleep()
        return stopped
