"""PMS5003 model on its UART. Vectors: facts/sensors-and-head.md 1.3 (frames of a real sensor)."""

import struct

import pytest
from chip_bench import Bench, BenchUart

from sim.chips.pms5003 import PMS5003, frame

AIR = {
    "pm1": 6e-9,
    "pm2_5": 40e-9,
    "pm10": 50e-9,
    "particles_above_0_3": 1311e4,
    "particles_above_0_5": 367e4,
    "particles_above_1": 62e4,
    "particles_above_2_5": 2e4,
    "particles_above_5": 0.0,
    "particles_above_10": 0.0,
}
PASSIVE, ACTIVE, READ, SLEEP, WAKE = "424DE100000170", "424DE100010171", "424DE200000171", "424DE400000173", "424DE400010174"


def powered(bench: Bench) -> tuple[PMS5003, BenchUart]:
    chip = PMS5003(lambda t_us: AIR, bench.record)
    return chip, bench.uart(chip, 9600)


def listen(bench: Bench, uart: BenchUart, milliseconds: int) -> bytes:
    heard = b""
    buffer = bytearray(256)
    for _ in range(milliseconds // 10):
        bench.wait_us(10_000)
        heard += bytes(buffer[: uart.readinto(buffer) or 0])
    return heard


def ask(bench: Bench, uart: BenchUart, request: str, milliseconds: int = 100) -> bytes:
    uart.write(bytes.fromhex(request))
    return listen(bench, uart, milliseconds)


@pytest.mark.parametrize(
    ("payload", "wire"),
    [
        (
            "000600090009000600090009051F016F003E0002000000009700",
            "424D001C000600090009000600090009051F016F003E00020000000097000246",
        ),
        ("E100", "424D0004E1000174"),
    ],
)
def test_frames_are_those_of_the_sensor(payload, wire):
    assert frame(bytes.fromhex(payload)) == bytes.fromhex(wire)


def test_after_power_it_speaks_unasked_and_passive_only_when_asked():
    bench = Bench()
    _, uart = powered(bench)
    assert listen(bench, uart, 1_900) == b""
    assert listen(bench, uart, 3_100).count(b"BM\0\x1c") == 3
    assert ask(bench, uart, PASSIVE, 3_000)[-8:] == bytes.fromhex("424D0004E1000174")
    assert listen(bench, uart, 3_000) == b""
    assert len(ask(bench, uart, READ)) == 32
    assert ask(bench, uart, ACTIVE, 2_500).count(b"BM\0\x1c") == 2


def test_values_rise_while_it_warms_up_and_are_then_those_of_the_air():
    bench = Bench()
    chip, uart = powered(bench)
    listen(bench, uart, 2_500)
    ask(bench, uart, PASSIVE)
    early = struct.unpack(">13H", ask(bench, uart, READ)[4:30])
    assert early[4] < 10 and chip.samples == 0 and bench.log == []
    listen(bench, uart, 30_000)
    words = struct.unpack(">13H", ask(bench, uart, READ)[4:30])
    assert words[:6] == (6, 60, 75, 6, 40, 50) and words[6:12] == (1311, 367, 62, 2, 0, 0) and words[12] == 0x9700
    assert chip.samples == 1 and bench.log[0][2] == AIR


def test_asleep_it_is_silent_and_after_a_wake_it_starts_anew():
    bench = Bench()
    _, uart = powered(bench)
    listen(bench, uart, 2_500)
    ask(bench, uart, SLEEP)
    assert ask(bench, uart, READ, 3_000) == b""
    assert ask(bench, uart, WAKE, 1_500) == b""
    assert listen(bench, uart, 1_500).startswith(b"BM\0\x1c")


def test_requests_with_a_wrong_sum_or_in_pieces():
    bench = Bench()
    _, uart = powered(bench)
    listen(bench, uart, 2_500)
    ask(bench, uart, PASSIVE, 1_500)
    assert ask(bench, uart, "424DE200000172", 200) == b""
    assert ask(bench, uart, "FF42" + READ, 200)[:2] == b"BM"
    assert ask(bench, uart, READ[:6], 100) == b""
    assert len(ask(bench, uart, READ[6:], 200)) == 32


def test_a_brown_out_is_a_new_start_in_active_mode():
    bench = Bench()
    chip, uart = powered(bench)
    listen(bench, uart, 2_500)
    ask(bench, uart, PASSIVE, 1_500)
    chip.power_cycle()
    assert ask(bench, uart, READ, 1_500) == b""
    assert listen(bench, uart, 1_500).startswith(b"BM\0\x1c")
