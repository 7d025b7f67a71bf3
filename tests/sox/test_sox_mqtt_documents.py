"""Keio's JSON and SoX documents, from one to the other (facts: sox.md 1.6)."""

import json
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from logbook.quantities import TABLE
from sox.documents import TransducerValue, data_document, device_document, parse_device, xep0082
from sox.mqtt_documents import BadMessage, data_json, local_time, meta_json, read_data, read_meta, utc_of

JST = ZoneInfo("Asia/Tokyo")
NOON = 1_512_529_200_123_456_000  # 2017-12-06T12:00:00.123456+09:00


def value(name: str, typed: str | None, raw: str | None = None, timestamp: str | None = None) -> TransducerValue:
    return TransducerValue(name, typed, raw, xep0082(NOON) if timestamp is None else timestamp)


def test_values_are_written_as_keio_writes_them() -> None:
    text, left_out = data_json([value("温度", "21.5", "430"), value("count", "7"), value("id", "007"), value("raw", None, "on")], {}, JST)
    time = "2017-12-06 12:00:00.123456"
    assert left_out == {} and json.loads(text) == {
        "温度": {"raw_value": 21.5, "publish_timestamp": time}, "count": {"raw_value": 7, "publish_timestamp": time},
        "id": {"raw_value": "007", "publish_timestamp": time}, "raw": {"raw_value": "on", "publish_timestamp": time},
    }  # fmt: skip
    assert "温度" in text and isinstance(json.loads(text)["count"]["raw_value"], int)


@pytest.mark.parametrize(
    ("typed", "scaler", "number"),
    [
        ("1013.25", 2, 101325.0),
        ("48.1", -6, 48.1e-6),
        ("5", 3, 5000),
        ("0.1", 0, 0.1),
        ("-3", -1, -0.3),
        ("1e3", 0, 1000.0),
        ("open", 3, "open"),
    ],
)
def test_a_scaled_unit_is_multiplied_out_in_decimal(typed: str, scaler: int, number: object) -> None:
    text, _ = data_json([value("x", typed)], {"x": scaler}, JST)
    assert json.loads(text)["x"]["raw_value"] == number


def test_a_value_without_number_time_or_readable_scale_is_left_out_with_the_reason() -> None:
    values = [value("a", None), value("b", "1", timestamp=""), value("c", "1")]
    assert data_json(values, {"c": None}, JST) == ("", {"a": "no value", "b": "no time", "c": "its unitScaler is not readable"})


def test_the_description_has_keios_keys_and_spelling_and_the_bounds_in_the_plain_unit() -> None:
    device = parse_device(device_document("truck-1", TABLE, name="Truck 1"))
    said = json.loads(meta_json("truck-1", device, NOON, JST))
    assert list(said) == ["node_name", "location", "transducers", "descrption", "create_timestamp"]
    assert (said["node_name"], said["descrption"]) == ("truck-1_meta", "Truck 1")
    assert said["create_timestamp"] == "2017-12-06 12:00:00.123456" and said["location"] == [None, None]
    for quantity in TABLE:
        fields = said["transducers"][quantity.id]
        assert list(fields) == ["unit", "min_value", "max_value", "description"] and fields["unit"] == quantity.sox_unit
        assert fields["min_value"] == pytest.approx(quantity.sox.shown(quantity.low) * 10.0**quantity.sox_scaler)


def test_what_keio_sends_becomes_a_document_that_any_sox_reader_takes() -> None:
    payload = json.dumps({
        "temp": {"raw_value": 21.50, "publish_timestamp": "2017-12-06 12:00:00.123456"},
        "door": {"raw_value": True, "publish_timestamp": "2017-12-06T12:00:00"},
        "text": {"raw_value": "雨", "publish_timestamp": "2017-12-06T03:00:00+00:00"},
        "list": {"raw_value": [1, 2.5], "publish_timestamp": "2017-12-06 12:00:00"},
        "late": {"raw_value": 1, "publish_timestamp": "yesterday"}, "date": {"raw_value": 1, "publish_timestamp": "2017-12-06"},
        "none": {"raw_value": None, "publish_timestamp": "2017-12-06 12:00:00"}, "bare": 5,
    }).encode()  # fmt: skip
    values, left_out = read_data(payload, JST)
    second = "2017-12-06T03:00:00.000000Z"
    assert values == [
        TransducerValue("temp", "21.5", "21.5", "2017-12-06T03:00:00.123456Z"), TransducerValue("door", "true", "true", second),
        TransducerValue("text", "雨", "雨", second), TransducerValue("list", "[1, 2.5]", "[1, 2.5]", second),
    ]  # fmt: skip
    assert left_out == {"late": "no time", "date": "no time", "none": "no value", "bare": "no value"}
    assert len(data_document(values)) == 4


@pytest.mark.parametrize("key", ["descrption", "description"])
def test_a_description_is_read_in_either_spelling_and_without_whatever_is_missing(key: str) -> None:
    payload = {
        "node_name": "hut_meta", key: "weather < hut",
        "transducers": {"temp": {"unit": "℃", "min_value": -40, "max_value": 60.5, "description": "air"}, "x": {"units": "lux"}, "y": None},
    }  # fmt: skip
    device = parse_device(read_meta("hut", json.dumps(payload).encode()))
    assert (device.id, device.name, device.type) == ("hut", "weather below  hut", "other")
    assert [(t.id, t.name, t.units, t.low, t.high) for t in device.transducers] == [
        ("temp", "air", "℃", -40.0, 60.5), ("x", "x", "lux", None, None), ("y", "y", "enum", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[1]", b"\xff\xfe", b'"x"', b'{"a": NaN}', b"[" * 100_000, b'{"a": "' + b"x" * 300_000 + b'"}']
)
def test_what_is_no_json_object_or_far_too_long_says_nothing(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        read_data(payload, JST)
    with pytest.raises(BadMessage):
        read_meta("x", payload)


def test_a_description_without_transducers_says_nothing() -> None:
    with pytest.raises(BadMessage, match="transducers"):
        read_meta("x", b'{"node_name": "x_meta"}')


def test_times_are_of_the_zone_that_both_ends_know() -> None:
    assert local_time(NOON, JST) == "2017-12-06 12:00:00.123456" and local_time(NOON, UTC) == "2017-12-06 03:00:00.123456"
    assert utc_of(local_time(NOON, JST), JST) == NOON
    summer, winter = "2026-10-25 01:59:59", "2026-10-25 03:00:00"  # the clocks go back in between
    paris = ZoneInfo("Europe/Paris")
    assert (utc_of(winter, paris) - utc_of(summer, paris)) // 10**9 == 7201


def test_a_value_keeps_its_meaning_there_and_back() -> None:
    text, _ = data_json([value("pressure", "1013.251")], {"pressure": 2}, JST)
    [back] = read_data(text.encode(), JST).values
    assert back == TransducerValue("pressure", "101325.1", "101325.1", xep0082(NOON))
