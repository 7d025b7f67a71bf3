"""Notifications on the real ejabberd: order, reconnects, callbacks of either kind, and who is to be believed."""

import asyncio
import os
import signal
from xml.etree import ElementTree as ET

import pytest

from sox.client import SoxClient, SoxError
from sox.documents import TransducerValue, data_document, parse_data

pytestmark = pytest.mark.timeout(60)

TIME = "2026-05-09T01:02:03.000000Z"


def document(text: str) -> ET.Element:
    return data_document([TransducerValue("text", text, None, TIME)])


class Seen:
    """Collects items; wait until enough came."""

    def __init__(self, client: SoxClient) -> None:
        self.items: list[tuple[str, str, str | None]] = []
        self._changed = asyncio.Condition()
        client.on_item(self.take)

    async def take(self, node: str, item_id: str, element: ET.Element) -> None:
        async with self._changed:
            self.items.append((node, item_id, parse_data(element)[0].typed))
            self._changed.notify_all()

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.items) >= count)


async def connected(hub, user: str) -> SoxClient:
    client = hub.client(user)
    await client.connect()
    return client


def test_items_come_in_order_whole_and_with_their_ids(hub):
    async def main() -> None:
        truck, center = await connected(hub, "truck-1"), await connected(hub, "center")
        seen = Seen(center)
        awkward = "<&>\"' é 測定 \U0001f69b ]]> &lt; line\nend"
        await center.subscribe("truck-1_segments_data")
        for number in range(50):
            await truck.publish("truck-1_segments_data", f"n{number}", document(f"{number} {awkward}"))
        await seen.wait(50)
        # A line end in an attribute is read as a space by every XML parser (XML 1.0, 3.3.3) unless escaped as a character reference.
        got = [(node, item_id, (text or "").replace("\n", " ")) for node, item_id, text in seen.items]
        assert got == [("truck-1_segments_data", f"n{number}", f"{number} {awkward}".replace("\n", " ")) for number in range(50)]
        await truck.disconnect()
        await center.disconnect()

    asyncio.run(main())


def test_a_new_subscriber_of_data_sees_the_present_at_once(hub):
    async def main() -> None:
        truck, center = await connected(hub, "truck-1"), await connected(hub, "center")
        await truck.publish("truck-1_data", "7", document("now"))
        seen = Seen(center)
        await center.subscribe("truck-1_data")
        await seen.wait(1)
        assert seen.items == [("truck-1_data", "7", "now")]
        await truck.disconnect()
        await center.disconnect()

    asyncio.run(main())


def test_a_subscription_holds_over_a_reconnect_and_what_was_missed_is_in_the_items(hub):
    async def main() -> None:
        truck, center = await connected(hub, "truck-2"), await connected(hub, "center")
        await truck.subscribe("truck-2_receipts_data")
        await truck.disconnect()
        for number in range(5):  # the truck is offline
            await center.publish("truck-2_receipts_data", f"missed{number}", document(str(number)))
        seen = Seen(truck)
        await truck.connect()
        assert [item_id for item_id, _ in await truck.items("truck-2_receipts_data")][-5:] == [f"missed{number}" for number in range(5)]
        await center.publish("truck-2_receipts_data", "later", document("later"))
        await seen.wait(1)
        assert seen.items == [("truck-2_receipts_data", "later", "later")]
        await truck.disconnect()
        await center.disconnect()

    asyncio.run(main())


def test_callbacks_may_be_plain_functions_and_a_failing_one_stops_nobody(hub, caplog):
    async def main() -> None:
        truck, center = await connected(hub, "truck-1"), await connected(hub, "center")
        plain: list[str] = []

        def fails(node: str, item_id: str, element: ET.Element) -> None:
            raise RuntimeError("of the callback")

        truck.on_item(fails)
        truck.on_item(lambda node, item_id, element: plain.append(item_id))
        seen = Seen(truck)
        await truck.subscribe("truck-1_receipts_data")
        for number in range(3):
            await center.publish("truck-1_receipts_data", f"p{number}", document("x"))
        await seen.wait(3)
        assert [item_id for _, item_id, _ in seen.items] == plain == ["p0", "p1", "p2"]
        await truck.disconnect()
        await center.disconnect()

    asyncio.run(main())
    assert "of the callback" in caplog.text


def test_a_callback_may_ask_the_hub_while_items_come(hub):
    async def main() -> None:
        truck, center = await connected(hub, "truck-1"), await connected(hub, "center")
        answered = asyncio.Event()

        async def answer(node: str, item_id: str, element: ET.Element) -> None:
            if item_id == "ask":
                await center.publish("truck-1_receipts_data", item_id, document("stored"))
                answered.set()

        center.on_item(answer)
        await center.subscribe("truck-1_segments_data")
        await truck.publish("truck-1_segments_data", "ask", document("x"))
        async with asyncio.timeout(20):
            await answered.wait()
        assert "ask" in [item_id for item_id, _ in await truck.items("truck-1_receipts_data")]
        await truck.disconnect()
        await center.disconnect()

    asyncio.run(main())


