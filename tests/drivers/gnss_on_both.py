"""UBX and NAV-PVT: the vectors of the project facts (sensors-and-head.md 1.11, which names their sources), and the driver's steady work
without heap. On both interpreters."""

import struct

import checking
from checking import near, raises

from drivers import nav_pvt, neo_m9n, ubx
from drivers.errors import BAD_CHECKSUM, BusError

H = bytes.fromhex

# Real messages (pyubx2: pygpsdata-NAV.log, pygpsdata-MIXED.log)
FIRST = H(
    "b56201075c0008b56221e5070c040b223b371a0000003c7bfaff0303ea1ad928aafedceedb1f30640100cda60000d305000011080000f9ffffff0400000009000000"
    "08000000000000000301000080a8120165000000ee134f2f0000000000000000a744"
)
SECOND = H(
    "b56201075c00c8c23a1ce4070a170b210f371100000038ce000003010a0f6c28aafec3ecdb1fb32701004f6a00009a180000a51f00001b000000fcffffff0b000000"
    "1b000000cac10b00cb020000ad973b0087000000e04a23000000000000000000d570"
)
YEAR_2010 = 1_262_304_000


def read(stream, capacity=92):
    """(kind, payload) of the frames in `stream`, and the Reader."""
    reader = ubx.Reader(capacity)
    found = []
    for byte in stream:
        if reader.feed(byte):
            found.append((reader.kind, bytes(reader.payload[: reader.length])))
    return found, reader


def payload(**changed):
    """The second message's payload, changed: name=(offset, struct format, value)."""
    out = bytearray(SECOND[6:-2])
    for offset, layout, value in changed.values():
        struct.pack_into(layout, out, offset, value)
    return bytes(out)


def date(year, month, day, hour=0, minute=0, second=0, nano=0, valid=0x37):
    return payload(
        y=(4, "<H", year), m=(6, "B", month), d=(7, "B", day), h=(8, "B", hour), i=(9, "B", minute), s=(10, "B", second),
        v=(11, "B", valid), n=(16, "<i", nano),
    )  # fmt: skip


# --- frames


def check_published_frames_are_built():
    assert ubx.frame(ubx.MON_VER) == H("B5620A0400000E34")
    assert ubx.frame(ubx.NAV_PVT) == H("B562010700000819")
    assert ubx.valset(ubx.RAM, (ubx.RATE_MEAS, 1000)) == H("B562068A0A000001000001002130E803D8C4")
    assert ubx.valset(ubx.RAM | ubx.BBR, (ubx.MSGOUT_NAV_PVT_UART1, 1)) == H("B562068A09000003000007009120015558")
    assert ubx.valset(ubx.RAM, (ubx.UART1_BAUDRATE, 115200)) == H("B562068A0C00000100000100524000C20100F3A5")
    everything = ubx.valset(
        ubx.RAM | ubx.BBR | ubx.FLASH, (ubx.UART1OUTPROT_NMEA, 0), (ubx.UART1OUTPROT_UBX, 1), (ubx.NAVSPG_DYNMODEL, ubx.AUTOMOTIVE)
    )
    assert everything == H("B562068A1300000700000200741000010074100121001120040C71")
    assert ubx.frame(0x0608, H("E80301000000")) == H("B56206080600E803010000000037")
    assert ubx.frame(ubx.ACK_ACK, H("0601")) == H("B5620501020006010F38")
    assert ubx.frame(ubx.ACK_ACK) == H("B562050100000617")
    assert ubx.frame(ubx.NAV_PVT, FIRST[6:-2]) == FIRST and ubx.frame(ubx.NAV_PVT, SECOND[6:-2]) == SECOND
    assert (FIRST[6 + 23], SECOND[6 + 23]) == (26, 15)  # satellites: nothing reads them


def check_valget_asks_for_keys_of_what_is_in_force():
    assert ubx.valget(ubx.RATE_MEAS) == ubx.frame(ubx.CFG_VALGET, H("0000000001002130"))
    assert ubx.values((ubx.RATE_MEAS, 1000), (ubx.NAVSPG_DYNMODEL, 4)) == H("01002130E80321001120 04".replace(" ", ""))


def check_acknowledges_are_read():
    assert read(H("B5620501020006010F38"))[0] == [(ubx.ACK_ACK, H("0601"))]
    assert read(H("B562050100000617"))[0] == [(ubx.ACK_ACK, b"")]
    found, reader = read(H("B5620501020006010F37"))
    assert found == [] and reader.bad == 1
    found, reader = read(H("B5620501020006010E38") + H("B562050100000617"))
    assert found == [(ubx.ACK_ACK, b"")] and reader.bad == 1


