"""The hub says what it takes, and our client reads it (sox/limits.py)."""

import asyncio
from xml.etree import ElementTree as ET

import pytest

from hub.limits import MAX_OBJECT
from hub.nodes import MAX_PAYLOAD
from sox.client import OWNER, SoxClient
from sox.errors import SoxError
from sox.limits import Limits, limits

pytestmark = pytest.mark.timeout(60)


class Answering(SoxClient):
    """A client whose hub answers as told: text is XML, an error is raised."""

    def __init__(self, upload: str | SoxError, pubsub: str | SoxError) -> None:
        super().__init__("a@b.test", "", "127.0.0.1", 1, "")
        self.answers = {self.upload: upload, self.pubsub: pubsub}

    async def _request(self, kind, payload, to=None):
        answer = self.answers[to or self.pubsub]
        if isinstance(answer, SoxError):
            raise answer
        return ET.fromstring(f"<iq xmlns='jabber:client'>{answer}</iq>")


def test_a_truck_reads_the_largest_file_and_the_largest_payload_from_the_hub(hub):
    async def main() -> Limits:
        client = hub.client("truck-1")
        await client.connect()
        try:
            return await limits(client)
        finally:
            await client.disconnect()

    assert asyncio.run(main()) == Limits(MAX_OBJECT, MAX_PAYLOAD)


def form(kind: str, name: str, text: str) -> str:
    value = f"<field var='{name}'><value>{text}</value></field>"
    return f"<x xmlns='jabber:x:data'><field var='FORM_TYPE'><value>{kind}</value></field>{value}</x>"


def info(kind: str, text: str) -> str:
    return f"<query xmlns='http://jabber.org/protocol/disco#info'>{form(kind, 'max-file-size', text)}</query>"


def defaults(text: str) -> str:
    return f"<pubsub xmlns='{OWNER}'><default>{form('any', 'pubsub#max_payload_size', text)}</default></pubsub>"


@pytest.mark.parametrize(("upload", "pubsub", "read"), [
    (info("urn:xmpp:http:upload:0", " 1000 "), defaults("60000"), Limits(1000, 60000)),
    (info("urn:xmpp:http:upload:0", "much"), defaults("-1"), Limits(None, None)),
    (info("urn:xmpp:http:upload:0", "0"), defaults(""), Limits(None, None)),
    (info("another form", "1000"), "", Limits(None, None)),
    ("", defaults("1"), Limits(None, 1)),
    (SoxError("service-unavailable"), SoxError("feature-not-implemented"), Limits(None, None)),
])  # fmt: skip
def test_what_a_hub_does_not_say_is_unknown(upload, pubsub, read):
    assert asyncio.run(limits(Answering(upload, pubsub))) == read


@pytest.mark.parametrize("condition", ["timeout", "disconnected"])
def test_a_connection_that_is_over_is_not_taken_for_a_hub_without_limits(condition):
    with pytest.raises(SoxError, match=condition):
        asyncio.run(limits(Answering(SoxError(condition), defaults("1"))))
