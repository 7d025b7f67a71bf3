"""The ICM-20948's driver on CPython and on MicroPython; icm20948_on_host.py takes too long there, or asks what only CPython can say."""

import math
from collections.abc import Callable

import both_interpreters as both
import pytest
from chip_bench import Bench, steady

from drivers import icm20948
from sim.chips import icm20948 as chips


@both.each_check(__file__, "icm20948_on_both.py", "icm20948_costs_on_both.py")
def test_driver_on_both_interpreters(run: Callable[[], None]) -> None:
    run()


@both.each_check(__file__, "icm20948_on_host.py", on=["cpython"])
def test_driver_on_the_host_alone(run: Callable[[], None]) -> None:
    run()


@pytest.mark.parametrize(("acceleration_g", "rate_dps"), [(2, 250), (4, 500), (8, 1000), (16, 2000)])
def test_in_every_range_the_chip_of_the_simulation_comes_back_within_half_a_step(acceleration_g: int, rate_dps: int) -> None:
    bench = Bench()
    g, degree = 9.80665, math.radians(1)
    world = {
        "acceleration_x": 0.9 * acceleration_g * g,
        "acceleration_y": -0.5 * acceleration_g * g,
        "acceleration_z": 1.1 * acceleration_g * g,
    }
    world |= {
        "angular_rate_x": 0.9 * rate_dps * degree,
        "angular_rate_y": -0.3 * rate_dps * degree,
        "angular_rate_z": -1.1 * rate_dps * degree,
    }
    world |= {"magnetic_field_x": 30e-6, "magnetic_field_y": -20e-6, "magnetic_field_z": 10e-6, "temperature_imu": 310.0}
    chip = chips.ICM20948(steady(world), bench.record)
    driver = icm20948.ICM20948(bench.i2c(chip), acceleration_g=acceleration_g, rate_dps=rate_dps)
    raw = bytearray(230)
    size = now = 0
    while not size:
        now += 10
        bench.wait_us(10_000)
        size = driver.read_into(raw) if driver.poll(now) else 0
    values = icm20948.decode(driver.trim(), bytes(raw[size - 23 : size]))
    assert values.pop("acceleration_z") == values.pop("angular_rate_z") == "saturated"
    for name, value in values.items():
        step = {"a": acceleration_g * g / 32768, "m": 0.15e-6, "t": 1 / 333.87}[name[0]]
        if name.startswith("angular"):
            step = degree / {250: 131, 500: 65.5, 1000: 32.8, 2000: 16.4}[rate_dps]
        assert value == pytest.approx(world[name], abs=step * 0.5001), name


def test_a_magnetometer_that_leaves_the_chips_own_bus_gives_no_old_field() -> None:
    bench = Bench()
    world = dict.fromkeys(chips.ICM20948.EPSILON, 0.0) | {"magnetic_field_x": 30e-6, "temperature_imu": 300.0}
    chip = chips.ICM20948(steady(world), bench.record)
    driver = icm20948.ICM20948(bench.i2c(chip))
    raw = bytearray(230)
    fields: list[float | str] = []
    for now in range(0, 4_000, 10):
        bench.wait_us(10_000)
        if now == 1_000:
            chip.magnetometer.address = 0x0D  # slave 0 finds nobody
            there = chip.samples
        if driver.poll(now):
            size = driver.read_into(raw)
            frames = [bytes(raw[at : at + 23]) for at in range(0, size, 23)]
            fields += [icm20948.decode(driver.trim(), frame)["magnetic_field_x"] for frame in frames]
    assert fields[10] == pytest.approx(30e-6) and set(fields[there:]) == {"no new sample"} and len(fields) > there + 250
    assert driver.degraded and driver.gap_reason == 0
