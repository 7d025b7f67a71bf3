"""The profile of the first fleet (facts, sox.md 2.1): names, ids, labels and numbers as its consumers know them."""

import math
from pathlib import Path

import pytest
import sox_readers as keio
import xmlschema
from hypothesis import given
from hypothesis import strategies as st

from logbook.quantities import BY_ID, DEGREE, TABLE
from sox.carsensor import (
    MEAN_OF_MOST,
    QUANTITIES,
    TRANSDUCERS,
    Mean,
    Rate,
    Reading,
    carsensor_nodes,
    description,
    device,
    device_of_samples,
    item,
)
from sox.documents import parse_data, parse_device
from sox.times import parse_xep0082

pytestmark = pytest.mark.timeout(60)

UTC_NS = 1_800_000_000_123_456_789  # 2027-01-15T17:00:00.123+09:00
MILLISECOND = 1_000_000

# Written down from the facts, not taken from the module.
FIRST_FLEET = {
    "Data Index": "", "Serial Number": "", "Acceleration X": "m/s^2", "Acceleration Y": "m/s^2", "Acceleration Z": "m/s^2",
    "Angular Velocity X": "rad/s", "Angular Velocity Y": "rad/s", "Angular Velocity Z": "rad/s", "Geomagnetism X": "\u00b5T",
    "Geomagnetism Y": "\u00b5T", "Geomagnetism Z": "\u00b5T", "Atmospheric Pressure": "hPa", "Atmospheric Temperature": "°C",
    "Atmospheric Humidity": "%RH", "UV": "W/m^2", "Illuminance": "Lx", "PM2.5": "\u00b5g/m^3", "Satellite Number": "", "Longitude": "",
    "Latitude": "", "Altitude": "m", "Speed": "km/hr", "Cource": "°",
}  # fmt: skip
SAMPLE = {  # quantity in SI, transducer, what the first fleet would have shown
    "acceleration_z": (9.80665, "Acceleration Z", 9.80665),
    "angular_rate_x": (2000 * DEGREE, "Angular Velocity X", 2000.0),  # degrees a second, labelled rad/s
    "magnetic_field_y": (-31.5e-6, "Geomagnetism Y", -31.5),
    "pressure": (101_325.0, "Atmospheric Pressure", 1013.25),
    "temperature": (298.15, "Atmospheric Temperature", 25.0),
    "humidity": (55.5, "Atmospheric Humidity", 55.5),
    "uva": (12.7, "UV", 12.7),
    "illuminance": (20_000.0, "Illuminance", 20_000.0),
    "pm2_5": (12.5e-9, "PM2.5", 12.5),
    "longitude": (139.4912347, "Longitude", 139.4912347),
    "latitude": (35.3775801, "Latitude", 35.3775801),
    "altitude": (12.3, "Altitude", 12.3),
    "speed": (10.0, "Speed", 36.0),
    "bearing": (math.pi / 2, "Cource", 90.0),
}
READINGS = {quantity: Reading(value, UTC_NS) for quantity, (value, _, _) in SAMPLE.items()}


def text_of(readings: dict[str, Reading]) -> str:
    element = item(14, 7, readings)
    assert element is not None
    return keio.on_the_wire(element)


# --- names


def test_devices_and_nodes_are_named_as_the_first_fleets() -> None:
    assert (device(0), device(14), device(100)) == ("carsensor000", "carsensor014", "carsensor100")
    assert device_of_samples(7) == "carsensor007_100Hz"
    assert carsensor_nodes(7) == ["carsensor007_meta", "carsensor007_data", "carsensor007_100Hz_meta", "carsensor007_100Hz_data"]
    assert carsensor_nodes(7, samples=False) == ["carsensor007_meta", "carsensor007_data"]


@pytest.mark.parametrize("number", [-1, 1000])
def test_a_number_that_does_not_fit_into_the_name_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="0 to 999"):
        device(number)


def test_the_description_has_the_23_transducers_with_their_spellings_and_labels() -> None:
    described = parse_device(description(device(14)))
    assert (described.id, described.name, described.type) == ("carsensor014", "carsensor014", "outdoor weather")
    assert {transducer.id: transducer.units for transducer in described.transducers} == FIRST_FLEET
    assert all(transducer.name == transducer.id for transducer in described.transducers) and len(described.transducers) == 23


def test_each_quantity_is_one_of_the_table() -> None:
    assert {quantity.id for quantity in TABLE} >= QUANTITIES and len(QUANTITIES) == len(TRANSDUCERS) - 3


# --- values


def test_numbers_are_those_the_first_fleet_showed_typed_and_raw_alike() -> None:
    values = {value.id: value for value in parse_data(text_of(READINGS))}
    assert list(values) == [identity for identity in FIRST_FLEET if identity in values], "in the order of the description"
    for _, identity, shown in SAMPLE.values():
        assert values[identity].raw == values[identity].typed
        assert float(values[identity].raw or "") == pytest.approx(shown, rel=1e-11)
    assert (values["Data Index"].raw, values["Serial Number"].raw) == ("007", "014")


def test_an_index_begins_anew_where_the_boxs_24_bits_did() -> None:
    element = item(14, (1 << 24) + 5, READINGS)
    assert element is not None and parse_data(element)[0].typed == "005"


def test_each_value_has_its_own_time_of_collection_in_japan() -> None:
    old = READINGS | {"temperature": Reading(298.15, UTC_NS - 1_500 * MILLISECOND)}
    written = keio.jsoxlib_data(text_of(old))
    assert written["Longitude"].timestamp == "2027-01-15T17:00:00.123+09:00"
    assert written["Atmospheric Temperature"].timestamp == "2027-01-15T16:59:58.623+09:00"
    assert written["Data Index"].timestamp == written["Longitude"].timestamp


