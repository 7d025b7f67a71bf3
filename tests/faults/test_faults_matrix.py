"""Every part x every fault in the short form (`make faults` prints the table of the long one), and that the judge can say no."""

from collections.abc import Iterator

import fault_matrix
import fault_rig
import pytest
from fault_matrix import PARTS
from fault_rig import Rig, run
from parts import Part

from sim.faults import Fault

pytestmark = pytest.mark.timeout(120)
BY_NAME = {part.name: part for part in PARTS}
BMP390 = BY_NAME["bmp390"]


@pytest.fixture(autouse=True)
def head_time() -> Iterator[None]:
    """The rig gives firmware.bus its own time; afterwards it has the machine's again."""
    import firmware.bus

    before = firmware.bus.time
    yield
    firmware.bus.time = before


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_no_fault_makes_a_part_hang_lie_or_stay_away(part: Part) -> None:
    found = fault_matrix.results(part, 1, short=True)
    assert len(found) >= 15
    assert [(result.case.row, result.case.faults, result.outcome) for result in found if result.outcome.problems] == []
    if part.name not in fault_rig.UNDETECTABLE:
        assert sum(result.outcome.undetectable for result in found) == 0


def test_a_sensor_that_was_away_for_an_hour_is_set_up_anew_and_its_samples_are_counted() -> None:
    away = Fault(kind="unplugged", chip="bmp390", begin_s=5.0, end_s=3605.0)
    outcome = run(BMP390, [away], visible=True)
    assert outcome.problems == [] and outcome.reported in (3599, 3600, 3601)
    assert outcome.recovery_s is not None and outcome.recovery_s < 1.5


def test_every_flipped_bit_of_a_fifo_read_stays_within_the_register() -> None:
    burst = Fault(kind="flip", chip="icm20948", begin_s=3.0, part="read", byte=0, bit=7, times=1)
    outcome = run(BY_NAME["icm20948"], [burst], wrong=True)
    assert outcome.problems == []


# --- the judge


class _Lying:
    """A driver in front of a real one."""

    def __init__(self, driver) -> None:  # type: ignore[no-untyped-def]
        self._driver = driver

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return getattr(self._driver, name)

    def read_into(self, buf, offset=0):  # type: ignore[no-untyped-def]
        return self._driver.read_into(buf, offset)


def judged(change, seconds: float = 8.0) -> list[str]:  # type: ignore[no-untyped-def]
    """The problems of a healthy BMP390 whose driver `change` has spoilt."""
    rig = Rig(BMP390)
    lying = _Lying(rig.driver)
    change(rig, lying)
    rig.driver = rig.watched.driver = lying
    rig.advance(seconds)
    rig.check_gaps()
    return rig.problems


def test_the_judge_finds_nothing_wrong_with_a_healthy_driver() -> None:
    assert judged(lambda rig, lying: None) == []


def test_the_judge_sees_a_wrong_and_a_stale_value() -> None:
    def wrong(rig, lying):  # type: ignore[no-untyped-def]
        def read_into(buf, offset=0):  # type: ignore[no-untyped-def]
            size = rig_read(buf, offset)
            buf[offset + 1] ^= 0x40
            return size

        rig_read, lying.read_into = rig.driver.read_into, read_into

    def stale(rig, lying):  # type: ignore[no-untyped-def]
        kept = bytearray()

        def read_into(buf, offset=0):  # type: ignore[no-untyped-def]
            size = rig_read(buf, offset)
            kept.extend(buf[offset : offset + size] if not kept else b"")
            buf[offset : offset + size] = kept
            return size

        rig_read, lying.read_into = rig.driver.read_into, read_into

    assert any("wrong value: pressure" in problem for problem in judged(wrong))
    assert any("delivered" in problem for problem in judged(stale))


def test_the_judge_sees_an_exception_that_escapes_and_an_ok_without_samples() -> None:
    def broken(rig, lying):  # type: ignore[no-untyped-def]
        def poll(now):  # type: ignore[no-untyped-def]
            raise ZeroDivisionError("oops")

        lying.poll = poll

    def silent(rig, lying):  # type: ignore[no-untyped-def]
        def poll(now):  # type: ignore[no-untyped-def]
            return rig_poll(now) if rig.now_us < 3_000_000 else 0

        rig_poll, lying.poll = rig.driver.poll, poll
        rig.watched._schedule.silent = lambda now: False

    assert judged(broken) == ["ZeroDivisionError escaped: oops"]
    assert any("ok, but nothing came" in problem for problem in judged(silent))


def test_the_judge_sees_missing_samples_that_nobody_reports() -> None:
    for name, text in (("bmp390", "without sample"), ("icm20948", "no GAP")):
        rig = Rig(BY_NAME[name], [Fault(kind="nack", chip=name, begin_s=4.0, end_s=8.0)])
        rig.watched._outbox.gap = lambda *told: None  # type: ignore[method-assign]
        rig.advance(12.0)
        assert rig.problems == []
        rig.check_gaps()
        assert any(text in problem for problem in rig.problems), rig.problems
