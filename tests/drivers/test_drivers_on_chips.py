"""The contract of every driver with its chip model, on both runtimes, over the model's whole range: |decoded − set| <= epsilon, or a
reason, never a wrong number (after Zephyr's generic sensor test). Driver and model are two independent readings of the datasheet; only
the tests know both."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import contract_there
import pytest
from chip_bench import Bench, steady
from parts import PARTS, Part

from sim.chips.icm20948 import ICM20948

pytestmark = pytest.mark.timeout(120)

STEPS = 24  # values over each range, its ends included
MAGNETIC = "magnetic_field"

Readings = Callable[[Part, Sequence[Mapping[str, float]]], list[dict[str, float | str]]]


def here(part: Part, worlds: Sequence[Mapping[str, float]]) -> list[dict[str, float | str]]:
    """Settled readings in each of `worlds` on CPython."""
    import importlib
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(contract_there.__file__).with_name("virtual")))
    from contract_reading import reading

    module = importlib.import_module(part.module)
    found = []
    for world in worlds:
        bench = Bench()
        chip = part.chip(steady(world), bench.record)
        bus: Any = bench.i2c(chip) if part.wire == "i2c" else bench.uart(chip, part.speed)
        found.append(reading(part.driver(bus), module.decode, lambda ms, bench=bench: bench.wait_us(1000 * ms), part.wire))
    return found


RUNTIMES: list[Any] = [pytest.param(here, id="cpython"), pytest.param(contract_there.readings, id="micropython")]


def world(part: Part, share: float) -> dict[str, float]:
    """A world in which each quantity stands at `share` of its range."""
    values = {name: low + (high - low) * share for name, (low, high) in part.model().RANGE.items()}
    if part.model() is ICM20948:  # the three axes of the field together have one limit
        values |= {name: value / 3 for name, value in values.items() if name.startswith(MAGNETIC)}
    return values


@pytest.mark.parametrize("readings", RUNTIMES)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_value_of_the_range_comes_back_within_epsilon_or_as_a_reason(part: Part, readings: Readings) -> None:
    shares = [step / (STEPS - 1) for step in range(STEPS)]
    worlds = [world(part, share) for share in shares]
    found = readings(part, worlds)
    assert len(found) == STEPS and all(found), "no sample"
    numbers = 0
    for share, values, decoded in zip(shares, worlds, found, strict=True):
        for name, value in values.items():
            got = decoded[name]
            if isinstance(got, str):
                assert share in (0.0, 1.0), f"{name} {value}: {got!r} inside the range"
            else:
                numbers += 1
                assert abs(got - value) <= part.epsilon(name, value) * 1.001 + abs(value) * 1e-12, (name, value, got)
    assert numbers >= (STEPS - 2) * len(worlds[0])


BEYOND = [
    ("icm20948", "acceleration_x", 9 * 9.80665),
    ("icm20948", "angular_rate_z", -600 * 0.01745),
    ("icm20948", "magnetic_field_y", 6e-3),
    ("opt3001", "illuminance", 120_000.0),
    ("first_fleet", "acceleration_x", 17 * 9.80665),
    ("first_fleet", "angular_rate_z", -40.0),
    ("first_fleet", "magnetic_field_y", 6e-3),
    ("first_fleet", "pm2_5", 8000e-9),
]


@pytest.mark.parametrize("readings", RUNTIMES)
@pytest.mark.parametrize(("name", "quantity", "beyond"), BEYOND)
def test_a_value_beyond_the_range_is_saturated_and_never_a_number(name: str, quantity: str, beyond: float, readings: Readings) -> None:
    (part,) = [part for part in PARTS if part.name == name]
    decoded = readings(part, [world(part, 0.3) | {quantity: beyond}])
    assert decoded[0][quantity] == "saturated"
