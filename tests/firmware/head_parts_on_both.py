"""Supervisor, bus recovery and link without hardware, on both interpreters."""

import errno
import struct

import checking
from checking import without_heap
from rigs import WRAP, Rig, Script, story

from drivers.errors import BAD_CHECKSUM, FIFO_OVERFLOW, NO_ACKNOWLEDGE, POWER_ON_VALUES, TIME_OUT, BusError
from firmware import frames
from firmware.bus import clock_out
from firmware.frames import ABSENT, DEGRADED, FAILED, OK
from firmware.link import Link
from firmware.supervisor import Watched


def watch(acts, milliseconds, period=1000, pace=10, start=0):
    rig = Rig()
    driver = Script(acts, period)
    watched = Watched(2, driver, rig.outbox)
    watched.start(start)
    for now in range(pace, milliseconds, pace):
        watched.step((start + now) % WRAP)
    return watched, driver, story(rig.sent())


# --- supervisor


def check_a_healthy_sensor_says_configuring_trim_ok():
    assert watch(["configured", 1, 1], 100)[2] == ["configuring 0 0", "trim", "sample", "ok 0 0", "sample"]


def check_an_absent_sensor_is_retried_with_growing_pauses_and_set_up_when_it_appears():
    acts = [OSError(errno.EIO) for _ in range(8)] + ["configured", 1]
    watched, driver, lines = watch(acts, 60_000)
    assert lines == ["configuring 0 0", "absent 1 1", "trim", "configuring 1 8", "sample", "ok 0 8"]
    assert driver.starts == 9  # full set-up each time
    watched, driver, lines = watch([OSError(errno.EIO) for _ in range(1000)], 120_000)
    assert 12 <= driver.starts <= 22 and watched.state == ABSENT  # 200 ms to 10 s, never more often


def check_one_failure_is_degraded_and_five_good_readings_make_it_ok():
    acts = ["configured", 1, BusError(BAD_CHECKSUM), 1, 1, 1, 1, 1]
    lines = watch(acts, 200)[2]
    assert lines[4:] == ["degraded 4 1", "sample", "sample", "sample", "sample", "sample", "ok 0 1"]


def check_missing_samples_of_a_slow_sensor_are_counted_when_it_is_back():
    acts = ["configured", 1] + [BusError(TIME_OUT)] * 3 + [0] * 340 + ["configured", 1]
    watched, driver, lines = watch(acts, 6000)
    assert driver.starts == 2 and "failed 2 3" in lines
    gap = [line for line in lines if line.startswith("gap")]
    assert gap == ["gap 2 2"]  # sampled at 20 ms and at 3680 ms, once a second: two are missing
    assert lines.index("gap 2 2") < len(lines) - 1 - lines[::-1].index("sample")


def check_a_late_sample_without_failure_is_reported_too():
    assert "gap 10 1" in watch(["configured", 1] + [0] * 250 + [1], 4000)[2]


def check_a_fifo_sensor_reports_its_own_gaps_and_an_unknown_number_after_a_restart():
    acts = ["configured", 3, OSError(110), 3]
    assert not [line for line in watch(acts, 200, period=0)[2] if line.startswith("gap")]  # the FIFO held them
    acts = ["configured", 3] + [OSError(110)] * 3 + ["configured", 3]
    assert "gap 2 0" in watch(acts, 2000, period=0)[2]
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


def check_a_driver_that_is_degraded_is_so_with_its_reason():
    rig = Rig()
    driver = Script(["configured", 1, 1])
    driver.degraded = NO_ACKNOWLEDGE
    watched = Watched(1, driver, rig.outbox)
    watched.start(0)
    for now in range(10, 50, 10):
        watched.step(now)
    assert (watched.state, watched.reason) == (DEGRADED, NO_ACKNOWLEDGE)


