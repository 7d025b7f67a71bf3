"""What a truck says about an uploaded segment, and what the center answers (docs/formats.md 5): pure text in, checked values out."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

SEGMENT_ID = re.compile(r"(?P<truck>[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)-(?P<boot>[0-9a-f]{8})-(?P<random>[0-9a-f]{8})"
                        r"-(?P<number>[0-9]{6,12})-(?P<stream>readings|images)")  # fmt: skip
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,18}")


class Value(Protocol):
    """The part of sox.documents.TransducerValue that is read here."""

    @property
    def id(self) -> str: ...

    @property
    def typed(self) -> str | None: ...

    @property
    def raw(self) -> str | None: ...


class BadAnnouncement(ValueError):
    """Why an announcement cannot be followed, in words for the truck."""


class Announcement(NamedTuple):
    """An uploaded segment as its truck describes it. Times are boot time in ns and UTC as text (empty without clock)."""

    segment_id: str
    truck: str
    boot: str
    stream: str
    url: str
    size: int
    sha256: str
    first_boottime_ns: int
    last_boottime_ns: int
    first_utc: str
    last_utc: str


class Receipt(NamedTuple):
    """The center's answer: `stored` (durable here, the truck may forget it) or `refused` with the reason."""

    segment_id: str
    state: str
    sha256: str
    size: int
    reason: str

    def values(self) -> list[tuple[str, str]]:
        """(id, typedValue) in the order of docs/formats.md 5."""
        return [("state", self.state), ("sha256", self.sha256), ("size", str(self.size)), ("reason", self.reason)]


def texts(values: Iterable[Value]) -> dict[str, str]:
    """id -> typed value (raw where a dialect sends only that)."""
    return {value.id: (value.typed if value.typed is not None else value.raw or "") for value in values}


def parse(truck: str, item_id: str, fields: dict[str, str], hosts: Sequence[str], max_bytes: int) -> Announcement:
    """The announcement `item_id` found on the node of `truck`; raises BadAnnouncement.

    A truck is an authenticated account, yet what it writes is checked like a stranger's: the id becomes a file name here, and
    the address is fetched from inside the city's network. `hosts` are the names that address may have (or a name below one).
    """
    name = SEGMENT_ID.fullmatch(item_id)
    if name is None or name["truck"] != truck:
        raise BadAnnouncement("item id is not a segment id of this truck")
    if fields.get("truck", truck) != truck:
        raise BadAnnouncement("announced for another truck")
    if fields.get("stream", name["stream"]) != name["stream"]:
        raise BadAnnouncement("stream differs from the segment id")
    sha256 = fields.get("sha256", "").lower()
    if not _SHA256.fullmatch(sha256):
        raise BadAnnouncement("sha256 is not 64 hexadecimal digits")
    size = _number(fields, "size")
    if not 0 < size <= max_bytes:
        raise BadAnnouncement(f"size {size} is not within 1 to {max_bytes} bytes")
    url = fields.get("url", "")
    _check_url(url, hosts)
    return Announcement(
        item_id, truck, name["boot"], name["stream"], url, size, sha256,
        _number(fields, "first_boottime_ns"), _number(fields, "last_boottime_ns"),
        fields.get("first_utc", ""), fields.get("last_utc", ""),
    )  # fmt: skip


def _number(fields: dict[str, str], key: str) -> int:
    text = fields.get(key, "")
    if not _NUMBER.fullmatch(text):
        raise BadAnnouncement(f"{key} is not a number")
    return int(text)


def _check_url(url: str, hosts: Sequence[str]) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise BadAnnouncement("url cannot be read") from error
    if parts.scheme != "https":
        raise BadAnnouncement("url is not https")
    if not any(host == allowed or host.endswith("." + allowed) for allowed in hosts):
        raise BadAnnouncement("url is not on this hub")
