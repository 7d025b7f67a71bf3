"""Light over decades, and light that changes: gain and time follow, a saturated sample is never a number, each number is as fine as the
model says of the setting in use. And the heater of the SHT45: no warmed value is delivered."""

import errno
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from chip_bench import Bench, BenchI2C

from drivers import as7331, sht45, veml7700
from drivers.errors import HEATER_ON, BusError
from sim.chips.as7331 import AS7331
from sim.chips.sht45 import SHT45
from sim.chips.veml7700 import VEML7700

pytestmark = pytest.mark.timeout(60)

COOL = {"temperature_uv": 298.15}


def sun(uva: float) -> dict[str, float]:
    """Light with the proportions of the sun's."""
    return COOL | {"uva": uva, "uvb": uva * 0.03, "uvc": uva * 0.0005}


def follow(driver_class: Any, chip_class: Any, source: Callable[[int], Mapping[str, float]], seconds: int, **options: Any) -> list[Any]:
    """[(raw, trim, the chip's newest truth)] of every sample of `seconds`."""
    bench = Bench()
    driver = driver_class(bench.i2c(chip_class(source, bench.record)), **options)
    driver.start(0)
    raw, found = bytearray(16), []
    for now in range(0, seconds * 1000, 10):
        if driver.poll(now):
            size = driver.read_into(raw)
            found.append((bytes(raw[:size]), driver.trim(), bench.log[-1]))
        bench.wait_us(10_000)
    return found


@pytest.mark.parametrize("uva", [0.0003, 0.001, 0.01, 0.1, 0.5, 1.0, 3.0, 10.0, 30.0, 55.0, 100.0, 300.0, 1000.0, 3000.0])
def test_uv_of_every_decade_settles_where_it_is_resolved(uva: float) -> None:
    samples = follow(as7331.AS7331, AS7331, lambda t_us: sun(uva), 16)
    raw, trim, (_, _, truth) = samples[-1]
    decoded = as7331.decode(trim, raw)
    for quantity, true in truth.items():
        value = decoded[quantity]
        assert isinstance(value, float), (quantity, value)
        assert abs(value - true) <= AS7331.epsilon(quantity, true, raw[10]) * 1.001
    counts = raw[4] | raw[5] << 8
    assert counts <= 0.8 * 65536 + 1 or raw[10] == 0xB6
    assert counts >= 0.05 * 65536 - 1 or raw[10] == 0x06, "resolved to 1/3000 unless the gain is at its end"
    assert AS7331.epsilon("uva", uva, raw[10]) <= max(uva / 3000, 1.4e-5)


def test_out_of_a_tunnel_costs_one_saturated_sample_and_no_wrong_number() -> None:
    samples = follow(as7331.AS7331, AS7331, lambda t_us: sun(60.0 if t_us > 20_500_000 else 0.002), 40)
    values = [(as7331.decode(trim, raw)["uva"], truth["uva"], raw[10]) for raw, trim, (_, _, truth) in samples]
    assert [value for value, *_ in values if isinstance(value, str)] == ["saturated"]
    for value, true, creg1 in values:
        if isinstance(value, float):
            assert abs(value - true) <= AS7331.epsilon("uva", true, creg1) * 1.001
    assert len(values) >= 39


def test_nothing_is_sent_to_the_uv_chip_while_it_converts() -> None:
    bench = Bench()
    chip = AS7331(lambda t_us: sun(30.0), bench.record)
    busy = []
    start = chip.start

    def watched(read: bool) -> bool:
        busy.append(chip._due is not None)
        return start(read)

    chip.start = watched  # type: ignore[method-assign]
    driver = as7331.AS7331(bench.i2c(chip))
    driver.start(0)
    raw = bytearray(11)
    for now in range(0, 10_000, 5):
        if driver.poll(now):
            driver.read_into(raw)
        bench.wait_us(5_000)
    assert chip.samples == 10 and len(busy) > 60 and not any(busy)


@pytest.mark.parametrize("lux", [0.0, 0.1, 1.0, 10.0, 100.0, 700.0, 990.0, 1_080.0, 5_000.0, 20_000.0, 60_000.0, 100_000.0, 139_000.0])
def test_illuminance_of_every_decade_settles_where_it_is_resolved(lux: float) -> None:
    samples = follow(veml7700.VEML7700, VEML7700, lambda t_us: {"illuminance": lux}, 9)
    raw, trim, _ = samples[-1]
    value = veml7700.decode(trim, raw)["illuminance"]
    assert isinstance(value, float)
    conf = raw[2] | raw[3] << 8
    assert abs(value - lux) <= VEML7700.epsilon("illuminance", lux, conf) * 1.001 + 1e-9
    counts = raw[0] | raw[1] << 8
    assert counts <= 0.8 * 65536 + 1 and (counts >= 0.05 * 65536 - 1 or conf == 0x0880)


@pytest.mark.parametrize("lux", [145_000.0, 300_000.0, 10_000_000.0])
def test_more_light_than_the_veml7700_can_tell_is_saturated(lux: float) -> None:
    for raw, trim, _ in follow(veml7700.VEML7700, VEML7700, lambda t_us: {"illuminance": lux}, 5):
        assert veml7700.decode(trim, raw) == {"illuminance": "saturated"}


