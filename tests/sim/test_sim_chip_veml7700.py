"""VEML7700 model. Vectors: facts/sensors-and-head.md 1.6 (eldruin/veml6030-rs, Linux veml6030.c, data sheet rev. 1.7)."""

import random

import pytest
from chip_bench import Bench, BenchI2C

from sim.chips.veml7700 import VEML7700

ADDRESS = 0x10
ALS, WHITE = 4, 5
EIGHTH_100, ONCE_100, TWICE_800, TWICE_400 = 0x1000, 0x0000, 0x08C0, 0x0880


def powered(bench: Bench, lux: float = 500.0) -> tuple[VEML7700, BenchI2C]:
    chip = VEML7700(lambda t_us: {"illuminance": lux}, bench.record)
    return chip, bench.i2c(chip)


def write(i2c: BenchI2C, register: int, value: int) -> None:
    i2c.writeto_mem(ADDRESS, register, value.to_bytes(2, "little"))


def word(i2c: BenchI2C, register: int) -> int:
    return int.from_bytes(i2c.readfrom_mem(ADDRESS, register, 2), "little")


def test_after_power_on_it_sleeps_and_measures_nothing():
    bench = Bench()
    chip, i2c = powered(bench)
    bench.wait_us(2_000_000)
    assert [word(i2c, register) for register in range(7)] == [1, 0, 0, 0, 0, 0, 0]
    assert chip.samples == 0


@pytest.mark.parametrize(
    ("conf", "lux", "counts"),
    [(TWICE_800, 42.0, 10_000), (ONCE_100, 672.0, 10_000), (EIGHTH_100, 537.6, 1_000), (0x1B00, 107.52, 100), (0x1300, 215.04, 100)],
)
def test_the_counts_are_those_of_the_gain_and_time(conf, lux, counts):
    bench = Bench()
    _, i2c = powered(bench, lux)
    write(i2c, 0, conf)
    bench.wait_us(900_000)
    assert word(i2c, ALS) == word(i2c, WHITE) == counts


def test_above_1000_lx_it_sees_less_than_there_is():
    bench = Bench()
    _, i2c = powered(bench, 1658.0)
    write(i2c, 0, EIGHTH_100)
    bench.wait_us(200_000)
    assert word(i2c, ALS) * 0.5376 == pytest.approx(1500.0, abs=1.0)


def test_any_light_comes_back_within_the_declared_epsilon():
    random.seed(7700)
    for _ in range(60):
        lux = 10 ** random.uniform(-1, 5.146)
        bench = Bench()
        _, i2c = powered(bench, lux)
        write(i2c, 0, EIGHTH_100)
        bench.wait_us(200_000)
        x = word(i2c, ALS) * 0.5376
        read = x if x <= 1000.0 else 6.0135e-13 * x**4 - 9.3924e-9 * x**3 + 8.1488e-5 * x**2 + 1.0023 * x
        assert read == pytest.approx(lux, abs=VEML7700.epsilon("illuminance", lux, EIGHTH_100) * 1.0001)
        assert VEML7700.epsilon("illuminance", lux) <= VEML7700.EPSILON["illuminance"]


def test_an_integration_ends_after_wake_up_and_its_time_and_repeats():
    bench = Bench()
    chip, i2c = powered(bench)
    write(i2c, 0, ONCE_100)
    bench.wait_us(107_700)  # wake-up 2.5 ms, then 100 ms of an oscillator that is 5 % slow
    assert word(i2c, ALS) == 0 and chip.samples == 0
    bench.wait_us(100)
    assert word(i2c, ALS) == 7440 and chip.samples == 1
    bench.wait_us(105_300)
    word(i2c, ALS)
    assert chip.samples == 2 and len(bench.log) == 2


def test_a_setting_counts_from_the_next_integration_on():
    bench = Bench()
    _, i2c = powered(bench, 500.0)
    write(i2c, 0, ONCE_100)
    bench.wait_us(60_000)
    write(i2c, 0, EIGHTH_100)
    bench.wait_us(60_000)
    assert word(i2c, ALS) == 7440
    bench.wait_us(110_000)
    assert word(i2c, ALS) == 930


def test_shut_down_ends_the_integration_and_keeps_the_counts():
    bench = Bench()
    chip, i2c = powered(bench)
    write(i2c, 0, ONCE_100)
    bench.wait_us(120_000)
    write(i2c, 0, ONCE_100 | 1)
    bench.wait_us(1_000_000)
    assert word(i2c, ALS) == 7440 and chip.samples == 1


def test_too_much_light_fills_the_counter():
    bench = Bench()
    _, i2c = powered(bench, 2_500.0)
    write(i2c, 0, TWICE_400)
    bench.wait_us(500_000)
    assert word(i2c, ALS) == 0xFFFF


def test_results_cannot_be_written_and_thresholds_hold_what_is_written():
    bench = Bench()
    _, i2c = powered(bench)
    write(i2c, ALS, 1234)
    write(i2c, 1, 0x5AC3)
    assert word(i2c, ALS) == 0 and word(i2c, 1) == 0x5AC3
