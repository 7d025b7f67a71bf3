"""SoX documents: what we write, and what is hostile. The dialects that are read: test_sox_dialects.py."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbook.quantities import BY_ID, TABLE
from sox.documents import (
    NAMESPACE,
    DocumentError,
    TransducerValue,
    data_document,
    device_document,
    format_si,
    parse_data,
    parse_device,
    parse_xml,
    transducer_name,
)

pytestmark = pytest.mark.timeout(60)

TIME = "2026-05-09T01:02:03.500000Z"

# The XSD of the CMU specification v0.0.18 (xsf/xeps: inbox/sensors.xml).
CMU_UNITS = {
    "meter", "gram", "second", "ampere", "kelvin", "mole", "candela", "radian", "steradian", "hertz", "newton", "pascal", "joule",
    "watt", "coulomb", "volt", "farad", "ohm", "siemens", "weber", "tesla", "henry", "lumen", "lux", "becquerel", "gray", "sievert",
    "katal", "liter", "square meter", "cubic meter", "meter per second", "meter per second squared", "reciprocal meter",
    "kilogram per cubic meter", "cubic meter per kilogram", "ampere per square meter", "ampere per meter", "mole per cubic meter",
    "candela per square meter", "kilogram per kilogram", "volt-ampere reactive", "volt-ampere", "watt second", "percent", "enum",
    "lat", "lon",
}  # fmt: skip
CMU_TYPES = {
    "indoor weather", "outdoor weather", "hvac", "occupancy", "multimedia input", "multimedia output", "scale", "vehicle",
    "resource consumption", "resource generation", "other",
}  # fmt: skip
CMU_TRANSDUCER = {
    "name", "id", "units", "unitScaler", "canActuate", "hasOwnNode", "transducerTypeName", "manufacturer", "partNumber",
    "serialNumber", "minValue", "maxValue", "resolution", "precision", "accuracy",
}  # fmt: skip
EXTENSIONS = {"radian per second", "watt per square meter", "reciprocal cubic meter"}


def one(xml: str) -> TransducerValue:
    values = parse_data(xml)
    assert len(values) == 1
    return values[0]


# --- written ---


def test_a_data_document_is_written_as_the_specification_shows_it():
    written = data_document([TransducerValue("temp", "293.2", None, "2011-02-25T17:13:20Z"), TransducerValue("heat", "1", "17", TIME)])
    expected = (
        f"<data xmlns='{NAMESPACE}'><transducerValue id='temp' typedValue='293.2' timestamp='2011-02-25T17:13:20Z'/>"
        f"<transducerValue id='heat' typedValue='1' timestamp='{TIME}' rawValue='17'/></data>"
    )
    assert ET.canonicalize(ET.tostring(written), rewrite_prefixes=True) == ET.canonicalize(expected, rewrite_prefixes=True)


@pytest.mark.parametrize("value", [
    TransducerValue("", "1", None, TIME), TransducerValue("a", None, "1", TIME), TransducerValue("a", "1", "1", ""),
])  # fmt: skip
def test_a_value_without_id_typed_value_or_timestamp_is_not_written(value):
    with pytest.raises(ValueError):
        data_document([value])


def test_an_empty_text_is_a_value():
    assert one(ET.tostring(data_document([TransducerValue("first_utc", "", None, TIME)]))) == ("first_utc", "", None, TIME)


def test_a_truck_is_described_as_a_vehicle_with_every_quantity_within_the_cmu_schema():
    device = device_document("truck-1", list(TABLE), name="Truck 1")
    assert device.tag == f"{{{NAMESPACE}}}device"
    assert device.attrib == {"name": "Truck 1", "id": "truck-1", "type": "vehicle"}
    assert [transducer.get("id") for transducer in device] == [quantity.id for quantity in TABLE]
    for transducer in device:
        assert transducer.tag == f"{{{NAMESPACE}}}transducer"
        assert set(transducer.attrib) <= CMU_TRANSDUCER
        assert transducer.attrib.keys() >= {"name", "id", "units"}
        assert transducer.get("units") in CMU_UNITS | EXTENSIONS


def test_limits_are_written_in_the_unit_on_the_wire():
    transducer = device_document("t", [BY_ID["pm2_5"]])[0].attrib
    assert (transducer["units"], transducer["unitScaler"], transducer["maxValue"]) == ("kilogram per cubic meter", "-9", "1000")
    assert float(transducer["resolution"]) == pytest.approx(1e-3)


def test_a_channel_is_a_device_of_its_own_with_text_values():
    device = device_document("truck-1_segments", ["url", "size"], name="truck-1_segments")
    assert device.get("type") in CMU_TYPES
    assert [dict(transducer.attrib) for transducer in device] == [{"name": name, "id": name, "units": "enum"} for name in ("url", "size")]


def test_what_is_described_is_read_back():
    device = parse_device(device_document("truck-1", list(TABLE)))
    assert (device.id, device.name, device.type) == ("truck-1", "truck-1", "vehicle")
    for transducer, quantity in zip(device.transducers, TABLE, strict=True):
        assert (transducer.id, transducer.name, transducer.units) == (quantity.id, transducer_name(quantity.name), quantity.sox_unit)
        assert transducer.scaler == quantity.sox_scaler
        assert transducer.low == pytest.approx(quantity.sox.shown(quantity.low))
        assert transducer.high == pytest.approx(quantity.sox.shown(quantity.high))


@pytest.mark.parametrize("quantity", TABLE, ids=lambda quantity: quantity.id)
def test_a_typed_value_keeps_far_more_than_the_resolution_of_the_chip(quantity):
    for part in (0.0, 1 / 3, 0.7071067811865476, 1.0):
        value = quantity.low + (quantity.high - quantity.low) * part
        assert abs(quantity.sox.si(float(format_si(quantity, value))) - value) < quantity.resolution / 100


@given(st.text(), st.text(), st.one_of(st.none(), st.text()))
def test_any_text_is_sent_as_legal_xml(identity, typed, raw):
    if not identity.strip():
        identity = "id" + identity
    document = data_document([TransducerValue(identity, typed, raw, TIME)])
    for attribute in parse_xml(ET.tostring(document, encoding="unicode"))[0].attrib.values():
        assert not any(ord(character) < 32 and character not in "\t\n\r" for character in attribute)
        attribute.encode("utf-8")  # no lone surrogate, which would end the stream


# --- hostile ---


@pytest.mark.parametrize("xml", [
    "<!DOCTYPE d [<!ENTITY a 'x'>]><data><transducerValue id='&a;'/></data>",
    "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><data>&a;</data>",
    "<!DOCTYPE data><data/>",
    "<data>&lt;!DOCTYPE d [&lt;!ENTITY a 'x'>]>&lt;transducerValue id='&amp;a;'/></data>",
    "<data>&lt;transducerValue id='a'", "", "plain", "<data>a &lt; b</data>", b"\xff\xfe", b"<?xml version='1.0' encoding='nope'?><data/>",
])  # fmt: skip
def test_document_types_and_broken_xml_are_refused(xml):
    with pytest.raises(DocumentError):
        parse_data(xml)


def test_endless_nesting_is_refused():
    with pytest.raises(DocumentError):
        parse_data("<data>" * 50 + "</data>" * 50)


@given(st.text())
def test_any_text_is_read_or_refused_but_nothing_else(text):
    try:
        parse_data(text)
        parse_data(f"<data><![CDATA[{text.replace(']]>', '')}]]></data>")
    except DocumentError:
        return
