"""Events of a truck on `<truck>_events_data` (docs/formats.md 5), both sides. Item id = `<boot>-<random>-<number>`: an event said again,
after a cut or with a clock it had not at first, takes the place of itself."""

import re
from typing import NamedTuple
from xml.etree import ElementTree as ET

from sox.documents import DocumentError, device_document
from sox.fields import document, fields, utc_of, utc_text

VALUES = ("event", "source", "detail", "boottime_ns", "utc", "truck")

_ID = re.compile(r"([0-9a-f]{8}-[0-9a-f]{8})-([0-9]{6,12})")
_NUMBER = re.compile(r"[0-9]{1,18}")
_TEXT_MOST = 4000  # characters; what a truck says waits in the center's memory


class BadEvent(ValueError):
    """An item of an events node that is no event; the text says why."""


class Event(NamedTuple):
    """One event: `number` 1, 2, 3 … of the recorder whose folder is `boot`; `utc_ns` 0 where the truck has no clock (yet)."""

    truck: str
    boot: str
    number: int
    kind: str
    source: str
    detail: str
    boottime_ns: int
    utc_ns: int

    @property
    def item_id(self) -> str:
        """Its name on the node."""
        return event_id(self.boot, self.number)


def event_id(boot: str, number: int) -> str:
    """The item id of event `number` of the recorder `boot`."""
    return f"{boot}-{number:06d}"


def events_device(device: str) -> ET.Element:
    """The description for the meta node."""
    return device_document(device, list(VALUES))


def event_document(event: Event) -> ET.Element:
    """The item of an event; its time is when it began, 1970 without clock."""
    values = (event.kind, event.source, event.detail, str(event.boottime_ns), utc_text(event.utc_ns), event.truck)
    return document(dict(zip(VALUES, values, strict=True)), event.utc_ns)


def read_event(item_id: str, element: ET.Element) -> Event:
    """The event in item `item_id`; raises BadEvent."""
    name = _ID.fullmatch(item_id)
    if name is None:
        raise BadEvent(f"item id {item_id[:50]!r} is not of an event")
    try:
        found = fields(element)
        utc_ns = utc_of(found.get("utc", ""))
    except (DocumentError, ValueError) as error:
        raise BadEvent(f"event {item_id}: {error}") from error
    if not found.get("event") or not _NUMBER.fullmatch(found.get("boottime_ns", "")):
        raise BadEvent(f"event {item_id}: no kind, or no boot time")
    kind, source, detail = (found.get(key, "")[:_TEXT_MOST] for key in ("event", "source", "detail"))
    return Event(found.get("truck", ""), name[1], int(name[2]), kind, source, detail, int(found["boottime_ns"]), utc_ns)