def check_a_stuck_bus_is_freed_and_named():
    class Bus:
        freed = 0

        def recover(self):
            self.freed += 1
            return True

    rig = Rig()
    bus = Bus()
    watched = Watched(2, Script([OSError(110), "configured", 1]), rig.outbox, bus)
    watched.start(0)
    watched.step(10)
    assert bus.freed == 1 and (watched.state, watched.reason) == (FAILED, 3)
    for now in range(20, 400, 10):
        watched.step(now)
    assert watched.state == OK


class Wire:
    """SDA held low by a chip until it saw `clocks` rising edges of SCL."""

    def __init__(self, clocks):
        self.clocks = clocks
        self.scl = 1
        self.sda = 1
        self.edges = 0
        self.stops = 0

    def pins(self):
        wire = self

        class Sda:
            def value(self, level=None):
                if level is None:
                    return wire.sda if wire.clocks <= 0 else 0
                wire.stops += wire.scl and level and not wire.sda
                wire.sda = level

        class Scl:
            def value(self, level=None):
                if level is None:
                    return wire.scl
                if level and not wire.scl:
                    wire.clocks -= 1
                    wire.edges += 1
                wire.scl = level

        return Sda(), Scl()


def check_nine_clocks_free_a_stuck_bus_and_end_with_a_stop():
    import time

    if not hasattr(time, "sleep_us"):
        time.sleep_us = lambda us: None
    for clocks in (1, 5, 9):
        wire = Wire(clocks)
        assert clock_out(*wire.pins()) is True
        assert wire.edges == clocks + 1 and wire.stops == 1  # one more for the STOP
    wire = Wire(0)
    assert clock_out(*wire.pins()) is False and wire.edges == 0


# --- link


class Line:
    """Source and sink in one. `room` bytes can be written; writes take at most `bite`."""

    def __init__(self):
        self.input = b""
        self.output = b""
        self.room = 1 << 20
        self.bite = 64
        self.writes = []

    def readinto(self, buf):
        buf[0] = self.input[0]
        self.input = self.input[1:]
        return 1

    def write(self, data):
        data = bytes(data)
        assert self.room > 0, "wrote without room"
        self.writes.append(len(data))
        taken = min(len(data), self.bite, self.room)
        self.output += data[:taken]
        self.room -= taken
        return taken


class Side:
    """A poller: `event` while `ready()`."""

    def __init__(self, event, ready):
        self.event = event
        self.ready = ready

    def ipoll(self, timeout):
        assert timeout == 0
        return ((None, self.event),) if self.ready() else ()


class LinkRig(Rig):
    def __init__(self):
        super().__init__()
        self.line = Line()
        self.driver = Script(["configured"])
        watched = Watched(2, self.driver, self.outbox)
        watched.start(0)
        watched.step(1)  # configuring, trim: sequences 1, 2
        line = self.line
        self.link = Link(
            self.outbox,
            [watched],
            line,
            line,
            Side(1, lambda: len(line.input)),
            Side(4, lambda: line.room > 0),
            lambda: b'{"firmware":"test"}',
        )
        self.decoder = frames.Decoder()
        self.now = 0

    def command(self, kind, boot, sequence):
        self.line.input += frames.pack(kind, 0, 0, 0, 0, struct.pack("<II", boot, sequence))

    def turns(self, count=50):
        for _ in range(count):
            self.now += 1
            self.link.turn(self.now)
        found = self.decoder.feed(self.line.output)
        self.line.output = b""
        return [(frame.type, frame.sequence) for frame in found]


def check_the_head_greets_then_sends_its_ring():
    rig = LinkRig()
    assert rig.turns() == [(frames.HELLO, 0), (frames.TRIM, 0), (frames.STATE, 1), (frames.TRIM, 2)]


def check_hello_rewinds_to_what_is_durable_and_repeats_the_trims():
    rig = LinkRig()
    rig.turns()
    rig.outbox.gap(0, 9, 1)
    rig.command(frames.HELLO_REQUEST, 77, 1)
    assert rig.turns() == [(frames.HELLO, 0), (frames.TRIM, 0), (frames.TRIM, 2), (frames.GAP, 3)] and rig.ring.oldest == 2
    rig.command(frames.HELLO_REQUEST, 12345, 99)  # another boot: everything that is there
    assert rig.turns() == [(frames.HELLO, 0), (frames.TRIM, 0), (frames.TRIM, 2), (frames.GAP, 3)]


