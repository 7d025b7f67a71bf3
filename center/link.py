"""The center's connection to the hub, kept for ever: connect, subscribe, read what was said meanwhile, listen, connect again."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from center import clock
from center.config import Hub
from center.fleet_state import Fleet
from sox import nodes
from sox.account import BACK_OFF_SECONDS, back_off
from sox.client import SoxClient
from sox.documents import DocumentError, TransducerValue, parse_data
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


class Status(NamedTuple):
    """The link to the hub as the page shows it."""

    connected: bool
    error: str
    since_utc_ns: int
    connections: int


class Link:
    """Live items go to `fleet`, announcements to `announced`. `publish` sends receipts while there is a connection."""

    def __init__(self, hub: Hub, fleet: Fleet, announced: Announced, back_off_first_s: float = BACK_OFF_SECONDS) -> None:
        self._hub, self._fleet, self._announced, self._back_off_first_s = hub, fleet, announced, back_off_first_s
        self._client: SoxClient | None = None
        self._by_node: dict[str, Callable[[str, Element], None]] = {}
        for truck in fleet.trucks:
            self._by_node[nodes.data(truck)] = self._live_taker(truck)
            self._by_node[nodes.data(nodes.channel(truck, "segments"))] = self._announcement_taker(truck)
        self._error = "not connected yet"
        self._since_utc_ns = clock.utc_ns()
        self._connections = 0
        self.attempts = 0
        self.unreadable = 0  # items that were no SoX document

    def status(self) -> Status:
        """The connection as the page shows it."""
        return Status(self._client is not None, self._error, self._since_utc_ns, self._connections)

    async def publish(self, truck: str, receipt: Receipt) -> None:
        """Send a receipt; returns when the hub has it. Raises SoxError."""
        if self._client is None:
            raise SoxError("disconnected", "no connection to the hub")
        document = receipt_document(receipt, clock.utc_ns())
        await self._client.publish(nodes.data(nodes.channel(truck, "receipts")), receipt.segment_id, document)

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
                attending.cancel()
                await asyncio.gather(attending, return_exceptions=True)

    async def _attend_all(self, client: SoxClient) -> None:
        """Subscribe to every truck; one whose nodes are missing or closed is tried again and holds up nobody."""
        missing, failures = list(self._fleet.trucks), 0
        while missing:
            still = []
            for truck in missing:
                try:
                    await self._attend(client, truck)
                except SoxError as error:
                    log.warning("%s: %s", truck, error)
                    still.append(truck)
            missing, failures = still, failures + 1
            if missing:
                await asyncio.sleep(back_off(failures, self._back_off_first_s))

    async def _attend(self, client: SoxClient, truck: str) -> None:
        """Subscribe first and read after, so that nothing falls between; what comes twice is recognised."""
        for node in (nodes.data(truck), nodes.data(nodes.channel(truck, "segments"))):
            await client.subscribe(node)
        receipts = nodes.channel(truck, "receipts")
        await client.publish(nodes.meta(receipts), str(clock.utc_ns()), receipts_device(receipts))
        answered = {}
        for item_id, element in await client.items(nodes.data(receipts)):
            try:
                answered[item_id] = read_receipt(item_id, element)
            except BadReceipt:
                continue  # an answer to an item that was no announcement: it is answered again
        for item_id, element in await client.items(nodes.data(nodes.channel(truck, "segments"))):
            announcement = self._announcement(item_id, element)
            # The truck reads its retained receipts when it connects: 2000 answers at every reconnect would say nothing new.
            # A refusal does not tell which upload it was about, so it never counts as the answer to what stands there now.
            if not _stored(announcement, answered.get(item_id)):
                self._announced(truck, item_id, announcement)
        for item_id, element in await client.items(nodes.data(truck)):
            self._item(nodes.data(truck), item_id, element)

    def _item(self, node: str, item_id: str, element: Element) -> None:
        take = self._by_node.get(node)
        if take is not None:
            take(item_id, element)

    def _live_taker(self, truck: str) -> Callable[[str, Element], None]:
        def take(item_id: str, element: Element) -> None:
            self._fleet.trucks[truck].take(self._values(element), clock.utc_ns())

        return take

    def _announcement_taker(self, truck: str) -> Callable[[str, Element], None]:
        def take(item_id: str, element: Element) -> None:
            self._announced(truck, item_id, self._announcement(item_id, element))

        return take

    def _announcement(self, item_id: str, element: Element) -> Announcement | BadAnnouncement:
        try:
            return read_announcement(item_id, element)
        except BadAnnouncement as error:
            return error  # it is answered all the same

    def _values(self, element: Element) -> list[TransducerValue]:
        try:
            return parse_data(element)
        except DocumentError as error:
            self.unreadable += 1
            log.warning("unreadable item: %s", error)
            return []


def _stored(announcement: Announcement | BadAnnouncement, receipt: Receipt | None) -> bool:
    """Whether `receipt` says that exactly what is announced is stored here."""
    if isinstance(announcement, BadAnnouncement) or receipt is None or receipt.state != STORED:
        return False
    return (receipt.sha256, receipt.size) == (announcement.sha256, announcement.size)
