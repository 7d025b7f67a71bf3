"""When the load switch of a sensor is opened, and when never, on both interpreters."""

import time

import checking
from checking import without_heap
from rigs import WRAP, Rig, Script, story

from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, TIME_OUT, BusError
from firmware import leave
from firmware.bus import Supply
from firmware.frames import CONFIGURING, OK
from firmware.supervisor import Watched

MINUTE = 60_000


class Board:
    """Its pins 10 (the switch) and 8 (TX), and what was done to them, with the moment: ("on", 1), ("on", 0), ("line", 0), ("line", 1)."""

    def __init__(self):
        board = self
        self.now = 0
        self.done = []

        class Pin:
            OUT = 1
            ALT = 3
            ALT_UART = 2

            def __init__(self, number, mode=-1, value=None):
                self.name = {10: "on", 8: "line"}[number]
                if mode != -1:
                    self.init(mode, value=value)

            def init(self, mode, value=None, alt=None):
                assert mode == self.OUT or alt == self.ALT_UART
                board.done.append((board.now, self.name, 1 if mode == self.ALT else value))

            def value(self, level):
                board.done.append((board.now, self.name, level))

        class Machine:
            pass

        self.machine = Machine()
        self.machine.Pin = Pin

    def off(self):
        """The moments at which the switch opened."""
        return [at for at, name, level in self.done if name == "on" and level == 0]


class Sensor(Script):
    """Does in a poll what `act(now)` says: an exception, "configured", or the number of samples."""

    def __init__(self, act, period=1000):
        Script.__init__(self, [], period)
        self.act = act
        self.started = [0] * 3  # when last, oldest first

    def start(self, now):
        Script.start(self, now)
        self.starts += 1
        self.started.append(now)
        self.started.pop(0)

    def poll(self, now):
        act = self.act(now)
        if isinstance(act, Exception):
            raise act
        if act == "configured":
            self.configured = True
            return 0
        return act


class Bench:
    """A sensor with a load switch, in steps of `pace` ms from tick `start` on."""

    def __init__(self, act, pace=10, start=0):
        self.board = Board()
        self.rig = Rig()
        self.start = start
        self.pace = pace
        self.now = 0
        self.driver = Sensor(lambda tick: act((tick - start) % WRAP))
        self.watched = Watched(6, self.driver, self.rig.outbox, None, Supply(self.board.machine, 10, 8))
        self.watched.start(start)

    def until(self, milliseconds):
        while self.now < milliseconds:
            self.now += self.pace
            self.board.now = self.now
            self.watched.step((self.start + self.now) % WRAP)
        return self


def healthy(now):
    """Configured at once, a sample each second."""
    return "configured" if now < 100 else now % 1000 == 0


def silent_from(begin, end=1 << 30):
    """Healthy, and between these moments not there; the first second after `end` it is set up."""

    def act(now):
        if begin <= now < end:
            return BusError(TIME_OUT)
        return "configured" if end <= now < end + 600 else healthy(now)

    return act


def check_a_sensor_that_nothing_else_brings_back_is_switched_after_a_minute_without_a_sample():
    for start in (0, WRAP - 30_000, WRAP - 64_000):
        bench = Bench(silent_from(5_000, 66_000), start=start).until(64_000)
        assert bench.driver.starts > 50 and len(bench.board.done) == 1  # the ordinary retries, with full set-up
        bench.until(80_000)
        off, line_low, on, line_high = bench.board.done[1:]
        assert 64_000 <= off[0] <= 65_200 and off[1:] == ("on", 0)  # the last sample came at 4 s
        assert line_low == (off[0], "line", 0)  # nothing feeds it meanwhile
        assert 3000 <= on[0] - off[0] <= 3020 and on[1:] == ("on", 1) and line_high == (on[0], "line", 1)
        before, after = [(tick - start) % WRAP for tick in bench.driver.started[1:]]
        assert before < off[0] and 500 <= after - on[0] <= 520  # nothing is said to it before it has started
        lines = [line for line in story(bench.rig.sent()) if line != "sample"]
        states = [line.split()[:2] for line in lines if line[:3] not in ("gap", "tri")]
        assert states == [["configuring", "0"], ["ok", "0"], ["degraded", "2"], ["failed", "2"], ["configuring", "16"], ["ok", "0"]], lines
        assert [line for line in lines if line[:3] == "gap"] == ["gap 2 63"], lines


