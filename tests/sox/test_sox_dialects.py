"""The table of dialects (facts, sox.md 1.5): each cell that a document shows is a case, named by its producer and the point. Rows about
nodes (how they are made, subscribed and named) are the hub's and are no documents. All rows have names as in the table."""

from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sox.documents import NAMESPACE, DocumentError, parse_data, parse_device

pytestmark = pytest.mark.timeout(60)

SOX = f"xmlns='{NAMESPACE}'"
PUBSUB = "xmlns='http://jabber.org/protocol/pubsub'"
ESCAPED = (
    "&lt;transducerValue rawvalue=&apos;52&apos; timestamp=&apos;2014-01-08T18:54:21.485+09:00&apos; typedvalue=&apos;52&apos; "
    "id=&apos;気温&apos;/&gt;"
)


def value(attributes: str) -> str:
    return f"<data><transducerValue id='a' {attributes}/></data>"


ONE = value("typedValue='1'")

# producer: point -> document, what is read: (id, typed, raw, timestamp) of each value
DATA: dict[str, tuple[str, list[tuple[str, str | None, str | None, str]]]] = {
    "CMU: namespace sox": (
        f"<data {SOX}><transducerValue id='temp' typedValue='293.2' timestamp='2011-02-25T17:13:20Z'/></data>",
        [("temp", "293.2", None, "2011-02-25T17:13:20.000000Z")],
    ),
    "JSoxLib: no namespace, that of pubsub is inherited": (
        f"<item {PUBSUB} id='x'>\n   <data>\n   <transducerValue id=\"latitude\" typedValue=\"35.3892923\" "
        'timestamp="2017-12-06T12:00:00+09:00" rawValue="35.3892923"/>\n   </data></item>',
        [("latitude", "35.3892923", "35.3892923", "2017-12-06T03:00:00.000000Z")],
    ),
    "JSoxLib: no namespace at all": (ONE, [("a", "1", None, "")]),
    "SoxJS: no namespace, children escaped into text": (
        f"<data {PUBSUB}>{ESCAPED}</data>", [("気温", "52", "52", "2014-01-08T09:54:21.485000Z")]
    ),
    "soxjs2: namespace sox": (f"<data {SOX}><transducerValue id='a' typedValue='1'/></data>", [("a", "1", None, "")]),
    "python-sox: namespace sox": (
        f"<data {SOX}>\n  <transducerValue id='a' typedValue='1' rawValue='1'/>\n</data>\n", [("a", "1", "1", "")]
    ),
    "iOSSoxLib: no namespace": (value("typedValue='1' rawValue='2'"), [("a", "1", "2", "")]),
    "anyone: a namespace of nobody, with a prefix": (
        "<n:data xmlns:n='urn:x'><n:transducerValue n:id='a' n:typedValue='1'/></n:data>", [("a", "1", None, "")]
    ),
    "CMU: wrapper data": (ONE, [("a", "1", None, "")]),
    "CMU before 0.0.18: no wrapper": ("<transducerValue id='a' typedValue='1'/>", [("a", "1", None, "")]),
    "CMU before 0.0.18: no wrapper, in its item": (
        "<item id='current'><transducerValue id='a' typedValue='1'/><transducerValue id='b' typedValue='2'/></item>",
        [("a", "1", None, ""), ("b", "2", None, "")],
    ),
    "soxjs2: wrapper device": (f"<device {SOX}><transducerValue id='a' typedValue='1'/></device>", [("a", "1", None, "")]),
    **{
        f"{producer}: item id": (f"<item {PUBSUB} id='{identity}'>{ONE}</item>", [("a", "1", None, "")])
        for producer, identity in (
            ("CMU", "current"), ("CMU Android", "data"), ("JSoxLib", "5C6A41E4F2B1"), ("SoxJS", "a_data"), ("soxjs2", "client-1:unique"),
            ("python-sox", "6ba7b8109dad11d180b400c04fd430c8"), ("CarSensorJLib", "60E1D9D05DB8F"),
        )
    },
    "anyone: no item id": (f"<item>{ONE}</item>", [("a", "1", None, "")]),
    "CMU: typedValue without rawValue": (ONE, [("a", "1", None, "")]),
    "JSoxLib: typedValue is optional": (
        value("rawValue='1' timestamp='2017-12-06T12:00:00+09:00'"), [("a", None, "1", "2017-12-06T03:00:00.000000Z")]
    ),
    "JSoxLib: neither value": (value(""), [("a", None, None, "")]),
    "CarSensorJLib: rawValue only": (
        "<data><transducerValue id='Atmospheric Pressures' rawValue='1013.2' timestamp='2017-03-07T10:00:00.123+09:00'/></data>",
        [("Atmospheric Pressures", None, "1013.2", "2017-03-07T01:00:00.123000Z")],
    ),
    "python-sox: rawValue repeats typedValue": (value("typedValue='x y' rawValue='x y'"), [("a", "x y", "x y", "")]),
    "SoxJS: attributes in lower case": (value("rawvalue='52' typedvalue='53'"), [("a", "53", "52", "")]),
    "JSoxLib since 2021: elements in lower case": (
        "<data><transducervalue id='a' rawvalue='1' typedvalue='2'/></data>", [("a", "2", "1", "")]
    ),
    "CarSensorJLib: the spellings of its ids": (
        "<data><transducerValue id='Cource' rawValue='1'/><transducerValue id='Illuminace' rawValue='2'/></data>",
        [("Cource", None, "1", ""), ("Illuminace", None, "2", "")],
    ),
    "CMU: the vehicle's ids are other than described": (value("typedValue='8.7'").replace("'a'", "'1'"), [("1", "8.7", None, "")]),
    "JSoxLib: an attribute of nobody": (value("typedValue='1' confidence='9'"), [("a", "1", None, "")]),
    "SoxJS: children escaped twice": (
        "<data>&amp;lt;transducerValue id=&amp;apos;a&amp;apos; typedValue=&amp;apos;1 &amp;amp;amp; 2&amp;apos;/&amp;gt;</data>",
        [("a", "1 & 2", None, "")],
    ),
    "anyone: escaped children among real ones": (
        "<data>&lt;transducerValue id='a' typedValue='1'/&gt;<transducerValue id='b' typedValue='2'/>"
        "&lt;transducerValue id='c' typedValue='3'/&gt;</data>",
        [("a", "1", None, ""), ("b", "2", None, ""), ("c", "3", None, "")],
    ),
    "anyone: values without id": ("<data><transducerValue typedValue='1'/><transducerValue id=' ' typedValue='1'/></data>", []),
    "CMU: set values are requests, no values": (f"<data {SOX}><transducerSetValue id='heat' typedValue='296.2'/></data>", []),
    "CMU: geoloc and comments between": (
        f"<data {SOX}><!-- x --><?x y?><geoloc xmlns='http://jabber.org/protocol/geoloc'><lat>1</lat></geoloc>"
        "<transducerValue id='a' typedValue='1'/></data>",
        [("a", "1", None, "")],
    ),
    "anyone: no value": ("<data/>", []),
}  # fmt: skip

