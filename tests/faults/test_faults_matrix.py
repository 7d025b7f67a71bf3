"""Every part x every fault in the short form (`make faults` prints the table of the long one), and that its judge and its exit code can
say no."""

import json
from collections.abc import Callable
from typing import Any

import fault_cases
import fault_matrix
import fault_rig
import pytest
from fault_rig import Rig
from fault_run import run
from parts import PARTS, Part

from drivers import bmp390
from sim.faults import Fault

pytestmark = pytest.mark.timeout(120)
BY_NAME = {part.name: part for part in PARTS}
BMP390 = BY_NAME["bmp390"]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_no_fault_makes_a_part_hang_lie_or_stay_away(part: Part) -> None:
    found = fault_matrix.results(part, 1, short=True)
    rows = set(fault_cases.ROWS[part.wire]) - {"unplugged 1 h"}
    assert {result.case.row for result in found} == rows
    assert [(result.case.row, result.case.faults, result.outcome) for result in found if result.outcome.problems] == []
    if part.name not in fault_rig.UNDETECTABLE:
        assert sum(result.outcome.undetectable for result in found) == 0


def test_a_sensor_that_was_away_for_an_hour_is_set_up_anew_and_its_samples_are_counted() -> None:
    away = Fault(kind="unplugged", chip="bmp390", begin_s=5.0, end_s=3605.0)
    outcome = run(BMP390, [away], visible=True)
    assert outcome.problems == [] and 3598 <= outcome.reported <= 3601
    assert outcome.recovery_s is not None and outcome.recovery_s < 1.5


def test_every_flipped_bit_of_a_fifo_read_stays_within_the_register() -> None:
    burst = Fault(kind="flip", chip="icm20948", begin_s=3.0, part="read", byte=0, bit=7, times=1)
    outcome = run(BY_NAME["icm20948"], [burst], wrong=True)
    assert outcome.problems == []


def test_aimed_faults_reach_every_reply_and_every_byte_of_a_message() -> None:
    """A reply read without a register is known by the command before it; the sample of an SPS30 on I2C has 60 bytes."""
    reads = {case.faults[0].byte for case in fault_cases.aimed(BY_NAME["sps30_i2c"], 0) if case.row == "flip: read"}
    assert reads == set(range(60))
    flips = [case.faults[0] for case in fault_cases.aimed(BY_NAME["pms5003"], 0) if case.row == "flipped bit"]
    running = {flip.skip for flip in flips if flip.bit == 0}
    assert len(running) >= 2 * 32 and len(flips) == 8 * len(running)


def test_the_heaters_part_heats_in_the_matrix() -> None:
    rig = Rig(BY_NAME["sht45-heater"])
    rig.advance(70.0)
    assert rig.chip.pulses >= 1 and rig.problems == [] and rig.delivered >= 4


# --- the judge