def test_light_that_jumps_is_never_read_with_the_setting_before() -> None:
    steps = [0.5, 80_000.0, 3.0, 900.0, 120_000.0, 40.0, 2_000.0, 0.1]
    samples = follow(veml7700.VEML7700, VEML7700, lambda t_us: {"illuminance": steps[int(t_us / 4.3e6) % len(steps)]}, 35)
    numbers = 0
    for raw, trim, (_, _, truth) in samples:
        value = veml7700.decode(trim, raw)["illuminance"]
        if isinstance(value, float):
            numbers += 1
            allowed = VEML7700.epsilon("illuminance", truth["illuminance"], raw[2] | raw[3] << 8)
            assert abs(value - truth["illuminance"]) <= allowed * 1.001
        else:
            assert value == "saturated"
    assert numbers >= 28


def test_the_heater_dries_a_wet_chip_and_no_warmed_value_is_delivered() -> None:
    bench = Bench()
    chip = SHT45(lambda t_us: {"temperature": 281.15, "humidity": 98.0}, bench.record)
    driver = sht45.SHT45(bench.i2c(chip), heater=True)
    driver.start(0)
    raw, times, gaps = bytearray(6), [], []
    for now in range(0, 1_150_000, 50):
        if driver.poll(now):
            driver.read_into(raw)
            decoded = sht45.decode(driver.trim(), bytes(raw))
            assert abs(decoded["temperature"] - 281.15) <= SHT45.EPSILON["temperature"] * 1.01
            assert abs(decoded["humidity"] - 98.0) <= SHT45.EPSILON["humidity"] * 1.01
            times.append(now)
        if driver.gap_reason:
            gaps.append((now, driver.gap_reason, driver.degraded))
            driver.gap_reason = 0
        bench.wait_us(50_000)
    assert chip.pulses == len(gaps) == 3 and driver.degraded == 0
    for begin, reason, degraded in gaps:
        assert reason == degraded == HEATER_ON
        assert not [time for time in times if begin <= time < begin + 61_000]
    assert sum(begin < 1_150_000 for begin, *_ in gaps) * 1.0 / 1150 <= 0.10  # the heater's duty
    assert min(later - earlier for (earlier, *_), (later, *_) in zip(gaps, gaps[1:], strict=False)) >= 300_000


class Unanswered:
    """machine.I2C's methods; the heater's command reaches the chip, and is a time-out here, `times` times."""

    def __init__(self, i2c: BenchI2C, times: int) -> None:
        self._i2c = i2c
        self._times = times
        self.heated = False
        self.readfrom_into = i2c.readfrom_into

    def writeto(self, address: int, buf: bytes) -> int:
        sent = self._i2c.writeto(address, buf)
        if buf == b"\x2f":
            self.heated = True
            if self._times:
                self._times -= 1
                raise OSError(errno.ETIMEDOUT)
        return sent


@pytest.mark.parametrize("trouble", ["the command is a time-out", "the driver is started again", "both"])
def test_trouble_around_the_heaters_pulse_delivers_no_warmed_value(trouble: str) -> None:
    """A bus that another chip holds has the supervisor start the driver again; a time-out does not tell whether the chip has heard."""
    bench = Bench()
    chip = SHT45(lambda t_us: {"temperature": 281.15, "humidity": 98.0}, bench.record)
    bus = Unanswered(bench.i2c(chip), 0 if trouble == "the driver is started again" else 1)
    driver = sht45.SHT45(bus, heater=True)
    driver.start(0)
    raw, times, told, begun, restarted = bytearray(6), [], [], 0, False
    for now in range(0, 400_000, 50):
        try:
            if driver.poll(now):
                driver.read_into(raw)
                decoded = sht45.decode(driver.trim(), bytes(raw))
                assert abs(decoded["temperature"] - 281.15) <= SHT45.EPSILON["temperature"] * 1.01, f"{trouble}: warmed, at {now}"
                times.append(now)
        except (BusError, OSError):
            assert trouble != "the driver is started again"
        if driver.gap_reason:
            told.append(driver.gap_reason)
            driver.gap_reason = 0
        if bus.heated and not begun:
            begun = now
        if begun and now == begun + 5000 and trouble != "the command is a time-out":
            driver.start(now)
            restarted = True
        if begun and begun + 6000 < now < begun + 50_000:
            assert driver.degraded == HEATER_ON
        bench.wait_us(50_000)
    assert chip.pulses == 1 and told and set(told) == {HEATER_ON} and driver.degraded == 0
    assert restarted == (trouble != "the command is a time-out")
    assert not [time for time in times if begun <= time < begun + 59_000] and times[-1] > 399_000


def test_a_warmed_value_would_be_seen() -> None:
    """The model warms, so the test above proves something: a driver that measured at once after the pulse would be several kelvin off."""
    bench = Bench()
    i2c = bench.i2c(SHT45(lambda t_us: {"temperature": 281.15, "humidity": 98.0}, bench.record))
    i2c.writeto(0x44, b"\x2f")
    bench.wait_us(1_200_000)
    i2c.writeto(0x44, b"\xfd")
    bench.wait_us(10_000)
    decoded = sht45.decode(bytes(4), i2c.readfrom(0x44, 6))
    assert decoded["temperature"] > 286.0 and decoded["humidity"] < 80.0
