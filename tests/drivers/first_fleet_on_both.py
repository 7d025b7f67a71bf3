"""The first fleet's box: vectors made by hand from the project facts (sox.md 2.1), the state machine, and that it allocates nothing."""

import struct

import checking
from checking import near, raises, without_heap

from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, OTHER, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.first_fleet import FRAMES_AT_ONCE, QUANTITIES, RAW_SIZE, FirstFleetBox, decode
from drivers.first_fleet_frames import Frames, commands

H = bytes.fromhex
WRAP = 1 << 30
# Serial 0007, version 0001, Vs 600 mV at 25.0 °C.
TRIM = b"00070001CARSENSOR1" + H("5802fa00")
START = H("9a13ff0076")
ANSWERS = {
    H("9a13000089"): H("9a8f001306"),
    H("9a13000188"): H("9a8f001306"),
    H("9a10008a"): H("9a90") + TRIM[:18],  # the XOR is added below
    H("9a3d00a7"): H("9abd5802fa00"),
    H("9a3c00a6"): H("9abc0127"),
    START: H("9a8f001306"),
    H("9a13ff0177"): H("9a8f001306"),
}


def closed(body):
    total = 0
    for byte in body:
        total ^= byte
    return body + bytes((total,))


ANSWERS[H("9a10008a")] = closed(ANSWERS[H("9a10008a")])
ANSWERS[H("9a3d00a7")] = closed(ANSWERS[H("9a3d00a7")])


def raw_sample(number=0, errors=0, serial=7, words=None, **changes):
    """The parameters of an event A: 2 g upwards, all else at rest, 1013.25 hPa, 60 %, 20 °C, 8.128 W/m², 10 klx, 1000 mV."""
    numbers = [0, 0, 4096, 100, -50, 1, 341, -341, 0, 58155, 4736, 3096, 128, 500, 620]
    for name in changes:
        numbers[QUANTITIES.index(name)] = changes[name]
    head = struct.pack("<H", serial) + bytes((number & 0xFF, number >> 8 & 0xFF, number >> 16 & 0xFF, errors))
    return head + struct.pack("<9h3H2hH", *numbers)


def event(number, **changes):
    return closed(b"\x9a\x8a" + raw_sample(number & 0xFFFFFF, **changes))


def other_event(number, code=0x8C, serial=7):
    body = bytes((0x9A, code)) + struct.pack("<H", serial) + bytes((number & 0xFF, number >> 8 & 0xFF, number >> 16 & 0xFF, 0))
    return closed(body + (b"\x06$GPGGA" if code == 0x8C else bytes(4)))


class Line:
    """machine.UART's methods; answers commands, and gives what a test puts into `coming`."""

    def __init__(self):
        self.coming = b""
        self.asked = []
        self.silent = ()

    def write(self, data):
        data = bytes(data)
        self.asked.append(data)
        if data not in self.silent:
            self.coming += ANSWERS[data]
        return len(data)

    def any(self):
        return len(self.coming)

    def readinto(self, buf):
        count = min(len(buf), len(self.coming))
        buf[:count] = self.coming[:count]
        self.coming = self.coming[count:]
        return count


def started(line, fan=True, tap=None, begin=0):
    """A box that delivers, and the tick."""
    box = FirstFleetBox(line, fan, tap)
    box.start(begin)
    now = 0
    while not box.configured:
        assert box.trim() == b""
        box.poll((begin + now) % WRAP)
        now += 10
        assert now < 5000
    return box, (begin + now) % WRAP


def given(box, line, data, now):
    """The samples of `data` that the driver gives at once and after silence."""
    line.coming += data
    samples = []
    buf = bytearray(3 + FRAMES_AT_ONCE * RAW_SIZE)
    for tick in (now, now, now, now, now, now, now + 60):
        if box.poll(tick % WRAP):
            size = box.read_into(buf, 3)
            for begin in range(3, 3 + size, RAW_SIZE):
                samples.append(bytes(buf[begin : begin + RAW_SIZE]))
    return samples


def check_commands_are_those_of_the_facts():
    assert commands(True) == (H("9a13000089"), H("9a10008a"), H("9a3d00a7"), H("9a3c00a6"), H("9a13ff0076"))
    assert commands(False) == (H("9a13000188"), H("9a10008a"), H("9a3d00a7"), H("9a3c00a6"), H("9a13ff0177"))


