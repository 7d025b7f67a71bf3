"""The live state: newest value wins whatever the order of arrival; no number without meaning is shown."""

import math

import pytest

from center.fleet_state import OFFLINE_S, TruckState
from logbook.quantities import BY_ID, TABLE, TEN
from sox.documents import TransducerValue, xep0082

NOW = 1_793_000_000_000_000_000
S = 1_000_000_000


def test_values_come_back_in_si_for_every_quantity_of_the_table(live):
    truck = TruckState("truck-1")
    middle = {row.id: (row.low + row.high) / 2 + row.resolution for row in TABLE}
    assert truck.take(live(NOW, middle), NOW) == len(TABLE)
    for quantity, value in middle.items():
        assert math.isclose(truck.values[quantity].value, value, rel_tol=1e-9), quantity


def test_an_older_item_that_arrives_later_changes_nothing(live):
    truck = TruckState("truck-1")
    truck.take(live(NOW, {"pressure": 101_000.0}), NOW)
    truck.take(live(NOW - S, {"pressure": 99_000.0, "humidity": 50.0}), NOW)
    assert truck.values["pressure"].value == 101_000.0
    assert truck.values["humidity"].value == 50.0
    assert truck.older == 1


def test_each_quantity_keeps_its_own_time(live):
    truck = TruckState("truck-1")
    truck.take([*live(NOW - 5 * S, {"pm2_5": 12e-9}), *live(NOW, {"speed": 8.0})], NOW)
    assert truck.age_s("pm2_5", NOW) == 5.0
    assert truck.age_s("speed", NOW) == 0.0
    assert truck.age_s("pressure", NOW) is None


def test_a_newer_reason_replaces_a_number_and_a_newer_number_the_reason(live):
    truck = TruckState("truck-1")
    truck.take(live(NOW, {"illuminance": 1000.0}), NOW)
    truck.take(live(NOW + S, {"illuminance": "saturated"}), NOW + S)
    assert (truck.values["illuminance"].value, truck.values["illuminance"].reason) == (None, "saturated")
    truck.take(live(NOW + 2 * S, {"illuminance": 900.0}), NOW + 2 * S)
    assert (truck.values["illuminance"].value, truck.values["illuminance"].reason) == (900.0, "")


@pytest.mark.parametrize("typed", ["nan", "inf", "-1e400", "１２", "", "12,5", "0x10"])
def test_text_that_is_no_number_becomes_a_reason(typed):
    truck = TruckState("truck-1")
    truck.take([TransducerValue("pressure", typed, None, xep0082(NOW))], NOW)
    live = truck.values["pressure"]
    assert (live.value is None and live.reason) or math.isfinite(live.value)
    assert live.value is None or typed == "１２"  # float() reads full-width digits; 12 Pa is then implausible


def test_a_number_outside_the_range_of_its_chip_is_implausible_and_the_ends_are_not(live):
    truck = TruckState("truck-1")
    row = BY_ID["humidity"]
    truck.take(live(NOW, {"humidity": row.high}), NOW)
    assert truck.values["humidity"].value == row.high
    truck.take(live(NOW + S, {"humidity": row.high + 1}), NOW)
    assert truck.values["humidity"].reason == "implausible"


def test_a_value_without_readable_time_is_left_out_and_counted():
    truck = TruckState("truck-1")
    assert truck.take([TransducerValue("pressure", "101300", None, "")], NOW) == 0
    assert truck.unreadable == 1
    assert not truck.values


def test_a_time_from_the_future_does_not_shut_out_the_values_after_the_clock_was_set_right(live):
    truck = TruckState("truck-1")
    truck.take(live(NOW + 10**9 * S, {"pressure": 100_000.0}), NOW)
    assert truck.status(NOW) == "ahead"
    truck.take(live(NOW + S, {"pressure": 101_000.0}), NOW + S)
    assert truck.values["pressure"].value == 101_000.0


def test_raw_only_values_of_the_first_fleet_are_read():
    truck = TruckState("truck-1")
    truck.take([TransducerValue("pressure", None, "101300", xep0082(NOW))], NOW)
    assert truck.values["pressure"].value == 101_300.0


def test_the_status_follows_the_age_of_the_fix_and_then_of_everything(live):
    truck = TruckState("truck-1")
    assert truck.status(NOW) == "offline"
    truck.take(live(NOW, {"pressure": 101_000.0}), NOW)
    assert truck.status(NOW + S) == "nofix"
    truck.take(live(NOW, {"latitude": 35.3, "longitude": 139.4}), NOW)
    assert truck.status(NOW + 9 * S) == "fresh"
    assert truck.status(NOW + 10 * S) == "stale"
    truck.take(live(NOW + 30 * S, {"latitude": "no fix", "longitude": "no fix", "pressure": 101_000.0}), NOW + 30 * S)
    assert truck.fix_age_s(NOW + 31 * S) == 31.0  # the last valid position stays, with its own age
    assert truck.status(NOW + 31 * S) == "stale"
    assert truck.status(NOW + int(30 + OFFLINE_S) * S) == "offline"


def test_nothing_is_calibrated_unless_the_truck_says_so(live):
    truck = TruckState("truck-1")
    truck.take(live(NOW, dict.fromkeys(TEN, 0.0)), NOW)
    assert not any(value.calibrated for value in truck.values.values())
    time = xep0082(NOW + S)
    truck.take([*live(NOW + S, {"pm2_5": 1e-9}), TransducerValue("pm2_5.calibrated", "true", None, time)], NOW + S)
    assert truck.values["pm2_5"].calibrated
