"""Four sensors on one bus, as on the head: what one chip's fault costs the others, and the bus."""

import types
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from chip_bench import Bench, steady
from fault_rig import machine_on
from parts import PARTS

import firmware.bus
from firmware.frames import OK, STATES
from firmware.supervisor import Watched
from sim.bus import I2CBus, TimeOut
from sim.faults import Fault, Faults

pytestmark = pytest.mark.timeout(60)
NAMES = ("icm20948", "bmp390", "sht45", "opt3001")


class CountingBus(I2CBus):
    """Counts its time-outs."""

    time_outs = 0

    def transfer(self, *arguments: Any, **options: Any) -> bytes:
        try:
            return super().transfer(*arguments, **options)
        except TimeOut:
            self.time_outs += 1
            raise


class Told:
    """An outbox that counts."""

    def __init__(self) -> None:
        self.ticks = self
        self.samples: Counter[int] = Counter()
        self.gaps: Counter[int] = Counter()
        self.buffer = bytearray(231)

    def stamp(self) -> None:
        """Nobody asks when."""

    def sample(self, sensor: int, driver: Any) -> int:
        count: int = driver.read_into(self.buffer) // driver.RAW_SIZE
        self.samples[sensor] += count
        return count

    def state(self, *told: int) -> None:
        """Asked of Watched."""

    def gap(self, sensor: int, reason: int, count: int) -> None:
        self.gaps[sensor] += 1

    def trim(self, sensor: int, trim: bytes) -> None:
        """Always the same."""


class Box:
    """The main bus of the head, in virtual time."""

    def __init__(self, *faults: Fault) -> None:
        self.bench = Bench()
        parts = [next(part for part in PARTS if part.name == name) for name in NAMES]
        world: dict[str, float] = {}
        for part in parts:
            world |= {name: low + 0.3 * (high - low) for name, (low, high) in part.model().RANGE.items()}
        chips = [part.chip(steady(world), self.bench.record) for part in parts]
        self.chips = dict(zip(NAMES, chips, strict=True))
        self.wire = CountingBus((*chips, chips[0].magnetometer), self.bench.clock, Faults(faults))
        firmware.bus.time = types.SimpleNamespace(sleep_us=self.bench.wait_us)  # type: ignore[assignment, attr-defined]
        bus = firmware.bus.I2CBus(machine_on(self.wire), 0, 4, 5, 400_000)
        self.told = Told()
        self.sensors = [Watched(number, part.driver(bus.i2c), self.told, bus) for number, part in enumerate(parts)]  # type: ignore[arg-type]
        for sensor in self.sensors:
            sensor.start(0)

    def run(self, until_s: float) -> None:
        """To that moment; the head sleeps 10 ms after each turn."""
        while self.bench.clock.now_us() < until_s * 1e6:
            for sensor in self.sensors:
                sensor.step(self.bench.clock.now_us() // 1000)
            self.bench.wait_us(10_000)

    def states(self) -> set[str]:
        """All states there are."""
        return {STATES[sensor.state] for sensor in self.sensors}


@pytest.fixture(autouse=True)
def head_time() -> Iterator[None]:
    before = firmware.bus.time
    yield
    firmware.bus.time = before


@pytest.mark.parametrize("holder", NAMES)
def test_one_chip_in_the_middle_of_a_byte_costs_the_others_nothing(holder: str) -> None:
    for error in ("time-out", "no acknowledge"):
        held = Fault(kind="stuck_sda", chip=holder, begin_s=5.0, clocks=7, times=1, error=error)  # type: ignore[arg-type]
        box = Box(held)
        box.run(8.0)
        assert box.states() == {"ok"} and box.wire.time_outs <= 1
        missing = {name for name, count in zip(NAMES, (box.told.gaps[number] for number in range(4)), strict=True) if count}
        assert missing <= {holder} and box.chips["icm20948"].fifo.overwritten == 0


def test_a_stuck_bus_costs_one_time_out_for_each_sensor_at_most_and_all_come_back() -> None:
    for kind in ("stuck_sda", "stuck_scl"):
        box = Box(Fault(kind=kind, chip="sht45", begin_s=5.0, end_s=35.0))  # type: ignore[arg-type]
        box.run(34.9)
        assert not {"ok"} & box.states() and box.wire.time_outs <= len(NAMES)
        box.run(37.0)
        assert box.states() == {"ok"} and all(box.told.gaps[number] for number in range(4))


def test_a_chip_that_stretches_for_ever_leaves_the_others_their_samples() -> None:
    box = Box(Fault(kind="stretch", chip="opt3001", microseconds=80_000, begin_s=5.0, end_s=25.0))
    box.run(24.9)
    before = box.told.samples.copy()
    assert [STATES[sensor.state] for sensor in box.sensors][:3] == ["ok"] * 3 and box.sensors[3].state != OK
    assert box.wire.time_outs < 40  # one a second, and the rest of its stretch met by another
    assert before[1] >= 23 and before[2] >= 23 and box.chips["icm20948"].fifo.overwritten == 0
    box.run(27.0)
    assert box.states() == {"ok"}


def test_an_absent_chip_costs_the_bus_one_address_a_second() -> None:
    box = Box(Fault(kind="unplugged", chip="sht45"))
    asked = 0
    transfer = box.wire.transfer

    def counting(address: int, *arguments: Any, **options: Any) -> bytes:
        nonlocal asked
        asked += address == 0x44
        return transfer(address, *arguments, **options)

    box.wire.transfer = counting  # type: ignore[method-assign]
    box.run(60.0)
    assert 58 <= asked <= 66 and STATES[box.sensors[2].state] == "absent"