def check_only_acknowledged_frames_are_forgotten():
    rig = LinkRig()
    rig.turns()
    rig.command(frames.ACK, 78, 2)  # another boot
    rig.turns()
    assert rig.ring.oldest == 1
    rig.command(frames.ACK, 77, 1)
    rig.turns()
    assert rig.ring.oldest == 2
    rig.command(frames.ACK, 77, 500)  # never sent
    rig.turns()
    assert rig.ring.oldest == 2


def check_ping_is_answered_with_its_bytes():
    rig = LinkRig()
    rig.turns()
    rig.line.input += frames.pack(frames.PING, 0, 0, 0, 0, b"12345678")
    for _ in range(5):
        rig.link.turn(rig.now)
    (pong,) = rig.decoder.feed(rig.line.output)
    assert pong.type == frames.PONG and pong.payload == b"12345678"


def check_junk_from_the_gateway_is_refused_and_counted():
    rig = LinkRig()
    rig.turns()
    rig.line.input += b"\x00\x00\x03junk\x00" + b"x" * 300 + b"\x00" + frames.pack(0x42, 0, 0, 0, 0, bytes(8))
    rig.line.input += frames.pack(frames.ACK, 0, 0, 0, 0, bytes(7))
    rig.command(frames.ACK, 77, 1)
    rig.turns()
    assert rig.link.refused == 4 and rig.ring.oldest == 2


def check_a_silent_gateway_gets_single_bytes_and_a_speaking_one_pieces():
    rig = LinkRig()
    rig.turns()
    assert set(rig.line.writes) == {1}
    rig.line.writes = []
    rig.command(frames.HELLO_REQUEST, 77, 0)
    rig.turns()
    assert max(rig.line.writes) == 32  # the longest of these frames is shorter than 64
    rig.now += 2000
    rig.line.writes = []
    rig.outbox.gap(0, 9, 1)
    rig.turns()
    assert set(rig.line.writes) == {1}


def check_a_blocked_line_is_never_written_and_loses_nothing():
    rig = LinkRig()
    rig.command(frames.HELLO_REQUEST, 77, 0)
    rig.line.room = 30
    rig.turns()
    assert rig.line.room == 0
    rig.line.writes = []
    for _ in range(20):
        rig.outbox.gap(0, 9, 1)
    rig.turns()
    assert rig.line.writes == []
    rig.line.room = 1 << 20
    rig.line.bite = 7  # and writes that take only a part
    found = rig.turns(400)
    rig.command(frames.PING, 0, 0)
    found += rig.turns(400)
    assert [sequence for kind, sequence in found if sequence] == list(range(1, 23)) and rig.decoder.bad == 0


def check_hello_in_the_middle_of_a_frame_costs_that_frame_only():
    rig = LinkRig()
    rig.turns()
    rig.outbox.gap(0, 9, 1)
    rig.line.room = 10
    rig.turns()
    rig.command(frames.HELLO_REQUEST, 77, 2)
    rig.line.room = 1 << 20
    assert rig.turns() == [(frames.HELLO, 0), (frames.TRIM, 0), (frames.GAP, 3)] and rig.decoder.bad == 1


def check_sending_allocates_nothing():
    rig = LinkRig()
    rig.turns()
    rig.command(frames.ACK, 77, 2)
    rig.turns()
    for _ in range(3):
        rig.outbox.gap(0, 9, 1)

    class Sink:
        def write(self, data):
            return len(data)

    class Ready:
        events = ((None, 4),)

        def ipoll(self, timeout):
            return self.events

    rig.link._sink = Sink()
    rig.link._writable = Ready()
    rig.link._readable = Ready()  # no POLLIN among its events
    assert without_heap(lambda: rig.link.turn(rig.now)) >= 64


if __name__ == "__main__":
    checking.run(globals())
