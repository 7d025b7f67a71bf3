"""Every numeric vector of the particle sensors (project facts, sensors-and-head.md 1.1 to 1.3, which names their sources), on both
interpreters. SHDLC frames are Sensirion's own vectors and one captured from a real unit; the PMS frames come from a real unit too."""

import math
import struct

import checking
from checking import near

from drivers import pms5003, sps30, sps30_i2c
from drivers.crc8 import crc8
from drivers.shdlc import Reply, frame, request

H = bytes.fromhex


def check_crc8_of_sensirion_words():
    for word, crc in (
        ("BEEF", 0x92),
        ("0000", 0x81),
        ("0300", 0xAC),
        ("0500", 0xF6),
        ("FFFF", 0xAC),
        ("6667", 0xA2),
        ("8000", 0xA2),
        ("4148", 0x78),
        ("0009", 0x09),
        ("3A80", 0xA7),
        ("6400", 0x57),
        ("5EB8", 0x0D),
    ):
        assert crc8(H(word)) == crc, word


def check_sps30_requests_are_the_vendor_frames():
    for expected, command, data in (
        ("7E0000020103F97E", 0x00, "0103"),
        ("7E0000020105F77E", 0x00, "0105"),
        ("7E000100FE7E", 0x01, ""),
        ("7E000300FC7E", 0x03, ""),
        ("7E001000EF7E", 0x10, ""),
        ("7E007D3100EE7E", 0x11, ""),
        ("7E005600A97E", 0x56, ""),
        ("7E008001007D5E7E", 0x80, "00"),
        ("7E00800500000000007A7E", 0x80, "0000000000"),
        ("7E0080050000093A80B77E", 0x80, "0000093A80"),
        ("7E00D001002E7E", 0xD0, "00"),
        ("7E00D001032B7E", 0xD0, "03"),
        ("7E00D1002E7E", 0xD1, ""),
        ("7E00D201002C7E", 0xD2, "00"),
        ("7E00D3002C7E", 0xD3, ""),
    ):
        assert request(command, H(data)) == H(expected), expected


def check_sensirion_frame_builder_vectors():
    assert request(0x7D, H("11121314"), 0x7E) == H("7E7D5E7D5D047D31127D3314B67E")
    assert frame(H("7E7D1103121314")) == H("7E7D5E7D5D7D3103127D3314B77E")


def _replies(stream):
    reply = Reply(60)
    found = []
    for byte in H(stream) if isinstance(stream, str) else stream:
        if reply.feed(byte):
            found.append(None if reply.broken() else bytes(reply.body[1 : reply.length - 1]))
    return found


def check_sps30_replies_are_understood():
    assert _replies("7E00000000FF7E") == [H("000000")]
    assert _replies("7E00030000FC7E") == [H("030000")]
    assert _replies("7E007D314300AB7E") == [H("114300")]
    assert _replies("7E7D5E7D5D7D3103127D3314B77E") == [H("7D1103121314")]
    assert _replies("7E00000000FF7E7E00030000FC7E") == [H("000000"), H("030000")]  # two marks in a row are no frame
    assert _replies("7E00030000FD7E") == [None]  # checksum
    assert _replies("7E000300017E") == [None]  # truncated


def check_sps30_ten_floats():
    floats = "3FC0000040200000406000004090000041200000413000004140000041500000416000003F000000"
    found = _replies("7E00030028" + floats + "417E")
    assert found == [H("030028") + H(floats)]
    values = sps30.decode(b"", found[0][3:])
    for quantity, micrograms in (("pm1", 1.5), ("pm2_5", 2.5), ("pm4", 3.5), ("pm10", 4.5)):
        near(values[quantity], micrograms * 1e-9, 1e-16)
    for quantity, number in (("0_5", 10.0), ("1", 11.0), ("2_5", 12.0), ("4", 13.0), ("10", 14.0)):
        near(values["particles_" + quantity], number * 1e6, 1e-3)
    near(values["particle_size"], 0.5e-6, 1e-13)
    assert struct.unpack(">f", H("41480000"))[0] == 12.5 and struct.unpack(">I", H("00093A80"))[0] == 604800


def check_sps30_impossible_floats_have_a_reason():
    good = struct.pack(">f", 1.0)
    for first, reason in ((math.nan, "implausible"), (-0.5, "implausible"), (1000.5, "saturated"), (math.inf, "implausible")):
        values = sps30.decode(b"", struct.pack(">f", first) + good * 9)
        assert values["pm1"] == reason, (first, values["pm1"])
        near(values["pm2_5"], 1e-9, 1e-18)


def check_the_highest_mass_is_no_more_than_the_table_allows():
    highest = struct.pack(">10f", *([1000.0] * 4 + [3000.0] * 5 + [10.0]))
    values = sps30.decode(b"", highest)  # 1000.0 * 1e-9 would be 1.0000000000000002e-06
    assert [values[name] for name in ("pm1", "pm2_5", "pm4", "pm10")] == [1000e-9] * 4
    assert values["particles_10"] == 3000e6 and values["particle_size"] == 10e-6
    values = pms5003.decode(b"", _pms([1000] * 12 + [0x9700]))
    assert [values[name] for name in ("pm1", "pm2_5", "pm10")] == [1000e-9] * 3


FLOATS = "3FC0000040200000406000004090000041200000413000004140000041500000416000003F000000"