# producer: how it writes a time -> the time, what is read ("": it names no moment)
TIMES = {
    "CMU: XEP-0082": ("2011-02-25T17:13:20Z", "2011-02-25T17:13:20.000000Z"),
    "CMU: an example without zone": ("2011-02-25T17:13:20", ""),
    "JSoxLib: seconds, zone of whole hours": ("2017-12-06T12:00:00+09:00", "2017-12-06T03:00:00.000000Z"),
    "SoxJS: month and day unpadded, zone with two signs": ("2014-1-8T18:54:21.485--9:00", "2014-01-08T09:54:21.485000Z"),
    "SoxJS: all unpadded": ("2014-1-8T8:4:1.005--9:00", "2014-01-07T23:04:01.005000Z"),
    "SoxJS: in UTC": ("2014-1-8T18:54:21.485+0:00", "2014-01-08T18:54:21.485000Z"),
    "SoxJS: captured": ("2014-01-08T18:54:21.485+09:00", "2014-01-08T09:54:21.485000Z"),
    "soxjs2: milliseconds, Z": ("2019-12-09T01:02:03.004Z", "2019-12-09T01:02:03.004000Z"),
    "python-sox: microseconds unpadded, 123": ("2020-08-04T01:02:03.123Z", "2020-08-04T01:02:03.123000Z"),
    "python-sox: microseconds unpadded, 33451": ("2020-08-04T01:02:03.33451+09:00", "2020-08-03T16:02:03.334510Z"),
    "python-sox: no fraction for none": ("2020-08-04T01:02:03+09:00", "2020-08-03T16:02:03.000000Z"),
    "iOSSoxLib: XEP-0082": ("2019-01-08T18:54:21+09:00", "2019-01-08T09:54:21.000000Z"),
    "CarSensorJLib: milliseconds, +09:00": ("2017-03-07T10:00:00.123+09:00", "2017-03-07T01:00:00.123000Z"),
    "soxlib: microseconds, +09:00": ("2014-05-14T16:33:32.778352+09:00", "2014-05-14T07:33:32.778352Z"),
    "anyone: a fraction over long": ("2014-05-14T16:33:32.7783521234567+09:00", "2014-05-14T07:33:32.778352Z"),
    "anyone: nothing": ("", ""),
    "anyone: no time": ("NaN-NaN-NaNTNaN:NaN:NaN.aN+NaN:00", ""),
}


