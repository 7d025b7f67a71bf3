"""SPS30 model on its UART. Vectors: facts/sensors-and-head.md 1.2 (Sensirion's frame-builder tests, a reply captured from a real unit)."""

import struct

import pytest
from chip_bench import PARTICLES, Bench, BenchUart

from sim.chips.shdlc import RequestReader, reply
from sim.chips.sps30 import SPS30

START, START_INTEGER, STOP, READ = "7E000002 01 03 F97E", "7E000002 01 05 F77E", "7E000100FE7E", "7E000300FC7E"
EMPTY_READ = "7E00030000FC7E"
SAMPLE = "7E00030028 3FC00000 40200000 40600000 40900000 41200000 41300000 41400000 41500000 41600000 3F000000 41 7E"


def powered(bench: Bench, **changes) -> tuple[SPS30, BenchUart]:
    chip = SPS30(lambda t_us: PARTICLES, bench.record, **changes)
    return chip, bench.uart(chip)


def ask(bench: Bench, uart: BenchUart, request: str) -> bytes:
    uart.write(bytes.fromhex(request))
    bench.wait_us(20_000)
    buffer = bytearray(256)
    return bytes(buffer[: uart.readinto(buffer) or 0])


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        ((0, 0x00, 0, b""), "7E00000000FF7E"),
        ((0, 0x03, 0, b""), EMPTY_READ),
        ((0, 0x11, 0x43, b""), "7E007D314300AB7E"),
        ((0x7E, 0x7D, 0x11, b"\x12\x13\x14"), "7E7D5E7D5D7D3103127D3314B77E"),
    ],
)
def test_replies_are_framed_and_stuffed_as_sensirions(content, wire):
    assert reply(*content) == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("wire", "request_frame"),
    [
        ("7E00000201 03F97E", (0, 0x00, b"\x01\x03")),
        ("7E007D3100EE7E", (0, 0x11, b"")),
        ("7E008001007D5E7E", (0, 0x80, b"\x00")),
        ("7E0080050000093A80B77E", (0, 0x80, bytes.fromhex("0000093A80"))),
        ("7E7D5E7D5D047D31127D3314B67E", (0x7E, 0x7D, b"\x11\x12\x13\x14")),
        ("7E7E7E000300FC7E", (0, 0x03, b"")),
    ],
)
def test_requests_are_unstuffed_wherever_they_are_cut(wire, request_frame):
    wire = bytes.fromhex(wire)
    for cut in range(len(wire)):
        reader = RequestReader()
        assert [*reader.feed(wire[:cut]), *reader.feed(wire[cut:])] == [request_frame]
        assert reader.bad == 0


def test_a_sample_a_second_is_ten_floats_and_in_between_the_reply_is_empty():
    bench = Bench()
    chip, uart = powered(bench)
    assert ask(bench, uart, START) == bytes.fromhex("7E00000000FF7E")
    assert ask(bench, uart, READ) == bytes.fromhex(EMPTY_READ)
    bench.wait_us(1_000_000)
    assert ask(bench, uart, READ) == bytes.fromhex(SAMPLE)
    assert ask(bench, uart, READ) == bytes.fromhex(EMPTY_READ)
    bench.wait_us(10_000_000)
    ask(bench, uart, READ)
    assert chip.samples == len(bench.log) == 11
    assert bench.log[0][2] == PARTICLES


def test_integers_when_asked_for():
    bench = Bench()
    _, uart = powered(bench)
    ask(bench, uart, START_INTEGER)
    bench.wait_us(1_100_000)
    assert struct.unpack(">10H", ask(bench, uart, READ)[5:-2]) == (2, 2, 4, 4, 10, 11, 12, 13, 14, 500)


@pytest.mark.parametrize(
    ("before", "request_frame", "state"),
    [
        ("", READ, 0x43),  # nothing is measured in idle
        ("", STOP, 0x43),
        (START, START, 0x43),
        (START, "7E001000EF7E", 0x43),  # sleep while measuring
        ("", "7E007D3100EE7E", 0x43),  # wake while awake
        ("", "7E005600A97E", 0x43),  # fan cleaning while the fan is still
        ("", "7E00000101FD7E", 0x01),  # start with one byte of data
        ("", "7E0000020109F37E", 0x04),  # start with an unknown format
        ("", "7E004200BD7E", 0x02),
    ],
)
def test_what_is_not_allowed_answers_with_its_state(before, request_frame, state):
    bench = Bench()
    _, uart = powered(bench)
    if before:
        ask(bench, uart, before)
    (request,) = RequestReader().feed(bytes.fromhex(request_frame))
    assert ask(bench, uart, request_frame) == reply(0, request.command, state, b"")


def test_a_wrong_checksum_or_another_address_gets_no_answer():
    bench = Bench()
    _, uart = powered(bench)
    assert ask(bench, uart, "7E000300FB7E") == b""
    assert ask(bench, uart, "7E010300FB7E") == b""


def test_it_says_what_it_is():
    bench = Bench()
    _, uart = powered(bench, serial=b"ABC123", version=(2, 3))
    assert ask(bench, uart, "7E00D001002E7E")[5:-2] == b"00080000\0"
    assert ask(bench, uart, "7E00D001032B7E")[5:-2] == b"ABC123\0"
    assert ask(bench, uart, "7E00D1002E7E")[4:7] == bytes([7, 2, 3])


def test_the_status_register_is_read_and_cleared():
    bench = Bench()
    chip, uart = powered(bench)
    chip.core.status = 1 << 21 | 1 << 4
    assert ask(bench, uart, "7E00D201002C7E")[5:10] == bytes.fromhex("0020001000")
    ask(bench, uart, "7E00D201012B7E")
    assert ask(bench, uart, "7E00D201002C7E")[5:10] == bytes(5)


def test_the_auto_clean_interval_is_kept():
    bench = Bench()
    chip, uart = powered(bench)
    assert ask(bench, uart, "7E008001007D5E7E")[5:9] == bytes.fromhex("00093A80")
    ask(bench, uart, "7E00800500000000007A7E")
    chip.power_cycle()
    assert ask(bench, uart, "7E008001007D5E7E")[5:9] == bytes(4)


def test_asleep_it_needs_a_byte_to_wake_its_interface_and_then_the_command():
    bench = Bench()
    _, uart = powered(bench)
    ask(bench, uart, "7E001000EF7E")
    bench.wait_us(1_000_000)
    assert ask(bench, uart, "7E007D3100EE7E") == b""  # its first byte was the one that woke it
    bench.wait_us(1_000_000)
    assert ask(bench, uart, "FF7E007D3100EE7E") == bytes.fromhex("7E007D310000EE7E")
    assert ask(bench, uart, START)[3] == 0


def test_no_sample_is_made_while_the_fan_cleans_itself():
    bench = Bench()
    chip, uart = powered(bench)
    ask(bench, uart, START)
    bench.wait_us(2_500_000)
    assert ask(bench, uart, "7E005600A97E")[3] == 0
    bench.wait_us(8_000_000)
    ask(bench, uart, READ)
    assert chip.samples == 2
    bench.wait_us(3_000_000)
    assert len(ask(bench, uart, READ)) > 7


def test_a_reset_answers_and_then_is_deaf_for_a_while_and_idle():
    bench = Bench()
    _, uart = powered(bench)
    ask(bench, uart, START)
    assert ask(bench, uart, "7E00D3002C7E") == bytes.fromhex("7E00D300002C7E")
    assert ask(bench, uart, READ) == b""
    bench.wait_us(200_000)
    assert ask(bench, uart, READ)[3] == 0x43