def check_no_single_wrong_bit_in_a_reply_is_ever_taken_for_a_reply():
    stuffed = frame(H("00030028") + H("417E7D1142137E00") * 5)  # marks and escapes within the values
    for sent in (frame(H("00030028" + FLOATS)), stuffed, frame(H("00030000")), frame(H("00D10007") + H("02030007000200"))):
        whole = _replies(sent)
        assert len(whole) == 1 and whole[0] is not None
        for place in range(len(sent)):
            for bit in range(8):
                damaged = bytearray(sent)
                damaged[place] ^= 1 << bit
                for found in _replies(bytes(damaged)) + _replies(bytes(damaged) + sent)[:-1]:
                    assert found is None or found == whole[0], (place, bit)  # the frame itself may close at the next one's mark


def check_bytes_before_the_first_mark_are_no_frame():
    assert _replies("0003000000FC7E7E00030000FC7E") == [H("030000")]
    assert _replies("FF") == [] and _replies("7E7E7E") == []


def check_sps30_words_on_i2c():
    assert sps30_i2c._REQUESTS[4] == H("00100300AC") and crc8(H("0500")) == 0xF6  # start, floats; integers
    driver = sps30_i2c.SPS30I2C(None)
    driver.set_auto_clean(604800)
    assert driver._interval_request == H("8004000909" + "3A80A7")
    assert crc8(H("4148")) == 0x78 and crc8(H("0000")) == 0x81
    assert sps30_i2c.decode is sps30.decode and sps30_i2c.RAW_SIZE == sps30.RAW_SIZE


REAL = (
    "424D001C000600090009000600090009051F016F003E00020000000097000246",
    "424D001C0006000800090006000800 0904D40153003E000300000000970002DD".replace(" ", ""),
)


def check_pms_commands():
    for command, wire in (
        (pms5003._PASSIVE, "424DE100000170"),
        (pms5003._READ, "424DE200000171"),
        (pms5003._SLEEP, "424DE400000173"),
        (pms5003._WAKE, "424DE400010174"),
    ):
        assert command == H(wire) and sum(command[:5]) == command[5] << 8 | command[6]
        assert pms5003.checked(command, 7)
    assert pms5003.checked(H("424DE100010171"), 7)  # active mode: never asked for


def check_pms_real_frames():
    first = pms5003.decode(b"", H(REAL[0]))
    for quantity, number in (("pm1", 6e-9), ("pm2_5", 9e-9), ("pm10", 9e-9)):
        near(first[quantity], number, 1e-18)
    for size, number in (("0_3", 0x51F), ("0_5", 0x16F), ("1", 0x3E), ("2_5", 2), ("5", 0), ("10", 0)):
        near(first["particles_above_" + size], number * 1e4, 1e-6)
    second = pms5003.decode(b"", H(REAL[1]))
    near(second["pm2_5"], 8e-9, 1e-18)
    near(second["particles_above_0_3"], 0x4D4 * 1e4, 1e-6)
    assert set(first) == set(pms5003.QUANTITIES)


def check_pms_checksum_is_always_verified():
    raw = bytearray(H(REAL[0]))
    for place in range(32):
        for bit in range(8):
            raw[place] ^= 1 << bit
            assert set(pms5003.decode(b"", bytes(raw)).values()) == {"bad checksum"}, (place, bit)
            raw[place] ^= 1 << bit


def _pms(words):
    data = H("424D001C") + struct.pack(">13H", *words)
    return data + struct.pack(">H", sum(data))


def check_pms_reasons():
    words = [1] * 12 + [0x9700]
    words[4] = 1001
    words[6] = 0xFFFF
    values = pms5003.decode(b"", _pms(words))
    assert values["pm2_5"] == "saturated" and values["particles_above_0_3"] == "saturated"
    near(values["pm1"], 1e-9, 1e-18)
    words[12] |= 2
    assert set(pms5003.decode(b"", _pms(words)).values()) == {"implausible"}


def _frames(stream):
    reader = pms5003.Frames()
    return [bytes(reader.frame) for byte in stream if reader.feed(byte)]


def check_pms_frames_are_found_again_behind_anything():
    one, two = H(REAL[0]), H(REAL[1])
    echo = H("424D0004E1000174")
    assert _frames(one + two) == [one, two]
    for junk in (
        b"\x42",
        b"\x42\x4d",
        H("424D001C"),
        H("42424D"),
        one[:20],
        one[7:],
        echo,
        bytes(40),
        H("424D001D") + one[4:],
        b"\xff" * 70,
    ):
        assert _frames(junk + one + two)[-2:] == [one, two], junk
    broken = bytearray(one)
    broken[9] ^= 0x10
    assert _frames(bytes(broken) + two) == [two]
    hidden = bytearray(one)  # a mark and a length within the values
    hidden[10:14] = H("424D001C")
    hidden[30:32] = struct.pack(">H", sum(hidden[:30]))
    assert _frames(bytes(hidden) + two) == [bytes(hidden), two]
    assert _frames(bytes(hidden[5:]) + one + two)[-1:] == [two]


def check_wrong_lengths_are_value_errors():
    for module in (pms5003, sps30):
        checking.raises(ValueError, module.decode, b"", bytes(module.RAW_SIZE - 1))


if __name__ == "__main__":
    checking.run(globals())
