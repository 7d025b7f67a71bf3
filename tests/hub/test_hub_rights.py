"""Who may do what on the nodes of a truck: real accounts on the real ejabberd (design section 3, SoX)."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from xml.etree import ElementTree as ET

import pytest

from hub.nodes import nodes_of
from sox.client import SoxClient, SoxError
from sox.documents import TransducerValue, data_document, parse_data

pytestmark = pytest.mark.timeout(60)

TIME = "2026-05-09T01:02:03.000000Z"
TRUCK_NODES = [
    "truck-1_meta", "truck-1_data",
    *(f"truck-1_{channel}_{half}" for channel in ("packed", "events", "health", "segments", "answers") for half in ("meta", "data")),
]  # fmt: skip
CENTER_NODES = ["truck-1_receipts_meta", "truck-1_receipts_data", "truck-1_request_meta", "truck-1_request_data"]


def document(text: str = "1") -> ET.Element:
    return data_document([TransducerValue("a", text, None, TIME)])


def typed(items: list[tuple[str, ET.Element]], item_id: str = "") -> list[str | None]:
    """What the items say; only those with `item_id`, where other tests may have written to the same queue."""
    return [parse_data(element)[0].typed for found, element in items if item_id in ("", found)]


def run(hub, users: list[str], work: Callable[..., Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            clients = []
            for user in users:
                client = hub.client(user)
                await client.connect()
                stack.push_async_callback(client.disconnect)
                clients.append(client)
            await work(*clients)

    asyncio.run(main())


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(SoxError) as caught:
        await work
    return caught.value.condition


def test_a_truck_publishes_to_its_own_nodes_and_the_center_reads_them(hub):
    async def work(truck: SoxClient, center: SoxClient) -> None:
        for node in TRUCK_NODES:
            await truck.publish(node, "mine", document(node))
            assert typed(await center.items(node), "mine") == [node]

    run(hub, ["truck-1", "center"], work)


def test_a_truck_may_not_publish_to_nodes_of_another_truck(hub):
    async def work(other: SoxClient) -> None:
        for node in TRUCK_NODES + CENTER_NODES:
            assert await refused(other.publish(node, "x", document())) == "forbidden", node

    run(hub, ["truck-2"], work)


def test_another_truck_can_neither_subscribe_nor_read(hub):
    async def work(other: SoxClient) -> None:
        for node in TRUCK_NODES + CENTER_NODES:
            assert await refused(other.subscribe(node)) == "not-allowed", node
            assert await refused(other.items(node)) == "not-allowed", node

    run(hub, ["truck-2"], work)


def test_receipts_and_requests_are_written_by_the_center_and_read_by_the_truck(hub):
    async def work(truck: SoxClient, center: SoxClient) -> None:
        for node in CENTER_NODES:
            assert await refused(truck.publish(node, "1", document())) == "forbidden", node
            await center.publish(node, "by center", document(node))
            await truck.subscribe(node)
            assert typed(await truck.items(node), "by center") == [node]

    run(hub, ["truck-1", "center"], work)


def test_the_center_may_not_write_what_the_truck_says(hub):
    async def work(center: SoxClient) -> None:
        for node in TRUCK_NODES:
            assert await refused(center.publish(node, "1", document())) == "forbidden", node

    run(hub, ["center"], work)


def test_only_the_admin_creates_configures_and_deletes_nodes(hub):
    async def work(truck: SoxClient, center: SoxClient, admin: SoxClient) -> None:
        for client in (truck, center):
            assert await refused(client.create_node("mine", {}, {})) == "forbidden"
            assert await refused(client.configure_node("truck-1_data", {"access_model": "open"})) == "forbidden"
            assert await refused(client.set_affiliations("truck-1_data", {client.jid: "owner"})) == "forbidden"
            assert await refused(client.delete_node("truck-1_data")) == "forbidden"
        # A node is not made by publishing to it either.
        assert await refused(truck.publish("truck-1_more", "1", document())) in ("item-not-found", "forbidden")
        await admin.create_node("made", {"access_model": "whitelist"}, {center.jid: "member"})
        assert await refused(admin.create_node("made", {}, {})) == "conflict"
        assert await admin.affiliations("made") == {admin.jid: "owner", center.jid: "member"}
        await admin.delete_node("made")
        assert await refused(admin.items("made")) == "item-not-found"

    run(hub, ["truck-1", "center", "admin"], work)


def test_meta_and_data_keep_one_item_the_newest(hub):
    async def work(truck: SoxClient, center: SoxClient) -> None:
        for node in ("truck-3_meta", "truck-3_data"):
            for number in range(5):
                await truck.publish(node, str(number), document(str(number)))
            items = await center.items(node)
            assert [item_id for item_id, _ in items] == ["4"]
            assert typed(items) == ["4"]

    run(hub, ["truck-3", "center"], work)


def test_every_node_keeps_one_item_but_the_queues_two_thousand():
    nodes = nodes_of("truck-1")
    assert {node.name for node in nodes} == {*TRUCK_NODES, *CENTER_NODES}
    queues = {node.name for node in nodes if node.config["max_items"] == 2000}
    assert queues == {f"truck-1_{name}_data" for name in ("events", "segments", "answers", "receipts", "request")}
    assert {node.config["max_items"] for node in nodes} == {1, 2000}
    for node in nodes:
        held = (node.config["access_model"], node.config["publish_model"], node.config["persist_items"])
        assert held == ("whitelist", "publishers", True)


def test_a_queue_keeps_two_thousand_items_oldest_first_and_drops_the_oldest_beyond(hub):
    node = "truck-3_receipts_data"

    async def work(writing: SoxClient, reading: SoxClient) -> None:
        for start in range(0, 2002, 100):
            numbers = range(start, min(start + 100, 2002))
            await asyncio.gather(*(writing.publish(node, f"id-{number:04}", document(str(number))) for number in numbers))
        items = await reading.items(node)
        assert len(items) == 2000
        assert [item_id for item_id, _ in items] == [f"id-{number:04}" for number in range(2, 2002)]
        assert [item_id for item_id, _ in await reading.items(node, max=2)] == ["id-2000", "id-2001"]

    run(hub, ["center", "truck-3"], work)


def test_publishing_the_same_id_again_replaces_the_item(hub):
    async def work(truck: SoxClient, center: SoxClient) -> None:
        for text in ("first", "second"):
            await truck.publish("truck-2_segments_data", "same", document(text))
        assert typed(await center.items("truck-2_segments_data"), "same") == ["second"]

    run(hub, ["truck-2", "center"], work)
