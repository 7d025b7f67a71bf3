"""AS7331 model. Vectors: facts/sensors-and-head.md 1.7 (Linux as73211.c and SparkFun's equation 3 agree: 348160 µW/cm² for UV-A)."""

import random
import struct

import pytest
from chip_bench import Bench, BenchI2C

from sim.chips.as7331 import AS7331

ADDRESS = 0x74
LIGHT = {"uva": 30.0, "uvb": 1.5, "uvc": 0.0, "temperature_uv": 323.15}
GAIN_2X_64_MS, GAIN_1X_64_MS, GAIN_2048X_64_MS = 0xA6, 0xB6, 0x06


def powered(bench: Bench, light=None) -> tuple[AS7331, BenchI2C]:
    chip = AS7331(lambda t_us: LIGHT | (light or {}), bench.record)
    return chip, bench.i2c(chip)


def configure(i2c: BenchI2C, creg1: int, creg2: int = 0x40, creg3: int = 0x40) -> None:
    i2c.writeto_mem(ADDRESS, 0x00, b"\x0a")
    i2c.writeto_mem(ADDRESS, 0x06, bytes([creg1, creg2, creg3]))


def measure(bench: Bench, i2c: BenchI2C) -> tuple[int, ...]:
    i2c.writeto_mem(ADDRESS, 0x00, b"\x83")
    bench.wait_us(90_000)
    return struct.unpack("<5H", i2c.readfrom_mem(ADDRESS, 0x00, 10))


def test_in_configuration_state_the_registers_are_bytes_with_their_power_on_values():
    bench = Bench()
    _, i2c = powered(bench)
    assert i2c.readfrom_mem(ADDRESS, 0x00, 1) == b"\x42"
    assert i2c.readfrom_mem(ADDRESS, 0x02, 1) == b"\x21"
    assert i2c.readfrom_mem(ADDRESS, 0x06, 6) == bytes.fromhex("a64050190173")


def test_the_same_address_means_something_else_in_measurement_state():
    bench = Bench()
    _, i2c = powered(bench)
    configure(i2c, GAIN_2X_64_MS)
    measure(bench, i2c)
    assert i2c.readfrom_mem(ADDRESS, 0x02, 2) != b"\x21\x06"
    i2c.writeto_mem(ADDRESS, 0x06, b"\x00")  # no configuration register here
    i2c.writeto_mem(ADDRESS, 0x00, b"\x02")
    assert i2c.readfrom_mem(ADDRESS, 0x06, 1) == bytes([GAIN_2X_64_MS])
    assert i2c.readfrom_mem(ADDRESS, 0x02, 1) == b"\x21"


@pytest.mark.parametrize(
    ("creg1", "milliwatt_per_square_meter", "counts"),
    [
        (GAIN_1X_64_MS, 3481546.9, 65535),  # 65535 at 1x, 64 ms is 348154.7 µW/cm²
        (GAIN_2X_64_MS, 531250.0, 20000),
        (GAIN_2048X_64_MS, 9.987, 385),
        (0x96, 13281.25, 1000),  # 4x
    ],
)
def test_uva_becomes_the_counts_of_equation_3(creg1, milliwatt_per_square_meter, counts):
    bench = Bench()
    _, i2c = powered(bench, {"uva": milliwatt_per_square_meter / 1000})
    configure(i2c, creg1)
    assert measure(bench, i2c)[2] == counts


def test_temperature_is_a_twentieth_of_a_degree_from_minus_66_9():
    bench = Bench()
    _, i2c = powered(bench)
    configure(i2c, GAIN_2X_64_MS)
    assert measure(bench, i2c)[1] == 0x922
    _, i2c = powered(bench, {"temperature_uv": 298.15})
    configure(i2c, GAIN_2X_64_MS)
    assert measure(bench, i2c)[1] == 1838


def test_any_irradiance_comes_back_within_the_declared_epsilon():
    random.seed(7331)
    for _ in range(40):
        light = {name: random.uniform(*AS7331.RANGE[name]) for name in AS7331.RANGE}
        bench = Bench()
        _, i2c = powered(bench, light)
        configure(i2c, GAIN_1X_64_MS)
        status, temperature, *counts = measure(bench, i2c)
        assert not status >> 8 & 0xE0
        for name, value, full_scale in zip(("uva", "uvb", "uvc"), counts, (348160, 387072, 169984), strict=True):
            assert value * full_scale / (64 * 1024) * 0.01 == pytest.approx(light[name], abs=AS7331.EPSILON[name])
        assert temperature * 0.05 - 66.9 + 273.15 == pytest.approx(light["temperature_uv"], abs=AS7331.EPSILON["temperature_uv"] + 1e-9)


