"""One sensor under supervision: its state, its failures, when it is tried again, and what is said about it.

    configuring ─→ ok ⇄ degraded ─→ failed ─→ (back-off) ─→ configuring …        absent: never answered since the head started

A failure or two is only counted (degraded). More in a row, or a chip back at its power-on values, start it from the reset again, so that a
sensor which appears late, or comes back, always gets its full set-up. Missing samples are reported when the first one comes again: only
then it is known how many."""

from drivers.errors import BUS_STUCK, NO_ACKNOWLEDGE, OTHER, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError, from_oserror
from drivers.portable import TYPE_CHECKING, const, elapsed
from firmware.frames import ABSENT, CONFIGURING, DEGRADED, FAILED, OK
from firmware.outbox import Outbox

if TYPE_CHECKING:
    from firmware.faces import Bus, Driver

_PATIENCE = const(3)  # failures in a row before a restart
_SETTLED = const(5)  # good readings in a row before a degraded sensor is ok again
_FIRST_PAUSE_MS = const(200)
_LONGEST_PAUSE_MS = const(10000)


class Watched:
    """A driver, the number of its sensor, and its bus if that can be freed (`recover()` says whether it was stuck)."""

    def __init__(self, sensor: int, driver: "Driver", outbox: Outbox, bus: "Bus | None" = None) -> None:
        self.sensor = sensor
        self.driver = driver
        self.state = ABSENT
        self.reason = 0
        self.failures = 0
        self._outbox = outbox
        self._bus = bus
        self._resting = False
        self._since = 0
        self._pause = _FIRST_PAUSE_MS
        self._in_a_row = 0
        self._good = 0
        self._trimmed = False
        self._trim = b""
        self._delivered = False  # at least once since the head started
        self._interrupted = False  # restarted since the last sample
        self._last = 0
        self._gap_reason = OTHER

    def start(self, now: int) -> None:
        """The first start."""
        self.driver.start(now)
        self._say(CONFIGURING, 0)

    def step(self, now: int) -> None:
        """One turn: never waits, never raises on trouble of the sensor or its bus."""
        if self._resting:
            if elapsed(now, self._since) < self._pause:
                return
            self._resting = False
            self.driver.start(now)
        try:
            self._work(now)
        except OSError as error:
            code = from_oserror(error).code
            if code == TIME_OUT and self._bus is not None and self._bus.recover():
                code = BUS_STUCK
            self._fail(now, code)
        except BusError as error:
            self._fail(now, error.code)

    def _work(self, now: int) -> None:
        driver = self.driver
        count = driver.poll(now)
        if driver.configured and not self._trimmed:
            self._trimmed = True
            self._send_trim(driver.trim())
            if self.state != CONFIGURING:
                self._say(CONFIGURING, self.reason)
        if driver.gap_reason:
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

    def _send_trim(self, trim: bytes) -> None:
        if trim != self._trim:  # after a restart it is the same, unless the chip was changed
            self._trim = trim
            self._outbox.ticks.stamp()
            self._outbox.trim(self.sensor, trim)

    def _report_missing(self, now: int) -> None:
        if not self._delivered:
            return
        period = self.driver.PERIOD_MS
        if period:
            # Modulo 2**30 ms: a sensor that was away for more than 12.4 days is reported as away for less; its STATE frames say since when.
            missing = elapsed(now, self._last) // period - 1
            if missing > 0:
                self._outbox.gap(self.sensor, self._gap_reason, missing)
        elif self._interrupted:
            self._outbox.gap(self.sensor, self._gap_reason, 0)

    def _succeed(self, now: int) -> None:
        self._delivered = True
        self._interrupted = False
        self._last = now
        self._gap_reason = OTHER
        self._in_a_row = 0
        if self._good < _SETTLED:
            self._good += 1
        if self._good == _SETTLED:
            self._pause = _FIRST_PAUSE_MS
        if self.driver.degraded:
            self._say(DEGRADED, self.driver.degraded)
        elif self.state != DEGRADED or self._good == _SETTLED:
            self._say(OK, 0)

    def _fail(self, now: int, code: int) -> None:
        if self.failures < 0xFFFF:
            self.failures += 1
        self._in_a_row += 1
        self._good = 0
        self._gap_reason = code
        if self.driver.configured and self._in_a_row < _PATIENCE and code != POWER_ON_VALUES and code != WRONG_IDENTITY:
            self._say(DEGRADED, code)
            return
        self._resting = True
        self._since = now
        if self._in_a_row > _PATIENCE:
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_MS)
        self._trimmed = False
        self._interrupted = True
        if not self._delivered and code in (NO_ACKNOWLEDGE, TIME_OUT):
            self._say(ABSENT, code)
        else:
            self._say(CONFIGURING if code == POWER_ON_VALUES else FAILED, code)

    def _say(self, state: int, reason: int) -> None:
        if state == self.state and reason == self.reason:
            return
        self.state = state
        self.reason = reason
        self._outbox.ticks.stamp()
        self._outbox.state(self.sensor, state, reason, self.failures)