def check_reading_goes_on_behind_noise():
    ack, empty = H("B5620501020006010F38"), [(ubx.ACK_ACK, H("0601"))]
    assert read(b"\xb5" + ack)[0] == empty  # B5 B5 62
    assert read(b"\xb5\xb5\xb5" + ack)[0] == empty
    assert read(b"\x62\xb5\x00$GPRMC,081836,A\r\n\xff" + ack)[0] == empty
    assert read(ack + ack + SECOND + ack)[0] == empty + empty + [(ubx.NAV_PVT, SECOND[6:-2])] + empty


def check_an_impossible_length_is_not_waited_for():
    found, reader = read(H("B5620107FFFF") + H("B562050100000617"))
    assert found == [(ubx.ACK_ACK, b"")] and reader.bad == 1


def check_a_lost_byte_costs_one_frame_only():
    for at in (1, 3, 5, 40, 97, 99):
        found, reader = read(SECOND[:at] + SECOND[at + 1 :] + FIRST + SECOND)
        assert (ubx.NAV_PVT, SECOND[6:-2]) in found, at
    found, reader = read(SECOND[:40] + SECOND[41:] + FIRST)
    assert found == [(ubx.NAV_PVT, FIRST[6:-2])] and reader.bad == 1


def check_a_frame_broken_off_is_forgotten():
    reader = ubx.Reader(92)
    for byte in SECOND[:50]:
        assert not reader.feed(byte)
    reader.clear()
    assert reader.bad == 1
    reader.clear()
    assert reader.bad == 1
    assert [reader.feed(byte) for byte in H("B562050100000617")][-1] is True


def check_a_long_frame_is_summed_up_whole_and_kept_in_part():
    version = bytes(range(40)) + bytes(180)
    reader = ubx.Reader(92)
    ends = [reader.feed(byte) for byte in ubx.frame(ubx.MON_VER, version)]
    assert ends[-1] is True and ends.count(True) == 1
    assert (reader.kind, reader.length, bytes(reader.payload)) == (ubx.MON_VER, 220, version[:92])
    broken = bytearray(ubx.frame(ubx.MON_VER, version))
    broken[200] ^= 1  # behind what is kept
    assert read(broken)[0] == []


def check_the_reader_needs_no_heap():
    reader = ubx.Reader(92)
    stream = b"\xb5" + SECOND + H("B5620501020006010F37") + FIRST
    found = [0]

    def run():
        for byte in stream:
            if reader.feed(byte):
                found[0] += 1
        reader.clear()

    checking.without_heap(run)
    assert found[0] == 2 and reader.bad == 1


# --- NAV-PVT


def values_of(raw, longitude, latitude, altitude, speed):
    """What is decoded, of which this much is known."""
    values = neo_m9n.decode(b"", raw)
    near(values["longitude"], longitude, 1e-9)
    near(values["latitude"], latitude, 1e-9)
    near(values["altitude"], altitude, 1e-9)
    near(values["speed"], speed, 1e-12)
    return values


def check_the_first_real_message():
    raw = FIRST[6:-2]
    values = values_of(raw, -2.2402855, 53.4507228, 42.701, 0.008)
    assert values["bearing"] == "not ready"  # headAcc 180°: any direction
    errors = nav_pvt.errors(raw)
    near(errors["horizontal"], 1.491, 1e-9)
    near(errors["vertical"], 2.065, 1e-9)
    near(errors["speed"], 0.259, 1e-9)
    near(errors["time"], 26e-9, 1e-15)
    assert "bearing" not in errors and nav_pvt.mode(raw) == 3
    assert nav_pvt.utc(raw, YEAR_2010) == 1_638_617_699_000_000_000 - 361_668  # 11:34:59, nano negative
    assert nav_pvt.utc(raw) is None  # before this was written


def check_the_second_real_message():
    raw = SECOND[6:-2]
    values = values_of(raw, -2.2402964, 53.4506691, 27.215, 0.027)
    near(values["bearing"], 7.70506 * 3.141592653589793 / 180, 1e-9)
    near(nav_pvt.errors(raw)["bearing"], 39.05453 * 3.141592653589793 / 180, 1e-9)
    assert nav_pvt.utc(raw, YEAR_2010) == 1_603_452_795_000_000_000 + 52_792


