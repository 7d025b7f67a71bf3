"""SoX over MQTT, both ways: devices of the hub appear on a broker as Keio's sox_mqtt has them, and devices of the broker on the hub.

    <device>_meta, <device>_data ─> hub session ─> waiting ─> broker session ─> topics <device>_meta, <device>
    the same nodes               <─ hub session <─ waiting <─ broker session <─ the same topics

Promise: what the hub (or the broker) told while both connections stood arrives on the other side at least once, in order. While the other
side is away up to QUEUE_MOST messages wait in memory; then the oldest are dropped and counted. Both sides keep the newest message of a
device, so after a break the present is read again on each; what was published and replaced meanwhile is lost.

No loops: whatever this bridge wrote it knows by its origin and does not bring back, also after a restart: on the hub by the item's id
(ITEM), on MQTT by the user property ORIGIN. So one device may be bridged both ways. A ring of bridges over several brokers is not known.

Where one device goes both ways and both sides got a new value during a break, each ends with the other's.

Limits: nodes must exist on the hub, and the bridge's account must be publisher where it writes, and member where it reads; it creates none.
The description on MQTT has no time of its own: `create_timestamp` is that of the newest value known. Values without a time are left out.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import tzinfo
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeVar
from xml.etree import ElementTree as ET

from sox import mqtt_documents, nodes
from sox.account import BACK_OFF_SECONDS, Hub
from sox.bridge_queue import QUEUE_MOST, Waiting
from sox.client import SoxClient
from sox.documents import Device, DocumentError, data_document, parse_data, parse_device, parse_xep0082
from sox.errors import SoxError
from sox.keeping import connection, keep
from sox.mqtt_documents import BadMessage
from sox.mqtt_session import Arrived, Broker, Session

ITEM = "mqtt-"  # begins the ids of items that a bridge published
LOST = ("disconnected", "timeout", "overrun")  # conditions that end a connection; all others concern what was asked
META = "_meta"
WARNED_MOST = 1_000  # places that are told in the log
WINDOW = 20  # messages on their way at a time; mosquitto takes 20 by default

log = logging.getLogger("bridge")


class Message(NamedTuple):
    """For the broker: a topic and its JSON."""

    topic: str
    payload: str


class Item(NamedTuple):
    """For the hub: a node and its document."""

    node: str
    document: ET.Element


T = TypeVar("T", Message, Item)


class Bridge:
    """Bridges the devices `to_mqtt` and `to_sox` (they may be the same). `run()` it in an event loop.

    `counts`: by name; `last`: the last thing that was unreadable, refused or left out; `problems`: of the `hub` and the `broker`, None
    while connected."""

    def __init__(
        self,
        hub: Hub,
        user: str,
        broker: Broker,
        to_mqtt: Iterable[str],
        to_sox: Iterable[str],
        zone: tzinfo,
        most: int = QUEUE_MOST,
        back_off_first: float = BACK_OFF_SECONDS,
    ) -> None:
        self._hub, self._user, self._broker, self._zone = hub, user, broker, zone
        self._to_mqtt, self._to_sox = list(to_mqtt), list(to_sox)
        self._back_off_first = back_off_first
        self._messages: Waiting[Message] = Waiting(most)
        self._items: Waiting[Item] = Waiting(most)
        self._latest: dict[str, Message] = {}  # by topic
        self._devices: dict[str, Device] = {}
        self._newest: dict[str, int] = {}  # by device: the time of the newest value, UTC ns
        self._run = secrets.token_hex(4)
        self._number = 0
        self._warned: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()
        self.last: dict[str, str] = {}
        self.problems: dict[str, str | None] = {"hub": "not connected yet", "broker": "not connected yet"}

    async def run(self) -> NoReturn:
        """Bridge until cancelled. Nothing that hub or broker do ends it."""
        ends = ("hub", self._hub_session), ("broker", self._broker_session)
        async with asyncio.TaskGroup() as group:
            for name, session in ends:
                group.create_task(keep(session, partial(self._told, name), self._back_off_first), name=name)
        raise AssertionError("unreachable: both go on for ever")

    def status(self) -> dict[str, Any]:
        """What it did and what is wrong."""
        dropped = {"dropped_to_mqtt": self._messages.dropped, "dropped_to_sox": self._items.dropped}
        waiting = {"waiting_to_mqtt": len(self._messages), "waiting_to_sox": len(self._items)}
        names = ("to_mqtt", "to_sox", "echoes", "unreadable", "values_left_out", "refused")
        return {**{name: self.counts[name] for name in names}, **dropped, **waiting, "last": self.last, "problems": self.problems}

    def _told(self, name: str, problem: str | None) -> None:
        if problem != self.problems[name]:
            log.warning("%s: %s", name, problem or "connected")
        self.problems[name] = problem

    # -- the hub's side

    async def _hub_session(self) -> str:
        """One connection to the hub; returns why it ended, or raises SoxError."""
        client = await asyncio.to_thread(self._hub.client, self._user)
        async with connection(client, self._item) as lost:
            self._told("hub", None)
            return await _until_lost(lost, self._serve_hub(client))

    async def _serve_hub(self, client: SoxClient) -> None:
        """First read, then write: what waits for the hub would replace what it holds."""
        await self._attend(client)
        await self._send_items(client)

    async def _attend(self, client: SoxClient) -> None:
        """Subscribe, then read the present: the description first, for the values' scale stands in it. A device that cannot be read is
        told and holds up no other."""
        for device in self._to_mqtt:
            try:
                for node in (nodes.meta(device), nodes.data(device)):
                    await client.subscribe(node)
                    for item_id, element in await client.items(node, 1):
                        self._item(node, item_id, element)
            except SoxError as error:
                if error.condition in LOST:
                    raise
                self._refused(f"hub, {device}", error)

    def _item(self, node: str, item_id: str, element: ET.Element) -> None:
        """An item of the hub: to the broker, unless a bridge brought it to the hub."""
        device, _, kind = node.rpartition("_")
        if device not in self._to_mqtt or kind not in ("meta", "data"):
            return
        if item_id.startswith(ITEM):
            self.counts["echoes"] += 1
            return
        try:
            if kind == "meta":
                self._devices[device] = parse_device(element)
                self._describe(device)
            else:
                self._values(device, element)
        except (DocumentError, ValueError) as error:
            self._unreadable(f"hub, {node}", error)

    def _describe(self, device: str) -> None:
        payload = mqtt_documents.meta_json(device, self._devices[device], self._newest.get(device, 0), self._zone)
        self._to_broker(Message(f"{device}{META}", payload))

    def _values(self, device: str, element: ET.Element) -> None:
        values = parse_data(element)
        described = self._devices.get(device)
        scalers = {transducer.id: transducer.scaler for transducer in described.transducers} if described else {}
        payload, left_out = mqtt_documents.data_json(values, scalers, self._zone)
        self._left_out(f"hub, {device}", left_out)
        first = device not in self._newest
        times = [parse_xep0082(value.timestamp) for value in values if value.timestamp]
        self._newest[device] = max([self._newest.get(device, 0), *times])
        if first and described:
            self._describe(device)  # now with a time
        if payload:
            self._to_broker(Message(device, payload))

    def _to_broker(self, message: Message) -> None:
        self._latest[message.topic] = message
        self._messages.put(message)

    async def _send_items(self, client: SoxClient) -> None:
        def publish(item: Item) -> Awaitable[None]:
            self._number += 1
            return client.publish(item.node, f"{ITEM}{self._run}-{self._number}", item.document)

        while True:
            await self._send("to_sox", self._items, publish)

    # -- the broker's side

    async def _broker_session(self) -> str:
        """One connection to the broker; returns why it ended, or raises BrokerError."""
        session = Session(self._broker, self._hub.domain, self._arrived)
        try:
            await session.open()
            await session.subscribe([topic for device in self._to_sox for topic in (f"{device}{META}", device)])
            self._told("broker", None)
            for message in self._latest.values():  # a broker that keeps them in memory has lost them
                if message not in self._messages:
                    self._messages.put(message)
            return await _until_lost(session.lost, self._send_messages(session))
        finally:
            await session.close()

    def _arrived(self, arrived: Arrived) -> None:
        """A message of the broker: to the hub, unless a bridge of this hub brought it there."""
        if arrived.origin == self._hub.domain:
            self.counts["echoes"] += 1
            return
        device = arrived.topic.removesuffix(META)
        if not arrived.payload or device not in self._to_sox:
            return  # an empty payload deletes a retained message
        try:
            if arrived.topic == device:
                values, left_out = mqtt_documents.read_data(arrived.payload, self._zone)
                self._left_out(f"broker, {device}", left_out)
                if values:
                    self._items.put(Item(nodes.data(device), data_document(values)))
            else:
                self._items.put(Item(nodes.meta(device), mqtt_documents.read_meta(device, arrived.payload)))
        except BadMessage as error:
            self._unreadable(f"broker, {arrived.topic}", error)

    async def _send_messages(self, session: Session) -> None:
        while True:
            await self._send("to_mqtt", self._messages, lambda message: session.publish(message.topic, message.payload))

    async def _send(self, way: str, waiting: Waiting[T], publish: Callable[[T], Awaitable[None]]) -> None:
        """Send what waits, WINDOW at a time: one by one would send one in two round trips. What was refused does not come again; what a
        lost connection left stays, so that an entry may be sent twice."""
        entries = await waiting.heads(WINDOW)
        for entry, result in zip(entries, await asyncio.gather(*map(publish, entries), return_exceptions=True), strict=True):
            if isinstance(result, SoxError) and result.condition not in LOST:
                self._refused(f"{way}, {entry[0]}", result)
            elif isinstance(result, BaseException):
                raise result
            else:
                self.counts[way] += 1
            waiting.done(entry)

    # -- what is told

    def _unreadable(self, where: str, error: Exception) -> None:
        self._count("unreadable", where, str(error))

    def _refused(self, where: str, error: SoxError) -> None:
        self._count("refused", where, str(error))

    def _left_out(self, where: str, left_out: dict[str, str]) -> None:
        for name, why in left_out.items():
            self._count("values_left_out", f"{where}, {name}", why)

    def _count(self, what: str, where: str, why: str) -> None:
        """Counted each time, told once for each place: a sensor that is wrong is so every second."""
        self.counts[what] += 1
        self.last[what] = f"{where}: {why}"
        if (what, where) not in self._warned and len(self._warned) < WARNED_MOST:
            self._warned.add((what, where))
            log.warning("%s: %s", what.replace("_", " "), self.last[what])


async def _until_lost(lost: asyncio.Future[Any], work: Coroutine[None, None, None]) -> str:
    """Do `work` until the connection is lost; returns why, raises what `work` raises."""
    working = asyncio.create_task(work)
    try:
        ends: list[asyncio.Future[Any]] = [lost, working]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return f"connection lost: {await lost}"
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
