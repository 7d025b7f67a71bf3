"""The model of the first fleet's box. The command frames are the vectors of the project facts (sox.md 2.1)."""

import struct
from datetime import UTC, datetime
from functools import reduce

import pytest
from chip_bench import Bench, BenchUart

from sim.chips.first_fleet import FirstFleetBox, gga, sentence, vtg

WORLD = {
    **{f"acceleration_{axis}": 9.80665 for axis in "xyz"},
    **{f"angular_rate_{axis}": 0.5 for axis in "xyz"},
    **{f"magnetic_field_{axis}": 30e-6 for axis in "xyz"},
    "pressure": 101_325.0, "humidity": 50.0, "temperature": 298.15, "uva": 12.7, "illuminance": 20_000.0, "pm2_5": 60e-9,
    "latitude": 35.5, "longitude": -139.75, "altitude": 12.34, "speed": 10.0, "bearing": 3.141592653589793,
}  # fmt: skip
START, STOP, INFO, CLEAN, GNSS = "9A13FF0076", "9A13000089", "9A10008A", "9A3D00A7", "9A3C00A6"


def powered(bench: Bench, **changes) -> tuple[FirstFleetBox, BenchUart]:
    chip = FirstFleetBox(lambda t_us: WORLD, bench.record, **changes)
    uart = bench.uart(chip)
    uart.line.rxbuf = 100_000
    return chip, uart


def ask(bench: Bench, uart: BenchUart, request: str) -> bytes:
    uart.write(bytes.fromhex(request))
    bench.wait_us(8_000)
    return heard(uart)


def heard(uart: BenchUart) -> bytes:
    buffer = bytearray(100_000)
    return bytes(buffer[: uart.readinto(buffer) or 0])


def frames(data: bytes) -> list[bytes]:
    """Whole frames by their codes' sizes, each with its XOR checked."""
    found = []
    while data:
        size = 10 + data[8] if data[1] == 0x8C else {0x8A: 39, 0x8B: 13, 0x88: 4}[data[1]]
        assert data[0] == 0x9A and reduce(int.__xor__, data[:size]) == 0
        found.append(data[:size])
        data = data[size:]
    return found


def test_it_answers_each_command_of_the_old_gateway() -> None:
    bench = Bench()
    _, uart = powered(bench, serial=42)
    assert ask(bench, uart, STOP) == bytes.fromhex("9A8F001306")
    info = ask(bench, uart, INFO)
    assert (len(info), info[:10], reduce(int.__xor__, info)) == (21, b"\x9a\x900042" + b"0001", 0)
    assert ask(bench, uart, CLEAN)[:6] == bytes.fromhex("9ABD5802FA00")
    assert ask(bench, uart, GNSS)[:3] == bytes.fromhex("9ABC00")
    assert ask(bench, uart, START)[:5] == bytes.fromhex("9A8F001306")


@pytest.mark.parametrize("request_frame", ["9A10008B", "9A990003", "10008A", "9A13AA0023"])
def test_what_is_no_command_gets_no_answer_or_a_refusal(request_frame: str) -> None:
    bench = Bench()
    _, uart = powered(bench)
    assert ask(bench, uart, request_frame) in (b"", bytes.fromhex("9A8F011307"))
    assert ask(bench, uart, INFO)


def started(**changes) -> FirstFleetBox:
    """A box that samples from t = 0 on, without a line."""
    chip = FirstFleetBox(lambda t_us: WORLD, lambda *_: None, **changes)
    chip.write(bytes.fromhex(START))
    chip.read(chip.any())
    return chip


def until(chip: FirstFleetBox, t_us: int) -> list[bytes]:
    chip.advance(t_us)
    return frames(chip.read(chip.any()))


def test_a_hundred_samples_a_second_one_event_b_and_two_sentences() -> None:
    codes = [frame[1] for frame in until(started(ppm=0.0), 2_005_000)]
    assert (codes.count(0x8A), codes.count(0x8B), codes.count(0x8C)) == (200, 2, 4)
    assert len(until(started(ppm=1_000.0), 10_005_000)) == 1001 + 10 + 20
    assert [frame[1] for frame in until(started(), 30_004_000)].count(0x88) == 1


def test_a_sample_has_the_words_of_the_facts() -> None:
    chip = started(serial=0x0102)
    chip.index = 0xFFFFFF
    chip.errors = 0x41
    first, second = until(chip, 25_000)
    assert first[2:8] == bytes.fromhex("0201FFFFFF41") and second[4:7] == bytes(3)
    words = struct.unpack("<9h3H2hH", first[8:38])
    assert words[0] == 2048  # 1000 mg * 65535 / 32000
    assert words[3] == 469  # 0.5 rad/s = 28.648 °/s
    assert words[6] == 205  # 30 µT * 65535 / 9600
    assert words[9:14] == (58162, 4096, 3346, 200, 1000)
    assert words[14] == 434  # 60 µg/m³ / 0.6 + 600 mV at 25 °C = 700 mV


def test_numbers_may_be_of_one_count_with_the_other_events() -> None:
    numbers = [int.from_bytes(frame[4:7], "little") for frame in until(started(shared_index=True), 2_000_000)]
    assert numbers == list(range(len(numbers))) and len(numbers) == 206


def test_a_power_cut_stops_it_and_its_numbers_begin_again() -> None:
    bench = Bench()
    chip, uart = powered(bench)
    ask(bench, uart, START)
    bench.wait_us(500_000)
    uart.any()
    chip.power_cycle()
    assert chip.index == 0 and chip.samples == 50
    bench.wait_us(500_000)
    chip.advance(1_100_000)
    assert chip.samples == 50


def test_sentences_are_those_of_the_standard() -> None:
    known = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"  # the common example of NMEA 0183
    assert sentence(known[1:-5].decode()) == known
    moment = datetime(2026, 11, 22, 4, 5, 6, 780_000, UTC)
    assert gga(moment, 35.5, -139.75, 12.34)[:-4] == b"$GPGGA,040506.78,3530.0000,N,13945.0000,W,1,08,1.0,12.3,M,38.0,M,,*"
    assert vtg(10.0, 3.141592653589793)[:-4] == b"$GPVTG,180.0,T,,M,19.44,N,36.00,K,A*"
