"""The center's own policy on announcements: a truck is an authenticated account, yet what it writes is checked like a stranger's,
because the address it names is fetched from inside the city's network. What an announcement is at all: sox/segments.py."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from sox.segments import Announcement, BadAnnouncement


def check(announcement: Announcement, truck: str, hosts: Sequence[str], max_bytes: int) -> None:
    """Whether `announcement`, found on the node of `truck`, may be followed; raises BadAnnouncement.

    `hosts` are the names its address may have (or a name below one), `max_bytes` the largest object taken.
    """
    if announcement.truck != truck:
        raise BadAnnouncement("item id is not a segment id of this truck")
    if not 0 < announcement.size <= max_bytes:
        raise BadAnnouncement(f"size {announcement.size} is not within 1 to {max_bytes} bytes")
    try:
        parts = urlsplit(announcement.url)
        host, _ = parts.hostname or "", parts.port  # reading the port checks it
    except ValueError as error:
        raise BadAnnouncement("url cannot be read") from error
    if parts.scheme != "https":
        raise BadAnnouncement("url is not https")
    if not any(host == allowed or host.endswith("." + allowed) for allowed in hosts):
        raise BadAnnouncement("url is not on this hub")
