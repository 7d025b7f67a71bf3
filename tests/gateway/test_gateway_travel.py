"""The odometer for the choice of images."""

import math
import threading

import pytest

from gateway.journal import Entry
from gateway.travel import EXTRAPOLATED_NS, Moved, Travel
from logbook.channels import POSITION
from logbook.schemas import cruisers_pb2 as pb
from sim.route import Route

SECOND = 1_000_000_000


def metres(travel: Travel, at_ns: int) -> float:
    moved = travel.at(at_ns)
    assert moved is not None
    return moved.metres


def told(travel: Travel, at_ns: int, **fields: object) -> None:
    """A message of the topic POSITION, as an observer of the journal hears it."""
    message = pb.Position(boottime_ns=at_ns, **fields)  # type: ignore[arg-type]
    travel.heard(Entry(POSITION, at_ns, message.SerializeToString()))


def test_without_a_fix_nothing_is_known() -> None:
    travel = Travel()
    assert travel.at(5 * SECOND) is None
    told(travel, 5 * SECOND, valid=False, mode=1, reason="no fix", speed=9.0)
    told(travel, 6 * SECOND, valid=True, mode=2)  # a fix that does not say how fast
    assert travel.at(6 * SECOND) is None


def test_speed_is_integrated_from_fix_to_fix_and_extrapolated_behind_the_last_for_two_seconds() -> None:
    travel = Travel()
    told(travel, 10 * SECOND, valid=True, mode=3, speed=4.0)
    told(travel, 11 * SECOND, valid=True, mode=3, speed=6.0)
    assert travel.at(11 * SECOND) == Moved(5.0, False)
    assert metres(travel, 12 * SECOND) == pytest.approx(11.0)
    assert metres(travel, 11 * SECOND + EXTRAPOLATED_NS) == pytest.approx(17.0)
    assert travel.at(11 * SECOND + EXTRAPOLATED_NS + 1) is None
    assert travel.at(10 * SECOND) == Moved(5.0, False)  # an image is a little older than the newest fix


def test_a_fix_that_is_lost_keeps_the_extrapolation_but_does_not_prolong_it() -> None:
    travel = Travel()
    told(travel, 10 * SECOND, valid=True, mode=3, speed=4.0)
    told(travel, 11 * SECOND, valid=False, mode=1, reason="no fix")
    assert metres(travel, 12 * SECOND) == pytest.approx(8.0)
    assert travel.at(13 * SECOND) is None


def test_what_was_driven_while_nothing_was_known_is_not_invented() -> None:
    travel = Travel()
    travel.drive(10 * SECOND, 4.0)
    travel.drive(70 * SECOND, 10.0)
    assert metres(travel, 70 * SECOND) == pytest.approx(8.0)


def test_noise_of_a_receiver_at_rest_is_standing_and_no_way() -> None:
    travel = Travel()
    for second in range(3600):
        travel.drive(second * SECOND, 0.25 * abs(math.sin(second)))
    assert travel.at(3599 * SECOND) == Moved(0.0, True)


def test_a_fix_that_is_not_newer_than_the_last_changes_nothing() -> None:
    travel = Travel()
    travel.drive(10 * SECOND, 4.0)
    travel.drive(11 * SECOND, 4.0)
    travel.drive(11 * SECOND, 400.0)
    travel.drive(5 * SECOND, 400.0)
    assert metres(travel, 12 * SECOND) == pytest.approx(8.0)


@pytest.mark.parametrize("period_ms", [100, 1000])
def test_over_a_simulated_round_it_is_right_within_one_percent(period_ms: int) -> None:
    route, travel = Route(seed=1), Travel()
    for number in range(1_800_000 // period_ms):
        ms = number * period_ms
        travel.drive(ms * 1_000_000, route.motion(ms / 1000).speed)
    assert metres(travel, ms * 1_000_000) == pytest.approx(route.motion(ms / 1000).distance, rel=0.01)


def test_many_threads_may_ask_while_one_tells() -> None:
    travel, wrong, stop = Travel(), [], threading.Event()

    def ask() -> None:
        before = 0.0
        while not stop.is_set():
            moved = travel.at(0)  # older than every fix: the odometer as it stands, which never goes back
            if moved is not None:
                if moved.metres < before:
                    wrong.append((before, moved.metres))
                before = moved.metres

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(20_000):
        travel.drive(number * SECOND // 10, 5.0)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == [] and metres(travel, 0) == pytest.approx(19_999 * 0.5)