def check_a_sample_in_si():
    values = decode(TRIM, raw_sample())
    assert set(values) == set(QUANTITIES)
    near(values["acceleration_z"], 19.613599, 1e-5)  # 4096 * 32000 * 0.00980665 / 65535
    near(values["angular_rate_x"], 6.103609 * 0.017453293, 1e-6)  # the old server said 6.1036 "rad/s": degrees by its range
    near(values["angular_rate_y"], -3.051805 * 0.017453293, 1e-6)
    near(values["magnetic_field_x"], 49.951934e-6, 1e-11)
    near(values["magnetic_field_y"], -49.951934e-6, 1e-11)
    near(values["pressure"], 101314.6, 1.0)
    near(values["humidity"], 60.0, 1e-9)
    near(values["temperature"], 293.15, 1e-9)
    near(values["uva"], 8.128, 1e-9)
    near(values["illuminance"], 10000.0, 1e-9)
    # V0 = 620 * 6600 / 4095 = 999.267 mV; Vs = 600 - 6 * (25 - 20) = 570 mV; beta = 1 - 0.01467 * 10 = 0.8533
    near(values["pm2_5"], 0.6 * 0.8533 * 429.26740 * 1e-9, 1e-14)


def check_pm2_5_by_humidity_temperature_and_version():
    dry = decode(TRIM, raw_sample(humidity=896 + 64 * 50))["pm2_5"]
    near(dry, 0.6 * 429.26740 * 1e-9, 1e-14)
    hot = decode(TRIM, raw_sample(humidity=896, temperature=2096 + 50 * 41))["pm2_5"]  # Vs = 600 - 1.5 * (25 - 41) = 624
    near(hot, 0.6 * 375.26740 * 1e-9, 1e-14)
    old = TRIM[:4] + b"0000" + TRIM[8:18] + H("025800fa")  # big endian then
    assert decode(old, raw_sample()) == decode(TRIM, raw_sample())


def check_no_number_where_there_is_none():
    for changes, quantity, reason in (
        ({"acceleration_x": 32767}, "acceleration_x", "saturated"),
        ({"angular_rate_z": -32768}, "angular_rate_z", "saturated"),
        ({"magnetic_field_y": -32768}, "magnetic_field_y", "saturated"),
        ({"pressure": 65535}, "pressure", "saturated"),
        ({"pressure": 3000}, "pressure", "implausible"),
        ({"humidity": 895}, "humidity", "implausible"),
        ({"humidity": 895}, "pm2_5", "implausible"),
        ({"humidity": 65535}, "humidity", "saturated"),
        ({"temperature": 96}, "temperature", "implausible"),
        ({"temperature": 0}, "pm2_5", "saturated"),
        ({"uva": -1}, "uva", "implausible"),
        ({"illuminance": 7001}, "illuminance", "implausible"),
        ({"illuminance": 32767}, "illuminance", "saturated"),
        ({"pm2_5": 4095}, "pm2_5", "saturated"),
        ({"pm2_5": 4096}, "pm2_5", "implausible"),
        ({"pm2_5": 353}, "pm2_5", "implausible"),  # 568.9 mV, less than clean air: the old server made it 0
        ({"pm2_5": 4000}, "pm2_5", "implausible"),
    ):
        values = decode(TRIM, raw_sample(**changes))
        assert values[quantity] == reason, (changes, quantity, values[quantity])
    assert decode(TRIM[:20] + H("ff7f"), raw_sample())["pm2_5"] == "implausible"
    assert decode(TRIM[:18] + H("fffffa00"), raw_sample())["pm2_5"] == "implausible"


def check_each_error_bit_takes_its_quantities_away():
    expected = {
        0x01: {name for name in QUANTITIES if name[:4] in ("acce", "angu")},
        0x02: {name for name in QUANTITIES if name[:4] == "magn"},
        0x04: {"pressure"},
        0x08: {"humidity", "temperature", "pm2_5"},
        0x10: {"uva", "illuminance"},
        0x20: {"pm2_5"},
        0x40: set(),
        0x80: set(),
    }
    for bit in expected:
        values = decode(TRIM, raw_sample(errors=bit))
        assert {name for name in values if values[name] == "not ready"} == expected[bit]
        assert len([name for name in values if isinstance(values[name], str)]) == len(expected[bit])


def check_wrong_lengths_are_value_errors():
    raises(ValueError, decode, TRIM, bytes(35))
    raises(ValueError, decode, b"", bytes(36))


