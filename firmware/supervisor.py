"""One sensor under supervision: its state, its failures, when it is tried again, and what is said about it.

    configuring ─→ ok ⇄ degraded ─→ failed ─→ (pause) ─→ configuring …        absent: never answered since the head started

A failure or two is only counted (degraded). More in a row, or a chip back at its power-on values, start it from the reset again, so that a
sensor which appears late, or comes back, always gets its full set-up. Missing samples are reported when the first one comes again: only
then it is known how many.

Pauses grow from 0.2 to 1 s and no further: whatever the length of a fault, its end is noticed within a second, which leaves a second for
the set-up. That is cheap. A chip that does not acknowledge costs one address a second (0.03 ms of a 400 kHz bus); one that stretches the
clock for ever costs a time-out of 50 ms a second, which the IMU's FIFO (0.22 s) bridges; a bus that stays stuck costs one time-out and then
only a look at the lines and nine clocks for each of its sensors a second, because nothing is sent while it is.

The last rung is the load switch of a sensor that has one (firmware/bus.py), at the end of a pause, or where the device itself says
again that it is broken: in both cases its fan is not at its start, in which it must not lose its power.

STATE frames are one for each change, but at most 8 at once and one more every 2 s (30 a minute, 15 bytes a second): with a contact that
rattles the ring is for samples. What stands for less than that may go unsaid; what stands at last is always said, with the failures
counted. GAP frames are never more than the SAMPLE frames they stand before, or the FIFO resets of a driver."""

from drivers.errors import BUS_STUCK, DEVICE_FAULT, NO_ACKNOWLEDGE, OTHER, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError, code_of
from drivers.portable import TYPE_CHECKING, const, elapsed
from firmware.outbox import Outbox
from firmware.schedule import Schedule
from firmware.wire import ABSENT, CONFIGURING, DEGRADED, FAILED, OK, POWER_SWITCHED

if TYPE_CHECKING:
    from firmware.bus import Supply
    from firmware.faces import Bus, Driver

_PATIENCE = const(3)  # failures in a row before a restart
_SETTLED_MS = const(500)  # without failure before a degraded sensor is ok again
_FIRST_PAUSE_MS = const(200)
_LONGEST_PAUSE_MS = const(1000)
_HELD_MS = const(100)  # a bus that another chip holds for so long is waited for: nothing is lost yet
_STATES_AT_ONCE = const(8)
_STATE_EVERY_MS = const(2000)


