"""What changes on a running hub: a truck that comes, one that is stolen, readers, open data. Real ejabberd, real sessions.

Each test leaves the accounts of the room's hub as it found them."""

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from honest_trucks import Honest

from hub import accounts, changes, rights
from hub.errors import HubError
from sox.client import SoxClient
from sox.documents import TransducerValue, data_document
from sox.errors import SoxError, TransferError
from sox.transfer import fetch, put_file

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def honest(hub) -> Iterator[Honest]:
    working = Honest(hub).start()
    yield working
    working.stop()


@pytest.fixture(autouse=True)
def connected_trucks_go_on(honest) -> Iterator[None]:
    yield
    honest.goes_on()


def document(text: str = "1") -> ET.Element:
    return data_document([TransducerValue("a", text, None, "2026-05-09T01:02:03.000000Z")])


def run(hub, users: list[str], work: Callable[..., Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            clients = []
            for user in users:
                clients.append(hub.client(user))
                await clients[-1].connect()
                stack.push_async_callback(clients[-1].disconnect)
            await work(*clients)

    asyncio.run(main())


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(SoxError) as caught:
        await work
    return caught.value.condition


async def ids(client: SoxClient, node: str) -> list[str]:
    return [item_id for item_id, _ in await client.items(node)]


def test_a_stolen_truck_is_cut_off_at_once_and_what_it_said_stays(hub, tmp_path):
    asyncio.run(changes.add(hub.home, ["stolen"]))
    password = (hub.home / "secrets" / "stolen").read_text("ascii")
    source, ca = tmp_path / "object", hub.info["ca_file"]
    source.write_bytes(b"0123456789")

    async def work(stolen: SoxClient, center: SoxClient) -> None:
        ended: asyncio.Queue[object] = asyncio.Queue()
        stolen.on_disconnected(ended.put_nowait)
        await stolen.subscribe("stolen_receipts_data")
        for node in ("stolen_data", "stolen_segments_data"):
            await stolen.publish(node, "before", document())
        used, unused = [await stolen.upload_slot("a", 10) for _ in range(2)]
        await put_file(used, source, ca)

        assert await changes.revoke(hub.home, "stolen") is True
        async with asyncio.timeout(20):
            assert await ended.get() is not None
        assert await refused(hub.client("stolen", password).connect()) == "not-authorized"
        with pytest.raises(TransferError) as caught:
            await put_file(unused, source, ca)
        assert caught.value.status == 403, "a slot it had not used yet is void"
        # Everything that belongs to the city is there: items, announcements, objects.
        for node in ("stolen_data", "stolen_segments_data"):
            assert await ids(center, node) == ["before"]
        await fetch(used.get, ca, tmp_path / "back", 10)
        await center.publish("stolen_receipts_data", "receipt", document())
        assert await changes.revoke(hub.home, "stolen") is True, "a second time is the same"

    run(hub, ["stolen", "center"], work)
    assert not (hub.home / "secrets" / "stolen").exists()

    async def nothing_left(admin: SoxClient) -> None:
        for node in ("stolen_data", "stolen_receipts_data", "stolen_segments_meta"):
            assert f"stolen@{admin.domain}" not in await admin.affiliations(node)

    run(hub, ["admin"], nothing_left)


def test_a_name_that_was_revoked_can_be_given_again_with_another_password_and_its_nodes(hub):
    async def work(center: SoxClient) -> None:
        await changes.add(hub.home, ["again"])
        first = (hub.home / "secrets" / "again").read_text("ascii")
        await changes.revoke(hub.home, "again")
        assert await changes.add(hub.home, ["again"]) == ["again"]
        assert await refused(hub.client("again", first).connect()) == "not-authorized"
        truck = hub.client("again")
        await truck.connect()
        await truck.publish("again_data", "1", document())
        assert await ids(center, "again_data") == ["1"]
        await truck.disconnect()
        await changes.revoke(hub.home, "again")

    run(hub, ["center"], work)


def test_a_truck_that_is_added_works_and_one_that_is_there_keeps_its_password(hub):
    before = (hub.home / "secrets" / "truck-1").read_text("ascii")
    assert asyncio.run(changes.add(hub.home, ["added", "truck-1"])) == ["added"]
    assert (hub.home / "secrets" / "truck-1").read_text("ascii") == before

    async def work(added: SoxClient, center: SoxClient) -> None:
        await added.publish("added_packed_data", "1", document())
        assert await ids(center, "added_packed_data") == ["1"]
        assert await refused(added.publish("truck-1_data", "1", document())) == "forbidden"

    run(hub, ["added", "center"], work)
    asyncio.run(changes.revoke(hub.home, "added"))


def test_a_reader_reads_what_it_was_given_and_can_do_nothing_else(hub):
    reader = asyncio.run(changes.add_reader(hub.home, "map", ["truck-1"]))
    assert reader == "reader-map"

    async def work(reader: SoxClient, truck: SoxClient) -> None:
        for node in ("truck-1_meta", "truck-1_data", "truck-1_packed_data", "truck-1_events_meta"):
            await truck.publish(node, "r", document())
            await reader.subscribe(node)
            assert "r" in await ids(reader, node)
            assert await refused(reader.publish(node, "x", document())) == "forbidden"
        closed = [f"truck-1_{channel}_data" for channel in ("segments", "receipts", "request", "answers", "health")]
        for node in (*closed, "truck-2_data"):
            assert await refused(reader.items(node)) == "not-allowed", node
            assert await refused(reader.subscribe(node)) == "not-allowed", node
        assert await refused(reader.create_node("mine", {}, {})) == "forbidden"
        assert await refused(reader.upload_slot("a", 10)) == "forbidden"

    run(hub, [reader, "truck-1"], work)
    asyncio.run(changes.add_reader(hub.home, "reader-map", ["truck-2"]))
    assert rights.read(hub.home).readers == {"reader-map": ["truck-1", "truck-2"]}
    password = (hub.home / "secrets" / reader).read_text("ascii")
    asyncio.run(changes.revoke(hub.home, reader))

    async def gone(admin: SoxClient) -> None:
        assert await refused(hub.client(reader, password).connect()) == "not-authorized"
        assert f"{reader}@{admin.domain}" not in await admin.affiliations("truck-1_data")

    run(hub, ["admin"], gone)


def test_open_data_is_read_by_everyone_and_nothing_beside_it(hub):
    async def work(other: SoxClient, truck: SoxClient) -> None:
        for node in ("truck-1_data", "truck-1_packed_data"):
            await truck.publish(node, "o", document())
        await changes.open_data(hub.home, ["truck-1"], packed=False)
        assert await ids(other, "truck-1_data") == ["o"]
        await other.subscribe("truck-1_meta")
        assert await refused(other.items("truck-1_packed_data")) == "not-allowed"
        assert await refused(other.publish("truck-1_data", "x", document())) == "forbidden"
        await changes.open_data(hub.home, ["truck-1"], packed=True)
        assert await ids(other, "truck-1_packed_data") == ["o"]
        for channel in ("segments", "receipts", "request", "answers", "events", "health"):
            assert await refused(other.items(f"truck-1_{channel}_data")) == "not-allowed", channel
        told: list[str] = []
        other.on_item(lambda node, item_id, element: told.append(item_id))
        await other.subscribe("truck-1_data")
        await changes.open_data(hub.home, ["truck-1"], packed=False, opened=False)
        told.clear()
        for node in ("truck-1_meta", "truck-1_data"):
            assert await refused(other.items(node)) == "not-allowed", node
        await truck.publish("truck-1_data", "closed", document())
        await asyncio.sleep(0.3)
        assert told == [], "a subscription from when it was open tells nothing any more"

    run(hub, ["truck-2", "truck-1"], work)


def test_the_commands_of_ejabberd_are_for_the_owner_alone_and_only_those_we_use(hub):
    folder = hub.home / "run"
    assert folder.stat().st_mode & 0o777 == 0o700 and (folder / "commands").is_socket()
    commands = changes.LocalCommands(hub.home, hub.info["domain"])
    assert "truck-3" in commands.connected() and {"admin", "center", "truck-1"} <= set(commands.registered())
    file = {"file": "/tmp/x"}
    for forbidden, given in {"stop": {}, "restart": {}, "get_cookie": {}, "reload_config": {}, "dump": file, "compile": file}.items():
        with pytest.raises(HubError, match="403"):
            commands._call(forbidden, **given)
    # Not over the network, not even with the admin's password.

    context = ssl.create_default_context(cafile=hub.info["ca_file"])
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"https://127.0.0.1:{hub.info['http_port']}/api/status", b"{}", context=context)


@pytest.mark.parametrize(("work", "said"), [
    (lambda home: changes.add(home, ["Bad_Name"]), "'Bad_Name'"),
    (lambda home: changes.add(home, ["reader-x"]), "'reader-x'"),
    (lambda home: changes.add_reader(home, "../x", ["truck-1"]), "'../x'"),
    (lambda home: changes.add_reader(home, "a/b@c.test", ["truck-1"]), "a/b@c.test"),
    (lambda home: changes.add_reader(home, "x", ["truck-77"]), "'truck-77'"),
    (lambda home: changes.open_data(home, ["truck-77"], False), "'truck-77'"),
    (lambda home: changes.revoke(home, "truck-77"), "'truck-77'"),
    (lambda home: changes.revoke(home, "../lock"), "'../lock'"),
    (lambda home: changes.revoke(home, "center"), "'center' cannot be revoked"),
])  # fmt: skip
def test_what_cannot_be_is_refused_and_changes_nothing(hub, work, said):
    before = (accounts.all_accounts(hub.home / "secrets"), rights.read(hub.home))
    with pytest.raises(HubError) as caught:
        asyncio.run(work(hub.home))
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert (accounts.all_accounts(hub.home / "secrets"), rights.read(hub.home)) == before


def test_rights_that_cannot_be_read_are_told_with_their_file(tmp_path):
    (tmp_path / "rights.json").write_text(json.dumps({"readers": 5}), "utf-8")
    with pytest.raises(HubError, match="rights.json"):
        rights.read(tmp_path)
    assert Path(tmp_path / "rights.json").exists()


def test_a_further_device_is_written_by_its_account_read_by_the_center_and_given_up_with_the_account(hub):
    writer = asyncio.run(changes.add_devices(hub.home, ["weather (roof)", "しらす"], "bridge"))
    assert writer == "writer-bridge"

    async def work(writer: SoxClient, center: SoxClient, truck: SoxClient) -> None:
        for node in ("weather (roof)_meta", "weather (roof)_data", "しらす_data"):
            await writer.publish(node, "w", document())
            assert await ids(center, node) == ["w"]
            assert await refused(truck.items(node)) == "not-allowed"
            assert await refused(truck.publish(node, "x", document())) == "forbidden"
        assert await refused(writer.publish("truck-1_data", "x", document())) == "forbidden"
        assert await refused(writer.upload_slot("a", 10)) == "forbidden"

    run(hub, [writer, "center", "truck-1"], work)
    assert asyncio.run(changes.add_reader(hub.home, writer, ["truck-1"])) == writer

    async def reads(writer: SoxClient, truck: SoxClient) -> None:
        await truck.publish("truck-1_data", "read", document())
        assert "read" in await ids(writer, "truck-1_data")

    run(hub, [writer, "truck-1"], reads)
    asyncio.run(changes.revoke(hub.home, writer))
    assert not rights.read(hub.home).devices

    async def kept(center: SoxClient, admin: SoxClient) -> None:
        assert await ids(center, "しらす_data") == ["w"]
        assert f"{writer}@{admin.domain}" not in await admin.affiliations("しらす_data")

    run(hub, ["center", "admin"], kept)


def test_the_first_fleets_nodes_are_written_by_their_truck_alone_and_a_number_is_given_once(hub):
    names = asyncio.run(changes.add_carsensor(hub.home, "truck-2", 14))
    assert names == ["carsensor014", "carsensor014_100Hz"]

    async def work(truck: SoxClient, other: SoxClient, center: SoxClient) -> None:
        for node in ("carsensor014_data", "carsensor014_100Hz_data"):
            await truck.publish(node, "1", document())
            assert await refused(other.publish(node, "2", document())) == "forbidden"
            assert await ids(center, node) == ["1"]
        await changes.open_data(hub.home, ["carsensor014"], packed=False)
        assert await ids(other, "carsensor014_data") == ["1"]

    run(hub, ["truck-2", "truck-1", "center"], work)
    with pytest.raises(HubError, match="carsensor014 is written by truck-2"):
        asyncio.run(changes.add_carsensor(hub.home, "truck-1", 14))


@pytest.mark.parametrize("name", ["truck-1", "truck-1_packed", "", " x", "a\nb"])
def test_a_device_that_would_have_a_trucks_nodes_or_no_name_is_refused(hub, name):
    with pytest.raises(HubError, match="device"):
        asyncio.run(changes.add_devices(hub.home, [name], "bridge"))
    assert "writer-bridge" not in rights.read(hub.home).devices.values()
