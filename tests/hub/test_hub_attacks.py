"""Attacks over XMPP on the real ejabberd: each says what the server does, and that the honest trucks go on meanwhile.

Publishing to, subscribing to and reading nodes of others, and receipts or requests written by a truck: test_hub_rights.py.
Uploads: test_hub_attacks_http.py. Certificates and downgrades: test_hub_attacks_tls.py, and tests/sox/test_sox_client.py for the client.
"""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from honest_trucks import Honest
from raw_xmpp import BIND, SASL, RawXmpp

from hub.limits import AUTH_FAILURES, MAX_STANZA, NEGOTIATION_SECONDS, TRUCK_RATE, TRUCK_SESSIONS
from sox.client import SoxClient
from sox.documents import TransducerValue, data_document
from sox.errors import SoxError

pytestmark = pytest.mark.timeout(120)

PING = b"<iq type='get' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>"
TAIL = rb"</stream:stream>"


@pytest.fixture(scope="module")
def loris(hub) -> Iterator[list[tuple[float, RawXmpp]]]:
    """Connections that never log in: nothing said, a header, TLS, a login begun. Opened first, looked at last."""
    held = [(time.monotonic(), RawXmpp(hub.info)) for _ in range(40)]
    for _, raw in held[10:20]:
        raw.open()
    for _, raw in held[20:30]:
        raw.secure()
    for _, raw in held[30:40]:
        raw.secure()
        raw.send(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>".encode())
    yield held
    for _, raw in held:
        raw.connection.close()


@pytest.fixture(scope="module")
def honest(hub, loris) -> Iterator[Honest]:
    working = Honest(hub).start()
    yield working
    working.stop()


@pytest.fixture(autouse=True)
def honest_trucks_go_on(honest) -> Iterator[None]:
    yield
    honest.goes_on()


def secret(hub, user: str) -> str:
    return (Path(hub.info["secrets"]) / user).read_text("ascii")


def truck(hub, user: str = "truck-1") -> RawXmpp:
    return RawXmpp(hub.info).session(user, secret(hub, user))


def answers(hub, said: Sequence[bytes], until: bytes = rb"</iq>|<iq[^>]*/>|</message>") -> list[bytes]:
    """What logged-in trucks get that send `said`, one each, at the same time; two sessions an account stay."""
    with ExitStack() as stack:
        trucks = [stack.enter_context(truck(hub, f"truck-{1 + number % 2}")) for number in range(len(said))]
        for raw, data in zip(trucks, said, strict=True):
            raw.send(data)
        return [raw.read_until(until, TAIL) for raw in trucks]


def test_a_stanza_that_is_too_large_ends_its_connection_logged_in_or_not(hub):
    huge = b"x" * (MAX_STANZA + 50_000)
    said = [
        b"<message to='center@cruisers.test'><body>" + huge,  # never ends
        b"<message to='center@cruisers.test'><body>" + huge + b"</body></message>",
        b"<iq type='get' id='" + huge + b"'/>",
        b"<" + huge,
    ]
    with RawXmpp(hub.info) as raw:
        raw.secure()
        raw.send(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>".encode() + huge)
        for got in (*answers(hub, said), raw.read_until(TAIL)):
            assert b"policy-violation" in got and b"too big" in got


LAUGHS = b"<!DOCTYPE l [<!ENTITY a 'ha'>" + b"".join(b"<!ENTITY %c '%s'>" % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9)) + b"]>"
HEADER = b"<stream:stream to='cruisers.test' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"


@pytest.mark.parametrize("said", [
    LAUGHS + HEADER + b"&j;",
    b"<!DOCTYPE x SYSTEM 'file:///etc/passwd'>" + HEADER,
    b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>" + HEADER + b"<message><body>&e;</body></message>",
    HEADER.replace(b"cruisers.test", b"&j;"),
], ids=["billion laughs", "external subset", "external entity", "entity without a declaration"])  # fmt: skip
def test_a_document_type_ends_the_connection_before_anything_is_expanded(hub, said):
    before = memory(hub)
    with RawXmpp(hub.info) as raw:
        raw.send(said)
        got = raw.read_until(TAIL)
    assert b"not-well-formed" in got and b"root:" not in got
    assert memory(hub) < before + 64_000_000


def test_document_types_entities_and_bytes_that_are_no_text_end_a_logged_in_connection_too(hub):
    for got in answers(hub, [LAUGHS + PING, b"<message>&a;</message>" + PING, b"<message>\xff\x00</message>" + PING]):
        assert b"not-well-formed" in got


def test_processing_instructions_and_comments_are_dropped_unread(hub):
    # RFC 6120, 11.1 forbids them; ejabberd's parser has no ears for them. What counts: nothing of them goes on to anyone.
    (got,) = answers(hub, [b"<?php system('id')?><!-- comment -->" + PING])
    assert b"type='result'" in got and b"php" not in got and b"comment" not in got


def test_the_deepest_nesting_that_fits_into_a_stanza_does_not_end_the_server(hub):
    # Refused stanzas are written back whole: it is the writing, by recursion in C, that ended it (hub/ejabberd.py, STACK_KILOWORDS).
    deepest, item = nested((MAX_STANZA - 500) // 7), nested(5_000)
    said = [
        b"<iq type='get' id='d' to='pubsub.cruisers.test'>" + deepest + b"</iq>",
        b"<message to='nobody@cruisers.test'>" + deepest + b"</message>",
        b"<iq type='set' id='d' to='pubsub.cruisers.test'><pubsub xmlns='http://jabber.org/protocol/pubsub'>"
        b"<publish node='truck-1_health_data'><item id='deep'>" + item + b"</item></publish></pubsub></iq>",
    ]
    refused, unknown, published = answers(hub, said, until=rb"</iq>|</message>")
    assert b"type='error'" in refused and b"type='error'" in unknown and b"type='result'" in published


def nested(depth: int) -> bytes:
    return b"<a>" * depth + b"</a>" * depth


def test_a_stanza_in_the_name_of_another_ends_the_connection(hub):
    (got,) = answers(hub, [PING.replace(b"id=", b"from='center@cruisers.test/x' id=")])
    assert b"invalid-from" in got


def test_a_login_that_was_recorded_cannot_be_said_again(hub):
    with RawXmpp(hub.info) as first:
        first.secure()
        assert b"<success" in first.log_in("truck-1", secret(hub, "truck-1"))
        said = first.sasl
        first.bind()
        with RawXmpp(hub.info) as again:
            again.secure()
            assert b"not-authorized" in again.replay(said)  # the server's half of the nonce is another
            assert b"not-authorized" in again.replay(said[1:]) or b"</stream:stream>" in again.read_until(TAIL)
            again.send(PING)
            assert b"type='result'" not in again.read_until(rb"</?iq|" + TAIL)


def test_what_needs_a_login_is_refused_before_it(hub):
    with RawXmpp(hub.info) as raw:
        raw.open()
        raw.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>AHRydWNrLTEAeA==</auth>".encode())  # without TLS
        assert b"<success" not in raw.read_until(b"</failure>", TAIL)
    with RawXmpp(hub.info) as raw:
        raw.secure()
        raw.send(PING)
        assert b"not-authorized" in raw.read_until(TAIL)


@pytest.mark.parametrize("mechanism", ["PLAIN", "ANONYMOUS", "DIGEST-MD5", "SCRAM-SHA-1", "EXTERNAL", "X-OAUTH2"])
def test_no_weaker_mechanism_than_offered_is_taken(hub, mechanism):
    with RawXmpp(hub.info) as raw:
        assert mechanism.encode() + b"<" not in raw.secure()
        raw.send(f"<auth xmlns='{SASL}' mechanism='{mechanism}'>AHRydWNrLTEAeA==</auth>".encode())
        assert re.search(rb"invalid-mechanism|unsupported_mechanism|not-authorized", raw.read_until(b"</failure>", TAIL))


def test_wrong_passwords_shut_out_their_address_and_no_other_and_end_no_session(hub):
    source, tries = "127.0.0.66", 0
    with RawXmpp(hub.info, source) as raw:
        raw.secure()
        while not (said := raw.log_in("truck-1", "guess")).endswith(b"</stream:stream>") and tries < AUTH_FAILURES * 2:
            assert b"not-authorized" in said
            tries += 1
    assert AUTH_FAILURES - 2 <= tries <= AUTH_FAILURES
    with RawXmpp(hub.info, source) as raw:
        assert b"policy-violation" in raw.open()
    with RawXmpp(hub.info, "127.0.0.67") as raw:  # another depot
        raw.secure()
        assert b"<success" in raw.log_in("truck-1", secret(hub, "truck-1"))


def test_an_account_that_connects_over_and_over_keeps_its_newest_sessions_only(hub):
    with truck(hub) as first, truck(hub) as second, truck(hub) as third:
        assert b"conflict" in first.read_until(TAIL)
        for standing in (second, third)[-TRUCK_SESSIONS:]:
            standing.send(PING)
            assert b"type='result'" in standing.read_until(rb"<iq[^>]*/>", TAIL)


def test_a_truck_that_floods_is_slowed_down_and_the_others_are_served_meanwhile(hub, honest):
    stanza = b"<message to='nobody@cruisers.test' type='headline'><body>" + b"x" * 900 + b"</body></message>"
    many = TRUCK_RATE.burst + TRUCK_RATE.rate
    with truck(hub) as raw:
        began = time.monotonic()
        honest.slowest = 0.0
        raw.send(stanza * (many // len(stanza)) + PING)
        honest.goes_on(10)
        assert b"id='ping'" in raw.read_until(rb"id='ping'", TAIL)
        # What is beyond the burst comes at the rate; half of that allows for what the kernel holds.
        assert time.monotonic() - began > (many - TRUCK_RATE.burst) / TRUCK_RATE.rate / 2


def test_items_said_twice_are_kept_once_and_read_once(hub):
    async def main() -> None:
        client = hub.client("truck-2")
        center = hub.client("center")
        for each in (client, center):
            await each.connect()
        for _ in range(3):
            await client.publish("truck-2_events_data", "same", document())
        kept = [item_id for item_id, _ in await center.items("truck-2_events_data")]
        assert kept.count("same") == 1
        for each in (client, center):
            await each.disconnect()

    asyncio.run(main())


def test_the_admin_logs_in_from_this_machine_only_whoever_has_the_password(hub):
    for source, let_in in (("127.0.0.1", True), ("127.0.0.68", False)):
        with RawXmpp(hub.info, source) as raw:
            raw.secure()
            raw.log_in("admin", secret(hub, "admin"))
            raw.open()
            raw.send(f"<iq type='set' id='bind'><bind xmlns='{BIND}'/></iq>".encode())
            assert (b"type='result'" in raw.read_until(b"</iq>", TAIL)) is let_in


def test_a_truck_cannot_administer_over_xmpp(hub):
    async def main() -> list[str]:
        client = hub.client("truck-1")
        await client.connect()
        said = []
        for node in ("http://jabber.org/protocol/admin#add-user", "http://jabber.org/protocol/admin#delete-user"):
            said.append(await command(client, node))
        await client.disconnect()
        return said

    assert asyncio.run(main()) == ["service-unavailable", "service-unavailable"]


def test_connections_that_never_log_in_are_ended(hub, loris):
    until = max(opened for opened, _ in loris) + NEGOTIATION_SECONDS + 15
    for _, raw in loris:
        raw.connection.settimeout(max(0.1, until - time.monotonic()))
        raw.read_until()  # returns at the end of the connection only; a time-out fails


def memory(hub) -> int:
    """Bytes that ejabberd takes now."""
    return int(Path(f"/proc/{hub.info['ejabberd_pid']}/statm").read_text("ascii").split()[1]) * 4096


def document() -> ET.Element:
    return data_document([TransducerValue("a", "1", None, "2026-05-09T01:02:03.000000Z")])


async def command(client: SoxClient, node: str) -> str:
    ask = ET.Element("{http://jabber.org/protocol/commands}command", {"node": node, "action": "execute"})
    try:
        await client._request("set", ask, client.domain)
    except SoxError as error:
        return error.condition
    return "done"