class Watched:
    """A driver, the number of its sensor, its bus if that can be freed (`recover()` says whether it was stuck), and its load switch if it
    has one."""

    def __init__(self, sensor: int, driver: "Driver", outbox: Outbox, bus: "Bus | None" = None, supply: "Supply | None" = None) -> None:
        self.sensor = sensor
        self.driver = driver
        self.supply = supply
        self.state = ABSENT
        self.reason = 0
        self.failures = 0
        self._outbox = outbox
        self._bus = bus
        self._schedule = Schedule(driver.PERIOD_MS, getattr(driver, "OWN_PACE", False))
        self._resting = False
        self._since = 0
        self._pause = _FIRST_PAUSE_MS
        self._in_a_row = 0
        self._failed = 0  # when it failed last
        self._held_up = False  # by a bus that another sensor found stuck
        self._held_since = 0
        self._trimmed = False
        self._trim = b""
        self._delivered = False  # at least once since the head started
        self._interrupted = False  # restarted since the last sample
        self._gap_reason = OTHER
        self._said_state = -1
        self._said_reason = -1
        self._unsaid = False  # a change since then that was too many
        self._credit = _STATES_AT_ONCE
        self._credited = 0

    def start(self, now: int) -> None:
        """The first start."""
        self._credited = self._failed = now
        if self.supply is not None:
            self.supply.since = now
        self.driver.start(now)
        self._say(CONFIGURING, 0)

    def step(self, now: int) -> None:
        """One turn: never waits, never raises on trouble of the sensor or its bus."""
        if self._credit < _STATES_AT_ONCE and elapsed(now, self._credited) >= _STATE_EVERY_MS:
            self._credit += 1
            self._credited = now
            self._say(self.state, self.reason)
        if self._resting:
            if elapsed(now, self._since) < self._pause:
                return
            if self._switch(now):
                return
            self._resting = False
            self.driver.start(now)
        bus = self._bus
        if bus is not None and bus.stuck:
            bus.recover()
            if bus.stuck:
                if not self._held_up:
                    self._held_up = True
                    self._held_since = now
                if elapsed(now, self._held_since) >= _HELD_MS:
                    self._fail(now, BUS_STUCK)
                return
        self._held_up = False
        try:
            self._work(now)
        except OSError as error:
            code = code_of(error)
            if bus is not None and bus.recover():
                code = BUS_STUCK
            self._fail(now, code)
        except BusError as error:
            self._fail(now, error.code)

    def _switch(self, now: int) -> bool:
        """Whether a load switch was moved, after which it is waited again."""
        supply = self.supply
        pause = 0 if supply is None else supply.turn(now, self._delivered)
        if pause == 0:
            return False
        self._resting = True
        self._since = now
        self._pause = pause
        self._trimmed = False
        self._interrupted = True
        self._say(CONFIGURING, POWER_SWITCHED)
        return True

    def _work(self, now: int) -> None:
        driver = self.driver
        count = driver.poll(now)
        if driver.configured and not self._trimmed:
            self._trimmed = True
            self._send_trim(driver.trim())
            if self.state != CONFIGURING:
                self._say(CONFIGURING, self.reason)
        if driver.gap_reason:
            if driver.PERIOD_MS:  # how many are missing is known when the next one comes
                self._gap_reason = driver.gap_reason
            else:
                self._outbox.ticks.stamp()
                self._outbox.gap(self.sensor, driver.gap_reason, 0)
            driver.gap_reason = 0
        if count:
            self._outbox.ticks.stamp()
            self._report_missing(now)
            while count > 0:
                moved = self._outbox.sample(self.sensor, driver)
                if moved == 0:
                    break
                count -= moved
            self._succeed(now)
        elif self.state == OK and self._schedule.silent(now):
            self._say(DEGRADED, driver.degraded or TIME_OUT)

    def _send_trim(self, trim: bytes) -> None:
        if trim != self._trim:  # after a restart it is the same, unless the chip was changed
            self._trim = trim
            self._outbox.ticks.stamp()
            self._outbox.trim(self.sensor, trim)

    def _report_missing(self, now: int) -> None:
        # Modulo 2**30 ms: a sensor that was away for more than 12.4 days is reported as away for less; its STATE frames say since when.
        missing = self._schedule.due(now)
        if missing or (self._interrupted and self._delivered and self.driver.PERIOD_MS == 0):
            self._outbox.gap(self.sensor, self._gap_reason, missing)
        self._interrupted = False

    def _succeed(self, now: int) -> None:
        self._schedule.delivered()
        self._delivered = True
        if self.supply is not None:
            self.supply.since = now
        self._gap_reason = OTHER
        self._in_a_row = 0
        settled = elapsed(now, self._failed) >= _SETTLED_MS
        if settled:
            self._pause = _FIRST_PAUSE_MS
        if self.driver.degraded:
            self._say(DEGRADED, self.driver.degraded)
        elif settled or self.state != DEGRADED:
            self._say(OK, 0)

    def _fail(self, now: int, code: int) -> None:
        if self.failures < 0xFFFF:
            self.failures += 1
        self._failed = now
        self._gap_reason = code
        # It talks, and goes on being asked until it takes that back: a new start would only cost its warm-up, unless its driver wants one.
        if code == DEVICE_FAULT and self.driver.configured:
            self._in_a_row = 0
            if self.state != FAILED or self.reason != code or not self._switch(now):
                self._say(FAILED, code)
            return
        self._in_a_row += 1
        if self.driver.configured and self._in_a_row < _PATIENCE and code != POWER_ON_VALUES and code != WRONG_IDENTITY:
            self._say(DEGRADED, code)
            return
        self._resting = True
        self._since = now
        if code == POWER_ON_VALUES:  # it is there and answers: its set-up is all that is wanting
            self._pause = _FIRST_PAUSE_MS
        elif self._in_a_row > _PATIENCE:
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_MS)
        self._trimmed = False
        self._interrupted = True
        if not self._delivered and (code == NO_ACKNOWLEDGE or code == TIME_OUT):  # noqa: SIM109  # `in` makes a tuple
            self._say(ABSENT, code)
        else:
            self._say(CONFIGURING if code == POWER_ON_VALUES else FAILED, code)

    def _say(self, state: int, reason: int) -> None:
        self.state = state
        self.reason = reason
        if state == self._said_state and reason == self._said_reason and not self._unsaid:
            return
        self._unsaid = self._credit == 0
        if self._unsaid:
            return
        self._credit -= 1
        self._said_state = state
        self._said_reason = reason
        self._outbox.ticks.stamp()
        self._outbox.state(self.sensor, state, reason, self.failures)
