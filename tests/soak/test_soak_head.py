"""Minutes of the head's life with faults; the hour is `make soak`."""

import pytest
import soak

SECONDS = 140.0


@pytest.mark.timeout(150)
@pytest.mark.parametrize("power", [False, True], ids=["chips-keep-their-supply", "chips-lose-their-supply-too"])
def test_every_sample_is_delivered_or_reported_missing_and_the_heap_is_flat(power: bool) -> None:
    outcome = soak.soak(SECONDS, seed=19, power=power, every_s=5.0)
    assert outcome.flat, str(outcome)
    assert outcome.wrong == [], str(outcome)
    assert outcome.missing > 0 and sum(outcome.faults.values()) >= 10, str(outcome)
    assert outcome.running and bool(outcome.anew) == power, str(outcome)
    assert outcome.longest_feed_s < 4, str(outcome)


def test_faults_that_leave_the_supply_are_chosen_from_the_same_seed_always() -> None:
    assert soak.random_faults(300, 3, True) == soak.random_faults(300, 3, True)
    assert not {fault.kind for fault in soak.random_faults(3000, 3, False)} & {"brown_out", "unplugged"}