def check_without_a_fix_there_is_a_reason():
    for changed in ({"fix": (20, "B", 0)}, {"fix": (20, "B", 1)}, {"fix": (20, "B", 5)}, {"fix": (20, "B", 6)}, {"flags": (21, "B", 0xFE)}):
        raw = payload(**changed)
        assert nav_pvt.mode(raw) == 1
        assert set(neo_m9n.decode(b"", raw).values()) == {"no fix"}, changed
    flat = neo_m9n.decode(b"", payload(fix=(20, "B", 2)))
    assert flat["altitude"] == "no fix" and isinstance(flat["latitude"], float) and nav_pvt.mode(payload(fix=(20, "B", 2))) == 2
    assert nav_pvt.mode(payload(fix=(20, "B", 4))) == 3
    lost = neo_m9n.decode(b"", payload(flags3=(78, "<H", 1)))
    assert lost["latitude"] == lost["longitude"] == lost["altitude"] == "no fix" and isinstance(lost["speed"], float)


def check_numbers_that_cannot_be_are_implausible():
    place = neo_m9n.decode(b"", payload(lat=(28, "<i", 900_000_001)))
    assert place["latitude"] == place["longitude"] == "implausible" and isinstance(place["altitude"], float)
    assert neo_m9n.decode(b"", payload(lon=(24, "<i", -1_800_000_001)))["longitude"] == "implausible"
    assert neo_m9n.decode(b"", payload(msl=(36, "<i", 9_000_001)))["altitude"] == "implausible"
    assert neo_m9n.decode(b"", payload(msl=(36, "<i", -500_001)))["altitude"] == "implausible"
    assert neo_m9n.decode(b"", payload(speed=(60, "<i", 100_001)))["speed"] == "implausible"
    assert neo_m9n.decode(b"", payload(speed=(60, "<i", -1)))["speed"] == "implausible"
    assert neo_m9n.decode(b"", payload(head=(64, "<i", 36_000_001)))["bearing"] == "implausible"
    assert neo_m9n.decode(b"", payload(head=(64, "<i", -1)))["bearing"] == "implausible"
    near(neo_m9n.decode(b"", payload(lon=(24, "<i", 1_394_912_347)))["longitude"], 139.4912347, 1e-9)


def check_errors_that_the_receiver_does_not_know_are_absent():
    blank = payload(t=(12, "<I", 0xFFFFFFFF), h=(40, "<I", 0xFFFFFFFF), v=(44, "<I", 0xFFFFFFFF), s=(68, "<I", 0xFFFFFFFF))
    assert set(nav_pvt.errors(blank)) == {"bearing"}


def check_a_length_that_is_wrong_is_refused():
    for function, arguments in ((neo_m9n.decode, (b"", bytes(91))), (nav_pvt.utc, (bytes(93),)), (nav_pvt.errors, (b"",))):
        raises(ValueError, function, *arguments)


# --- its time


def check_dates_become_seconds():
    for moment, seconds in (
        ((2026, 1, 1), 1_767_225_600),
        ((2028, 2, 29, 23, 59, 59), 1_835_481_599),
        ((2028, 3, 1), 1_835_481_600),
        ((2026, 12, 31, 23, 59, 59), 1_798_761_599),
        ((2026, 11, 21, 19, 13, 13), 1_795_288_393),
        ((2045, 8, 16), 2_386_454_400),
    ):
        assert nav_pvt.utc(date(*moment)) == seconds * 1_000_000_000, moment
    assert nav_pvt.utc(date(2000, 2, 29), 900_000_000) == 951_782_400_000_000_000
    assert nav_pvt.utc(date(1970, 1, 1), 0) == 0


def check_nano_may_be_negative():
    assert nav_pvt.utc(date(2026, 11, 21, 19, 13, 13, -4_999_999)) == 1_795_288_393_000_000_000 - 4_999_999
    assert nav_pvt.utc(date(2026, 11, 21, 19, 13, 13, 250_000_000)) == 1_795_288_393_250_000_000
    assert nav_pvt.utc(date(2026, 1, 1, nano=-1)) is None  # the last nanosecond before


def check_a_leap_second_is_the_second_after_it():
    assert nav_pvt.utc(date(2026, 12, 31, 23, 59, 60)) == nav_pvt.utc(date(2027, 1, 1))
    assert nav_pvt.utc(date(2026, 12, 31, 12, 59, 60)) is None


def check_a_time_that_is_not_vouched_for_is_none():
    for valid in (0x00, 0x01, 0x03, 0x05, 0x06, 0xF8):
        assert nav_pvt.utc(date(2026, 11, 21, valid=valid)) is None, valid


