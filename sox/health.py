"""How a truck is, on `<truck>_health_data` (docs/formats.md 5), both sides: what waits, what is lost, over which link, what is wrong.

The values' ids are the fields' names; a map's are `<field>.<key>` (`sensors.bmp390`). What is not known is an empty text, and left out of a
map. A reader takes what it knows and passes over the rest, so either side may be the newer."""

import math
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from sox.documents import DocumentError, device_document
from sox.fields import document, timed_fields, utc_of, utc_text

_COUNTS = ("segments", "bytes", "lost")
_MAPS = (*_COUNTS, "sensors")
_FLAGS = ("connected", "parked")
_TIMES = ("oldest_utc", "last_receipt_utc")
_NUMBERS = ("rate", "clock_error", "disk_free")
_TEXTS = ("boot", "oldest", "link", "interface", "why", "clock_source", "problem")
_MOST_KEYS = 100
_TEXT_MOST = 2000  # characters


class BadHealth(ValueError):
    """An item of a health node that is none; the text says why."""


class Health(NamedTuple):
    """`utc_ns`: when it was said (0: no clock), `boot` and `boottime_ns` the same in the truck's own time. Not yet delivered `segments` and
    `bytes`, by class; `rate` in bytes/s that the center receipts. `oldest`: the id of the oldest unsent segment, and `oldest_utc` (ns, 0
    unknown) of its first message. `lost`: for ever, by reason (names of uplink.json's `dropped`; `gaps` of this recorder). `link`: class,
    `interface`, `why` it has that class. `disk_free` in bytes, `clock_error` in s. `sensors`: state, behind it `: ` and the reason."""

    utc_ns: int
    boot: str
    boottime_ns: int
    connected: bool
    parked: bool
    segments: dict[str, int]
    bytes: dict[str, int]
    rate: float | None
    oldest: str
    oldest_utc: int
    lost: dict[str, int]
    link: str
    interface: str
    why: str
    last_receipt_utc: int
    disk_free: float | None
    clock_source: str
    clock_error: float | None
    sensors: dict[str, str]
    problem: str

    @property
    def hours(self) -> float | None:
        """How long the backlog takes at the measured rate; None where nothing moves."""
        return hours(sum(self.bytes.values()), self.rate)


def hours(backlog_bytes: int, rate: float | None) -> float | None:
    """Hours that `backlog_bytes` take at `rate` bytes/s; 0 without backlog, None where nothing moves."""
    if not backlog_bytes:
        return 0.0
    return backlog_bytes / rate / 3600 if rate else None


def health_device(device: str) -> ET.Element:
    """The description for the meta node."""
    return device_document(device, [name for name in Health._fields if name not in (*_MAPS, "utc_ns")])


def health_document(health: Health) -> ET.Element:
    """The item; its time is `utc_ns`, 1970 without clock."""
    values: dict[str, str] = {}
    for name, value in health._asdict().items():
        if name == "utc_ns":
            continue
        if isinstance(value, dict):
            values |= {f"{name}.{key}": str(told) for key, told in value.items()}
        elif name in _TIMES:
            values[name] = utc_text(value)
        elif name in _NUMBERS:
            values[name] = f"{value:.12g}" if value is not None and math.isfinite(value) else ""
        else:
            values[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return document(values, health.utc_ns)


def read_health(element: ET.Element) -> Health:
    """The health in an item; raises BadHealth."""
    try:
        found, utc_ns = timed_fields(element)
        values: dict[str, Any] = {name: {key: int(value) for key, value in _map(found, name).items()} for name in _COUNTS}
        values |= {name: utc_of(found.get(name, "")) for name in _TIMES}
        values |= {name: float(found[name]) if found.get(name) else None for name in _NUMBERS}
        values |= {name: found.get(name, "")[:_TEXT_MOST] for name in _TEXTS}
        values |= {name: found.get(name) == "true" for name in _FLAGS}
        return Health(utc_ns=utc_ns, boottime_ns=int(found["boottime_ns"]), sensors=_map(found, "sensors"), **values)
    except (DocumentError, ValueError, KeyError) as error:
        raise BadHealth(f"health: {error}") from error


def _map(found: dict[str, str], name: str) -> dict[str, str]:
    keys = [key for key in found if key.startswith(f"{name}.")][:_MOST_KEYS]
    return {key[len(name) + 1 :]: found[key][:_TEXT_MOST] for key in keys}
