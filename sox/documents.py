"""SoX documents: written as the CMU sensor specification v0.0.18 and Keio's clients both read them, read in every dialect known.

Written: namespace http://jabber.org/protocol/sox; every value with id, typedValue and timestamp; every transducer with name, id and
units; unitScaler only as the XSD spells it; a device type of the 11 that both sides know; no geoloc, no attribute of our own; no "<" or
apostrophe in a name, for Keio's readers undo escapes before they parse. Texts go as they are: "<" in one is not for them.

Read: names in any case and any namespace, values under <data>, under <device>, or bare; children that were escaped into text
(once or twice); raw-only and typed-only values; unitScaler or unitScalar; missing names, types and units; any item id; any attribute
beside those that count (manufacture, serialnumber).
XML that arrives as text is parsed without document types, so no entity is ever expanded.
"""

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple
from xml.etree import ElementTree as ET

from logbook.quantities import Quantity
from sox.errors import DocumentError
from sox.times import parse_xep0082, xep0082

__all__ = [
    "NAMESPACE", "Device", "DocumentError", "Transducer", "TransducerValue", "data_document", "device_document", "element", "format_si",
    "parse_data", "parse_device", "parse_xep0082", "parse_xml", "transducer_name", "xep0082",
]  # fmt: skip

NAMESPACE = "http://jabber.org/protocol/sox"
TYPE_TRUCK = "vehicle"
TYPE_CHANNEL = "other"
TYPES = (  # the specification's eleven, and JSoxLib's two
    "indoor weather", "outdoor weather", "hvac", "occupancy", "multimedia input", "multimedia output", "scale", "vehicle",
    "resource consumption", "resource generation", "other", "outdoor atmosphere", "participatory",
)  # fmt: skip
UNIT_OF_TEXT = "enum"  # `units` is required by the XSD; its only unit for values that are not numbers

REASON = ".reason"  # docs/formats.md 5: a quantity without number is sent as <quantity>.reason, a text
CALIBRATED = ".calibrated"  # <quantity>.calibrated is "true" under a profile; absent means uncalibrated, so no mark is ever forgotten

# JSoxLib makes "<" of "&lt;" and "'" of "&apos;" in the document's text and then parses it: one such name, and the device is unreadable.
_WORDS = (("<", "below"), (">", "above"), ("'", "\u2019"))

_ESCAPED_LEVELS = 2  # Keio's readers unescape once more what the parser already unescaped
_ESCAPES = (("&lt;", "<"), ("&gt;", ">"), ("&apos;", "'"), ("&quot;", '"'), ("&amp;", "&"))  # & last: one level only
_DEEPEST = 8  # nesting of wrappers that is followed; all known dialects need 2
# XML 1.0 section 2.2: these characters may not stand in a document, not even escaped; one of them would end the whole stream.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class TransducerValue(NamedTuple):
    """One value: `typed` in the declared unit, `raw` as the chip gave it, `timestamp` XEP-0082 of collection ("" where none is clear)."""

    id: str
    typed: str | None
    raw: str | None
    timestamp: str


class Transducer(NamedTuple):
    """One described transducer. `units` is "" and `scaler` None where the description does not say them readably."""

    id: str
    name: str
    units: str
    scaler: int | None
    low: float | None
    high: float | None


class Device(NamedTuple):
    """A described device; texts are "" where the dialect leaves them out."""

    id: str
    name: str
    type: str
    transducers: list[Transducer]


def device_document(device: str, transducers: Sequence[Quantity] | Sequence[str], name: str | None = None) -> ET.Element:
    """The description of `device` for its meta node: a truck from its quantities, a channel from plain transducer ids (text values).

    minValue, maxValue and resolution are in the unit on the wire, as typedValue is.
    """
    kind = TYPE_TRUCK if transducers and isinstance(transducers[0], Quantity) else TYPE_CHANNEL
    root = element("device", {"name": name or device, "id": device, "type": kind})
    for transducer in transducers:
        if isinstance(transducer, str):
            root.append(element("transducer", {"name": transducer, "id": transducer, "units": UNIT_OF_TEXT}))
            continue
        attributes = {"name": transducer_name(transducer.name), "id": transducer.id, "units": transducer.sox_unit}
        if transducer.sox_scaler:
            attributes["unitScaler"] = str(transducer.sox_scaler)
        attributes["minValue"] = format_si(transducer, transducer.low)
        attributes["maxValue"] = format_si(transducer, transducer.high)
        attributes["resolution"] = f"{transducer.sox.factor * transducer.resolution:.6g}"
        root.append(element("transducer", attributes))
    return root


def transducer_name(name: str) -> str:
    """A name of a transducer or device as it stands in a description: without what JSoxLib would stumble over."""
    for sign, word in _WORDS:
        name = name.replace(sign, word)
    return name


def data_document(values: Sequence[TransducerValue]) -> ET.Element:
    """The document with `values`; raises ValueError if one lacks id, typedValue or timestamp (the specification requires them)."""
    root = element("data", {})
    for value in values:
        if not value.id or value.typed is None or not value.timestamp:
            raise ValueError(f"a value to be sent needs id, typed value and timestamp: {value}")
        attributes = {"id": value.id, "typedValue": value.typed, "timestamp": value.timestamp}
        if value.raw is not None:
            attributes["rawValue"] = value.raw
        root.append(element("transducerValue", attributes))
    return root