def test_what_has_no_number_is_left_out_and_an_item_of_nothing_is_none() -> None:
    assert item(14, 1, {}) is None and item(14, 1, {"pressure": Reading(math.nan, UTC_NS), "uvb": Reading(1.0, UTC_NS)}) is None
    values = parse_data(text_of(READINGS | {"pressure": Reading(math.nan, UTC_NS)}))
    assert "Atmospheric Pressure" not in {value.id for value in values} and len(values) == len(SAMPLE) + 1


def test_a_time_that_cannot_be_written_is_an_overflow() -> None:
    with pytest.raises(OverflowError):
        item(14, 1, {"pressure": Reading(1.0, 1 << 62 << 8)})


@given(st.sampled_from(sorted(QUANTITIES)), st.floats(0, 1))
def test_a_number_keeps_more_than_the_resolution_of_the_chip(identity: str, part: float) -> None:
    quantity = BY_ID[identity]
    si = quantity.low + (quantity.high - quantity.low) * part
    shown = next(
        value.typed for value in parse_data(text_of({identity: Reading(si, UTC_NS)})) if value.id not in ("Data Index", "Serial Number")
    )
    assert abs(quantity.display.si(float(shown or "")) - si) < quantity.resolution / 100


# --- what existing consumers see


def test_jsoxlib_sees_device_and_values() -> None:
    assert keio.jsoxlib_device(keio.on_the_wire(description(device(14)))) == FIRST_FLEET
    seen = keio.jsoxlib_data(text_of(READINGS))
    assert seen["PM2.5"] == keio.Seen("12.5", "12.5", "2027-01-15T17:00:00.123+09:00")
    assert parse_xep0082(seen["PM2.5"].timestamp) == UTC_NS // MILLISECOND * MILLISECOND


def test_the_first_fleets_map_sees_position_speed_and_course_at_the_time_of_japan() -> None:
    described = keio.soxjs_device(keio.on_the_wire(description(device(14))))
    seen = keio.soxjs_data(text_of(READINGS), described)
    assert {"Longitude", "Latitude", "Speed", "Cource", "PM2.5"} <= set(seen), "SoxJS shows what was described alone"
    assert seen["Cource"].raw == "90" and seen["Latitude"].timestamp == "2027-01-15T17:00:00"


def test_soxlib_and_python_sox_see_typed_values() -> None:
    text = text_of(READINGS)
    assert keio.soxlib_data(text) == keio.python_sox_data(text) and keio.soxlib_data(text)["Speed"] == "36"
    assert keio.soxlib_device(keio.on_the_wire(description(device(14)))) == list(FIRST_FLEET)


def test_items_are_valid_against_the_cmu_schema_and_descriptions_apart_from_the_first_fleets_labels() -> None:
    schema = xmlschema.XMLSchema(Path(__file__).with_name("cmu_sox.xsd"))
    element = item(14, 7, READINGS)
    assert element is not None and schema.is_valid(element)
    reasons = [str(error.reason) for error in schema.iter_errors(description(device(14)))]
    assert reasons and all("attribute units=" in reason for reason in reasons)


# --- the mean of PM2.5


def test_pm2_5_is_the_mean_since_the_last_item_with_a_negative_as_0() -> None:
    mean = Mean()
    assert mean.take() is None
    for number, value in enumerate((-4e-9, 6e-9, 9e-9, math.nan)):
        mean.add(Reading(value, UTC_NS + number))
    taken = mean.take()
    assert taken is not None and taken.value == pytest.approx(5e-9) and taken.utc_ns == UTC_NS + 2
    assert mean.take() is None, "begun anew"


def test_a_mean_is_of_a_bounded_number_of_values() -> None:
    mean = Mean()
    for number in range(MEAN_OF_MOST + 50):
        mean.add(Reading(float(number), number))
    taken = mean.take()
    assert taken is not None and taken.value == pytest.approx(50 + (MEAN_OF_MOST - 1) / 2)


# --- the rate of samples


def passed(hz: int, period_ns: float, seconds: int = 10, begin_ns: int = 5_000_000_000) -> list[int]:
    rate = Rate(hz)
    times = [begin_ns + round(number * period_ns) for number in range(round(seconds * 1e9 / period_ns))]
    return [at for at in times if rate.passes(at)]


@pytest.mark.parametrize("hz", [1, 10, 25, 50, 100])
@pytest.mark.parametrize("source_hz", [100.0, 102.27])
def test_so_many_samples_pass_as_the_rate_says_evenly(hz: int, source_hz: float) -> None:
    times = passed(hz, 1e9 / source_hz)
    assert abs(len(times) - 10 * hz) <= 1
    apart = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert max(apart) < 1e9 / hz + 1.01e9 / source_hz


def test_all_samples_of_a_slower_source_pass() -> None:
    assert len(passed(100, 1e9 / 33)) == 330


def test_after_a_gap_and_after_times_went_back_the_rate_goes_on() -> None:
    rate = Rate(10)
    assert [rate.passes(at * MILLISECOND) for at in (0, 50, 100, 5_000, 5_050, 5_100)] == [True, False, True, True, False, True]
    assert [rate.passes(at * MILLISECOND) for at in (1_000, 1_050, 1_100)] == [True, False, True]


@pytest.mark.parametrize("hz", [0, -1, 101])
def test_a_rate_out_of_range_is_refused(hz: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        Rate(hz)
