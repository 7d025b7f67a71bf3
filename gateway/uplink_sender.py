"""Live data: the newest snapshot to `<truck>_data`, one publication at a time. What comes meanwhile replaces what waits (conflation).

Item ids rise for ever. The node keeps one item, and a hub that is given an id again keeps the old item's place: so an id is never used
twice, not after a lost answer, a kill, a reboot or a lost ledger. Not BOOTTIME (it begins at 0 at each boot), not UTC (it steps, and
is unknown at times), but a counter: the ledger reserves ids durably, 3600 at a time (one sync an hour), and at each connect the
uplink also looks at the newest id the hub has, so that even a ledger begun anew goes on above it.
"""

import asyncio
import logging
import sqlite3
from typing import Any
from xml.etree import ElementTree as ET

from gateway.ledger import Ledger
from gateway.uplink_books import Books
from gateway.uplink_link import Link
from gateway.uplink_live import BadSnapshot, Snapshot, data_item, snapshot
from sox import nodes
from sox.account import back_off
from sox.client import SoxClient
from sox.errors import SoxError

IDS_RESERVED = 3600
ID_MOST = 2**53  # an id above it was not ours (one a millisecond for 285,000 years) and is passed over

log = logging.getLogger("uplink")


class Numbers:
    """Rising item ids."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._next = 0
        self._end = 0

    async def above(self, items: list[tuple[str, ET.Element]]) -> None:
        """Go on above the newest numbered item that the hub has."""
        ids = (int(item_id) for item_id, _ in items if item_id.isascii() and item_id.isdecimal() and len(item_id) < 20)
        newest = max((number for number in ids if number <= ID_MOST), default=0)
        if newest >= self._next:
            await self._reserve(newest + 1)

    async def next(self) -> str:
        """An id that was never used."""
        if self._next >= self._end:
            await self._reserve(self._next)
        number = self._next
        self._next += 1
        return str(number)

    async def _reserve(self, at_least: int) -> None:
        try:
            self._next = await self._books(Ledger.reserve_ids, at_least, IDS_RESERVED)
        except sqlite3.OperationalError as error:
            # A full disk does not stop live data: the hub's newest id, read at each connect, is the second guard.
            log.warning("ids not reserved: %s", error)
            self._next = max(self._next, at_least, 1)
        self._end = self._next + IDS_RESERVED


class Sender:
    """The live task. `waiting` says why nothing is published now, None if it is; counters are of this process."""

    def __init__(self, truck: str, numbers: Numbers, link: Link, back_off_first: float) -> None:
        self._truck = truck
        self._node = nodes.data(truck)
        self._numbers = numbers
        self._link = link
        self._back_off_first = back_off_first
        self._newest: Snapshot | None = None
        self._arrived = asyncio.Event()
        self.published = 0
        self.failed = 0
        self.conflated = 0
        self.malformed = 0
        self.waiting: str | None = "no snapshot from the recorder yet"

    def offer(self, datagram: dict[str, Any]) -> None:
        """A snapshot arrived: it replaces one that still waits."""
        try:
            found = snapshot(datagram, self._truck)
        except BadSnapshot as error:
            self.malformed += 1
            self.waiting = str(error)
            return
        if not found.utc_ns:
            self.waiting = "no UTC yet: live values need a time of collection (segments are recorded and sent all the same)"
            return
        self.conflated += self._newest is not None
        self._newest = found
        self._arrived.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        failures = 0
        while True:
            await self._arrived.wait()
            client = await self._link.client()
            self._arrived.clear()
            found, self._newest = self._newest, None
            if found is None:
                continue
            try:
                item = data_item(found)
            except BadSnapshot as error:
                self.malformed += 1
                self.waiting = str(error)
                continue
            if item is None:
                self.waiting = "the recorder has no values"
                continue
            try:
                await self._publish(client, item)
            except SoxError as error:
                failures += 1
                self.failed += 1
                self.waiting = f"live: {error}"
                await asyncio.sleep(back_off(failures, self._back_off_first))
                continue
            failures, self.waiting = 0, None
            self.published += 1

    async def _publish(self, client: SoxClient, item: ET.Element) -> None:
        await client.publish(self._node, await self._numbers.next(), item)

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {
            "live_published": self.published,
            "live_failed": self.failed,
            "live_conflated": self.conflated,
            "live_waiting": self.waiting,
        }
