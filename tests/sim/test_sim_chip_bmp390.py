"""BMP390 model. Vectors: facts/sensors-and-head.md 1.9 (Bosch's C code compiled and run for this project)."""

import random
import struct

import pytest
from chip_bench import Bench, BenchI2C

from sim.chips.bmp390 import BMP390, NVM, Compensation

ADDRESS = 0x77
OTHER_NVM = bytes.fromhex("ff6d3649f6b3fb34f41401d962ee74fcfa82370bd9")
GOLDEN = [
    (NVM, 6815744, 8388608, 23.427346, 98941.2560),
    (NVM, 7400000, 8520000, 25.731332, 90005.0756),
    (NVM, 8388608, 7900000, 14.851968, 71952.3185),
    (OTHER_NVM, 6815744, 8388608, 20.545585, 95389.3078),
    (OTHER_NVM, 7400000, 8520000, 22.827383, 86009.7711),
    (OTHER_NVM, 8388608, 7900000, 12.049488, 67507.3428),
]


def integer_form(nvm: bytes, up: int, ut: int) -> tuple[float, float]:
    """°C and Pa by the data sheet's integer arithmetic: a second reading of it beside the model's floating-point one."""

    def div(a: int, b: int) -> int:  # C truncates toward zero
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)

    t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11 = struct.unpack("<HHbhhbbHHbbhbb", nvm)
    d = ut - 256 * t1
    t = div(t2 * d * 262144 + d * d * t3, 1 << 32)
    square = t * t
    cube = div(div(square, 64) * t, 256)
    offset = p5 * (1 << 47) + div(p8 * cube, 32) + p7 * square * 16 + p6 * t * 4194304
    sensitivity = (p1 - 16384) * (1 << 46) + div(p4 * cube, 32) + p3 * square * 4 + (p2 - 16384) * t * 2097152
    first = div(sensitivity, 1 << 24) * up
    second = div(up * div(div((p10 * t + 65536 * p9) * up, 8192), 10), 512) * 10
    third = div(div(p11 * up * up, 65536) * up, 128)
    return div(t * 25, 16384) / 100, (div(offset, 4) + first + second + third) * 25 // (1 << 40) / 100


def powered(bench: Bench, pascal: float = 101_325.0, kelvin: float = 298.15, nvm: bytes = NVM) -> tuple[BMP390, BenchI2C]:
    chip = BMP390(lambda t_us: {"pressure": pascal, "temperature_barometer": kelvin}, bench.record, nvm=nvm)
    return chip, bench.i2c(chip)


def reading(i2c: BenchI2C) -> tuple[int, int]:
    data = i2c.readfrom_mem(ADDRESS, 0x04, 6)
    return int.from_bytes(data[:3], "little"), int.from_bytes(data[3:], "little")


@pytest.mark.parametrize(("nvm", "up", "ut", "celsius", "pascal"), GOLDEN)
def test_the_compensation_gives_the_golden_values_and_its_inverse_the_golden_counts(nvm, up, ut, celsius, pascal):
    compensation = Compensation(nvm)
    assert compensation.celsius(ut) == pytest.approx(celsius, abs=1e-6)
    assert compensation.pascal(up, compensation.celsius(ut)) == pytest.approx(pascal, abs=1e-3)
    assert compensation.raw_temperature(compensation.celsius(ut)) == ut
    assert compensation.raw_pressure(pascal, compensation.celsius(ut)) == up


@pytest.mark.parametrize("nvm", [NVM, OTHER_NVM])
def test_every_pressure_and_temperature_comes_back_within_the_declared_epsilon(nvm):
    random.seed(390)
    for _ in range(60):
        pascal, kelvin = random.uniform(*BMP390.RANGE["pressure"]), random.uniform(*BMP390.RANGE["temperature_barometer"])
        bench = Bench()
        _, i2c = powered(bench, pascal, kelvin, nvm)
        i2c.writeto_mem(ADDRESS, 0x1B, b"\x13")
        bench.wait_us(50_000)
        up, ut = reading(i2c)
        compensation = Compensation(i2c.readfrom_mem(ADDRESS, 0x31, 21))
        celsius = compensation.celsius(ut)
        assert celsius + 273.15 == pytest.approx(kelvin, abs=BMP390.EPSILON["temperature_barometer"])
        assert compensation.pascal(up, celsius) == pytest.approx(pascal, abs=BMP390.EPSILON["pressure"])
        assert integer_form(nvm, up, ut) == (pytest.approx(kelvin - 273.15, abs=0.01), pytest.approx(pascal, abs=0.04))


def test_after_power_on_it_names_itself_and_sleeps():
    bench = Bench()
    chip, i2c = powered(bench)
    assert i2c.readfrom_mem(ADDRESS, 0x00, 1) == b"\x60"
    assert i2c.readfrom_mem(ADDRESS, 0x10, 1) == b"\x01"
    assert i2c.readfrom_mem(ADDRESS, 0x10, 1) == b"\x00"  # the power-on event clears when read
    assert i2c.readfrom_mem(ADDRESS, 0x04, 6) == bytes.fromhex("000080000080")  # nothing measured yet
    assert i2c.readfrom_mem(ADDRESS, 0x1A, 6) == bytes.fromhex("000002000000")
    assert i2c.readfrom_mem(ADDRESS, 0x12, 3) == bytes.fromhex("000080")  # an empty FIFO
    bench.wait_us(1_000_000)
    assert i2c.readfrom_mem(ADDRESS, 0x03, 1) == b"\x10"
    assert chip.samples == 0