class Described(NamedTuple):
    """What is read of a description; transducers as (id, name, units, scaler)."""

    id: str
    name: str
    type: str
    transducers: list[tuple[str, str, str, int | None]]


DEVICES: dict[str, tuple[str, Described]] = {
    "CMU: namespace and every attribute": (
        f"<device {SOX} name='Royal Thermostat' id='4d4335b0' type='hvac' serialNumber='slave3' timestamp='2011-02-25T17:13:20Z' "
        "description='d'><transducer name='current temperature' id='temp' canActuate='false' hasOwnNode='false' units='kelvin' "
        "unitScaler='0' minValue='270' maxValue='320' resolution='0.1' manufacturer='m' partNumber='p' serialNumber='s'/></device>",
        Described("4d4335b0", "Royal Thermostat", "hvac", [("temp", "current temperature", "kelvin", 0)]),
    ),
    "CMU: a geoloc and properties": (
        f"<device {SOX} name='d' id='i' type='other'><transducer name='n' id='t' units='lux'><property name='a' value='b'/></transducer>"
        "<geoloc xmlns='http://jabber.org/protocol/geoloc'><lat>1</lat></geoloc><property name='a' value='b'/></device>",
        Described("i", "d", "other", [("t", "n", "lux", 0)]),
    ),
    "CMU: a unit misspelt in an example": (
        "<device name='d' id='i' type='vehicle'><transducer name='motion X' id='01' units='meter per seconf squared'/></device>",
        Described("i", "d", "vehicle", [("01", "motion X", "meter per seconf squared", 0)]),
    ),
    "CMU: an example without name": (
        "<device id='xyzzy' type='scale'><transducer name='bathroom scale' id='0001' units='gram' unitScaler='3'/></device>",
        Described("xyzzy", "", "scale", [("0001", "bathroom scale", "gram", 3)]),
    ),
    **{
        f"{producer}: {spelling}": (
            f"<device name='d' id='i'><transducer name='t' id='t' units='tesla' {spelling}='-6'/></device>",
            Described("i", "d", "", [("t", "t", "tesla", -6)]),
        )
        for producer, spelling in (
            ("CMU's schema", "unitScaler"), ("CMU's examples", "unitScalar"), ("JSoxLib", "unitScaler"), ("SoxJS", "unitScaler"),
            ("soxjs2", "unitScalar"), ("python-sox", "unitScalar"), ("iOSSoxLib", "unitScaler"), ("anyone", "unitscaler"),
        )
    },
    "CarSensorJLib: no scale": (
        "<device name='d' id='i'><transducer name='t' id='t' units='µT'/></device>", Described("i", "d", "", [("t", "t", "µT", 0)])
    ),
    "anyone: a scale that is no number": (
        "<device name='d'><transducer name='t' unitScaler='micro'/></device>", Described("d", "d", "", [("t", "t", "", None)])
    ),
    "JSoxLib: serialnumber beside serialNumber": (
        "<device name='d' id='i' serialNumber='1' serialnumber='2'><transducer name='t' id='t' serialnumber='3'/></device>",
        Described("i", "d", "", [("t", "t", "", 0)]),
    ),
    "iOSSoxLib: manufacture": (
        "<device name='d' id='i'><transducer name='t' id='t' manufacture='m'/></device>", Described("i", "d", "", [("t", "t", "", 0)])
    ),
    "JSoxLib: no namespace, units of its own": (
        f"<device {PUBSUB} name=\"testNode\" id=\"testNode\" type=\"outdoor weather\">\n   <transducer name=\"latitude\" id=\"latitude\" "
        "units=\"lat\"/>\n   <transducer name=\"speed\" id=\"speed\" units=\"km/hr\"/>\n</device>",
        Described("testNode", "testNode", "outdoor weather", [("latitude", "latitude", "lat", 0), ("speed", "speed", "km/hr", 0)]),
    ),
    "JSoxLib: everything of a device is optional": ("<device/>", Described("", "", "", [])),
    "JSoxLib: a transducer without units": (
        "<device name='d'><transducer name='t' id='t'/></device>", Described("d", "d", "", [("t", "t", "", 0)])
    ),
    "SoxJS: captured, children escaped, no id": (
        "<items node='しらすの入荷情報湘南_meta'><item id='metaInfo'><device name='しらすの入荷情報湘南' type='outdoor weather'>"
        "&lt;transducer name=&apos;url&apos; id=&apos;url&apos; /&gt;\n"
        " &lt;transducer name=&apos;気温&apos; id=&apos;気温&apos; units=&apos;℃&apos; /&gt;</device></item></items>",
        Described("しらすの入荷情報湘南", "しらすの入荷情報湘南", "outdoor weather", [("url", "url", "", 0), ("気温", "気温", "℃", 0)]),
    ),
    "SoxJS: what is not known is written undefined": (
        "<device name='d' type='undefined'>&lt;transducer name='t' id='t' unitScaler='NaN' minValue='NaN'/&gt;</device>",
        Described("d", "d", "undefined", [("t", "t", "", None)]),
    ),
    "anyone: transducers without id, without name, without both": (
        "<device><transducer name='n'/><transducer id='i'/><transducer units='lux'/></device>",
        Described("", "", "", [("n", "n", "", 0), ("i", "i", "", 0)]),
    ),
    "anyone: elements and attributes in lower case": (
        "<Device NAME='d' Id='i' TYPE='other'><TRANSDUCER Name='n' ID='t' Units='lux' UNITSCALER='2'/></Device>",
        Described("i", "d", "other", [("t", "n", "lux", 2)]),
    ),
    "CMU: its eleven types": ("<device name='d' type='resource generation'/>", Described("d", "d", "resource generation", [])),
    "JSoxLib: its two further types": ("<device name='d' type='participatory'/>", Described("d", "d", "participatory", [])),
    "JSoxLib: the Java name of a type": ("<device name='d' type='OUTDOOR_WEATHER'/>", Described("d", "d", "outdoor weather", [])),
    "soxjs2: a type of nobody": ("<device name='d' type='hogetype'/>", Described("d", "d", "hogetype", [])),
    "CarSensorJLib: trucks are outdoor weather": (
        "<device name='carsensor001' id='carsensor001' type='outdoor weather'><transducer name='Cource' id='Cource' units='°'/></device>",
        Described("carsensor001", "carsensor001", "outdoor weather", [("Cource", "Cource", "°", 0)]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_values_are_read(case: str) -> None:
    document, expected = DATA[case]
    assert parse_data(document) == expected
    assert parse_data(ET.fromstring(document)) == expected, "as the element that a connection gives"


@pytest.mark.parametrize("case", TIMES)
def test_a_time_is_read_or_is_none_and_never_costs_the_value(case: str) -> None:
    written, expected = TIMES[case]
    assert parse_data(value(f"typedValue='1' timestamp='{written}'")) == [("a", "1", None, expected)]


def test_a_value_without_any_time_is_a_value() -> None:
    assert parse_data(value("typedValue='1'")) == [("a", "1", None, "")]


@pytest.mark.parametrize("case", DEVICES)
def test_a_description_is_read(case: str) -> None:
    document, expected = DEVICES[case]
    device = parse_device(document)
    assert (device.id, device.name, device.type) == expected[:3]
    assert [(found.id, found.name, found.units, found.scaler) for found in device.transducers] == expected.transducers


@pytest.mark.parametrize(("written", "low"), [("-1", -1.0), ("1e3", 1000.0), ("x", None), ("NaN", None), ("inf", None), ("", None)])
def test_a_limit_is_a_number_or_unknown(written: str, low: float | None) -> None:
    transducer = parse_device(f"<device name='d'><transducer name='t' minvalue='{written}'/></device>").transducers[0]
    assert (transducer.low, transducer.high) == (low, None)


@pytest.mark.parametrize("document", ["<data/>", DATA["CMU: namespace sox"][0], "<item/>"])
def test_a_document_without_device_is_no_description(document: str) -> None:
    with pytest.raises(DocumentError):
        parse_device(document)


# --- mutated documents

DOCUMENTS = [document for document, _ in (*DATA.values(), *DEVICES.values())]
PIECES = (
    "<", ">", "&", "&lt;", "&gt;", "&amp;", "&apos;", "&#0;", "&#xd800;", "&#65;", "&x;", "'", '"', "/", "=", " ", "\0", "\ud800", "]]>",
    "<![CDATA[", "<!--", "-->", "<?xml", "<!DOCTYPE d>", "<!DOCTYPE d [<!ENTITY x 'y'>]>", "xmlns='", "xmlns:n=''", "<data>", "</data>",
    "<device>", "<transducer id='", "id='a' id='b'", "timestamp='9999-12-31T23:59:59-14:00'", "timestamp='0001-01-01T00:00:00+14:00'",
    "unitScaler='99'", "minValue='1_0'", "&lt;data&gt;" * 12, "<data>" * 12,
)  # fmt: skip
EDIT = st.tuples(st.floats(0, 1), st.floats(0, 0.2), st.one_of(st.just(""), st.sampled_from(PIECES), st.text(max_size=4)))


def mutated(document: str, edits: list[tuple[float, float, str]]) -> str:
    """`document` with parts of it taken out and other text put in."""
    for at, length, text in edits:
        start = int(at * len(document))
        document = document[:start] + text + document[start + int(length * len(document)) :]
    return document


def readable_or_refused(document: str | bytes) -> None:
    for read in (parse_data, parse_device):
        try:
            read(document)
        except DocumentError as error:
            assert "\n" not in str(error)


@settings(max_examples=300)
@given(st.sampled_from(DOCUMENTS), st.lists(EDIT, min_size=1, max_size=4))
@example(DATA["CMU: namespace sox"][0], [(0.0, 0.0, "<data>" * 50)])
def test_a_mutated_document_is_read_or_refused_but_nothing_else(document: str, edits: list[tuple[float, float, str]]) -> None:
    readable_or_refused(mutated(document, edits))


@settings(max_examples=150)
@given(st.sampled_from(DOCUMENTS), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6))
def test_bytes_with_some_of_them_wrong_are_read_or_refused_but_nothing_else(document: str, wrong: list[tuple[float, int]]) -> None:
    data = bytearray(document.encode())
    for at, byte in wrong:
        data[int(at * len(data))] = byte
    readable_or_refused(bytes(data))


@settings(max_examples=100)
@given(st.sampled_from(DOCUMENTS), st.integers(1, 3), st.lists(EDIT, max_size=2))
def test_a_document_escaped_into_itself_is_read_or_refused_but_nothing_else(
    document: str, times: int, edits: list[tuple[float, float, str]]
) -> None:
    for _ in range(times):
        element = ET.Element("data")
        element.text = mutated(document, edits).encode("utf-8", "replace").decode().replace("\0", "")
        document = ET.tostring(element, encoding="unicode")
    readable_or_refused(document)