def check_dates_that_cannot_be_are_refused():
    for moment in (
        (0, 0, 0),
        (2026, 0, 1),
        (2026, 13, 1),
        (2026, 2, 29),
        (2027, 4, 31),
        (2026, 11, 0),
        (2026, 11, 21, 24),
        (2026, 11, 21, 0, 60),
        (2026, 11, 21, 0, 0, 60),
        (1980, 1, 6),  # no week
        (2007, 4, 7, 12),  # 1024 weeks before 2026-11-21
        (2046, 7, 7, 12),  # and after it
        (2106, 2, 7),  # week 0xFFFF and such
        (65535, 1, 1),
    ):
        assert nav_pvt.utc(date(*moment)) is None, moment
    assert nav_pvt.utc(date(2026, 11, 21, nano=1_000_000_000)) is None


# --- the driver's steady work


class Line:
    """A UART with `incoming` to read; `answers` maps what is written to what comes back."""

    def __init__(self, answers):
        self.answers = answers
        self.incoming = b""
        self.at = 0
        self.baud = 0

    def init(self, baudrate):
        self.baud = baudrate

    def write(self, buf):
        self.put(self.answers.get((self.baud, bytes(buf)), b""))

    def put(self, data):
        self.incoming = self.incoming[self.at :] + data
        self.at = 0

    def any(self):
        return len(self.incoming) - self.at

    def readinto(self, buf):
        count = 0
        while count < len(buf) and self.at < len(self.incoming):
            buf[count] = self.incoming[self.at]
            self.at += 1
            count += 1
        return count or None


SETTINGS = (
    (ubx.UART1INPROT_UBX, 1), (ubx.UART1OUTPROT_UBX, 1), (ubx.UART1OUTPROT_NMEA, 0), (ubx.MSGOUT_NAV_PVT_UART1, 1), (ubx.RATE_MEAS, 1000),
    (ubx.NAVSPG_DYNMODEL, 4),
)  # fmt: skip
VERSION = b"EXT CORE 4.04 (7f89f7)"


def configured_before():
    """A driver that met a receiver which is already as it should be."""
    keys = [key for key, _ in SETTINGS]
    line = Line({
        (115200, ubx.frame(ubx.MON_VER)): ubx.frame(ubx.MON_VER, VERSION + bytes(40 - len(VERSION)) + bytes(30)),
        (115200, ubx.valget(*keys)): ubx.frame(ubx.CFG_VALGET, H("01000000") + ubx.values(*SETTINGS)) + ubx.frame(ubx.ACK_ACK, H("068B")),
    })  # fmt: skip
    driver = neo_m9n.NEOM9N(line)
    driver.start(0)
    now = 0
    while not driver.configured and now < 5000:
        driver.poll(now)
        now += 10
    return line, driver, now


def check_a_receiver_that_is_set_up_is_not_written_to():
    line, driver, _ = configured_before()
    assert driver.configured and driver.trim() == VERSION and line.baud == 115200


def check_steady_work_needs_no_heap():
    line, driver, now = configured_before()
    line.put(FIRST + b"\xb5noise" + SECOND + FIRST)
    buf = bytearray(200)
    found = [0]

    def run():
        moment = now
        for _ in range(60):
            moment += 10
            if driver.poll(moment):
                driver.read_into(buf, 10)
                found[0] += 1

    checking.without_heap(run)
    assert found[0] == 3 and buf[10:102] == FIRST[6:-2]


def check_messages_that_come_together_are_read_one_by_one():
    line, driver, now = configured_before()
    line.put(FIRST + SECOND)
    buf = bytearray(92)
    assert driver.poll(now) == 1 and driver.poll(now) == 1
    driver.read_into(buf)
    assert buf == FIRST[6:-2]
    assert driver.poll(now) == 1
    driver.read_into(buf)
    assert buf == SECOND[6:-2]
    assert driver.poll(now) == 0


def check_a_damaged_message_is_told_and_the_next_one_is_whole():
    line, driver, now = configured_before()
    line.put(FIRST[:50])
    driver.poll(now)
    error = raises(BusError, driver.poll, now + 100)  # nothing follows: it was broken off
    assert error.code == BAD_CHECKSUM and driver.configured
    line.put(SECOND)
    assert driver.poll(now + 1000) == 1
    driver.read_into(bytearray(92))
    damaged = bytearray(FIRST)
    damaged[60] ^= 4
    line.put(bytes(damaged))
    assert raises(BusError, driver.poll, now + 2000).code == BAD_CHECKSUM


if __name__ == "__main__":
    checking.run(globals())
