"""Our documents against the CMU schema (cmu_sox.xsd, of our own words), apart from the extensions listed here, and against what Keio's
readers demand (tests/support/sox_readers.py)."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import sox_readers as keio
import xmlschema

import sox
from logbook.block import REASONS
from logbook.quantities import TABLE
from sox.documents import CALIBRATED, REASON, TransducerValue, data_document, device_document, element, format_si, transducer_name
from sox.events import Event, event_document
from sox.health import Health, health_document
from sox.nodes import CHANNELS, channel
from sox.packed import Packed, packed_device, packed_document
from sox.requests import IMAGES, Answer, Gone, Held, Place, Request, answer_document, request_document
from sox.segments import STORED, Announcement, Receipt, announcement_document, receipt_document
from sox.times import xep0082

pytestmark = pytest.mark.timeout(60)

# The schema has no unit for these quantities (docs/formats.md 5); nothing else of ours is outside it.
EXTENSIONS = {"radian per second", "watt per square meter", "reciprocal cubic meter"}

UTC_NS = 1_800_000_000_123_456_789
SHA256 = "0123456789abcdef" * 4
SEGMENT = "truck-1-aaaaaaaa-bbbbbbbb-000001-readings"
URL = "https://hub.example:5443/upload/x/y?a=1&b=2"


@pytest.fixture(scope="module")
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(Path(__file__).with_name("cmu_sox.xsd"))


def complaints(schema: xmlschema.XMLSchema, document: ET.Element | str) -> list[str]:
    """Everything the schema says against `document`, but for units of ours: these are left out, and counted by `extensions`."""
    return [str(error.reason) for error in schema.iter_errors(document) if not any(f"'{unit}'" in str(error.reason) for unit in EXTENSIONS)]


def snapshot_document() -> ET.Element:
    """Every quantity, as gateway/uplink_live.py publishes a snapshot: numbers calibrated or not, and every reason there is."""
    timestamp = xep0082(UTC_NS)
    values = []
    for index, quantity in enumerate(TABLE):
        values.append(TransducerValue(quantity.id, format_si(quantity, quantity.low), str(index), timestamp))
        if index % 2:
            values.append(TransducerValue(quantity.id + CALIBRATED, "true", None, timestamp))
        values.append(TransducerValue(quantity.id + REASON, REASONS[index % len(REASONS)] or "no trim", None, timestamp))
    return data_document(values)


def announcement() -> ET.Element:
    return announcement_document(Announcement(SEGMENT, URL, 1, SHA256, "readings", 5, 6, UTC_NS, UTC_NS, "truck-1"))


HELD = Held(SEGMENT, 3, 4, UTC_NS, UTC_NS, 1)
HEALTH = Health(
    UTC_NS, "aaaaaaaa", 5, True, False, {"readings": 1}, {"readings": 2}, 1e6, SEGMENT, UTC_NS, {"gaps": 3}, "metered", "wwan0", "rule 1",
    0, None, "gnss", 0.1, {"bmp390": "failed: no acknowledge"}, "hub: timeout",
)  # fmt: skip
COLUMNS = '[{"id":"acceleration_x","scale":0.0024}]'

DATA: dict[str, Callable[[], ET.Element]] = {
    "snapshot": snapshot_document,
    "announcement": announcement,
    "announcement without clock": lambda: announcement_document(
        Announcement(SEGMENT, URL, 1, SHA256, "readings", 5, 6, 0, 0, "truck-1")
    ),
    "receipt": lambda: receipt_document(Receipt(SEGMENT, STORED, SHA256, 1, ""), UTC_NS),
    "refusal": lambda: receipt_document(Receipt(SEGMENT, "refused", SHA256, 1, "object not found: 404 & gone"), UTC_NS),
    "event": lambda: event_document(Event("truck-1", "aaaaaaaa-bbbbbbbb", 1, "shock", "icm20948", '{"peak":12.5}', 5, UTC_NS)),
    "event without clock": lambda: event_document(Event("truck-1", "aaaaaaaa-bbbbbbbb", 1, "ignition_on", "recorder", "", 5, 0)),
    "health": lambda: health_document(HEALTH),
    "packed block": lambda: packed_document(Packed("aaaaaaaa-bbbbbbbb", 1, UTC_NS, "gnss", 0.1, "0123abcd", "Q0IC+/==")),
    "request": lambda: request_document(Request("r-1", IMAGES, UTC_NS, UTC_NS + 1, Place(35.3, 139.4, 100.0), UTC_NS)),
    "answer": lambda: answer_document(
        Answer("r-1", "done", "", 1, 1, 1, 1, 1, 1, (HELD,), (HELD,), (Gone(SEGMENT, 0, 0, "dropped"),)), UTC_NS
    ),
    "nothing": lambda: data_document([]),
}  # fmt: skip


def descriptions() -> dict[str, Callable[[str], ET.Element]]:
    """The truck's own, and every function `…_device(device)` of the room: each channel describes itself with one."""
    found: dict[str, Callable[[str], ET.Element]] = {
        "truck": lambda device: device_document(device, list(TABLE)),
        "packed blocks": lambda device: packed_device(device, COLUMNS),
    }
    for module in pkgutil.iter_modules(sox.__path__):
        for name, function in inspect.getmembers(importlib.import_module(f"sox.{module.name}"), inspect.isfunction):
            if name.endswith("_device") and list(inspect.signature(function).parameters) == ["device"]:
                found[name] = function
    return found


