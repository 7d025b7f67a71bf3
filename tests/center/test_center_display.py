"""What the page says: display units, words for every state, no number where there is none."""

import pytest

from center import display
from center.archive import Counts
from center.fleet_state import Picture, TruckState
from logbook.quantities import TEN

NOW = 1_793_000_000_000_000_000
NONE = Counts(0, 0, 0, 0, 0)


def shown(truck, now=NOW):
    return display.truck_fields(truck, NONE, now)


def test_values_are_in_the_units_people_read(live):
    truck = TruckState("t")
    values = {"pressure": 101_325.4, "temperature": 298.4, "pm2_5": 12.4e-9, "speed": 10.0, "magnetic_field_y": -4e-6, "uva": 12.3}
    truck.take(live(NOW, values), NOW)
    fields = shown(truck)
    found = [fields[f"t/q/{quantity}/value"] for quantity in values]
    assert found == ["1013.25", "25.25", "12.4", "36.0", "-4.00", "12.30"]


def test_every_one_of_the_ten_has_a_place_on_the_page(live):
    placed = {*display.TILES, *(f"{vector}_{axis}" for vector, _, _ in display.VECTORS for axis in "xyz")}
    assert placed == set(TEN)
    assert {f"t/q/{quantity}/value" for quantity in TEN} <= shown(TruckState("t")).keys()


def test_a_known_reason_is_in_both_languages_and_an_unknown_one_as_it_came(live):
    truck = TruckState("t")
    truck.take(live(NOW, {"illuminance": "saturated", "pm2_5": "fan <b>stuck</b>"}), NOW)
    fields = shown(truck)
    assert fields["t/q/illuminance/note"] == "測定範囲外 (saturated)"
    assert fields["t/q/pm2_5/note"] == "fan <b>stuck</b>"  # escaped where it becomes markup
    assert fields["t/q/pm2_5/value"] == display.NOTHING


def test_old_values_say_their_age_and_fresh_ones_do_not(live):
    truck = TruckState("t")
    truck.take(live(NOW, {"pressure": 101_325.0}), NOW)
    assert shown(truck)["t/q/pressure/note"] == ""
    assert "26 秒前" in shown(truck, NOW + 26_000_000_000)["t/q/pressure/note"]


def test_the_notes_of_three_axes_are_said_once(live):
    truck = TruckState("t")
    truck.take(live(NOW, {"acceleration_x": 1.0, "acceleration_y": "saturated", "acceleration_z": "saturated"}), NOW)
    assert shown(truck)["t/v/acceleration/note"] == "YZ: 測定範囲外 (saturated)"


def test_uncalibrated_values_are_marked_and_positions_are_not(live):
    truck = TruckState("t")
    truck.take(live(NOW, dict.fromkeys(TEN, 1e-7)), NOW)
    fields = shown(truck)
    assert fields["t/q/pm2_5/mark"] == fields["t/v/acceleration/mark"] == "未校正"
    assert fields["t/q/latitude/mark"] == ""


@pytest.mark.parametrize(("age", "words"), [
    (None, "受信なし"), (-0.3, "0 秒前"), (-7.0, "7 秒先"), (0.0, "0 秒前"), (59.9, "59 秒前"), (90.0, "1 分前"), (3 * 3600.0, "3 時間前"),
    (5 * 86_400.0, "5 日前"),
])  # fmt: skip
def test_ages_are_said_in_words(age, words):
    assert display.age_text(age)[0] == words


def test_no_minus_zero():
    assert display.value_text("angular_rate_x", -1e-9) == "0.00"


def test_a_picture_has_an_address_that_changes_with_it():
    truck = TruckState("t")
    assert shown(truck)["t/image/state"] == "none"
    truck.picture = Picture(b"12345", "front", "s", 77, NOW)
    assert shown(truck)["t/image/src"] == "/api/trucks/t/image?t=77-5"
    assert "JST" in shown(truck)["t/image/caption"]
    truck.picture = Picture(b"12345", "front", "s", 78, 0)
    assert "時刻不明" in shown(truck)["t/image/caption"]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (16_000_000, "16.0 MB"), (252 * 10**9, "252 GB")]
)
def test_sizes_have_few_figures(count, text):
    assert display.bytes_text(count) == text
