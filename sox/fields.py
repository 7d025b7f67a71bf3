"""Documents whose values are texts by name, all of one time: what truck and center tell each other beside the sensors' values."""

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from sox.documents import TransducerValue, data_document, parse_data, parse_xep0082, xep0082


def document(values: Mapping[str, str], utc_ns: int) -> ET.Element:
    """The document with `values`, whose time of collection is `utc_ns` (1970 without clock: SoX asks for a time)."""
    timestamp = xep0082(utc_ns)
    return data_document([TransducerValue(name, value, None, timestamp) for name, value in values.items()])


def fields(element: ET.Element) -> dict[str, str]:
    """id -> typed value (raw where a dialect sends only that); raises DocumentError."""
    return timed_fields(element)[0]


def timed_fields(element: ET.Element) -> tuple[dict[str, str], int]:
    """The same, and the time of the document in UTC ns, 0 where it had none; raises DocumentError."""
    values = parse_data(element)
    texts = {value.id: value.typed if value.typed is not None else value.raw or "" for value in values}
    return texts, next((parse_xep0082(value.timestamp) for value in values if value.timestamp), 0)


def utc_text(utc_ns: int) -> str:
    """A time as it stands in a value: empty where it is not known (0)."""
    return xep0082(utc_ns) if utc_ns else ""


def utc_of(text: str) -> int:
    """The time in a value, 0 where it is empty; raises ValueError."""
    return parse_xep0082(text) if text else 0