def test_a_message_of_another_account_that_looks_like_a_notification_is_not_believed(hub):
    async def main() -> None:
        other, truck, center = await connected(hub, "truck-3"), await connected(hub, "truck-1"), await connected(hub, "center")
        seen = Seen(truck)
        await truck.subscribe("truck-1_receipts_data")
        event = "http://jabber.org/protocol/pubsub#event"
        forged = other._stream._xmpp.make_message(mto=truck.jid, mtype="headline")
        items = ET.SubElement(ET.SubElement(forged.xml, f"{{{event}}}event"), f"{{{event}}}items", {"node": "truck-1_receipts_data"})
        ET.SubElement(items, f"{{{event}}}item", {"id": "forged"}).append(document("stored"))
        other._stream._write(forged)
        await other.items("truck-3_receipts_data")  # answered after the message was routed
        await center.publish("truck-1_receipts_data", "real", document("stored"))
        await seen.wait(1)
        assert [item_id for _, item_id, _ in seen.items] == ["real"]
        for client in (other, truck, center):
            await client.disconnect()

    asyncio.run(main())


def test_an_answer_counts_only_from_whom_was_asked(hub):
    async def main() -> None:
        other, truck = await connected(hub, "truck-3"), await connected(hub, "truck-1")
        waiting: asyncio.Future[ET.Element] = asyncio.get_running_loop().create_future()
        truck._stream._pending["known"] = (truck.pubsub, waiting)
        address = str(truck._stream._xmpp.boundjid)
        other._stream._write(other._stream._xmpp.make_iq(id="known", ito=address, itype="result"))
        # Answered by the truck after the forged answer came in: the server keeps the order between two accounts.
        await other._stream.request("get", ET.Element("{urn:xmpp:ping}ping"), address)
        assert not waiting.done()
        del truck._stream._pending["known"]
        await other.disconnect()
        await truck.disconnect()

    asyncio.run(main())


def test_leaving_is_told_once_without_error_and_requests_then_fail_at_once(hub):
    async def main() -> None:
        client = await connected(hub, "truck-1")
        ends: list[SoxError | None] = []
        client.on_disconnected(ends.append)
        await client.disconnect()
        await client.disconnect()
        await asyncio.sleep(0)
        assert ends == [None]
        assert not client.connected
        with pytest.raises(SoxError) as caught:
            await client.publish("truck-1_data", "1", document("x"))
        assert caught.value.condition == "disconnected"

    asyncio.run(main())


def test_nothing_of_a_client_stays_in_the_loop_after_leaving(hub):
    async def main() -> None:
        before = asyncio.all_tasks()
        client = await connected(hub, "truck-1")
        await client.items("truck-1_receipts_data")
        await client.disconnect()
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == before

    asyncio.run(main())


def test_a_client_answers_pings_so_that_the_hub_knows_it_is_there(hub):
    async def main() -> None:
        truck, center = await connected(hub, "truck-1"), await connected(hub, "center")
        answer = await center._stream.request("get", ET.Element("{urn:xmpp:ping}ping"), str(truck._stream._xmpp.boundjid))
        assert answer.get("type") == "result"
        await truck.disconnect()
        await center.disconnect()

    asyncio.run(main())


def test_a_reader_that_cannot_follow_is_cut_off_instead_of_filling_memory(hub, monkeypatch):
    monkeypatch.setattr("sox.client.MOST_WAITING", 5)

    async def main() -> None:
        truck, center = await connected(hub, "truck-1"), await connected(hub, "center")
        ends: asyncio.Queue[SoxError | None] = asyncio.Queue()
        truck.on_disconnected(ends.put_nowait)

        async def slow(node: str, item_id: str, element: ET.Element) -> None:
            await asyncio.sleep(30)

        truck.on_item(slow)
        await truck.subscribe("truck-1_receipts_data")
        for number in range(10):
            await center.publish("truck-1_receipts_data", f"o{number}", document("x"))
        async with asyncio.timeout(20):
            error = await ends.get()
        assert error is not None and error.condition == "overrun"
        assert not truck.connected
        await truck.connect()
        assert [item_id for item_id, _ in await truck.items("truck-1_receipts_data", max=10)] == [f"o{number}" for number in range(10)]
        await truck.disconnect()
        await center.disconnect()

    asyncio.run(main())


def test_a_hub_that_stops_answering_is_noticed_by_ping_and_by_time_out(start_hub, tmp_path, monkeypatch):
    monkeypatch.setattr("sox.stream.PING_SECONDS", 1.0)
    other = start_hub(tmp_path, "--trucks", "truck-1").wait_ready()

    async def main() -> None:
        client = await connected(other, "truck-1")
        ends: asyncio.Queue[SoxError | None] = asyncio.Queue()
        client.on_disconnected(ends.put_nowait)
        pings = asyncio.Semaphore(0)
        request = client._stream.request

        async def counted(*arguments) -> ET.Element:
            answer = await request(*arguments)
            pings.release()
            return answer

        monkeypatch.setattr(client._stream, "request", counted)
        async with asyncio.timeout(20):
            for _ in range(2):
                await pings.acquire()
        assert client.connected  # two pings were answered
        os.kill(other.info["ejabberd_pid"], signal.SIGSTOP)
        try:
            waiting = asyncio.create_task(client.publish("truck-1_data", "1", document("x")))
            async with asyncio.timeout(20):
                error = await ends.get()
                with pytest.raises(SoxError) as caught:
                    await waiting
            assert error is not None and error.condition == caught.value.condition == "disconnected"
            assert "ping" in error.text
        finally:
            os.kill(other.info["ejabberd_pid"], signal.SIGCONT)
        await client.connect()  # the same client, the same subscriptions
        await client.publish("truck-1_data", "2", document("x"))
        other.stop()
        async with asyncio.timeout(20):
            error = await ends.get()
        assert error is not None and error.condition == "disconnected"

    asyncio.run(main())
