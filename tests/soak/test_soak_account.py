"""That the account of the IMU's samples can say no."""

from collections.abc import Sequence

import imu_account
import numpy as np
import pytest

from logbook.schemas import cruisers_pb2 as pb

INTERVAL_US = 9_770.4
RUNNING = [int(number * INTERVAL_US) for number in range(3_000)]


def account(made_us: Sequence[int], lost: set[int], *told: tuple[int, int, int, str]) -> list[imu_account.Account]:
    """`lost` numbers are not delivered; `told`: (newest sample before, first behind, how many, reason) of each gap."""
    delivered = np.array([number for number in range(len(made_us)) if number not in lost])
    gaps = [
        pb.Gap(from_boottime_ns=made_us[before] * 1000, to_boottime_ns=made_us[behind] * 1000, count=count, reason=reason)
        for before, behind, count, reason in told
    ]
    return imu_account.accounts(made_us, delivered, [made_us[number] * 1000 for number in delivered], gaps)


def test_a_gap_of_as_many_samples_as_are_missing_is_right_and_one_more_or_fewer_is_not() -> None:
    lost = set(range(1_000, 1_030))
    for count, right in ((30, True), (29, False), (31, False)):
        (found,) = account(RUNNING, lost, (999, 1_030, count, "FIFO overflow"))
        assert (found.missing, found.reported, found.restarts, found.right) == (30, count, 0, right)
    assert [found.right for found in account(RUNNING, lost)] == [False]
    assert [found.right for found in account(RUNNING, set(), (999, 1_000, 1, "FIFO overflow"))] == [False]


def test_one_too_many_here_does_not_make_up_for_one_too_few_there() -> None:
    found = account(RUNNING, {500, 2_000}, (499, 501, 2, "FIFO overflow"), (1_999, 2_001, 0, "FIFO overflow"))
    assert [one.difference for one in found] == [1, -1] and not any(one.right for one in found)


def test_a_chip_that_said_it_may_be_wrong_by_one_is_not_forgiven_while_it_sampled_on() -> None:
    (found,) = account(RUNNING, {500}, (499, 501, 2, "FIFO overflow (±1)"))
    assert not found.right


def test_parts_of_one_gap_and_a_second_one_before_the_first_is_decided_are_judged_together() -> None:
    lost = {*range(1_000, 1_030), *range(1_040, 1_060)}
    (found,) = account(RUNNING, lost, (999, 1_030, 29, "time-out"), (1_039, 1_060, 21, "time-out"))
    assert found.right and (found.missing, found.reported) == (50, 50)


@pytest.mark.parametrize(("count", "right"), [(98, False), (99, True), (100, True), (101, False)])
def test_where_a_chip_began_anew_a_gap_may_be_off_by_less_than_one(count: int, right: bool) -> None:
    made = RUNNING[:1_000] + [time + round(99.6 * INTERVAL_US) for time in RUNNING[1_000:]]
    (found,) = account(made, set(), (999, 1_000, count, "power-on values (±1)"))
    assert found.restarts == 1 and found.missing == pytest.approx(99.6, abs=0.01) and found.right == right


def test_samples_are_known_by_the_number_in_them_and_none_may_come_twice() -> None:
    numbers = [0, 1, 5, *range(20_000, 120_000, 7_000)]
    assert imu_account.numbers([imu_account.code(number) for number in numbers]).tolist() == numbers
    for repeated in ([3, 3], [3, 2]):
        with pytest.raises(AssertionError, match="twice"):
            imu_account.numbers([imu_account.code(number) for number in repeated])
