"""SPS30 model on I2C. Vectors: facts/sensors-and-head.md 1.2."""

import struct

import pytest
from chip_bench import PARTICLES, Bench, BenchI2C

from sim.chips import sps30_core
from sim.chips.sps30_i2c import SPS30I2C

START, STOP, READY, READ, SLEEP, WAKE, CLEAN = "00100300AC", "0104", "0202", "0300", "1001", "1103", "5607"
VERSION, SERIAL, STATUS, CLEAR, RESET = "D100", "D033", "D206", "D210", "D304"


def powered(bench: Bench, **changes) -> tuple[SPS30I2C, BenchI2C]:
    chip = SPS30I2C(lambda t_us: PARTICLES, bench.record, **changes)
    return chip, bench.i2c(chip)


def send(bench: Bench, bus: BenchI2C, command: str, wait_us: int = 20_000) -> None:
    bus.writeto(0x69, bytes.fromhex(command))
    bench.wait_us(wait_us)


def ask(bench: Bench, bus: BenchI2C, command: str, size: int) -> bytes:
    send(bench, bus, command)
    return bus.readfrom(0x69, size)


def test_a_sample_is_twenty_words_with_their_checksums_and_the_flag_says_when():
    bench = Bench()
    chip, bus = powered(bench)
    send(bench, bus, START)
    assert ask(bench, bus, READY, 3) == bytes.fromhex("000081")
    bench.wait_us(1_000_000)
    assert ask(bench, bus, READY, 3) == bytes.fromhex("0001B0")
    words = ask(bench, bus, READ, 60)
    floats = b"".join(words[at : at + 2] for at in range(0, 60, 3))
    assert struct.unpack(">10f", floats) == (1.5, 2.5, 3.5, 4.5, 10, 11, 12, 13, 14, 0.5)
    assert all(sps30_crc(words[at : at + 2]) == words[at + 2] for at in range(0, 60, 3))
    assert ask(bench, bus, READY, 3) == bytes.fromhex("000081")
    assert chip.samples == 1


def sps30_crc(word: bytes) -> int:
    """By the definition: the remainder of the division by x^8 + x^5 + x^4 + 1, start FF."""
    rest = (word[0] ^ 0xFF) << 16 | word[1] << 8
    for bit in range(23, 7, -1):
        if rest >> bit & 1:
            rest ^= 0x131 << (bit - 8)
    return rest


def test_a_command_must_be_ended_by_a_stop_and_waited_for():
    bench = Bench()
    _, bus = powered(bench)
    with pytest.raises(OSError):
        bus.readfrom_mem(0x69, 0xD1, 3)  # combined: half a command, then a repeated start
    send(bench, bus, VERSION, 1_000)
    with pytest.raises(OSError):
        bus.readfrom(0x69, 3)
    bench.wait_us(5_000)
    assert bus.readfrom(0x69, 3)[:2] == b"\x02\x03"


def test_arguments_with_a_wrong_checksum_are_not_obeyed():
    bench = Bench()
    chip, bus = powered(bench)
    for command in ("00100300AD", "00100300", "0010"):
        send(bench, bus, command)
        assert chip.core.mode == sps30_core.IDLE
    send(bench, bus, "8004000909" + "3A80A7")
    assert ask(bench, bus, "8004", 6) == bytes.fromhex("0009093A80A7")


def test_a_wake_must_come_twice_within_100_ms():
    bench = Bench()
    chip, bus = powered(bench)
    send(bench, bus, SLEEP)
    for wait_us in (150_000, 1_000):
        with pytest.raises(OSError):
            bus.writeto(0x69, bytes.fromhex(WAKE))
        bench.wait_us(wait_us)
    bus.writeto(0x69, bytes.fromhex(WAKE))
    assert chip.core.mode == sps30_core.IDLE


def test_the_serial_number_and_the_status_are_words_too():
    bench = Bench()
    chip, bus = powered(bench, serial=b"ABC")
    serial = ask(bench, bus, SERIAL, 48)
    assert serial[:2] + serial[3:5] == b"ABC\0"
    chip.core.status = sps30_core.FAN | sps30_core.FAN_SPEED
    status = ask(bench, bus, STATUS, 6)
    assert status[:2] + status[3:5] == bytes.fromhex("00200010")
    send(bench, bus, CLEAR)
    assert chip.core.status == 0


def test_a_defect_is_in_the_register_with_the_sample_it_spoils_and_only_the_fans_stays():
    bench = Bench()
    chip, bus = powered(bench)
    send(bench, bus, START)
    chip.core.failing = sps30_core.FAN | sps30_core.LASER
    bench.wait_us(1_000_000)
    assert ask(bench, bus, READ, 60) == bytes.fromhex("000081") * 20
    assert chip.core.status == sps30_core.FAN | sps30_core.LASER
    chip.core.failing = 0
    bench.wait_us(1_000_000)
    ask(bench, bus, READ, 60)
    assert chip.core.status == sps30_core.FAN


def test_old_firmware_knows_neither_status_nor_sleep_and_shows_the_old_interval_until_a_reset():
    bench = Bench()
    chip, bus = powered(bench, version=(1, 0))
    send(bench, bus, STATUS)
    with pytest.raises(OSError):
        bus.readfrom(0x69, 6)
    send(bench, bus, SLEEP)
    assert chip.core.mode == sps30_core.IDLE
    send(bench, bus, "8004000081000081")
    assert ask(bench, bus, "8004", 6) == bytes.fromhex("0009093A80A7")
    send(bench, bus, RESET)
    with pytest.raises(OSError):
        bus.writeto(0x69, bytes.fromhex(VERSION))
    bench.wait_us(100_000)
    assert ask(bench, bus, "8004", 6) == bytes.fromhex("000081000081")


def test_no_sample_is_made_while_the_fan_cleans_itself():
    bench = Bench()
    chip, bus = powered(bench)
    send(bench, bus, START)
    bench.wait_us(2_500_000)
    send(bench, bus, CLEAN)
    bench.wait_us(9_500_000)
    bus.scan()
    assert chip.samples == 2
