"""OPT3001 model. Vectors: facts/sensors-and-head.md 1.5 (eldruin/opt300x-rs tests, Linux opt3001.c)."""

import random

import pytest
from chip_bench import Bench, BenchI2C

from sim.chips.opt3001 import OPT3001, encode

ADDRESS = 0x45
CONTINUOUS_800 = bytes.fromhex("cc10")  # auto-range, 800 ms, continuous, latched
SINGLE_100 = bytes.fromhex("c210")


def powered(bench: Bench, lux: float = 1000.0) -> tuple[OPT3001, BenchI2C]:
    chip = OPT3001(lambda t_us: {"illuminance": lux}, bench.record)
    return chip, bench.i2c(chip)


def word(i2c: BenchI2C, register: int) -> int:
    return int.from_bytes(i2c.readfrom_mem(ADDRESS, register, 2), "big")


def lux_of(result: int) -> float:
    return 0.01 * (1 << (result >> 12)) * (result & 0xFFF)


@pytest.mark.parametrize(
    ("lux", "result"),
    [(0.0, 0x0000), (0.01, 0x0001), (40.95, 0x0FFF), (40.96, 0x1800), (88.80, 0x28AC), (5242.88, 0x8800), (83865.60, 0xBFFF)],
)
def test_auto_range_takes_the_finest_exponent_that_holds_the_light(lux, result):
    assert encode(lux, 12) == (result, False)
    assert lux_of(result) == pytest.approx(lux, abs=1e-9)


@pytest.mark.parametrize(
    ("lux", "range_number", "result"),
    [(88.80, 3, 0x3456), (2818.56, 7, 0x789A), (5242.88, 9, 0x9400), (5242.88, 10, 0xA200), (5242.88, 11, 0xB100), (20.48, 11, 0xB001)],
)
def test_a_fixed_range_gives_the_vectors(lux, range_number, result):
    assert encode(lux, range_number) == (result, False)


def test_after_power_on_it_names_itself_and_is_shut_down():
    bench = Bench()
    chip, i2c = powered(bench)
    assert (word(i2c, 0x7E), word(i2c, 0x7F), word(i2c, 0x01)) == (0x5449, 0x3001, 0xC810)
    assert (word(i2c, 0x02), word(i2c, 0x03)) == (0xC000, 0xBFFF)
    bench.wait_us(2_000_000)
    assert word(i2c, 0x00) == 0 and chip.samples == 0


def test_any_light_comes_back_within_the_declared_epsilon():
    random.seed(3001)
    for _ in range(200):
        lux = 10 ** random.uniform(-2, 4.9236)
        result, overflow = encode(lux, 12)
        assert not overflow
        assert lux_of(result) == pytest.approx(lux, abs=OPT3001.epsilon("illuminance", lux) * 1.0001)
        assert OPT3001.epsilon("illuminance", lux) <= OPT3001.EPSILON["illuminance"]


def test_conversion_ready_comes_after_the_conversion_time_and_clears_when_configuration_is_read():
    bench = Bench()
    chip, i2c = powered(bench)
    i2c.writeto_mem(ADDRESS, 0x01, CONTINUOUS_800)
    bench.wait_us(780_000)
    assert not word(i2c, 0x01) & 0x80
    bench.wait_us(50_000)
    assert word(i2c, 0x01) & 0x80
    assert not word(i2c, 0x01) & 0x80
    assert lux_of(word(i2c, 0x00)) == pytest.approx(1000, abs=OPT3001.epsilon("illuminance", 1000))
    bench.wait_us(820_000)
    assert word(i2c, 0x01) & 0x80
    assert chip.samples == len(bench.log) == 2


def test_a_single_conversion_ends_in_shut_down():
    bench = Bench()
    chip, i2c = powered(bench)
    i2c.writeto_mem(ADDRESS, 0x01, SINGLE_100)
    bench.wait_us(113_000)
    config = word(i2c, 0x01)
    assert config & 0x80 and not config & 0x0600
    bench.wait_us(1_000_000)
    word(i2c, 0x01)
    assert chip.samples == 1


def test_more_than_full_scale_saturates_with_the_overflow_flag():
    bench = Bench()
    _, i2c = powered(bench, lux=120_000.0)
    i2c.writeto_mem(ADDRESS, 0x01, CONTINUOUS_800)
    bench.wait_us(900_000)
    assert word(i2c, 0x00) == 0xBFFF
    assert word(i2c, 0x01) & 0x0100


def test_limits_raise_their_flags():
    bench = Bench()
    _, i2c = powered(bench, lux=1000.0)
    i2c.writeto_mem(ADDRESS, 0x03, (0x0FFF).to_bytes(2, "big"))  # 40.95 lx
    i2c.writeto_mem(ADDRESS, 0x01, CONTINUOUS_800)
    bench.wait_us(900_000)
    assert word(i2c, 0x01) & 0x60 == 0x40
    i2c.writeto_mem(ADDRESS, 0x02, (0xBFFF).to_bytes(2, "big"))
    bench.wait_us(900_000)
    assert word(i2c, 0x01) & 0x60 == 0x60  # above the one and below the other


def test_latched_limit_flags_stay_until_they_are_read_others_follow_the_light():
    for setting, after in ((0xCC10, 0x40), (0xCC00, 0x00)):
        bench = Bench()
        light = {"illuminance": 1000.0}
        i2c = bench.i2c(OPT3001(lambda t_us, light=light: light, bench.record))
        i2c.writeto_mem(ADDRESS, 0x03, (0x0FFF).to_bytes(2, "big"))
        i2c.writeto_mem(ADDRESS, 0x01, setting.to_bytes(2, "big"))
        bench.wait_us(850_000)
        i2c.scan()
        light["illuminance"] = 10.0
        bench.wait_us(850_000)
        assert word(i2c, 0x01) & 0x60 == after
        bench.wait_us(850_000)
        assert word(i2c, 0x01) & 0x60 == 0


def test_a_new_command_clears_conversion_ready():
    bench = Bench()
    _, i2c = powered(bench)
    i2c.writeto_mem(ADDRESS, 0x01, SINGLE_100)
    bench.wait_us(113_000)
    i2c.writeto_mem(ADDRESS, 0x01, SINGLE_100)
    assert not word(i2c, 0x01) & 0x80
    bench.wait_us(113_000)
    assert word(i2c, 0x01) & 0x80


def test_identity_registers_cannot_be_written():
    bench = Bench()
    _, i2c = powered(bench)
    i2c.writeto_mem(ADDRESS, 0x7F, b"\x00\x00")
    assert word(i2c, 0x7F) == 0x3001