def check_it_is_stopped_asked_and_started():
    line = Line()
    line.coming = event(3) + event(4)[:20]  # it ran on
    box, now = started(line)
    assert line.asked == list(commands(True)) and box.trim() == TRIM and box.gnss_ready is True
    assert given(box, line, event(5) + event(6), now) == [raw_sample(5), raw_sample(6)]
    assert box.missing == 0 and box.gap_reason == 0
    line = Line()
    box, now = started(line, False, None, WRAP - 20)
    assert line.asked == list(commands(False))
    assert given(box, line, event(5), now) == [raw_sample(5)]


def check_what_does_not_answer_is_a_time_out_and_a_refusal_is_told():
    line = Line()
    line.silent = (commands(True)[0], commands(True)[3], START)
    box = FirstFleetBox(line)
    for now in range(0, 4000, 10):
        box.poll(now)
        if START in line.asked:
            break
    line.coming += event(0)  # the reply to the start was lost
    assert given(box, line, event(1), now) == [raw_sample(0), raw_sample(1)] and box.configured and box.gnss_ready is None
    line = Line()
    line.silent = (commands(True)[1],)
    box = FirstFleetBox(line)
    now = 0
    while True:
        try:
            box.poll(now)
        except BusError as error:
            assert error.code == TIME_OUT and now < 1100
            break
        now += 10
    line = Line()
    line.silent = (START,)
    box = FirstFleetBox(line)
    for now in range(0, 400, 10):
        box.poll(now)
    line.coming += closed(H("9a8f0113"))
    box.poll(400)
    assert raises(BusError, box.poll, 460).code == OTHER


def check_silence_and_another_box_are_told():
    line = Line()
    box, now = started(line)
    assert given(box, line, event(9), now) == [raw_sample(9)]
    assert box.poll(now + 900) == 0
    assert raises(BusError, box.poll, now + 1100).code == TIME_OUT
    box, now = started(line)
    assert box.poll(now + 4900) == 0
    assert raises(BusError, box.poll, now + 5100).code == TIME_OUT
    box, now = started(line)
    line.coming += event(10) + event(11, serial=8) + event(12, serial=8)
    assert box.poll(now) == 1 and box.read_into(bytearray(36)) == 36
    assert raises(BusError, box.poll, now + 60).code == WRONG_IDENTITY


def check_jumps_of_the_number_are_counted_exactly_over_its_wrap():
    line = Line()
    box, now = started(line)
    top = 0xFFFFFF
    assert len(given(box, line, event(top - 2) + event(top - 1), now)) == 2 and box.missing == 0
    assert len(given(box, line, event(2) + event(3), now + 100)) == 2
    assert box.missing == 3 and box.gap_reason == OTHER
    box.missing = box.gap_reason = 0
    given(box, line, event(3 + 5_000_000), now + 200)
    assert box.missing == 4_999_999
    box.missing = box.gap_reason = 0
    given(box, line, event(0) + event(1), now + 300)  # it began anew
    assert box.missing == 0 and box.gap_reason == POWER_ON_VALUES


def check_events_of_the_same_count_are_not_missing_samples():
    line = Line()
    box, now = started(line)
    assert len(given(box, line, event(1) + other_event(2) + other_event(3, 0x8B) + event(4) + event(5), now)) == 3
    assert box.missing == 0
    given(box, line, other_event(6) + other_event(1000) + event(9), now + 100)  # 7 and 8 are lost; 1000 counts elsewhere
    assert box.missing == 2


def check_a_broken_frame_costs_itself_only_and_is_counted():
    line = Line()
    box, now = started(line)
    frames = [event(number) for number in range(6)]
    flipped = bytearray(frames[2])
    flipped[20] ^= 0x10
    assert len(given(box, line, b"".join(frames[:2]) + bytes(flipped) + b"".join(frames[3:]), now)) == 5
    assert box.missing == 1 and box.gap_reason == BAD_CHECKSUM and box.bad == 1
    box.missing = 0
    length = bytearray(other_event(0))
    length[8] = 255  # swallows what follows, which is found again
    more = [event(number) for number in range(6, 14)]
    assert len(given(box, line, bytes(length) + b"".join(more), now + 100)) == 8 and box.missing == 0


