"""What the readers of Keio's clients demand of a document, written anew from the facts (sox.md 1.3 to 1.5) and independent of ours:
JSoxLib (Java, Simple-XML in strict mode), SoxJS (web, jQuery), soxlib (web), python-sox. Each takes the text of a payload as the wire has
it (`on_the_wire`) and gives what its user would see, or raises Unreadable as the client would fail."""

import re
from datetime import datetime
from html.parser import HTMLParser
from typing import NamedTuple
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

JSOXLIB_TYPES = {
    "indoor weather", "outdoor weather", "outdoor atmosphere", "hvac", "occupancy", "multimedia input", "multimedia output", "scale",
    "vehicle", "resource consumption", "resource generation", "participatory", "other",
}  # fmt: skip
_JSOXLIB = {  # element: attributes it may have, those it must have, elements it may hold
    "device": ({"name", "id", "type", "timestamp", "description", "serialNumber", "serialnumber"}, set(), {"transducer", "property"}),
    "transducer": (
        {"name", "id", "units", "unitScaler", "canActuate", "hasOwnNode", "transducerTypeName", "manufacturer", "partNumber",
         "serialNumber", "minValue", "maxValue", "resolution", "precision", "accuracy"},
        {"name", "id"}, {"property"},
    ),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "data": (set(), set(), {"transducerValue", "transducerSetValue"}),
    "transducerValue": ({"id", "typedValue", "timestamp", "rawValue"}, {"id"}, set()),
    "transducerSetValue": ({"id", "typedValue", "rawValue"}, {"id"}, set()),
}  # fmt: skip
_NUMBERS = ("minValue", "maxValue", "resolution", "precision", "accuracy")
_PYTHON_SOX_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_SOXJS_TIME = re.compile(r"(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)")


class Unreadable(Exception):
    """The client fails, or sees something else than was meant."""


class Seen(NamedTuple):
    """A value as a client gives it to its user."""

    raw: str | None
    typed: str | None
    timestamp: str


def on_the_wire(element: ET.Element) -> str:
    """`element` as ejabberd writes it out: attributes in single quotes, apostrophes escaped; the namespace stands on the root."""

    def write(node: ET.Element, outer: str) -> str:
        namespace, _, name = node.tag.rpartition("}")
        attributes = dict(node.attrib)
        if namespace[1:] != outer:
            attributes["xmlns"] = namespace[1:]
        quotes = {"'": "&apos;", '"': "&quot;"}
        text = "".join(f" {key}='{escape(value, quotes)}'" for key, value in attributes.items())
        return f"<{name}{text}>{escape(node.text or '')}{''.join(write(child, namespace[1:]) for child in node)}</{name}>"

    return write(element, "")


def _unescaped(text: str) -> str:
    """All of Keio's readers do this to the text before they parse it, for SoxJS escapes the children of its documents."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&apos;", "'")


def _jsoxlib(text: str, root: str) -> ET.Element:
    try:
        element = ET.fromstring(_unescaped(text))
    except ET.ParseError as error:
        raise Unreadable(f"JSoxLib: {error}") from error

    def check(node: ET.Element, name: str) -> None:
        if node.tag.rpartition("}")[2] != name:
            raise Unreadable(f"JSoxLib: <{node.tag}> is not <{name}>")
        may, must, holds = _JSOXLIB[name]
        if not must <= set(node.attrib) <= may:
            raise Unreadable(f"JSoxLib: attributes of <{name}>: {sorted(node.attrib)}")
        for child in node:
            inner = child.tag.rpartition("}")[2]
            if inner not in holds:
                raise Unreadable(f"JSoxLib: <{inner}> in <{name}>")
            check(child, inner)

    check(element, root)
    return element


def jsoxlib_device(text: str) -> dict[str, str]:
    """Transducer id -> units."""
    device = _jsoxlib(text, "device")
    if device.get("type", "other") not in JSOXLIB_TYPES:
        raise Unreadable(f"JSoxLib: type {device.get('type')!r}")
    transducers = [child for child in device if child.tag.rpartition("}")[2] == "transducer"]
    for transducer in transducers:
        for name in _NUMBERS:
            float(transducer.get(name, "0"))
        int(transducer.get("unitScaler", "0"))
    return {transducer.attrib["id"]: transducer.get("units", "") for transducer in transducers}


def jsoxlib_data(text: str) -> dict[str, Seen]:
    """Id -> value."""
    return {
        value.attrib["id"]: Seen(value.get("rawValue"), value.get("typedValue"), value.get("timestamp", ""))
        for value in _jsoxlib(text, "data")
    }


class _Tags(HTMLParser):
    """The tags of a text as a browser sees them: names in lower case, of elements and of attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, {name: value or "" for name, value in attrs}))

    def named(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.seen if tag == name]


def soxjs_device(text: str) -> list[str]:
    """The ids of the transducers that SoxJS makes: it shows values of these alone."""
    transducers = _Tags(_unescaped(text)).named("transducer")
    if not all("id" in transducer for transducer in transducers):
        raise Unreadable("SoxJS: a transducer without id")
    return [transducer["id"] for transducer in transducers]


def soxjs_data(text: str, transducers: list[str]) -> dict[str, Seen]:
    """What SoxJS shows of a data item, where `transducers` were described. It reads the time as one of the browser's own zone, to the
    second: a time of Japan is right in Japan."""
    shown = {}
    for value in _Tags(_unescaped(text)).named("transducervalue"):
        time = _SOXJS_TIME.match(value.get("timestamp", ""))
        if time is None:
            raise Unreadable(f"SoxJS: time {value.get('timestamp')!r}")
        local = datetime(*(int(part) for part in time.groups()))  # type: ignore[arg-type]
        if value.get("id", "") in transducers:
            shown[value["id"]] = Seen(value.get("rawvalue"), value.get("typedvalue"), local.isoformat())
    return shown


def soxlib_device(text: str) -> list[str]:
    """soxlib (web): the ids of the transducers; a device must have a name."""
    devices = _Tags(_unescaped(text)).named("device")
    if len(devices) != 1 or "name" not in devices[0]:
        raise Unreadable("soxlib: no device with a name")
    return [transducer.get("id", "undefined") for transducer in _Tags(_unescaped(text)).named("transducer")]


def soxlib_data(text: str) -> dict[str, str]:
    """soxlib (web): id -> typedValue, which must be there."""
    values = _Tags(text).named("transducervalue")
    if not all("id" in value and "typedvalue" in value for value in values):
        raise Unreadable("soxlib: a value without id or typedValue")
    return {value["id"]: value["typedvalue"] for value in values}


def python_sox_data(text: str) -> dict[str, str]:
    """python-sox: id -> typedValue; id, typedValue and a padded timestamp must be there."""
    root = ET.fromstring(text)
    data = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "data"), None)
    if data is None:
        raise Unreadable("python-sox: data tag not found")
    values = {}
    for value in (node for node in data.iter() if node.tag.rpartition("}")[2] == "transducerValue"):
        missing = {"id", "typedValue", "timestamp"} - set(value.attrib)
        if missing or not _PYTHON_SOX_TIME.fullmatch(value.attrib["timestamp"]):
            raise Unreadable(f"python-sox: {missing or value.attrib['timestamp']}")
        values[value.attrib["id"]] = value.attrib["typedValue"]
    return values