@pytest.mark.parametrize("creg1", [GAIN_2048X_64_MS, 0x36, 0x76, GAIN_2X_64_MS, 0xB3])
def test_half_a_step_of_the_gain_and_time_in_use_is_the_epsilon(creg1):
    random.seed(creg1)
    for _ in range(10):
        share = 10 ** random.uniform(-3, -0.01) / (1 << 11 - (creg1 >> 4))
        light = {"uva": 3481.60 * share, "uvb": 3870.72 * share, "uvc": 1699.84 * share}
        bench = Bench()
        _, i2c = powered(bench, light)
        configure(i2c, creg1)
        status, _, *counts = measure(bench, i2c)
        assert not status >> 8 & 0xE0
        for name, value, microwatt in zip(("uva", "uvb", "uvc"), counts, (340.0, 378.0, 166.0), strict=True):  # Linux: at 1 ms and 1x
            read = value * microwatt * 0.01 / (1 << 11 - (creg1 >> 4)) / (1 << (creg1 & 15))
            assert read == pytest.approx(light[name], abs=AS7331.epsilon(name, light[name], creg1) * 1.0001)
            assert AS7331.epsilon(name, light[name], creg1) <= AS7331.EPSILON[name] * (1 << max(0, 6 - (creg1 & 15)))


def test_a_conversion_is_not_ready_for_its_time_and_wake_up_then_has_new_data_once():
    bench = Bench()
    chip, i2c = powered(bench)
    configure(i2c, GAIN_2X_64_MS)
    i2c.writeto_mem(ADDRESS, 0x00, b"\x83")  # out of power-down: 2 ms, then 64 ms of an oscillator that is 5 % slow
    bench.wait_us(69_300)
    assert i2c.readfrom_mem(ADDRESS, 0x00, 2)[1] & 0x0C == 0x04
    bench.wait_us(100)
    osr, status = i2c.readfrom_mem(ADDRESS, 0x00, 2)
    assert status & 0x0C == 0x08
    assert osr == 0x03  # start has cleared itself
    i2c.readfrom_mem(ADDRESS, 0x01, 8)
    assert i2c.readfrom_mem(ADDRESS, 0x00, 2)[1] & 0x18 == 0
    assert chip.samples == 1 and [name for name, _, _ in bench.log] == ["as7331"]
    i2c.writeto_mem(ADDRESS, 0x00, b"\x83")  # awake now
    bench.wait_us(67_400)
    assert i2c.readfrom_mem(ADDRESS, 0x00, 2)[1] & 0x0C == 0x08
    assert i2c.readfrom_mem(ADDRESS, 0x05, 4) == bytes.fromhex("00000100")  # OUTCONV: 65536 clocks


def test_results_that_were_not_read_are_reported_lost():
    bench = Bench()
    _, i2c = powered(bench)
    configure(i2c, GAIN_2X_64_MS, creg3=0x00)  # continuous
    i2c.writeto_mem(ADDRESS, 0x00, b"\x83")
    bench.wait_us(300_000)
    assert i2c.readfrom_mem(ADDRESS, 0x00, 2)[1] & 0x18 == 0x18


def test_continuous_conversions_are_a_break_apart():
    bench = Bench()
    chip, i2c = powered(bench)
    configure(i2c, 0xA0, creg3=0x00)  # 1 ms
    i2c.writeto_mem(ADDRESS, 0x00, b"\x83")
    bench.wait_us(200_000)
    i2c.readfrom_mem(ADDRESS, 0x00, 2)
    assert chip.samples == pytest.approx(198_000 / (1000 / 0.95 + 0x19 * 8), abs=1)


def test_too_much_light_is_flagged_and_clipped():
    bench = Bench()
    _, i2c = powered(bench, {"uva": 2000.0})
    configure(i2c, GAIN_2X_64_MS)
    status, _, uva, *_ = measure(bench, i2c)
    assert status >> 8 & 0x60 == 0x60
    assert uva == 0xFFFF
    for share, flags in ((0.9999, 0x00), (1.00001, 0x60)):
        _, i2c = powered(bench, {"uva": 3481.60 / 2 * share})
        configure(i2c, GAIN_2X_64_MS)
        assert measure(bench, i2c)[0] >> 8 & 0x60 == flags
    _, i2c = powered(bench, {"uva": 3481.60 / 2 * 1.001})
    configure(i2c, GAIN_2X_64_MS, creg2=0x48)  # halved, the result has room: only the converter is full
    assert measure(bench, i2c)[0] >> 8 & 0x60 == 0x20


def test_powered_down_it_measures_nothing_and_says_so():
    bench = Bench()
    chip, i2c = powered(bench)
    configure(i2c, GAIN_2X_64_MS)
    i2c.writeto_mem(ADDRESS, 0x00, b"\xc3")
    bench.wait_us(500_000)
    assert i2c.readfrom_mem(ADDRESS, 0x00, 2)[1] & 0x0D == 0x01
    assert chip.samples == 0


def test_standby_shows_between_measurements():
    bench = Bench()
    _, i2c = powered(bench)
    configure(i2c, GAIN_2X_64_MS, creg3=0x50)
    status = measure(bench, i2c)[0] >> 8
    assert status & 0x02


def test_the_divider_halves_the_counts():
    bench = Bench()
    _, i2c = powered(bench, {"uva": 531.25})
    configure(i2c, GAIN_2X_64_MS, creg2=0x48)
    assert measure(bench, i2c)[2] == 10000
