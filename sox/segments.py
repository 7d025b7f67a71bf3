"""What truck and center say to each other about segments (docs/formats.md 5): announcements one way, receipts the other.

Both sides write and read with what stands here, so there is one reading of the format. Writers say everything; readers take every
dialect (sox/documents.py) and ids of this format only: an id becomes a file name on both sides. What a reader may do with what it
read (fetch it, count it as delivered) is decided by the reader's own room.
"""

import re
from typing import NamedTuple
from xml.etree import ElementTree as ET

from sox.documents import DocumentError, TransducerValue, data_document, device_document, parse_data, parse_xep0082, xep0082
from sox.nodes import TRUCK_NAME

STORED, REFUSED = "stored", "refused"
ANNOUNCED = ("url", "size", "sha256", "stream", "first_boottime_ns", "last_boottime_ns", "first_utc", "last_utc", "truck")
RECEIPTED = ("state", "sha256", "size", "reason")

_ID = re.compile(
    rf"(?P<truck>{TRUCK_NAME.pattern})-(?P<boot>[0-9a-f]{{8}})-(?P<random>[0-9a-f]{{8}})-(?P<number>[0-9]{{6,12}})-(?P<stream>readings|images)"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_URL_MOST = 4096  # characters; ejabberd's take 150. What a truck says waits in the center's memory


class BadAnnouncement(ValueError):
    """Why an announcement cannot be followed, in words for the truck."""


class BadReceipt(ValueError):
    """An item of the receipts node that says nothing that could count; the text says why."""


class SegmentId(NamedTuple):
    """The parts of a segment's id (docs/formats.md 2)."""

    truck: str
    boot: str
    random: str
    number: int
    stream: str


class Announcement(NamedTuple):
    """An uploaded segment as its truck describes it. Times are CLOCK_BOOTTIME and UTC in ns; UTC is 0 where the truck had no clock."""

    segment_id: str
    url: str
    size: int
    sha256: str
    stream: str
    first_boottime_ns: int
    last_boottime_ns: int
    first_utc_ns: int
    last_utc_ns: int
    truck: str


class Receipt(NamedTuple):
    """The center's answer to an announcement: state STORED (durable there, with this size in bytes and SHA-256 in hex) or REFUSED."""

    segment_id: str
    state: str
    sha256: str
    size: int
    reason: str


def parse_segment_id(text: str) -> SegmentId | None:
    """The parts of a segment id, or None if `text` is none. An id is safe as a file name."""
    found = _ID.fullmatch(text)
    return SegmentId(found["truck"], found["boot"], found["random"], int(found["number"]), found["stream"]) if found else None


def announcements_device(device: str) -> ET.Element:
    """The description of the announcing device, for its meta node."""
    return device_document(device, list(ANNOUNCED))


def receipts_device(device: str) -> ET.Element:
    """The description of the receipting device, for its meta node."""
    return device_document(device, list(RECEIPTED))


def announcement_document(announcement: Announcement) -> ET.Element:
    """The item that announces a segment. Its time (SoX asks for that of collection) is that of the newest reading, 1970 without clock."""
    values = (
        announcement.url, str(announcement.size), announcement.sha256, announcement.stream, str(announcement.first_boottime_ns),
        str(announcement.last_boottime_ns), _utc(announcement.first_utc_ns), _utc(announcement.last_utc_ns), announcement.truck,
    )  # fmt: skip
    return _document(ANNOUNCED, values, announcement.last_utc_ns)


def receipt_document(receipt: Receipt, utc_ns: int) -> ET.Element:
    """The item that answers an announcement at UTC `utc_ns`."""
    return _document(RECEIPTED, (receipt.state, receipt.sha256, str(receipt.size), receipt.reason), utc_ns)


def read_announcement(item_id: str, element: ET.Element) -> Announcement:
    """The announcement in item `item_id` of an announcements node, whole and consistent with its id; raises BadAnnouncement."""
    try:
        fields = _texts(element)
    except DocumentError as error:
        raise BadAnnouncement(f"no SoX document: {error}") from error
    name = parse_segment_id(item_id)
    if name is None:
        raise BadAnnouncement("item id is not a segment id")
    if fields.get("truck", name.truck) != name.truck:
        raise BadAnnouncement("announced for another truck")
    if fields.get("stream", name.stream) != name.stream:
        raise BadAnnouncement("stream differs from the segment id")
    sha256 = fields.get("sha256", "").lower()
    if not _SHA256.fullmatch(sha256):
        raise BadAnnouncement("sha256 is not 64 hexadecimal digits")
    url = fields.get("url", "")
    if not 0 < len(url) <= _URL_MOST:
        raise BadAnnouncement(f"url is not 1 to {_URL_MOST} characters long")
    return Announcement(
        item_id, url, _number(fields, "size"), sha256, name.stream, _number(fields, "first_boottime_ns"),
        _number(fields, "last_boottime_ns"), _moment(fields, "first_utc"), _moment(fields, "last_utc"), name.truck,
    )  # fmt: skip


def read_receipt(item_id: str, element: ET.Element) -> Receipt:
    """The receipt in item `item_id` of a receipts node; raises BadReceipt."""
    try:
        fields = _texts(element)
    except DocumentError as error:
        raise BadReceipt(f"receipt {item_id!r}: {error}") from error
    if parse_segment_id(item_id) is None:
        raise BadReceipt(f"receipt {item_id!r}: not a segment id")
    state, size = fields.get("state", ""), fields.get("size", "")
    if state not in (STORED, REFUSED):
        raise BadReceipt(f"receipt {item_id}: state {state!r}")
    if state == STORED and not _NUMBER.fullmatch(size):
        raise BadReceipt(f"receipt {item_id}: size {size!r}")
    return Receipt(item_id, state, fields.get("sha256", "").lower(), int(size) if _NUMBER.fullmatch(size) else 0, fields.get("reason", ""))


def _document(names: tuple[str, ...], values: tuple[str, ...], utc_ns: int) -> ET.Element:
    timestamp = xep0082(utc_ns)
    return data_document([TransducerValue(name, value, None, timestamp) for name, value in zip(names, values, strict=True)])


def _texts(element: ET.Element) -> dict[str, str]:
    """id -> typed value (raw where a dialect sends only that)."""
    return {value.id: value.typed if value.typed is not None else value.raw or "" for value in parse_data(element)}


def _number(fields: dict[str, str], key: str) -> int:
    text = fields.get(key, "")
    if not _NUMBER.fullmatch(text):
        raise BadAnnouncement(f"{key} is not a number")
    return int(text)


def _utc(utc_ns: int) -> str:
    return xep0082(utc_ns) if utc_ns else ""


def _moment(fields: dict[str, str], key: str) -> int:
    text = fields.get(key, "")
    try:
        return parse_xep0082(text) if text else 0
    except ValueError as error:
        raise BadAnnouncement(f"{key} is not a time") from error
