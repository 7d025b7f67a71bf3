"""The link without hardware, on both interpreters."""

import struct

import checking
from checking import without_heap
from rigs import Rig, Script

from drivers.errors import NO_ACKNOWLEDGE, BusError
from firmware import frames
from firmware.link import Link
from firmware.supervisor import Watched


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
        return [(frame.type, frame.sequence) for frame in self.heard(count)]

    def heard(self, count=50):
        for _ in range(count):
            self.now += 1
            self.link.turn(self.now)
        found = self.decoder.feed(self.line.output)
        self.line.output = b""
        return found


def check_the_head_greets_then_sends_its_ring():
    rig = LinkRig()
    assert rig.turns() == [(frames.HELLO, 0), (frames.TRIM, 0), (frames.STATE, 0), (frames.STATE, 1), (frames.TRIM, 2)]


def check_hello_rewinds_to_what_is_durable_and_repeats_the_trims():
    rig = LinkRig()
    rig.turns()
    rig.outbox.gap(0, 9, 1)
    rig.command(frames.HELLO_REQUEST, 77, 1)
    assert (
        rig.turns() == [(frames.HELLO, 0), (frames.TRIM, 0), (frames.STATE, 0), (frames.TRIM, 2), (frames.GAP, 3)] and rig.ring.oldest == 2
    )
    rig.command(frames.HELLO_REQUEST, 12345, 99)  # another boot: everything that is there
    assert rig.turns() == [(frames.HELLO, 0), (frames.TRIM, 0), (frames.STATE, 0), (frames.TRIM, 2), (frames.GAP, 3)]


def check_behind_hello_comes_the_present_state_of_every_sensor_however_long_ago_it_was_said():
    rig = LinkRig()
    absent = Watched(4, Script([BusError(NO_ACKNOWLEDGE), BusError(NO_ACKNOWLEDGE)]), rig.outbox)
    rig.link._sensors.append(absent)
    absent.start(0)
    absent.step(1)
    absent.step(500)  # a failure more, which no frame says
    rig.turns()
    rig.command(frames.ACK, 77, rig.ring.newest)
    rig.turns()
    assert rig.ring.used == 0
    rig.command(frames.HELLO_REQUEST, 77, rig.ring.newest)
    found = rig.heard()
    assert [(frame.type, frame.sequence) for frame in found[:2]] == [(frames.HELLO, 0), (frames.TRIM, 0)]
    assert [(frame.type, frame.sequence, frame.payload) for frame in found[2:]] == [
        (frames.STATE, 0, struct.pack("<BBBH", 2, frames.CONFIGURING, 0, 0)),
        (frames.STATE, 0, struct.pack("<BBBH", 4, frames.ABSENT, NO_ACKNOWLEDGE, 2)),  # and no trim: it never said one
    ]
    assert rig.outbox.sequence == rig.ring.newest and found[2].ticks < found[3].ticks


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
    assert rig.turns() == [(frames.HELLO, 0), (frames.TRIM, 0), (frames.STATE, 0), (frames.GAP, 3)] and rig.decoder.bad == 1


def check_sending_allocates_nothing():
    rig = LinkRig()
    rig.turns()
    rig.command(frames.ACK, 77, 2)
    rig.turns()
    for _ in range(3):
        rig.outbox.gap(0, 9, 1)
    rig.link._greeting = 1  # the present state is due, and then the ring

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
