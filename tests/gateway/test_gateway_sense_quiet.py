"""On a machine's one I2C bus the other chips wait while the AS7331 converts: their traffic would disturb it."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from chip_bench import Bench, steady
from parts import PARTS

from gateway.parts import Part, Place
from gateway.sense import turn
from sim.chips.as7331 import AS7331

pytestmark = pytest.mark.timeout(60)
NAMES = ("icm20948", "bmp390", "sht45", "opt3001", "as7331", "veml7700")


class Machine:
    """All I2C chips on one bus, read by turns; `disturbed` counts the transfers that met a conversion of the AS7331."""

    def __init__(self) -> None:
        self.bench = Bench()
        kinds = [next(part for part in PARTS if part.name == name) for name in NAMES]
        world: dict[str, float] = {}
        for kind in kinds:
            world |= {name: low + 0.3 * (high - low) for name, (low, high) in kind.model().RANGE.items()}
        chips = [kind.chip(steady(world), self.bench.record) for kind in kinds]
        self.uv: AS7331 = chips[NAMES.index("as7331")]
        self.disturbed = 0
        for chip in chips:
            chip.start = self._watched(chip.start)
        bus = self.bench.i2c(*chips, chips[0].magnetometer)
        self.parts = []
        for kind, chip in zip(kinds, chips, strict=True):
            place = Place(kind.name, chip.address)
            self.parts.append(Part(place, kind.driver(bus), importlib.import_module(kind.module)))
            self.parts[-1].start(0)

    def _watched(self, start: Callable[[bool], bool]) -> Callable[[bool], bool]:
        def watched(read: bool) -> bool:
            self.disturbed += self.uv._due is not None
            return start(read)

        return watched

    def run(self, seconds: float) -> dict[str, Any]:
        """That long, in turns of 4 ms; the samples of each part."""
        for _ in range(int(seconds * 250)):
            turn(self.parts, lambda: self.bench.clock.now_us() // 1000)
            self.bench.wait_us(4000)
        return {part.place.part: part.readings.samples for part in self.parts}


def test_nothing_is_sent_on_the_bus_while_the_uv_chip_converts_and_no_part_loses_a_sample() -> None:
    machine = Machine()
    samples = machine.run(10)
    assert machine.disturbed == 0
    assert {part.state for part in machine.parts} == {"ok"}
    assert all(samples[name] >= 9 for name in NAMES) and samples["icm20948"] >= 990
    assert sum(part.readings.gaps + part.failures for part in machine.parts) == 0


def test_a_uv_chip_that_never_ends_does_not_hold_the_others_up() -> None:
    machine = Machine()
    machine.run(2)
    machine.uv.advance = lambda now_us: None  # type: ignore[method-assign]
    before = machine.run(1)
    after = machine.run(10)
    assert machine.parts[NAMES.index("as7331")].state != "ok" and after["as7331"] - before["as7331"] <= 1
    assert all(after[name] - before[name] >= 9 for name in NAMES if name != "as7331")