DEVICES = descriptions()


# --- the CMU schema


def test_every_channel_that_describes_itself_is_among_the_descriptions():
    assert {"truck", "announcements_device", "receipts_device"} <= set(DEVICES)


@pytest.mark.parametrize("name", DEVICES)
def test_a_description_is_valid_against_the_cmu_schema_apart_from_the_extensions(schema, name):
    assert complaints(schema, DEVICES[name]("truck-1")) == []


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_of_plain_texts_is_valid(schema, name):
    assert complaints(schema, device_document(channel("truck-1", name), ["a", "b"])) == []


@pytest.mark.parametrize("name", DATA)
def test_a_data_document_is_valid_without_any_extension(schema, name):
    assert [str(error.reason) for error in schema.iter_errors(DATA[name]())] == []


def test_each_extension_is_used_and_is_the_only_thing_the_schema_says_against_a_truck(schema):
    reasons = [str(error.reason) for error in schema.iter_errors(device_document("truck-1", list(TABLE)))]
    assert all(any(f"'{unit}'" in reason for unit in EXTENSIONS) for reason in reasons)
    assert {unit for unit in EXTENSIONS if any(f"'{unit}'" in reason for reason in reasons)} == EXTENSIONS


# The specification's own examples, as far as they are well formed and spell unitScaler as its schema does (facts, sox.md 1.1).
SPECIFICATION = {
    "meta": (
        "<device xmlns='http://jabber.org/protocol/sox' name='Royal Thermostat' id='4d4335b0-4134-11e0-9207-0800200c9a66' type='hvac' "
        "serialNumber='slave3'><transducer name='current temperature' id='temp' canActuate='false' hasOwnNode='false' units='kelvin' "
        "unitScaler='0' minValue='270' maxValue='320' resolution='0.1'/></device>"
    ),
    "data": (
        "<data xmlns='http://jabber.org/protocol/sox'><transducerValue id='temp' typedValue='293.2' timestamp='2011-02-25T17:13:20Z'/>"
        "<transducerValue id='heat' typedValue='295.4' timestamp='2011-02-25T17:13:20Z'/></data>"
    ),
    "set": "<data xmlns='http://jabber.org/protocol/sox'><transducerSetValue id='heat' typedValue='296.2'/></data>",
}


@pytest.mark.parametrize("name", SPECIFICATION)
def test_the_specifications_own_example_is_valid(schema, name):
    assert complaints(schema, SPECIFICATION[name]) == []


@pytest.mark.parametrize(("why", "document"), [
    ("no namespace", "<data/>"),
    ("no id", SPECIFICATION["meta"].replace("id='4d4335b0-4134-11e0-9207-0800200c9a66'", "")),
    ("unknown type", SPECIFICATION["meta"].replace("hvac", "participatory")),
    ("the examples' spelling", SPECIFICATION["meta"].replace("unitScaler", "unitScalar")),
    ("unknown unit", SPECIFICATION["meta"].replace("kelvin", "°C")),
    ("no typedValue", SPECIFICATION["data"].replace("typedValue", "rawValue")),
    ("a time without T", SPECIFICATION["data"].replace("25T17", "25 17")),
    ("set before value", SPECIFICATION["data"].replace("<transducerValue", "<transducerSetValue id='a' typedValue='1'/><transducerValue")),
    ("property before transducer", SPECIFICATION["meta"].replace("<transducer", "<property name='a' value='b'/><transducer")),
], ids=lambda part: part if " " in part and len(part) < 40 else "")  # fmt: skip
def test_what_the_schema_forbids_is_not_valid(schema, why, document):
    assert complaints(schema, document) != []


# --- Keio's readers


@pytest.mark.parametrize("name", DEVICES)
def test_keios_readers_see_every_transducer_of_a_description(name):
    device = DEVICES[name]("truck-1")
    text, ids = keio.on_the_wire(device), [found.get("id") for found in device if found.tag.endswith("}transducer")]
    assert list(keio.jsoxlib_device(text)) == ids
    assert keio.soxjs_device(text) == ids
    assert keio.soxlib_device(text) == ids


@pytest.mark.parametrize("name", ["Particles < 0.5 µm", "driver's cab", "a > b & c", 'a "b"'])
def test_any_name_leaves_a_description_readable_for_keios_readers(name):
    device = element("device", {"name": transducer_name(name), "id": "d", "type": "other"})
    device.append(element("transducer", {"name": transducer_name(name), "id": "t", "units": "enum"}))
    text = keio.on_the_wire(device)
    assert list(keio.jsoxlib_device(text)) == keio.soxjs_device(text) == keio.soxlib_device(text) == ["t"]


@pytest.mark.parametrize("name", DATA)
def test_keios_readers_see_every_value_of_a_data_document(name):
    document = DATA[name]()
    text = keio.on_the_wire(document)
    expected = {value.get("id", ""): value.get("typedValue", "") for value in document}
    assert {identity: seen.typed for identity, seen in keio.jsoxlib_data(text).items()} == expected
    assert {identity: seen.typed for identity, seen in keio.soxjs_data(text, list(expected)).items()} == expected
    assert keio.soxlib_data(text) == expected
    assert keio.python_sox_data(text) == expected