def format_si(quantity: Quantity, si: float) -> str:
    """The SI value as typedValue: decimal text in the quantity's unit on the wire (12 significant digits, far below any resolution)."""
    return f"{quantity.sox.shown(si):.12g}"


def parse_data(document: ET.Element | str | bytes) -> list[TransducerValue]:
    """All transducerValues of a data document in any dialect, in document order; raises DocumentError on text that is no XML.

    Values without id are left out (nothing could be done with them). transducerSetValues are requests, not values: left out too.
    """
    values = []
    for found in _find(_root(document), "transducervalue"):
        attributes = _attributes(found)
        if identity := attributes.get("id", "").strip():
            timestamp = _clear_time(attributes.get("timestamp", ""))
            values.append(TransducerValue(identity, attributes.get("typedvalue"), attributes.get("rawvalue"), timestamp))
    return values


def parse_device(document: ET.Element | str | bytes) -> Device:
    """The device described by a meta document in any dialect; raises DocumentError where there is none."""
    root = _root(document)
    device = next(iter(_find(root, "device")), None)
    if device is None:
        raise DocumentError(f"no device in <{_local(root)}>")
    attributes = _attributes(device)
    transducers = [transducer for found in _find(device, "transducer") if (transducer := _transducer(_attributes(found))) is not None]
    name = attributes.get("name", "").strip()
    return Device(attributes.get("id", "").strip() or name, name, _type(attributes.get("type", "").strip()), transducers)


def parse_xml(text: str | bytes) -> ET.Element:
    """`text` as XML without document type (so without entities of its own); raises DocumentError."""
    try:
        return ET.fromstring(text, ET.XMLParser(target=_NoDoctype()))
    except (ET.ParseError, ValueError, LookupError) as error:
        raise DocumentError(f"not readable as XML: {error}") from error


class _NoDoctype(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DocumentError("document types are not allowed")


def element(name: str, attributes: dict[str, str]) -> ET.Element:
    """An element of the namespace; a character that XML forbids becomes U+FFFD."""
    return ET.Element(f"{{{NAMESPACE}}}{name}", {key: _ILLEGAL.sub("\ufffd", value) for key, value in attributes.items()})


def _root(document: ET.Element | str | bytes) -> ET.Element:
    return parse_xml(document) if isinstance(document, str | bytes) else document


def _local(node: ET.Element) -> str:
    # Comments and processing instructions have a function as tag.
    return node.tag.rpartition("}")[2].lower() if isinstance(node.tag, str) else ""


def _attributes(node: ET.Element) -> dict[str, str]:
    return {key.rpartition("}")[2].lower(): value for key, value in node.attrib.items()}


def _find(node: ET.Element, name: str, depth: int = 0, levels: int = _ESCAPED_LEVELS) -> Iterator[ET.Element]:
    """Elements of local name `name` in `node`, itself included, through wrappers and escaped text, in document order."""
    if _local(node) == name:
        yield node
        return
    if depth == _DEEPEST:
        raise DocumentError(f"nested deeper than {_DEEPEST}")
    yield from _find_in_text(node.text, name, depth, levels)
    for child in node:
        yield from _find(child, name, depth + 1, levels)
        yield from _find_in_text(child.tail, name, depth, levels)


def _find_in_text(text: str | None, name: str, depth: int, levels: int) -> Iterator[ET.Element]:
    if text is None or not levels:
        return
    if "<" not in text and "&lt;" in text:
        levels -= 1
        for escaped, character in _ESCAPES:
            text = text.replace(escaped, character)
    if levels and "<" in text:
        yield from _find(parse_xml(f"<text>{text}</text>"), name, depth + 1, levels - 1)


def _type(text: str) -> str:
    """One of TYPES also where it is written as Java names it (OUTDOOR_WEATHER); others as they are, for there are such."""
    words = text.replace("_", " ").lower()
    return words if words in TYPES else text


def _transducer(attributes: dict[str, str]) -> Transducer | None:
    name = attributes.get("name", "").strip()
    identity = attributes.get("id", "").strip() or name
    if not identity:
        return None
    # The XSD says unitScaler, the specification's own examples (and soxjs2, python-sox) unitScalar.
    scaler = attributes.get("unitscaler", attributes.get("unitscalar", "0")).strip() or "0"
    return Transducer(
        identity, name or identity, attributes.get("units", "").strip(), int(scaler) if re.fullmatch(r"[+-]?\d{1,2}", scaler) else None,
        _number(attributes.get("minvalue")), _number(attributes.get("maxvalue")),
    )  # fmt: skip


def _number(text: str | None) -> float | None:
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


@lru_cache(4096)  # values collected together, and those that stay in later items, repeat their times: half the cost of an item
def _clear_time(text: str) -> str:
    try:
        return xep0082(parse_xep0082(text))
    except (ValueError, OverflowError):
        return ""
