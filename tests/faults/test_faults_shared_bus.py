"""The sensors of the head's main bus on one bus: what one chip's fault costs the others, and the bus. Everything delivered is judged."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from fault_rig import Rig, advance, on_one_bus
from parts import PARTS

from firmware.frames import OK, STATES
from sim.bus import TimeOut
from sim.faults import Fault

pytestmark = pytest.mark.timeout(120)
NAMES = ("icm20948", "bmp390", "sht45", "opt3001")
SPARES = ("veml7700", "sps30_i2c")  # one bit beside the ICM-20948's address; and the longest list of parts


class Box:
    """The main bus of the head, in virtual time; time-outs are counted."""

    def __init__(self, *faults: Fault, names: Sequence[str] = NAMES, seed: int = 0) -> None:
        parts = [next(part for part in PARTS if part.name == name) for name in names]
        self.rigs, self.wire = on_one_bus(parts, faults, seed)
        self.by_name = dict(zip(names, self.rigs, strict=True))
        self.time_outs = 0
        transfer = self.wire.transfer

        def counting(*arguments: Any, **options: Any) -> bytes:
            try:
                return transfer(*arguments, **options)
            except TimeOut:
                self.time_outs += 1
                raise

        self.wire.transfer = counting  # type: ignore[method-assign]

    def run(self, until_s: float) -> None:
        """To that moment."""
        advance(self.rigs, until_s - self.rigs[0].now_us / 1e6)

    def states(self) -> set[str]:
        """All states there are."""
        return {STATES[rig.watched.state] for rig in self.rigs}

    def problems(self) -> dict[str, list[str]]:
        """What the judges say of each, the reports of what is missing included."""
        for rig in self.rigs:
            rig.check_gaps()
        return {name: rig.problems for name, rig in self.by_name.items() if rig.problems}

    def disturbed(self) -> set[str]:
        """Whose samples are missing."""
        return {name for name, rig in self.by_name.items() if rig.gaps}

    def overwritten(self) -> int:
        """Samples that the IMU's FIFO lost because it was not read in time."""
        return int(self.by_name["icm20948"].chip.fifo.overwritten)


@pytest.mark.parametrize("holder", NAMES)
def test_one_chip_in_the_middle_of_a_byte_costs_the_others_nothing(holder: str) -> None:
    for error in ("time-out", "no acknowledge"):
        held = Fault(kind="stuck_sda", chip=holder, begin_s=5.0, clocks=7, times=1, error=error)  # type: ignore[arg-type]
        box = Box(held)
        box.run(8.0)
        assert box.states() == {"ok"} and box.time_outs <= 1 and box.problems() == {}
        assert box.disturbed() <= {holder} and box.overwritten() == 0


def test_a_stuck_bus_costs_one_time_out_for_each_sensor_at_most_and_all_come_back_with_right_values() -> None:
    for kind in ("stuck_sda", "stuck_scl"):
        box = Box(Fault(kind=kind, chip="sht45", begin_s=5.0, end_s=35.0))  # type: ignore[arg-type]
        box.run(34.9)
        assert not {"ok"} & box.states() and box.time_outs <= len(NAMES)
        box.run(37.0)
        assert box.states() == {"ok"} and box.disturbed() == set(NAMES) and box.problems() == {}


def test_a_chip_that_stretches_for_ever_leaves_the_others_their_samples() -> None:
    box = Box(Fault(kind="stretch", chip="opt3001", microseconds=80_000, begin_s=5.0, end_s=25.0))
    box.run(24.9)
    states = {name: rig.watched.state for name, rig in box.by_name.items()}
    assert states.pop("opt3001") != OK and set(states.values()) == {OK}
    assert box.time_outs < 40  # one a second, and the rest of its stretch met by another
    assert all(box.by_name[name].delivered >= 23 for name in ("bmp390", "sht45")) and box.overwritten() == 0
    box.run(27.0)
    assert box.states() == {"ok"} and box.problems() == {}


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
    assert 58 <= asked <= 66 and STATES[box.by_name["sht45"].watched.state] == "absent"
    assert box.disturbed() == set() and box.problems() == {}


def test_a_flipped_address_bit_reaches_a_neighbour_and_spoils_no_value_of_either() -> None:
    """0x44 and 0x45, 0x68 and 0x69 are one bit apart: a command, or the read behind one, is another chip's."""
    choice = random.Random(5)
    for _ in range(25):
        begin = round(choice.uniform(0.0, 3.0), 3)
        flips = [
            Fault(kind="flip", chip=chip, part="address", begin_s=begin, skip=choice.randrange(30), times=3, bit=bit, byte=byte)
            for chip, bit in (("sht45", 1), ("opt3001", 1), ("icm20948", 1), ("sps30", 1))
            for byte in (0, 1)
        ]
        box = Box(*flips, names=NAMES + SPARES)
        box.run(8.0)
        assert box.problems() == {}, flips


def test_every_kind_of_fault_of_one_chip_or_two_spoils_no_value_of_another() -> None:
    choice = random.Random(7)
    for seed in range(20):
        faults = []
        for _ in range(choice.choice((1, 2, 2))):
            kind = choice.choice(("nack", "flip", "stretch", "stuck_sda", "stuck_scl", "brown_out", "unplugged"))
            begin = round(choice.uniform(3.0, 4.0), 3)
            fields: dict[str, Any] = {} if kind == "brown_out" else {"end_s": begin + choice.choice((0.05, 0.5, 2.0))}
            if kind == "stretch":
                fields["microseconds"] = choice.choice((2_000, 80_000))
            if kind == "flip":
                fields |= {"part": choice.choice(("address", "written")), "probability": 0.2}
            if kind == "stuck_sda" and choice.random() < 0.5:
                fields |= {"clocks": choice.randint(1, 9), "times": 2}
            faults.append(Fault(kind=kind, chip=choice.choice(NAMES), begin_s=begin, **fields))  # type: ignore[arg-type]
        box = Box(*faults, seed=seed)
        box.run(10.0)
        assert box.problems() == {} and box.states() == {"ok"}, faults


def test_a_warm_chip_says_nothing_also_when_the_bus_was_stuck_meanwhile_and_its_driver_began_anew() -> None:
    box = Box(Fault(kind="stuck_sda", chip="bmp390", begin_s=4.0, end_s=8.0), names=("sht45-heater", "bmp390"))
    box.run(75.0)
    heater = box.by_name["sht45-heater"]
    assert heater.starts > 1 and heater.chip.pulses >= 1 and heater.delivered >= 4 and box.problems() == {}


# --- the magnetometer inside the ICM-20948: no fault of the outer bus reaches it


def dead_from(rig: Rig, seconds: float, until_s: float) -> None:
    """The inner die does not answer its chip's I2C master meanwhile."""
    rig.advance(seconds)
    rig.chip.magnetometer.address = 0x0D
    rig.advance(until_s - seconds)


def test_a_magnetometer_that_dies_inside_its_chip_leaves_the_other_axes_and_is_said() -> None:
    (part,) = [part for part in PARTS if part.name == "icm20948"]
    rig = Rig(part)
    dead_from(rig, 5.0, 15.0)
    assert STATES[rig.watched.state] == "degraded" and rig.problems == []
    delivered = rig.delivered
    rig.advance(5.0)
    assert 500 <= rig.delivered - delivered <= 520  # 102.27 Hz
    rig.chip.magnetometer.address = 0x0C
    rig.advance(8.0)
    rig.check_gaps()
    assert STATES[rig.watched.state] == "ok" and rig.problems == [] and not rig.gaps