def check_a_lost_or_doubled_byte_never_makes_a_sample():
    """Also where the XOR cannot see it: the lost byte is 9A, the doubled byte equals the XOR."""
    tricky = raw_sample(1, angular_rate_x=-26214)  # 9A 99
    assert tricky[12] == 0x9A
    for number in range(256):  # some frame whose XOR is one of its bytes
        twin = event(number)
        if twin[-1] in twin[10:-1]:
            break
    for frame in (closed(b"\x9a\x8a" + tricky), twin):
        for place in range(len(frame)):
            for damaged in (frame[:place] + frame[place + 1 :], frame[:place] + frame[place : place + 1] + frame[place:]):
                found = []
                frames = Frames()
                for byte in event(0) + damaged + event(2) + event(3):
                    there = frames.feed(byte)
                    while there:
                        found.append(bytes(frames.frame[: frames.length]))
                        there = frames.again()
                while frames.again(True):
                    found.append(bytes(frames.frame[: frames.length]))
                assert found[-1] == event(3) and len(found) >= 2, place
                assert all([one in (event(0), frame, event(2), event(3)) for one in found]), place


def check_a_box_that_sends_something_between_its_frames_is_believed():
    line = Line()
    box, now = started(line)
    samples = []
    for number in range(30):
        line.coming += event(number) + b"\r\n"
        if box.poll(now + number):
            samples.append(box.read_into(bytearray(16 * 36)))
    assert len(samples) >= 12


def check_the_error_bits_degrade_it():
    line = Line()
    box, now = started(line)
    given(box, line, event(0, errors=0x42), now)
    assert box.degraded == DEVICE_FAULT and box.errors == 0x42
    given(box, line, event(1), now + 100)
    assert box.degraded == 0 and box.errors == 0
    assert box.gnss_ready is True
    given(box, line, closed(H("9a8801")), now + 200)
    assert box.gnss_ready is False
    given(box, line, closed(H("9a8800")), now + 300)
    assert box.gnss_ready is True


def check_the_tap_sees_every_frame_whole():
    seen = []
    line = Line()
    box, now = started(line, True, lambda frame, length: seen.append(bytes(frame[:length])))
    assert seen == [ANSWERS[request] for request in commands(True)]
    sent = [event(0), other_event(0), event(1), other_event(7, 0x8B), event(2)]
    given(box, line, b"".join(sent), now)
    assert seen[5:] == sent


def check_a_full_queue_leaves_the_rest_on_the_line():
    line = Line()
    box, now = started(line)
    line.coming = b"".join([event(number) for number in range(60)])
    assert box.poll(now) <= FRAMES_AT_ONCE and len(line.coming) > 1000
    buf = bytearray(FRAMES_AT_ONCE * RAW_SIZE)
    count = 0
    for tick in range(now, now + 200, 10):
        if box.poll(tick):
            count += box.read_into(buf) // RAW_SIZE
    assert count == 60 and box.missing == 0


def check_what_nobody_reads_for_a_while_waits_and_nothing_of_it_is_lost():
    line = Line()
    box, now = started(line)
    line.coming = b"".join([event(number) for number in range(60)])
    line.coming = line.coming[:-20]  # the last one is still coming
    for tick in range(now, now + 500, 10):  # longer than what counts as silence
        assert box.poll(tick) <= FRAMES_AT_ONCE
    line.coming += event(59)[-20:]
    now += 500
    buf = bytearray(FRAMES_AT_ONCE * RAW_SIZE)
    count = 0
    for tick in range(now, now + 200, 10):
        if box.poll(tick):
            count += box.read_into(buf) // RAW_SIZE
    assert count == 60 and box.missing == 0 and box.bad == 0


class Still:
    """A line that gives the same bytes again and again, without allocating."""

    def __init__(self, data):
        self.data = data
        self.place = 0
        self.left = 0

    def any(self):
        return self.left

    def readinto(self, buf):
        count = min(self.left, len(buf))
        for index in range(count):
            buf[index] = self.data[self.place]
            self.place = (self.place + 1) % len(self.data)
        self.left -= count
        return count


def check_polling_and_reading_allocate_nothing():
    line = Line()
    box, now = started(line)
    given(box, line, event(0), now)
    broken = bytearray(event(3))
    broken[30] ^= 1
    still = Still(event(1) + other_event(9) + bytes(broken) + event(4) + event(0xFFFFFF) + b"\x9a\x9a\x00" + event(0))
    box._uart = still
    buf = bytearray(FRAMES_AT_ONCE * RAW_SIZE)

    def steady():
        total = 0
        for turn in range(40):
            still.left = 64
            if box.poll(now + turn):
                total += box.read_into(buf)
        box.poll(now + 100)
        return total

    assert without_heap(steady) > 30 * RAW_SIZE


if __name__ == "__main__":
    checking.run(globals())