@pytest.mark.parametrize(("osr", "microseconds"), [(0x00, 4_939), (0x03, 18_939), (0x0D, 68_939)])
def test_a_forced_conversion_takes_the_time_of_its_oversampling_and_ends_in_sleep(osr, microseconds):
    # 234 + (392 + 2**osr_p * 2000) + (313 + 2**osr_t * 2000)
    bench = Bench()
    chip, i2c = powered(bench)
    i2c.writeto_mem(ADDRESS, 0x1C, bytes([osr]))
    i2c.writeto_mem(ADDRESS, 0x1B, b"\x13")
    bench.wait_us(microseconds - 1)
    assert i2c.readfrom_mem(ADDRESS, 0x03, 1) == b"\x10"
    bench.wait_us(1)
    assert i2c.readfrom_mem(ADDRESS, 0x03, 1) == b"\x70"
    assert i2c.readfrom_mem(ADDRESS, 0x1B, 1) == b"\x03"
    assert chip.samples == 1 and bench.log[0][1] == microseconds
    assert i2c.readfrom_mem(ADDRESS, 0x11, 1) == b"\x08" and i2c.readfrom_mem(ADDRESS, 0x11, 1) == b"\x00"  # data ready, cleared
    reading(i2c)
    assert i2c.readfrom_mem(ADDRESS, 0x03, 1) == b"\x10"  # data-ready cleared by reading the data


def test_normal_mode_converts_at_its_output_rate_until_it_is_stopped():
    bench = Bench()
    chip, i2c = powered(bench)
    i2c.writeto_mem(ADDRESS, 0x1D, b"\x04")  # 12.5 Hz
    i2c.writeto_mem(ADDRESS, 0x1B, b"\x33")
    bench.wait_us(10_000_000)
    i2c.readfrom_mem(ADDRESS, 0x03, 1)
    assert chip.samples == 125
    i2c.writeto_mem(ADDRESS, 0x1B, b"\x03")
    bench.wait_us(1_000_000)
    i2c.readfrom_mem(ADDRESS, 0x03, 1)
    assert chip.samples == 125


def test_an_output_rate_too_fast_for_the_oversampling_is_a_configuration_error():
    bench = Bench()
    chip, i2c = powered(bench)
    i2c.writeto_mem(ADDRESS, 0x1C, b"\x05")
    i2c.writeto_mem(ADDRESS, 0x1B, b"\x33")
    bench.wait_us(1_000_000)
    assert i2c.readfrom_mem(ADDRESS, 0x02, 1) == b"\x04"
    assert chip.samples == 0


def test_a_soft_reset_forgets_everything_and_takes_no_register_for_2_ms():
    bench = Bench()
    _, i2c = powered(bench)
    i2c.writeto_mem(ADDRESS, 0x1C, b"\x03")
    i2c.writeto_mem(ADDRESS, 0x7E, b"\xb6")
    i2c.writeto_mem(ADDRESS, 0x1C, b"\x05")
    assert i2c.readfrom_mem(ADDRESS, 0x03, 1) == b"\x00"
    bench.wait_us(1_999)
    i2c.writeto_mem(ADDRESS, 0x1C, b"\x05")
    assert i2c.readfrom_mem(ADDRESS, 0x03, 1) == b"\x00"
    bench.wait_us(1)
    assert i2c.readfrom_mem(ADDRESS, 0x03, 1) == b"\x10"
    assert i2c.readfrom_mem(ADDRESS, 0x1C, 1) == b"\x02"
    assert i2c.readfrom_mem(ADDRESS, 0x10, 1) == b"\x01"


def test_sensor_time_counts_25_6_khz():
    bench = Bench()
    _, i2c = powered(bench)
    bench.wait_us(10_000_000)
    assert int.from_bytes(i2c.readfrom_mem(ADDRESS, 0x0C, 3), "little") == 256_000


def test_a_written_burst_is_pairs_of_register_and_value():
    bench = Bench()
    _, i2c = powered(bench)
    i2c.writeto(ADDRESS, b"\x1c\x03\x1d\x02\x1f\x04")
    assert i2c.readfrom_mem(ADDRESS, 0x1C, 4) == b"\x03\x02\x00\x04"


def test_an_unknown_command_is_an_error_that_clears_when_read():
    bench = Bench()
    _, i2c = powered(bench)
    i2c.writeto_mem(ADDRESS, 0x7E, b"\x55")
    assert i2c.readfrom_mem(ADDRESS, 0x02, 1) == b"\x02"
    assert i2c.readfrom_mem(ADDRESS, 0x02, 1) == b"\x00"
