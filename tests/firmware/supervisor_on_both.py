"""Supervisor, schedule and bus recovery without hardware, on both interpreters."""

import errno

import checking
from checking import without_heap
from rigs import WRAP, Rig, Script, story

from drivers.errors import (
    BAD_CHECKSUM,
    BUS_STUCK,
    DEVICE_FAULT,
    FAN_CLEANING,
    FIFO_OVERFLOW,
    NO_ACKNOWLEDGE,
    POWER_ON_VALUES,
    TIME_OUT,
    BusError,
)
from firmware import frames
from firmware.bus import I2CBus, clock_out
from firmware.frames import ABSENT, DEGRADED, FAILED, OK
from firmware.schedule import Schedule
from firmware.supervisor import Watched


def watch(acts, milliseconds, period=1000, pace=10, start=0):
    rig = Rig()
    driver = Script(acts, period)
    watched = Watched(2, driver, rig.outbox)
    watched.start(start)
    for now in range(pace, milliseconds, pace):
        watched.step((start + now) % WRAP)
    return watched, driver, story(rig.sent())


def gaps(lines):
    return [line for line in lines if line.startswith("gap")]


# --- supervisor


def check_a_healthy_sensor_says_configuring_trim_ok():
    assert watch(["configured", 1, 1], 100)[2] == ["configuring 0 0", "trim", "sample", "ok 0 0", "sample"]


def check_an_absent_sensor_is_retried_every_second_and_set_up_when_it_appears():
    acts = [OSError(errno.EIO) for _ in range(8)] + ["configured", 1]
    watched, driver, lines = watch(acts, 7_000)
    assert lines == ["configuring 0 0", "absent 1 1", "trim", "configuring 1 8", "sample", "ok 0 8"]
    assert driver.starts == 9  # full set-up each time
    watched, driver, lines = watch([OSError(errno.EIO) for _ in range(1000)], 120_000)
    assert 118 <= driver.starts <= 125 and watched.state == ABSENT  # 0.2 to 1 s, never more often


def check_a_sensor_that_comes_back_after_an_hour_is_noticed_within_a_second_over_the_wrap_of_the_ticks():
    rig = Rig()
    driver = Script(["configured", 1])
    watched = Watched(2, driver, rig.outbox)
    start = WRAP - 1_800_000
    watched.start(start)
    poll = driver.poll
    away = True

    def away_or_back(now):
        if away:
            raise OSError(errno.EIO)
        return poll(now)

    for now in (10, 20):
        watched.step(start + now)
    driver.poll = away_or_back
    for now in range(30, 3_600_020, 50):
        watched.step((start + now) % WRAP)
    away = False
    driver.acts = ["configured", 1]
    for now in range(3_600_020, 3_601_100, 10):
        watched.step((start + now) % WRAP)
    lines = story(rig.sent())
    assert watched.state == OK and driver.configured
    missing = int(gaps(lines)[0].split()[2])
    assert gaps(lines) == ["gap 1 " + str(missing)] and 3599 <= missing <= 3600


def check_one_failure_is_degraded_and_half_a_second_without_makes_it_ok():
    acts = ["configured", 1, BusError(BAD_CHECKSUM), 1] + [0] * 48 + [1, 1]
    lines = watch(acts, 2000)[2]
    assert lines[4:] == ["degraded 4 1", "sample", "sample", "ok 0 1", "sample"]


def check_missing_samples_of_a_slow_sensor_are_counted_when_it_is_back():
    acts = ["configured", 1] + [BusError(TIME_OUT)] * 3 + [0] * 340 + ["configured", 1]
    watched, driver, lines = watch(acts, 6000)
    assert driver.starts == 2 and "failed 2 3" in lines
    assert gaps(lines) == ["gap 2 2"]  # sampled at 20 ms and at 3680 ms, once a second: two are missing
    assert lines.index("gap 2 2") < len(lines) - 1 - lines[::-1].index("sample")