class _Lying:
    """A driver in front of a real one."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def read_into(self, buf: Any, offset: int = 0) -> Any:
        return self._driver.read_into(buf, offset)


def judged(change: Callable[[Rig, Any], None], seconds: float = 8.0) -> list[str]:
    """The problems of a healthy BMP390 whose driver `change` has spoilt."""
    rig = Rig(BMP390)
    lying = _Lying(rig.driver)
    change(rig, lying)
    rig.driver = rig.watched.driver = lying
    rig.advance(seconds)
    rig.check_gaps()
    return rig.problems


def spoilt(spoil: Callable[[bytes], bytes]) -> Callable[[Rig, Any], None]:
    """A driver whose samples have gone through `spoil`."""

    def change(rig: Rig, lying: Any) -> None:
        read = rig.driver.read_into

        def read_into(buf: Any, offset: int = 0) -> Any:
            size = read(buf, offset)
            buf[offset : offset + size] = spoil(bytes(buf[offset : offset + size]))
            return size

        lying.read_into = read_into

    return change


def test_the_judge_finds_nothing_wrong_with_a_healthy_driver() -> None:
    assert judged(lambda rig, lying: None) == []


def test_the_judge_sees_a_wrong_and_a_stale_value_and_a_reason_that_is_not_true() -> None:
    kept: list[bytes] = []

    def stale(raw: bytes) -> bytes:
        kept.append(raw)
        return kept[0]

    assert any("wrong value: pressure" in problem for problem in judged(spoilt(lambda raw: raw[:1] + bytes((raw[1] ^ 0x40,)) + raw[2:])))
    assert any("delivered" in problem for problem in judged(spoilt(stale)))
    assert "said 'implausible', and it is not" in judged(spoilt(lambda raw: bytes(6)))


def test_the_judge_sees_a_value_that_was_held_back() -> None:
    waiting: list[bytes] = []

    def late(raw: bytes) -> bytes:
        waiting.append(raw)
        return waiting[max(0, len(waiting) - 2)]

    assert any("a value 1.0 s old" in problem for problem in judged(spoilt(late)))


def test_the_judge_sees_an_exception_that_escapes_and_an_ok_without_samples() -> None:
    def broken(rig: Rig, lying: Any) -> None:
        def poll(now: int) -> int:
            raise ZeroDivisionError("oops")

        lying.poll = poll

    def silent(rig: Rig, lying: Any) -> None:
        def poll(now: int) -> Any:
            return rig_poll(now) if rig.now_us < 3_000_000 else 0

        rig_poll, lying.poll = rig.driver.poll, poll
        rig.watched._schedule.silent = lambda now: False  # type: ignore[method-assign]

    assert judged(broken) == ["ZeroDivisionError escaped: oops"]
    assert any("ok, but nothing came" in problem for problem in judged(silent))


@pytest.mark.parametrize("name", ["bmp390", "icm20948", "sps30", "first_fleet"])
def test_the_judge_sees_missing_samples_that_nobody_reports_or_not_as_many_as_there_were(name: str) -> None:
    def interrupted(change: Callable[[Any], Any] | None) -> list[str]:
        kind = "nack" if BY_NAME[name].wire == "i2c" else "dead"
        rig = Rig(BY_NAME[name], [Fault(kind=kind, chip=name, begin_s=4.0, end_s=8.0)])  # type: ignore[arg-type]
        if change is not None:
            rig.watched._outbox.gap = change(rig.watched._outbox.gap)  # type: ignore[method-assign]
        rig.advance(12.0)
        assert rig.problems == []
        rig.check_gaps()
        return rig.problems

    def by(difference: int) -> Callable[[Any], Any]:
        return lambda gap: lambda sensor, reason, count: gap(sensor, reason, count + difference)

    assert interrupted(None) == []
    assert "no GAP" in str(interrupted(lambda gap: lambda *told: None))
    for difference in (3, -3):  # what is left over of a period is no sample yet, and a chip with a pace of its own has one more of room
        assert "delivered or reported" in str(interrupted(by(difference))) or name in ("icm20948", "first_fleet")


def test_the_judge_counts_what_the_first_fleets_box_counts() -> None:
    lost = Fault(kind="lost", chip="first_fleet", begin_s=4.0, times=60)
    for change in (0, 1):
        rig = Rig(BY_NAME["first_fleet"], [lost])
        rig.advance(6.0)
        rig.driver.missing += change
        rig.check_gaps()
        assert bool(rig.problems) == bool(change), rig.problems


# --- the command


def test_the_command_says_no_with_the_script_that_shows_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The driver believes a single reading: flipped bits come out as pressure, if they are not among the lowest."""
    monkeypatch.setattr(fault_cases, "SHORT_EACH", 40)
    arguments = ["--short", "--part", "bmp390"]
    assert fault_matrix.main(arguments) == 0
    monkeypatch.setattr(bmp390.BMP390, "_fetch", _once)
    assert fault_matrix.main(arguments) == 1
    said = capsys.readouterr().out
    assert "wrong value" in said and '"kind": "flip"' in said and max(len(line) for line in said.splitlines() if line[:4].strip()) <= 80
    assert fault_matrix.main([*arguments, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    (cell,) = [cell for cell in document["cells"] if cell["fault"] == "flip: read"]
    assert cell["failed"] and document["failed"] == len(document["failures"]) and document["failures"][0]["problems"]


def _once(driver: Any, now: int) -> None:
    driver._read(0x04, driver._data)
    driver._state = bmp390._READY
