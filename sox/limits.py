"""What the hub says it takes: the largest uploaded object and the largest pubsub payload. Read after each connect; a hub may change.

The first is XEP-0363's `max-file-size` in the upload service's disco#info, the second `pubsub#max_payload_size` in the settings a new
node would have (XEP-0060, 8.3; ours are made with the same). A hub that does not say leaves None: then only its refusals tell.
"""

from collections.abc import Awaitable
from typing import NamedTuple
from xml.etree import ElementTree as ET

from sox.client import FORM, UPLOAD, SoxClient
from sox.errors import SoxError

# Answers that mean: this hub does not tell. Anything else (no answer, connection over) is for the caller.
UNTOLD = frozenset({
    "bad-request", "feature-not-implemented", "forbidden", "item-not-found", "not-allowed",
    "remote-server-not-found", "service-unavailable",
})  # fmt: skip


class Limits(NamedTuple):
    """Bytes; None where the hub does not say."""

    max_file_bytes: int | None
    max_payload_bytes: int | None


async def limits(client: SoxClient) -> Limits:
    """The limits of the hub that `client` is connected to; raises SoxError when the connection is over or the hub does not answer."""
    upload = await _told(client.disco_info(client.upload))
    pubsub = await _told(client.node_defaults())
    return Limits(_number(upload, "max-file-size", UPLOAD), _number(pubsub, "pubsub#max_payload_size"))


async def _told(asking: Awaitable[ET.Element]) -> ET.Element:
    try:
        return await asking
    except SoxError as error:
        if error.condition not in UNTOLD:
            raise
        return ET.Element("nothing")


def _number(element: ET.Element, name: str, form_type: str | None = None) -> int | None:
    """The positive number in field `name` of a form in `element` (of `form_type`, if given); None if there is none."""
    for form in element.iter(f"{{{FORM}}}x"):
        fields = {field.get("var"): field.findtext(f"{{{FORM}}}value") or "" for field in form.iter(f"{{{FORM}}}field")}
        text = fields.get(name, "").strip()
        if form_type in (None, fields.get("FORM_TYPE")) and text.isascii() and text.isdecimal() and int(text) > 0:
            return int(text)
    return None
