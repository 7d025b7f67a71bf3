"""SHT45 model. Vectors: facts/sensors-and-head.md 1.1 and 1.4 (Sensirion's CRC test, Linux sht4x.c, Zephyr sht4x.c)."""

import pytest
from chip_bench import Bench, BenchI2C

from sim.chips.checksums import crc8
from sim.chips.sht45 import SHT45

ADDRESS = 0x44


def powered(bench: Bench, celsius: float = 25.0, percent: float = 50.0) -> tuple[SHT45, BenchI2C]:
    chip = SHT45(lambda t_us: {"temperature": celsius + 273.15, "humidity": percent}, bench.record)
    return chip, bench.i2c(chip)


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        ("BEEF", 0x92),
        ("0000", 0x81),
        ("0300", 0xAC),
        ("0500", 0xF6),
        ("FFFF", 0xAC),
        ("6667", 0xA2),
        ("8000", 0xA2),
        ("6400", 0x57),
        ("5EB8", 0x0D),
    ],
)
def test_the_crc_is_sensirions(data, crc):
    assert crc8(bytes.fromhex(data)) == crc


@pytest.mark.parametrize(
    ("celsius", "percent", "reply"),
    [
        (25.00267, 56.50095, "6667A28000A2"),
        (85.5230, 87.2307, "BEEF92BEEF92"),
        (23.36042, 40.2501, "6400575EB80D"),
        (-45.0, -6.0, "000081000081"),
        (130.0, 119.0, "FFFFACFFFFAC"),
        (200.0, 150.0, "FFFFACFFFFAC"),
    ],
)
def test_temperature_and_humidity_become_the_reply_of_the_vectors(celsius, percent, reply):
    bench = Bench()
    _, i2c = powered(bench, celsius, percent)
    i2c.writeto(ADDRESS, b"\xfd")
    bench.wait_us(10_000)
    assert i2c.readfrom(ADDRESS, 6) == bytes.fromhex(reply)


@pytest.mark.parametrize(("command", "microseconds"), [(0xFD, 8_300), (0xF6, 5_000), (0xE0, 2_000)])
def test_while_it_measures_it_acknowledges_nothing(command, microseconds):
    bench = Bench()
    chip, i2c = powered(bench)
    i2c.writeto(ADDRESS, bytes([command]))
    bench.wait_us(microseconds - 1)
    for attempt in (lambda: i2c.readfrom(ADDRESS, 6), lambda: i2c.writeto(ADDRESS, b"\xfd")):
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == 5
    bench.wait_us(1)
    assert len(i2c.readfrom(ADDRESS, 6)) == 6
    assert chip.samples == 1
    assert bench.log == [("sht45", microseconds, {"temperature": 298.15, "humidity": 50.0})]


def test_a_reply_can_be_read_once():
    bench = Bench()
    _, i2c = powered(bench)
    i2c.writeto(ADDRESS, b"\xfd")
    bench.wait_us(10_000)
    i2c.readfrom(ADDRESS, 6)
    with pytest.raises(OSError):
        i2c.readfrom(ADDRESS, 6)


def test_the_serial_number_has_two_words_with_crc():
    bench = Bench()
    _, i2c = powered(bench)
    i2c.writeto(ADDRESS, b"\x89")
    bench.wait_us(999)
    with pytest.raises(OSError):
        i2c.readfrom(ADDRESS, 6)
    bench.wait_us(1)
    reply = i2c.readfrom(ADDRESS, 6)
    assert reply[:2] + reply[3:5] == bytes.fromhex("0f1e2d3c")
    assert (crc8(reply[:2]), crc8(reply[3:5])) == (reply[2], reply[5])


def test_an_unknown_command_is_not_acknowledged():
    bench = Bench()
    _, i2c = powered(bench)
    with pytest.raises(OSError):
        i2c.writeto(ADDRESS, b"\x00")


def test_a_reset_forgets_the_reply():
    bench = Bench()
    _, i2c = powered(bench)
    i2c.writeto(ADDRESS, b"\xfd")
    bench.wait_us(10_000)
    i2c.writeto(ADDRESS, b"\x94")
    bench.wait_us(999)
    assert i2c.scan() == []  # deaf for 1 ms
    bench.wait_us(1)
    assert i2c.scan() == [ADDRESS]
    with pytest.raises(OSError):
        i2c.readfrom(ADDRESS, 6)


@pytest.mark.parametrize(
    ("command", "microseconds", "kelvin"),
    [
        (0x39, 1_100_000, 13.3),
        (0x2F, 1_100_000, 7.3),
        (0x1E, 1_100_000, 1.33),
        (0x32, 110_000, 1.48),
        (0x24, 110_000, 0.81),
        (0x15, 110_000, 0.15),
    ],
)
def test_the_heater_warms_the_chip_which_then_reads_dryer(command, microseconds, kelvin):
    bench = Bench()
    chip, i2c = powered(bench, celsius=10.0, percent=98.0)
    i2c.writeto(ADDRESS, bytes([command]))
    bench.wait_us(microseconds - 1)
    with pytest.raises(OSError):
        i2c.readfrom(ADDRESS, 6)
    bench.wait_us(1)
    warm, dry = reading(i2c)
    assert warm - 10.0 == pytest.approx(kelvin, rel=0.05)
    assert dry == pytest.approx(98.0 * saturation(10.0) / saturation(warm), abs=0.01)
    assert chip.pulses == 1
    assert bench.log == [("sht45", microseconds, {"temperature": 283.15, "humidity": 98.0})]


def test_the_chip_cools_down_and_pulses_add_up():
    bench = Bench()
    chip, i2c = powered(bench, celsius=10.0, percent=98.0)
    warmth = []
    for command, wait in ((0x2F, 1_100_000), (0x2F, 1_100_000), (0xFD, 4_000_000), (0xFD, 60_000_000)):
        bench.wait_us(wait if command == 0xFD else 0)
        i2c.writeto(ADDRESS, bytes([command]))
        bench.wait_us(10_000 if command == 0xFD else wait)
        warmth.append(reading(i2c)[0] - 10.0)
    first, second, later, cold = warmth
    assert first < second < 2 * first
    assert later == pytest.approx(second / 2.718, rel=0.05)
    assert cold == pytest.approx(0.0, abs=175 / 65535)
    assert chip.pulses == 2


def reading(i2c: BenchI2C) -> tuple[float, float]:
    reply = i2c.readfrom(ADDRESS, 6)
    return -45 + 175 * int.from_bytes(reply[:2], "big") / 65535, -6 + 125 * int.from_bytes(reply[3:5], "big") / 65535


def saturation(celsius: float) -> float:
    return 10 ** (7.652 * celsius / (243.12 + celsius))  # the Magnus form again, to base 10