def check_a_dead_sensor_is_switched_after_1_2_4_8_16_32_and_then_each_60_minutes():
    bench = Bench(silent_from(5_000), pace=200).until(5 * 60 * MINUTE)
    off = bench.board.off()
    waits = [later - earlier for earlier, later in zip([4000] + off, off)]  # noqa: B905  # MicroPython has no strict
    for wait, minutes in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]):  # noqa: B905
        assert 0 <= wait - minutes * MINUTE <= 1500, waits
    assert len(waits) == 9


def check_a_sensor_that_never_was_there_is_tried_once_and_then_each_hour():
    bench = Bench(lambda now: BusError(TIME_OUT), pace=200).until(3 * 60 * MINUTE)
    off = bench.board.off()
    assert len(off) == 3 and 0 <= off[0] - MINUTE <= 1500
    assert all(0 <= later - earlier - 60 * MINUTE <= 1500 for earlier, later in zip(off, off[1:]))  # noqa: B905
    lines = story(bench.rig.sent())
    assert [line.split()[0] for line in lines] == ["configuring", "absent"] + ["configuring", "absent"] * 3


def check_an_hour_of_samples_gives_the_first_minute_again():
    for hour, minutes in ((58 * MINUTE, 2), (60 * MINUTE, 1)):
        supply = Supply(Board().machine, 10, 8)
        assert supply.turn(MINUTE, True) == 3000 and supply.turn(MINUTE + 3000, True) == 500  # off and on
        supply.since = now = MINUTE + hour  # the last sample
        assert supply.turn(now + minutes * MINUTE - 1, True) == 0 and supply.turn(now + minutes * MINUTE, True) == 3000


def check_neither_a_healthy_sensor_nor_one_whose_fan_spins_up_nor_one_that_pauses_is_switched():
    for act in (
        healthy,
        lambda now: "configured" if now < 100 else 0,  # its first sample is long in coming
        lambda now: healthy(now) if now < 5000 else 0,  # degraded: its driver has not given it up
        lambda now: BusError(BAD_CHECKSUM) if now % 20_000 == 500 else healthy(now),
    ):
        bench = Bench(act, pace=20).until(5 * MINUTE)
        assert bench.board.done == [(0, "on", 1)]


def check_a_device_that_says_for_a_minute_that_it_is_broken_is_switched_but_not_at_the_first_word():
    def broken(now):
        return BusError(DEVICE_FAULT) if now % 1000 == 500 and now > 5000 else healthy(now) if now < 5000 else 0

    bench = Bench(broken).until(80_000)
    assert len(bench.board.off()) == 1 and 64_000 <= bench.board.off()[0] <= 65_600
    bench = Bench(lambda now: BusError(DEVICE_FAULT) if now == 70_500 else healthy(now) if now < 5000 else 0).until(75_000)
    assert not bench.board.off()  # said once, after a minute of spinning up

    bench = Bench(lambda now: BusError(TIME_OUT)).until(59_000)
    bench.driver.configured = True  # it talks again, and the first that it says is that it is broken
    for word in (61_000, 62_000):
        assert not bench.board.off()
        bench.watched._fail(word, DEVICE_FAULT)
    assert len(bench.board.off()) == 1


def check_no_switch_is_opened_on_the_way_to_a_reset_and_an_open_one_is_closed_before():
    if not hasattr(time, "ticks_ms"):
        time.ticks_ms = lambda: 77
    bench = Bench(healthy)
    bench.watched.supply.since = WRAP
    leave.Leave(None, [bench.watched], leave.TRIAL_OVER)
    assert bench.watched.supply.since < WRAP  # it is waited anew from now on, and leaving takes 13.5 s at most

    bench = Bench(silent_from(5_000, 66_000)).until(66_000)
    assert len(bench.board.off()) == 1 and bench.watched.state == CONFIGURING  # so a reset waits, 10 s at most
    bench.until(70_000)
    assert bench.watched.state == OK and bench.board.done[-1][1:] == ("line", 1)


def check_switching_allocates_nothing():
    bench = Bench(silent_from(5_000, 66_000), pace=100)

    class Pin:
        OUT = ALT = ALT_UART = 1

        def init(self, mode, value=None, alt=None):
            pass

        def value(self, level):
            pass

    bench.watched.supply._power = bench.watched.supply._line = Pin()
    error = BusError(TIME_OUT)
    bench.driver.act = None

    def poll(now):
        if now < 64_000:
            raise error
        return 0

    bench.driver.poll = poll
    bench.driver.start = lambda now: None
    for now in range(100, 70_000, 100):
        without_heap(lambda: bench.watched.step(now))  # noqa: B023  # called at once
    assert bench.watched.reason == 16


if __name__ == "__main__":
    checking.run(globals())