def check_a_late_sample_without_failure_is_reported_too():
    assert "gap 10 1" in watch(["configured", 1] + [0] * 250 + [1], 4000)[2]


def check_a_sensor_that_falls_silent_is_not_ok():
    watched, driver, lines = watch(["configured", 1] + [0] * 300 + [1], 5000)
    assert lines[3:5] == ["ok 0 0", "degraded 2 0"] and lines[-1] == "ok 0 0"


def check_a_gap_whose_sample_cannot_be_read_is_reported_once():
    rig = Rig()
    driver = Script(["configured", 1] + [0] * 299 + [1, 1])
    watched = Watched(2, driver, rig.outbox)
    watched.start(0)
    read_into = driver.read_into

    def broken(buf, offset=0):
        driver.read_into = read_into
        raise OSError(errno.EIO)

    for now in range(10, 4000, 10):
        if now == 2000:
            driver.read_into = broken
        watched.step(now)
    lines = story(rig.sent())
    assert gaps(lines) == ["gap 10 2"] and lines.count("sample") == 2  # 20 ms and 3030 ms


def check_a_fifo_sensor_reports_its_own_gaps_and_an_unknown_number_after_a_restart():
    acts = ["configured", 3, OSError(110), 3]
    assert not gaps(watch(acts, 200, period=0)[2])  # the FIFO held them
    acts = ["configured", 3] + [OSError(110)] * 3 + ["configured", 3]
    assert gaps(watch(acts, 2000, period=0)[2]) == ["gap 2 0"]
    rig = Rig()
    driver = Script(["configured", 1, 0, 1], 0)
    watched = Watched(1, driver, rig.outbox)
    watched.start(0)
    watched.step(10)
    watched.step(20)
    driver.gap_reason = FIFO_OVERFLOW
    watched.step(30)
    watched.step(40)
    assert story(rig.sent())[-2:] == ["gap 6 0", "sample"] and driver.gap_reason == 0


def check_a_brown_out_restarts_at_once_and_is_named():
    watched, driver, lines = watch(["configured", 1, BusError(POWER_ON_VALUES), "configured", 1], 1000)
    assert driver.starts == 2 and "configuring 8 1" in lines and watched.state == OK
    assert lines.count("trim") == 1  # the same trim is not sent twice


def check_a_chip_that_answers_with_power_on_values_is_not_kept_waiting():
    acts = [OSError(errno.EIO) for _ in range(12)] + [BusError(POWER_ON_VALUES), "configured", 1]
    watched, driver, lines = watch(acts, 30_000)
    away = watched._since  # when it failed last
    assert driver.starts == 14 and watched._failed == away and watched._pause == 200
    assert watched.failures == 13 and "trim" in lines


def check_a_driver_that_is_degraded_is_so_with_its_reason():
    rig = Rig()
    driver = Script(["configured", 1, 1])
    driver.degraded = NO_ACKNOWLEDGE
    watched = Watched(1, driver, rig.outbox)
    watched.start(0)
    for now in range(10, 50, 10):
        watched.step(now)
    assert (watched.state, watched.reason) == (DEGRADED, NO_ACKNOWLEDGE)


class Rattling(Script):
    """Every 1.7 s its contact is open for as long as `open_ms` says in turn; closed, it gives a sample as often as its period says."""

    open_ms = (50, 300, 700)

    def __init__(self, period):
        Script.__init__(self, [], period)
        self.begun = self.sampled = 0

    def start(self, now):
        Script.start(self, now)
        self.begun = now

    def poll(self, now):
        turn = now // 1700
        if now < 600_000 and now % 1700 < self.open_ms[turn % 3]:
            raise OSError(errno.EIO)
        if not self.configured:
            self.configured = now - self.begun >= 100
        elif now - self.sampled >= (self.PERIOD_MS or 50):
            self.sampled = now
            return 1
        return 0


