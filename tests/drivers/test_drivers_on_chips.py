"""The contract of every driver with its chip model, over the model's whole range: |decoded − set| <= epsilon, or a reason, never a wrong
number. Driver and model are two independent readings of the datasheet; only this test knows both. CPython here; the same firmware meets
the same models on MicroPython in tests/firmware and tests/e2e."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from chip_bench import Bench, steady

from drivers import as7331, bmp390, icm20948, opt3001, sht45, sps30
from sim.chips.as7331 import AS7331
from sim.chips.bmp390 import BMP390
from sim.chips.icm20948 import ICM20948
from sim.chips.opt3001 import OPT3001
from sim.chips.sht45 import SHT45
from sim.chips.sps30 import SPS30

pytestmark = pytest.mark.timeout(60)

STEPS = 24  # values over each range, its ends included
PATIENCE_MS = 5_000  # simulated: configuration, warm-up and conversion of the slowest chip

CHIPS: list[tuple[ModuleType, type, Any]] = [
    (icm20948, icm20948.ICM20948, ICM20948),
    (bmp390, bmp390.BMP390, BMP390),
    (sht45, sht45.SHT45, SHT45),
    (opt3001, opt3001.OPT3001, OPT3001),
    (as7331, as7331.AS7331, AS7331),
    (sps30, sps30.SPS30, SPS30),
]


def reading(module: ModuleType, driver_class: Callable[[Any], Any], chip_class: Any, values: dict[str, float]) -> dict[str, float | str]:
    """What the driver decodes from the second sample of a chip in a world of `values` (in the first the magnetometer may be late)."""
    bench = Bench()
    chip = chip_class(steady(values), bench.record)
    driver = driver_class(bench.uart(chip) if chip_class is SPS30 else bench.i2c(chip))
    driver.start(0)
    raw = bytearray(16 * driver.RAW_SIZE)
    samples = 0
    for now in range(0, PATIENCE_MS, 5):
        if driver.poll(now):
            length = driver.read_into(raw)
            samples += length // driver.RAW_SIZE
            if samples >= 4 and length:
                decoded = module.decode(driver.trim(), bytes(raw[length - driver.RAW_SIZE : length]))
                if "no new sample" not in decoded.values():
                    return dict(decoded)
        bench.wait_us(5_000)
    raise AssertionError(f"{driver.SENSOR}: no sample within {PATIENCE_MS} ms of its time")


def middle(chip_class: Any) -> dict[str, float]:
    """A world in which all quantities of the chip stand well within their ranges."""
    return {name: low + (high - low) * 0.3 for name, (low, high) in chip_class.RANGE.items()}


@pytest.mark.parametrize(("module", "driver_class", "chip_class"), CHIPS, ids=lambda item: item.SENSOR if hasattr(item, "SENSOR") else "")
def test_every_value_of_the_range_comes_back_within_epsilon_or_as_a_reason(module: ModuleType, driver_class: Any, chip_class: Any) -> None:
    numbers = 0
    for step in range(STEPS):
        share = step / (STEPS - 1)
        values = {name: low + (high - low) * share for name, (low, high) in chip_class.RANGE.items()}
        if chip_class is ICM20948:  # the three axes of the field together have one limit
            values |= {name: value / 3 for name, value in values.items() if name.startswith("magnetic")}
        decoded = reading(module, driver_class, chip_class, values)
        for name, value in values.items():
            got = decoded[name]
            epsilon = OPT3001.epsilon(value) if name == "illuminance" else chip_class.EPSILON[name]
            if isinstance(got, str):
                assert share in (0.0, 1.0), f"{name} {value}: {got!r} inside the range"
            else:
                numbers += 1
                assert abs(got - value) <= epsilon * 1.001 + abs(value) * 1e-12, name
    assert numbers >= (STEPS - 2) * len(chip_class.RANGE)


@pytest.mark.parametrize(
    ("module", "driver_class", "chip_class", "name", "beyond"),
    [
        (icm20948, icm20948.ICM20948, ICM20948, "acceleration_x", 9 * 9.80665),
        (icm20948, icm20948.ICM20948, ICM20948, "angular_rate_z", -600 * 0.01745),
        (icm20948, icm20948.ICM20948, ICM20948, "magnetic_field_y", 6e-3),
        (opt3001, opt3001.OPT3001, OPT3001, "illuminance", 120_000.0),
        (as7331, as7331.AS7331, AS7331, "uva", 3_000.0),
    ],
)
def test_a_value_beyond_the_range_is_saturated_and_never_a_number(
    module: ModuleType, driver_class: Any, chip_class: Any, name: str, beyond: float
) -> None:
    decoded = reading(module, driver_class, chip_class, middle(chip_class) | {name: beyond})
    assert decoded[name] == "saturated"
