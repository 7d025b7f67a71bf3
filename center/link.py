"""The center's connection to the hub, kept for ever: connect, subscribe, read what was said meanwhile, listen, connect again."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from center import clock
from center.config import Hub
from center.fleet_state import Fleet
from center.live_items import LiveItems, Take
from sox import nodes
from sox.account import BACK_OFF_SECONDS, back_off
from sox.client import SoxClient
from sox.errors import SoxError
from sox.keeping import connection, keep
from sox.segments import (
    STORED,
    Announcement,
    BadAnnouncement,
    BadReceipt,
    Receipt,
    read_announcement,
    read_receipt,
    receipt_document,
    receipts_device,
)  # fmt: skip

log = logging.getLogger("center.link")

Announced = Callable[[str, str, Announcement | BadAnnouncement], None]  # (truck, item id, what it says or why it says nothing)
Answered = Callable[[str, str, Element], None]  # (truck, item id, payload)

# What is attended to of each truck, in this order: the live picture of the whole fleet comes before 2000 announcements of its first truck.
LIVE, COLUMNS, PACKED, HEALTH, EVENTS, ANSWERS, SEGMENTS = "live", "columns", "packed", "health", "events", "answers", "segments"
CHANNELS = (LIVE, COLUMNS, PACKED, HEALTH, EVENTS, ANSWERS, SEGMENTS)
AT_ONCE = 16  # channels whose items are asked for at the same time: a round trip is waited for together, and memory stays bounded
EVENTS_READ = 100  # of a truck, at connect


class Status(NamedTuple):
    """The link to the hub as the page shows it."""

    connected: bool
    error: str
    since_utc_ns: int
    connections: int


class Link:
    """Live items go to `fleet`, announcements to `announced`, answers to requests to `answered`. `publish` sends receipts while there is a
    connection, `send` anything else that the center writes."""

    def __init__(
        self, hub: Hub, fleet: Fleet, announced: Announced, back_off_first_s: float = BACK_OFF_SECONDS, answered: Answered | None = None
    ) -> None:
        self._hub, self._fleet, self._announced, self._back_off_first_s = hub, fleet, announced, back_off_first_s
        self._client: SoxClient | None = None
        self._live = live = LiveItems(fleet)
        self._answered = answered or (lambda truck, item_id, element: None)
        takers: dict[str, Callable[[str], Take]] = {
            LIVE: live.values, COLUMNS: live.columns, PACKED: live.packed, HEALTH: live.health, EVENTS: live.events,
            ANSWERS: self._answer_taker, SEGMENTS: self._announcement_taker,
        }  # fmt: skip
        self._by_node = {_node(truck, channel): take(truck) for truck in fleet.trucks for channel, take in takers.items()}
        self._error = "not connected yet"
        self._since_utc_ns = clock.utc_ns()
        self._connections = 0
        self._missing: dict[tuple[str, str], str] = {}  # truck and channel that cannot be attended to, and why
        self.attempts = 0

    @property
    def unreadable(self) -> int:
        """Items that were not what their node is for."""
        return self._live.unreadable

    def status(self) -> Status:
        """The connection as the page shows it."""
        return Status(self._client is not None, self._error, self._since_utc_ns, self._connections)

    async def publish(self, truck: str, receipt: Receipt) -> None:
        """Send a receipt; returns when the hub has it. Raises SoxError."""
        await self.send(truck, "receipts", receipt.segment_id, receipt_document(receipt, clock.utc_ns()))

    async def send(self, truck: str, channel: str, item_id: str, document: Element) -> None:
        """Publish on a channel that the center writes; returns when the hub has it. Raises SoxError."""
        if self._client is None:
            raise SoxError("disconnected", "no connection to the hub")
        await self._client.publish(nodes.data(nodes.channel(truck, channel)), item_id, document)

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        await keep(self._session, self._ended, self._back_off_first_s)

    def _ended(self, problem: str) -> None:
        if problem != self._error:
            log.warning("hub: %s", problem)
        self._error, self._since_utc_ns = problem, clock.utc_ns()

    async def _session(self) -> str:
        """One connection from beginning to end; returns why it ended, or raises SoxError."""
        self.attempts += 1
        hub = self._hub
        client = await asyncio.to_thread(hub.client, hub.user)
        async with connection(client, self._item) as lost:
            self._client, self._error, self._since_utc_ns = client, "", clock.utc_ns()
            self._connections += 1
            log.info("connected to %s", hub.domain)
            attending = asyncio.ensure_future(self._attend_all(client))
            ends: list[asyncio.Future[Any]] = [attending, lost]
            try:
                # Attending ends when all trucks are attended to; it ends the session only by an error.
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if not lost.done():
                    attending.result()
                return str(await lost or SoxError("disconnected", "the connection was closed"))
            finally:
                self._client = None
                self._live.on_their_way.clear()
                attending.cancel()
                await asyncio.gather(attending, return_exceptions=True)

    async def _attend_all(self, client: SoxClient) -> None:
        """Subscribe to every truck's channels; one whose node is missing (an older hub) or closed is tried again and holds up nobody."""
        missing, failures = [(truck, channel) for channel in CHANNELS for truck in self._fleet.trucks], 0
        gate = asyncio.Semaphore(AT_ONCE)
        while missing:
            done = await asyncio.gather(*(self._tried(client, gate, truck, channel) for truck, channel in missing))
            missing, failures = [one for one, attended in zip(missing, done, strict=True) if not attended], failures + 1
            if missing:
                await asyncio.sleep(back_off(failures, self._back_off_first_s))

    async def _tried(self, client: SoxClient, gate: asyncio.Semaphore, truck: str, channel: str) -> bool:
        """Whether the channel is attended to; why not is said once."""
        try:
            async with gate:
                await self._attend(client, truck, channel)
        except SoxError as error:
            if self._missing.get((truck, channel)) != str(error) and client.connected:
                log.warning("%s: %s: %s", truck, channel, error)
                self._missing[truck, channel] = str(error)
            return False
        self._missing.pop((truck, channel), None)
        return True

    async def _attend(self, client: SoxClient, truck: str, channel: str) -> None:
        """Subscribe first and read after, so that nothing falls between; what comes twice is recognised."""
        node = _node(truck, channel)
        await client.subscribe(node)
        if channel == SEGMENTS:
            await self._attend_segments(client, truck)
            return
        for item_id, element in await client.items(node, EVENTS_READ if channel == EVENTS else None):
            self._item(node, item_id, element)
        if channel == LIVE:
            self._live.on_their_way.add(truck)

    async def _attend_segments(self, client: SoxClient, truck: str) -> None:
        receipts = nodes.channel(truck, "receipts")
        await client.publish(nodes.meta(receipts), str(clock.utc_ns()), receipts_device(receipts))
        answered = {}
        for item_id, element in await client.items(nodes.data(receipts)):
            try:
                answered[item_id] = read_receipt(item_id, element)
            except BadReceipt:
                continue  # an answer to an item that was no announcement: it is answered again
        for item_id, element in await client.items(_node(truck, SEGMENTS)):
            announcement = self._announcement(item_id, element)
            # The truck reads its retained receipts when it connects: 2000 answers at every reconnect would say nothing new.
            # A refusal does not tell which upload it was about, so it never counts as the answer to what stands there now.
            if not _stored(announcement, answered.get(item_id)):
                self._announced(truck, item_id, announcement)

    def _item(self, node: str, item_id: str, element: Element) -> None:
        take = self._by_node.get(node)
        if take is not None:
            take(item_id, element)

    def _answer_taker(self, truck: str) -> Take:
        return lambda item_id, element: self._answered(truck, item_id, element)

    def _announcement_taker(self, truck: str) -> Take:
        def take(item_id: str, element: Element) -> None:
            self._announced(truck, item_id, self._announcement(item_id, element))

        return take

    def _announcement(self, item_id: str, element: Element) -> Announcement | BadAnnouncement:
        try:
            return read_announcement(item_id, element)
        except BadAnnouncement as error:
            return error  # it is answered all the same


def _node(truck: str, channel: str) -> str:
    if channel == LIVE:
        return nodes.data(truck)
    return nodes.meta(nodes.channel(truck, PACKED)) if channel == COLUMNS else nodes.data(nodes.channel(truck, channel))


def _stored(announcement: Announcement | BadAnnouncement, receipt: Receipt | None) -> bool:
    """Whether `receipt` says that exactly what is announced is stored here."""
    if isinstance(announcement, BadAnnouncement) or receipt is None or receipt.state != STORED:
        return False
    return (receipt.sha256, receipt.size) == (announcement.sha256, announcement.size)