def check_a_contact_that_rattles_makes_few_state_frames_and_the_last_state_is_said():
    for period in (0, 400):
        rig = Rig()
        driver = Rattling(period)
        watched = Watched(2, driver, rig.outbox)
        watched.start(0)
        changes = 0
        before = watched.state
        counts = {}
        states = 0
        last = ""
        for now in range(10, 604_010, 10):
            watched.step(now)
            changes += watched.state != before
            before = watched.state
            if now % 2000 == 0:
                for line in story(rig.sent()):
                    kind = line.split()[0]
                    counts[kind] = counts.get(kind, 0) + 1
                    if kind in frames.STATES:
                        states += 1
                        last = line
        assert changes > 900 and 200 < states <= 8 + 30 * 10 + 2, (changes, states)
        assert last == "ok 0 " + str(watched.failures), last
        assert 100 < counts["gap"] < counts["sample"] // 2, counts


class Freeable:
    """A bus that is stuck as often as `times` says; `for_ever`: it cannot be freed either."""

    def __init__(self, times=1, for_ever=False):
        self.looks = 0
        self.times = times
        self.for_ever = for_ever
        self.stuck = False

    def recover(self):
        self.looks += 1
        self.times -= 1
        self.stuck = self.for_ever and self.times >= 0
        return self.times >= 0


def check_a_stuck_bus_is_freed_and_named_whether_it_is_a_time_out_or_no_acknowledge():
    for number in (110, errno.EIO):
        rig = Rig()
        bus = Freeable()
        watched = Watched(2, Script([OSError(number), "configured", 1]), rig.outbox, bus)
        watched.start(0)
        watched.step(10)
        assert bus.looks == 1 and (watched.state, watched.reason) == (FAILED, BUS_STUCK)
        for now in range(20, 400, 10):
            watched.step(now)
        assert watched.state == OK and bus.looks == 1


def check_on_a_bus_that_stays_stuck_nothing_is_sent_and_its_end_is_noticed():
    rig = Rig()
    bus = Freeable(16, True)
    acts = [OSError(110)] + ["configured", 1]
    driver = Script(acts)
    watched = Watched(2, driver, rig.outbox, bus)
    watched.start(0)
    for now in range(10, 5000, 10):
        watched.step(now)
        if bus.times > 0:
            assert watched.reason == BUS_STUCK and len(driver.acts) == 2  # no poll since
    assert watched.state == OK and 16 <= bus.looks <= 18


# --- schedule


def run(schedule, intervals, start=0):
    """Samples `intervals` ms apart, after a first one; the numbers said to be missing."""
    now = start
    schedule.due(now)
    schedule.delivered()
    said = []
    for interval in intervals:
        now = (now + interval) % WRAP
        said.append(schedule.due(now))
        schedule.delivered()
    return said


def check_samples_and_missing_add_up_to_the_periods_that_passed():
    assert run(Schedule(1000), [1000, 1010, 990, 3000, 1000]) == [0, 0, 0, 2, 0]
    assert run(Schedule(1000), [1000, 1900, 100, 1000, 1990, 1010]) == [0, 0, 0, 0, 1, 0]  # it keeps its pace
    assert sum(run(Schedule(1000), [1900] * 20)) == 18  # a new pace each time: 38 periods, 20 samples
    assert sum(run(Schedule(1000), [2100] * 20)) == 22
    assert sum(run(Schedule(1000), [1000, 1900, 1000, 1000, 1000, 1000] * 10)) == 9  # not forgotten in between
    assert run(Schedule(1000), [1000, 400, 600, 1000], WRAP - 1500) == [0, 0, 0, 0]


def check_a_chip_with_its_own_pace_loses_nothing_and_its_interruptions_are_exact():
    for pace in (720, 784, 816, 880):
        schedule = Schedule(800, True)
        assert sum(run(schedule, [pace] * 1000)) == 0, pace
        for missing in (1, 3, 10, 40):
            assert run(schedule, [pace * (missing + 1)]) == [missing], (pace, missing)


def check_jitter_of_the_polling_is_no_pace():
    schedule = Schedule(1000)
    run(schedule, [1010, 990, 1000, 1010, 990, 1000, 1000, 1010])
    assert run(schedule, [3_600_000]) == [3599]
    assert run(schedule, [100_000_000]) == [99_999]


