"""From the live snapshot (docs/formats.md 4) to the truck's SoX data item (5). Pure."""

import math
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

from logbook.quantities import BY_ID
from sox.documents import CALIBRATED, REASON, TransducerValue, data_document, format_si, xep0082


class BadSnapshot(ValueError):
    """A datagram that is no snapshot of this truck; the text says why."""


class SnapshotValue(msgspec.Struct):
    """One quantity: SI value, or the reason why there is none; `raw` is the chip's number as text."""

    boottime_ns: int
    value: float | None = None
    reason: str | None = None
    raw: str | None = None
    calibrated: bool = False


class Snapshot(msgspec.Struct):
    """What the uplink needs of a snapshot. `utc_ns` is the UTC of `boottime_ns` (0: unknown)."""

    truck: str
    number: int
    boottime_ns: int
    utc_ns: int
    values: dict[str, SnapshotValue]


def snapshot(datagram: dict[str, Any], truck: str) -> Snapshot:
    """The snapshot in a decoded datagram; raises BadSnapshot."""
    try:
        found = msgspec.convert(datagram, Snapshot)
    except msgspec.ValidationError as error:
        raise BadSnapshot(f"snapshot: {error}") from error
    if found.truck != truck:
        raise BadSnapshot(f"snapshot of another truck: {found.truck!r}")
    return found


def data_item(found: Snapshot) -> ET.Element | None:
    """The SoX document of a snapshot with UTC: numbers in the SoX unit of the table, reasons as `<quantity>.reason`.

    Each value carries the UTC of its own collection: the snapshot's mapping moved by the difference in BOOTTIME. None if the snapshot
    holds no value at all; raises BadSnapshot. A quantity that is not in the table has no unit on the wire and is left out.
    """
    values = []
    for identity, value in found.values.items():
        quantity = BY_ID.get(identity)
        if quantity is None:
            continue
        timestamp = _time(found.utc_ns - found.boottime_ns + value.boottime_ns)
        if value.value is not None and math.isfinite(value.value):
            values.append(TransducerValue(identity, format_si(quantity, value.value), value.raw or None, timestamp))
            if value.calibrated:
                values.append(TransducerValue(identity + CALIBRATED, "true", None, timestamp))
        else:
            values.append(TransducerValue(identity + REASON, value.reason or "unknown", value.raw or None, timestamp))
    return data_document(values) if values else None


def _time(utc_ns: int) -> str:
    try:
        return xep0082(utc_ns)
    except OverflowError as error:
        raise BadSnapshot(f"snapshot: no such time: {utc_ns} ns") from error
