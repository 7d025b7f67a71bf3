"""Announcements out, receipts in: the only way for a segment to become "delivered"."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from gateway.clock import boottime_ns
from gateway.ledger import Ledger, Segment
from gateway.uplink_books import Books
from gateway.uplink_link import REFUSING_CONDITIONS, Link
from gateway.uplink_scan import Unreadable, describe
from sox import nodes
from sox.account import back_off
from sox.errors import SoxError
from sox.segments import STORED, Announcement, BadReceipt, Receipt, announcement_document, read_receipt

REPEAT_SECONDS = 600.0  # an announcement without receipt for this long is published again (design: SoX)
NODE_ITEMS_LEAST = 50  # asked for on a link too slow for all of them (a receipt takes about 600 bytes)
LOOK_MOST_SECONDS = 5.0  # between two looks for announcements that are due

log = logging.getLogger("uplink")


class Announcer:
    """The announcing task. Item id = segment id: the hub keeps one item a segment, however often it is published."""

    def __init__(self, truck: str, books: Books, link: Link, receipts: "Receipts", repeat_seconds: float, back_off_first: float) -> None:
        self._truck = truck
        self._node = nodes.data(nodes.channel(truck, "segments"))
        self._books = books
        self._link = link
        self._receipts = receipts
        self._repeat_seconds = repeat_seconds
        self._back_off_first = back_off_first
        self.wake = asyncio.Event()
        self.announcements = 0
        self.problem: str | None = None

    async def run(self) -> None:
        """Announce until cancelled."""
        failures = 0
        while True:
            await self._receipts.caught_up.wait()
            self.wake.clear()
            try:
                due = await self._announce_due()
            except SoxError as error:
                failures += 1
                self.problem = f"announcement: {error}"
                log.warning("%s", self.problem)
                await asyncio.sleep(back_off(failures, self._back_off_first))
                continue
            failures, self.problem = 0, None
            if not due:
                await self._idle()

    async def _announce_due(self) -> int:
        """Announce what is due; returns how many. One that the hub refuses does not hold up the others; it is raised after them."""
        due = await self._books(Ledger.to_announce, self._repeat_seconds)
        refused: SoxError | None = None
        for segment in due:
            client = await self._link.client()
            self._receipts.announced.add(segment.segment_id)  # before: the receipt may come sooner than the hub's answer
            try:
                await client.publish(self._node, segment.segment_id, announcement_document(_announcement(segment, self._truck)))
            except SoxError as error:
                if error.condition not in REFUSING_CONDITIONS:
                    raise
                refused = error
                continue
            await self._books(Ledger.announced, segment.segment_id, segment.url or "")
            self.announcements += 1
        if refused is not None:
            raise refused
        return len(due)

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(min(LOOK_MOST_SECONDS, self._repeat_seconds / 4)):
                await self.wake.wait()
        except TimeoutError:
            return


class Receipts:
    """Two tasks: `follow` asks the hub for receipts, `run` takes them into the ledger. A receipt may come twice, late or unasked.

    `caught_up` is set while the node has been read on this connection: nothing is announced before, so that a refusal in the node is
    known to be an old one. `read_once` stays set: bulk waits for it, so that what was delivered already is not sent again.
    `announced`: segments announced on this connection. `on_refused` is called when a segment must be uploaded again.
    """

    def __init__(self, truck: str, spool: Path, books: Books, link: Link, back_off_first: float) -> None:
        self._node = nodes.data(nodes.channel(truck, "receipts"))
        self._spool = spool
        self._books = books
        self._link = link
        self._back_off_first = back_off_first
        self.on_refused: Callable[[], None] | None = None
        self._queue: asyncio.Queue[Receipt | asyncio.Event] = asyncio.Queue()
        self._head: Receipt | asyncio.Event | None = None  # taken from the queue and not yet entered
        self.announced: set[str] = set()
        self.caught_up = asyncio.Event()
        self.read_once = asyncio.Event()
        self.outcomes: dict[str, int] = {}
        self.last: dict[str, Any] | None = None
        self.problem: str | None = None

    async def follow(self) -> None:
        """On each connection: subscribe, then read what is there (in this order nothing can slip between)."""
        failures = 0
        while True:
            client = await self._link.client()
            try:
                await client.subscribe(self._node)
                items = await client.items(self._node, max(NODE_ITEMS_LEAST, nodes.QUEUE_ITEMS >> failures))
            except SoxError as error:
                failures += 1
                self.problem = f"receipts: {error}"
                log.warning("%s", self.problem)
                await asyncio.sleep(back_off(failures, self._back_off_first))
                continue
            failures, self.problem = 0, None
            self.announced.clear()
            for item_id, element in items:
                self.item(self._node, item_id, element)
            entered = asyncio.Event()
            self._queue.put_nowait(entered)
            await entered.wait()
            self.read_once.set()
            self.caught_up.set()
            await self._link.lost(client)
            self.caught_up.clear()

    def item(self, node: str, item_id: str, element: ET.Element) -> None:
        """An item of any subscribed node arrived."""
        if node != self._node:
            return
        try:
            self._queue.put_nowait(read_receipt(item_id, element))
        except BadReceipt as error:
            self._count("unreadable")
            log.warning("%s", error)

    async def run(self) -> None:
        """Take receipts until cancelled. One that the disk refused is tried again first, so that nothing behind it counts as read."""
        while True:
            if self._head is None:
                self._head = await self._queue.get()
            if isinstance(self._head, asyncio.Event):
                self._head.set()
            else:
                await self._enter(self._head)
            self._head = None

    async def _enter(self, receipt: Receipt) -> None:
        segment = await self._books(Ledger.segment, receipt.segment_id)
        if segment is not None and segment.sha256 is None and receipt.state == STORED:
            # A ledger begun anew: the bytes on disk decide whether this receipt is for them.
            try:
                description = await asyncio.to_thread(describe, self._spool / segment.path)
            except Unreadable as error:
                self._count("unreadable segment")
                log.warning("receipt for %s, but %s", receipt.segment_id, error)
                return
            await self._books(Ledger.describe, receipt.segment_id, description)
        outcome = await self._books(Ledger.receipt, receipt, receipt.segment_id in self.announced)
        self._count(outcome)
        self.announced.discard(receipt.segment_id)
        if outcome in ("delivered", "refused", "set aside"):
            log.info("receipt %s: %s %s", receipt.segment_id, outcome, receipt.reason)
            self.last = {"segment_id": receipt.segment_id, "outcome": outcome, "reason": receipt.reason, "boottime_ns": boottime_ns()}
        if outcome == "refused" and self.on_refused is not None:
            self.on_refused()

    def _count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


def _announcement(segment: Segment, truck: str) -> Announcement:
    """What is said about an uploaded segment: bulk described it before it was sent, and the ledger holds its address since."""
    return Announcement(
        segment.segment_id, segment.url or "", segment.size, segment.sha256 or "", segment.stream, segment.first_boottime_ns or 0,
        segment.last_boottime_ns or 0, segment.first_utc_ns or 0, segment.last_utc_ns or 0, truck,
    )  # fmt: skip
