"""What truck and center say to each other about segments (docs/formats.md 5): announcements out, receipts in. Pure functions."""

from xml.etree import ElementTree as ET

from gateway.ledger import Receipt, Segment
from sox.documents import DocumentError, TransducerValue, data_document, device_document, parse_data, xep0082

ANNOUNCED = ("url", "size", "sha256", "stream", "first_boottime_ns", "last_boottime_ns", "first_utc", "last_utc", "truck")
RECEIPT_STATES = ("stored", "refused")


class BadReceipt(ValueError):
    """An item of the receipts node that says nothing we can use; the text says why."""


def announcement(segment: Segment, truck: str) -> ET.Element:
    """The item that announces an uploaded, described segment. first_utc and last_utc are XEP-0082, or empty without clock.

    The required timestamp is the UTC of the newest reading in it (collection, as SoX wants it), 1970 where there is none.
    """
    timestamp = xep0082(segment.last_utc_ns or 0)
    values = (
        segment.url, str(segment.size), segment.sha256, segment.stream, str(segment.first_boottime_ns), str(segment.last_boottime_ns),
        _utc(segment.first_utc_ns), _utc(segment.last_utc_ns), truck,
    )  # fmt: skip
    return data_document([TransducerValue(name, value, None, timestamp) for name, value in zip(ANNOUNCED, values, strict=True)])


def announcements_device(device: str) -> ET.Element:
    """The description of the announcing device for its meta node."""
    return device_document(device, list(ANNOUNCED), name=device)


def read_receipt(item_id: str, element: ET.Element) -> Receipt:
    """The receipt in an item of the receipts node; raises BadReceipt."""
    try:
        values = {value.id: value.typed if value.typed is not None else value.raw or "" for value in parse_data(element)}
    except DocumentError as error:
        raise BadReceipt(f"receipt {item_id}: {error}") from error
    if not item_id:
        raise BadReceipt("receipt without item id")
    if values.get("state") not in RECEIPT_STATES:
        raise BadReceipt(f"receipt {item_id}: state {values.get('state')!r}")
    size = values.get("size", "")
    if not size.isdecimal() and values["state"] == "stored":
        raise BadReceipt(f"receipt {item_id}: size {size!r}")
    sha256 = values.get("sha256", "").lower()
    return Receipt(item_id, values["state"], sha256, int(size) if size.isdecimal() else 0, values.get("reason", ""))


def _utc(utc_ns: int | None) -> str:
    return xep0082(utc_ns) if utc_ns else ""