def check_one_late_sample_is_no_pace():
    for late in (1050, 1090, 1120):
        assert run(Schedule(1000), [1000, late, 3_600_000 - late])[2] == 3598, late  # it keeps its pace
        assert run(Schedule(1000, True), [1000] * 9 + [late, 60_000])[-1] == 59, late


def check_a_thousand_interruptions_are_counted_to_within_one():
    """A sensor whose driver commands a conversion each second, interrupted at random; afterwards it keeps its pace or begins a new one."""
    state = 12345
    for period in (1000, 640, 100):
        schedule = Schedule(period)
        now = last = begun = WRAP - 5000
        schedule.due(now % WRAP)
        schedule.delivered()
        counted = early = 0
        for _ in range(1000):
            for _ in range(3):
                state = (state * 1103515245 + 12345) & 0x7FFF_FFFF
                choice = state >> 8
                if choice % 3:
                    now += period
                elif choice % 2:
                    now += period * (2 + choice % 97)  # whole periods: in its pace
                else:
                    now += period // 25 + choice % (20 * period)
                jitter = choice % (period // 50)
                counted += 1 + schedule.due((now + jitter) % WRAP)
                schedule.delivered()
                early += max(0, period - (now - last))
                last = now
                passed = (now - begun) / period
                assert passed - 1.1 <= counted <= passed + early / period + 0.1, (period, passed, counted, early)


def check_a_hundred_lost_beats_leave_no_credit():
    schedule = Schedule(1000)
    run(schedule, [400] * 100)  # it begins anew each time
    assert run(schedule, [1000, 5000]) == [0, 4]


def check_the_schedule_allocates_nothing():
    schedule = Schedule(1000)
    run(schedule, [1000])

    def turn():
        schedule.due(3000)
        schedule.delivered()
        return schedule.silent(4000)

    assert not without_heap(turn)


# --- bus


class Wire:
    """Lines with one chip: it sends `bits` (the first is on SDA), one more at each falling edge of SCL, until it sees a STOP."""

    def __init__(self, bits):
        self.bits = bits
        self.outs = {4: 1, 5: 1}
        self.clocks = 0
        self.stops = 0
        self.starts = 0
        self.scl_held = False
        self.made = 0

    def level(self, number):
        if number == 4:
            return self.outs[4] if not self.bits or self.bits[0] else 0
        return 0 if self.scl_held else self.outs[5]

    def drive(self, number, level):
        before = (self.level(4), self.level(5))
        self.outs[number] = level
        if number == 5 and before[1] and not self.level(5):
            self.clocks += 1
            self.bits = self.bits[1:]
        elif number == 4 and self.level(5):
            if self.level(4) > before[0]:
                self.stops += 1
                self.bits = []
            elif self.level(4) < before[0]:
                self.starts += 1

    def machine(self):
        wire = self

        class Pin:
            OPEN_DRAIN = 2

            def __init__(self, number, mode=-1, value=None):
                self.number = number
                if value is not None:
                    wire.drive(number, value)

            def value(self, level=None):
                return wire.level(self.number) if level is None else wire.drive(self.number, level)

        class Machine:
            pass

        def i2c(number, scl, sda, freq):
            wire.made += 1
            return (number, freq)

        machine = Machine()
        machine.Pin = Pin
        machine.I2C = i2c
        return machine


def bus_on(wire):
    import time

    if not hasattr(time, "sleep_us"):
        time.sleep_us = lambda us: None
    return I2CBus(wire.machine(), 0, 4, 5, 400_000)


def check_up_to_nine_clocks_free_a_stuck_bus_and_each_is_a_stop_if_it_can_be():
    for clocks in range(1, 10):
        wire = Wire([0] * clocks)
        bus = bus_on(wire)
        assert bus.recover() is True and not bus.stuck
        assert wire.clocks == clocks and wire.stops == 1 and wire.starts == 0 and wire.made == 2
    wire = Wire([0, 1, 0, 0, 1, 0])
    assert bus_on(wire).recover() is True and wire.clocks == 1 and wire.stops == 1 and not wire.bits


def check_a_free_bus_is_only_looked_at():
    wire = Wire([])
    bus = bus_on(wire)
    assert bus.recover() is False and (wire.clocks, wire.stops, wire.starts, wire.made) == (0, 0, 0, 1)


def check_a_bus_that_cannot_be_freed_stays_stuck_and_is_left_let_go():
    wire = Wire([0] * 100)
    bus = bus_on(wire)
    assert bus.recover() is True and bus.stuck and wire.clocks == 9 and wire.outs == {4: 1, 5: 1}
    wire.bits = []
    assert bus.recover() is False and not bus.stuck
    wire.scl_held = True
    assert bus.recover() is True and bus.stuck and wire.clocks == 9
    machine = wire.machine()
    wire.bits = [0]
    assert clock_out(machine.Pin(4), machine.Pin(5)) is False and wire.outs == {4: 1, 5: 1}


def check_a_fault_the_device_reports_is_failed_at_once_and_never_a_restart():
    acts = ["configured", 1] + [BusError(DEVICE_FAULT)] + ([0] * 99 + [BusError(DEVICE_FAULT)]) * 8 + [0] * 50 + [1]
    watched, driver, lines = watch(acts, 9000)
    assert driver.starts == 1 and f"failed {DEVICE_FAULT} 1" in lines
    assert lines[-1] == "ok 0 9" and f"gap {DEVICE_FAULT} 7" in lines, lines


def check_a_fault_the_device_reports_is_a_restart_where_its_driver_wants_one():
    driver = Script(["configured", 1, BusError(DEVICE_FAULT), "configured", 1])
    poll = driver.poll

    def from_the_reset(now):
        driver.configured = driver.configured and not (driver.acts and isinstance(driver.acts[0], BusError))
        return poll(now)

    driver.poll = from_the_reset
    rig = Rig()
    watched = Watched(2, driver, rig.outbox)
    watched.start(0)
    for now in range(10, 1000, 10):
        watched.step(now)
    assert driver.starts == 2 and watched.state == OK
    assert f"failed {DEVICE_FAULT} 1" in story(rig.sent())


def check_a_step_allocates_nothing_also_when_it_fails():
    errors = [OSError(errno.EIO), OSError(110), BusError(BAD_CHECKSUM), BusError(POWER_ON_VALUES), BusError(DEVICE_FAULT)]
    acts = ["configured", 1, 0, 1]
    for error in errors:
        acts += [error, 1, 1] + [error] * 4 + ["configured", 1]
    driver = Script([])
    played = 0

    def poll(now):
        nonlocal played
        act = acts[played] if played < len(acts) else 0
        played += 1  # nothing is taken from the list: it would be made shorter
        if act == "configured":
            driver.configured = True
            return 0
        if isinstance(act, Exception):
            raise act
        return act

    driver.poll = poll
    driver.trim = lambda: b""
    rig = Rig()
    watched = Watched(2, driver, rig.outbox, Freeable(0))
    watched.start(0)
    now = 0

    def turn():
        watched.step(now)

    for now in range(10, 60_000, 100):  # noqa: B007  # read by turn
        without_heap(turn)
    assert watched.failures == 5 * len(errors) and played > len(acts)


def check_a_periodic_sensor_that_pauses_for_a_reason_says_it_with_the_number():
    rig = Rig()
    driver = Script(["configured", 1] + [0] * 1099 + [1])
    watched = Watched(6, driver, rig.outbox)
    watched.start(0)
    for now in range(10, 12_000, 10):
        watched.step(now)
        if now == 50:
            driver.gap_reason = FAN_CLEANING
    gaps = [line for line in story(rig.sent()) if line.startswith("gap")]
    assert gaps == [f"gap {FAN_CLEANING} 10"] and driver.gap_reason == 0


if __name__ == "__main__":
    checking.run(globals())
