"""Frames, ring, outbox and ticks, on both interpreters."""

import struct

import checking
from checking import raises, without_heap
from rigs import WRAP, Rig, Script, story

from firmware import frames
from firmware.frames import OK
from firmware.ring import Ring
from firmware.ticks import Ticks


def check_a_frame_is_what_the_formats_say():
    packed = frames.pack(0x10, 0x01020304, 9, 5, 2, b"\x02\x01" + bytes(6))
    assert packed[-1] == 0 and 0 not in [byte for byte in packed[:-1]]
    (frame,) = frames.Decoder().feed(packed)
    assert (frame.type, frame.boot, frame.sequence, frame.ticks) == (0x10, 0x01020304, 9, (2 << 30) + 5)
    assert frame.payload == b"\x02\x01" + bytes(6)


def check_the_largest_frame_takes_256_bytes_and_no_more_is_accepted():
    for payload in (b"\xff" * 233, bytes(233), bytes(range(233))):
        packed = frames.pack(0xFF, 0x3FFFFFFF, 0x3FFFFFFF, 0x3FFFFFFF, 0x3FFFFFFF, payload)
        assert len(packed) <= 256
        assert frames.Decoder().feed(packed)[0].payload == payload
    raises(ValueError, frames.pack, 0x10, 1, 1, 1, 1, bytes(234))
    raises(ValueError, frames.encode, bytearray(254), 251, bytearray(256))
    raises(ValueError, frames.encode, bytearray(254), 0, bytearray(256))


def check_encoding_and_decoding_allocate_nothing():
    body = bytearray(254)
    for index in range(250):
        body[index] = index * 7 & 0xFF
    out = bytearray(256)
    n = without_heap(lambda: frames.encode(body, 250, out))
    assert without_heap(lambda: frames.decode_in_place(out, n - 1)) == 250
    assert out[:250] == body[:250]
    out[3] ^= 1
    frames.encode(body, 250, out)
    out[9] ^= 4
    assert without_heap(lambda: frames.decode_in_place(out, n - 1)) == -1


def check_the_ring_allocates_nothing_and_keeps_order_over_its_end():
    ring = Ring(1000)
    frame = bytearray(256)
    out = bytearray(256)

    def work():
        for sequence in range(1, 200):
            n = 100 + sequence % 100
            frame[0] = sequence
            frame[n - 1] = sequence
            ring.append(frame, n, sequence)
            assert ring.take_next(out) == n and out[0] == sequence and out[n - 1] == sequence
            if sequence > 3:
                ring.release(sequence - 3)
        ring.rewind()

    without_heap(work)
    assert ring.dropped == 0 and ring.oldest == 197 and ring.newest == 199
    assert [ring.take_next(out) for _ in range(4)] == [197, 198, 199, 0]


def check_a_full_ring_drops_the_oldest_and_counts_them():
    ring = Ring(1000)
    frame = bytearray(256)
    out = bytearray(256)
    for sequence in range(1, 21):
        frame[0] = sequence
        ring.append(frame, 99, sequence)
    assert ring.dropped == 10 and ring.oldest == 11 and ring.newest == 20 and ring.used == 1000
    assert ring.take_next(out) == 99 and out[0] == 11
    ring.release(15)
    assert ring.oldest == 16 and ring.take_next(out) == 99 and out[0] == 16
    ring.release(999)  # never kept: not believed
    assert ring.oldest == 16
    ring.release(20)
    assert ring.used == 0 and ring.take_next(out) == 0
    ring.rewind()
    assert ring.take_next(out) == 0
    ring.append(frame, 50, 21)
    assert ring.oldest == 21 and ring.take_next(out) == 50
    raises(ValueError, ring.append, frame, 50, 23)
    raises(ValueError, ring.append, frame, 257, 22)


def check_a_sample_reaches_the_ring_without_allocating():
    rig = Rig()
    driver = Script([])
    assert without_heap(lambda: rig.outbox.sample(2, driver)) == 1
    without_heap(lambda: rig.outbox.gap(0, 9, 3))
    without_heap(lambda: rig.outbox.state(2, OK, 0, 0))
    without_heap(lambda: rig.outbox.health(1, 2, 3, 4))
    sample, gap, state, health = rig.sent()
    assert sample.payload == b"\x02\x01data" and sample.sequence == 1 and sample.boot == 77 and sample.ticks == (2 << 30) + 5
    assert gap.payload == b"\x00\x09\x03\x00\x00\x00" and state.payload == b"\x02\x02\x00\x00\x00"
    assert struct.unpack("<6I", health.payload)[0] == 1 and struct.unpack("<6I", health.payload)[3:] == (2, 3, 4)


def check_dropped_frames_are_reported_once_there_is_room():
    rig = Rig(1000)
    for _ in range(60):
        rig.outbox.state(2, OK, 0, 0)
    dropped = rig.ring.dropped
    rig.outbox.report_drops()
    assert rig.ring.newest == 60 and dropped > 0
    rig.ring.release(50)
    rig.outbox.report_drops()
    rig.outbox.report_drops()
    assert story(rig.sent())[-1] == f"gap 9 {dropped}" and rig.ring.newest == 61


def check_ticks_count_their_wraps():
    class Clock:
        now = WRAP - 5

        def ticks_us(self):
            return self.now

    from firmware import ticks

    real, ticks.time = ticks.time, Clock()
    try:
        clock = Ticks()
        assert (clock.low, clock.wraps) == (WRAP - 5, 0)
        ticks.time.now = 3
        clock.stamp()
        assert (clock.low, clock.wraps) == (3, 1)
        ticks.time.now = 4
        clock.stamp()
        assert (clock.low, clock.wraps) == (4, 1)
    finally:
        ticks.time = real


if __name__ == "__main__":
    checking.run(globals())
