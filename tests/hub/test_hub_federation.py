"""Two cities that federate by list, and a third that may not: two real hubs on loopback, found through a name server of ours."""

import asyncio
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest
from demo_runs import listening
from raw_xmpp import SASL, RawXmpp
from small_dns import SmallDns

from hub import certificates, changes
from sox.client import SoxClient, SoxError
from sox.documents import TransducerValue, data_document

pytestmark = pytest.mark.timeout(120)

A, B, C = "city-a.test", "city-b.test", "city-c.test"


class Cities(NamedTuple):
    a: object
    b: object
    ports: dict[str, int]
    third: certificates.Files


def document() -> ET.Element:
    return data_document([TransducerValue("a", "1", None, "2026-05-09T01:02:03.000000Z")])


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture(scope="module")
def cities(needs_ejabberd, hub_class, tmp_path_factory) -> Iterator[Cities]:
    folder = tmp_path_factory.mktemp("cities")
    ports = dict(zip((A, B), free_ports(2), strict=True))
    names = {name: port for domain, port in ports.items() for name in (domain, f"pubsub.{domain}")}
    # The authorities of the three exist before the hubs start, so that each can be given the others'. City C is trusted, but on no list.
    files = {domain: certificates.ensure(folder / domain / "hub" / "tls", domain, "127.0.0.1") for domain in (A, B, C)}
    trusted = folder / "authorities.pem"
    trusted.write_bytes(b"\n".join(file.ca.read_bytes() for file in files.values()))
    with SmallDns(names) as dns:
        env = dns.inetrc(folder / "inetrc")
        started = []
        for domain, other, trucks in ((A, B, "truck-1"), (B, A, "truck-1")):
            started.append(hub_class(
                folder / domain, "--domain", domain, "--trucks", trucks, "--federation", other, "--federation-ca", str(trusted),
                "--s2s-port", str(ports[domain]), env=env,
            ))  # fmt: skip
        yield Cities(started[0].wait_ready(), started[1].wait_ready(), ports, files[C])
        for running in started:
            assert running.stop() == 0
            running.process.stderr.close()
    shutil.rmtree(folder, ignore_errors=True)


async def connected(hub, user: str) -> SoxClient:
    client = hub.client(user)
    await client.connect()
    return client


def test_a_reader_of_a_federated_city_gets_what_it_was_given_and_no_more(cities):
    async def main() -> None:
        await changes.add_reader(cities.a.home, f"center@{B}", ["truck-1"])
        truck, center = await connected(cities.a, "truck-1"), await connected(cities.b, "center")
        got: asyncio.Queue[str] = asyncio.Queue()
        await truck.publish("truck-1_data", "1", document())
        center.pubsub = f"pubsub.{A}"  # the other city's service
        center.on_item(lambda node, item_id, element: got.put_nowait(item_id))
        await center.subscribe("truck-1_data")
        await truck.publish("truck-1_data", "2", document())
        async with asyncio.timeout(20):
            while await got.get() != "2":
                pass
        assert [item_id for item_id, _ in await center.items("truck-1_data")] == ["2"]
        with pytest.raises(SoxError, match="forbidden"):
            await center.publish("truck-1_data", "3", document())
        with pytest.raises(SoxError, match="not-allowed"):
            await center.items("truck-1_segments_data")
        center.upload = f"upload.{A}"
        with pytest.raises(SoxError, match=r"forbidden|not-allowed|remote-server|timeout"):
            await center.upload_slot("a", 10)
        # Back: what it subscribed to tells nothing any more.
        await changes.revoke(cities.a.home, f"center@{B}")
        with pytest.raises(SoxError, match="not-allowed"):
            await center.items("truck-1_data")
        await truck.publish("truck-1_data", "4", document())
        await asyncio.sleep(0.5)
        assert got.empty()
        await truck.disconnect()
        await center.disconnect()

    asyncio.run(main())


def test_servers_that_are_not_on_the_list_are_neither_called_nor_let_in(cities):
    async def main() -> str:
        truck = await connected(cities.a, "truck-1")
        truck.pubsub = f"pubsub.{C}"
        with pytest.raises(SoxError) as caught:
            await truck.items("truck-1_data")
        await truck.disconnect()
        return caught.value.condition

    assert asyncio.run(main()) in ("forbidden", "not-allowed", "policy-violation", "remote-server-not-found")
    assert not let_in(cities, C, cities.third), "a certificate that is trusted does not open the door"


def test_a_listed_name_needs_its_certificate(cities, tmp_path):
    assert let_in(cities, B, cities.b)
    assert not let_in(cities, B, cities.third), "the certificate is of another city"
    foreign = certificates.ensure(tmp_path / "tls", B, "127.0.0.1")
    assert not let_in(cities, B, foreign), "the right name, signed by nobody we know"
    assert not let_in(cities, B, None), "without TLS"


def let_in(cities: Cities, name: str, shown: object) -> bool:
    """Whether a stanza passes of a server that calls itself `name` and shows the certificate `shown` to city A."""
    with RawXmpp(cities.a.info, namespace="jabber:server", port=cities.ports[A]) as raw:
        if shown is None:
            features = raw.open(name)
        else:
            files = shown if isinstance(shown, certificates.Files) else certificates.Files(*tls_of(shown.home))
            context = ssl.create_default_context(cafile=cities.a.info["ca_file"])
            context.load_cert_chain(files.server, files.server_key)
            features = raw.secure(context, name)
        if b"EXTERNAL" in features:
            raw.send(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>".encode())
            # ejabberd believes any certificate that is good, but takes stanzas of listed domains only.
            if b"<success" in raw.read_until(b"<success[^>]*>|</failure>|</stream:stream>"):
                raw.open(name)
        raw.send(f"<message from='x@{name}' to='nobody@{A}' type='headline'><body>let me in</body></message></stream:stream>".encode())
        return b"<stream:error>" not in raw.read_until(b"</stream:stream>")


def tls_of(home: Path) -> list[Path]:
    return [home / "tls" / name for name in ("ca.pem", "server.pem", "server-key.pem")]


def test_without_a_list_no_port_for_servers_is_open_and_no_server_is_called(hub, cities):
    assert len(listening(hub.info["ejabberd_pid"])) == 2 and len(listening(cities.a.info["ejabberd_pid"])) == 3

    async def main() -> str:
        truck = await connected(hub, "truck-1")
        truck.pubsub = f"pubsub.{A}"
        with pytest.raises(SoxError) as caught:
            await truck.items("truck-1_data")
        await truck.disconnect()
        return caught.value.condition

    assert asyncio.run(main()) in ("forbidden", "not-allowed", "policy-violation")
