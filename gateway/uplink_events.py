"""Events to `<truck>_events_data` (P1): from the recorder's datagram durably into the outbox, from there to the hub, in order.

Two tasks: `enter` writes what arrived, `run` publishes what the outbox holds; an event leaves it when the hub has answered. Killed between,
it is published again, under the same item id, and takes the place of itself.

Limits: a datagram that arrives while no uplink runs waits with the recorder (gateway/live_events.py), and is lost with it. The truth is the
segment; segments are not searched for events nobody heard of, for they reach the center themselves within minutes of a link."""

import asyncio
import logging
from collections import deque
from typing import Any

import msgspec

from gateway import ledger_outbox
from gateway.ledger import kernel_boot_id
from gateway.uplink_books import Books
from gateway.uplink_channel import Channel
from sox.account import back_off
from sox.errors import SoxError
from sox.events import Event, event_document, events_device

KIND = "event"
AT_ONCE = 50  # of the outbox, between two questions to it
MOST_ARRIVED = 1000  # in memory, while the disk refuses to take them
REFUSALS_MOST = 3
# The hub says that this item is wrong; any other error concerns the node, the account or the way.
ITEM_CONDITIONS = frozenset({"not-acceptable", "bad-request", "policy-violation"})

log = logging.getLogger("uplink")


class Datagram(msgspec.Struct):
    """An event, as gateway/live_events.py sends it."""

    truck: str
    boot: str
    number: int
    boottime_ns: int
    utc_ns: int
    event: str
    source: str
    detail: str


class News:
    """The tasks of the events. Counters are of this process, but `passed_over` is for ever."""

    def __init__(self, truck: str, books: Books, channel: Channel, back_off_first: float) -> None:
        self._truck = truck
        self._boot = kernel_boot_id()[:8]
        self._books = books
        self._channel = channel
        self._back_off_first = back_off_first
        self._arrived: deque[Event] = deque()
        self._offset_ns: int | None = None  # UTC less boot time, told by the newest snapshot
        self._to_enter = asyncio.Event()
        self._to_publish = asyncio.Event()
        self._to_publish.set()  # what the process before this one left
        self._refusals: dict[str, int] = {}
        self._overrun = 0
        self.waiting = 0
        self.without_utc = 0  # sent, and to be sent again once there is a clock
        self.passed_over = 0
        self.published = 0
        self.refused = 0
        self.malformed = 0
        self.problem: str | None = None

    def on_datagram(self, datagram: dict[str, Any]) -> None:
        """Any datagram of the recorder: an event, or a snapshot, which tells the clock."""
        kind = datagram.get("kind")
        if kind is None:
            self._hear_clock(datagram)
        if kind != KIND:
            return
        try:
            found = msgspec.convert(datagram, Datagram)
        except msgspec.ValidationError as error:
            self.malformed += 1
            log.warning("event: %s", error)
            return
        if found.truck != self._truck:
            self.malformed += 1
            return
        if len(self._arrived) == MOST_ARRIVED:
            self._arrived.popleft()
            self._overrun += 1
        self._arrived.append(
            Event(self._truck, found.boot, found.number, found.event, found.source, found.detail, found.boottime_ns, found.utc_ns)
        )
        self._to_enter.set()

    def _hear_clock(self, snapshot: dict[str, Any]) -> None:
        utc, boottime, boot = snapshot.get("utc_ns"), snapshot.get("boottime_ns"), snapshot.get("boot")
        if isinstance(utc, int) and isinstance(boottime, int) and utc and isinstance(boot, str) and boot.startswith(self._boot):
            self._offset_ns = utc - boottime
            if self.without_utc:
                self._to_enter.set()

    async def enter(self) -> None:
        """What arrived, durably into the outbox, until cancelled."""
        await self._books(ledger_outbox.forget_others, self._boot)
        while True:
            await self._count()
            await self._to_enter.wait()
            self._to_enter.clear()
            arrived = list(self._arrived)
            try:
                if arrived:
                    await self._books(ledger_outbox.put, arrived)
                    for event in arrived:
                        if self._arrived and self._arrived[0] is event:  # else it was passed over meanwhile
                            self._arrived.popleft()
                if self._offset_ns is not None:
                    await self._books(ledger_outbox.clocked, self._boot, self._offset_ns)
            except BaseException:
                self._to_enter.set()  # it is still here
                raise
            self._to_publish.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        failures = 0
        while True:
            await self._to_publish.wait()
            self._to_publish.clear()
            try:
                for event in await self._books(ledger_outbox.waiting, self._truck, AT_ONCE):
                    await self._publish(event)
                    self._to_publish.set()  # there may be more
            except SoxError as error:
                failures += 1
                self.problem = f"events: {error}"
                self._to_publish.set()
                await asyncio.sleep(back_off(failures, self._back_off_first))
                continue
            except BaseException:
                self._to_publish.set()
                raise
            failures, self.problem = 0, None
            await self._count()

    async def _publish(self, event: Event) -> None:
        """One event; a poison one is given up, for it must not hold up the others. Raises SoxError."""
        try:
            await self._channel.publish(event_document(event), events_device, item_id=event.item_id)
        except SoxError as error:
            refusals = self._refusals[event.item_id] = self._refusals.get(event.item_id, 0) + (error.condition in ITEM_CONDITIONS)
            if refusals < REFUSALS_MOST:
                raise
            log.error("event %s (%s) is given up: %s", event.item_id, event.kind, error)
            self.refused += 1
            await self._books(ledger_outbox.refused, event)
        else:
            self.published += 1
            await self._books(ledger_outbox.published, event, self._boot)
        self._refusals.pop(event.item_id, None)

    async def _count(self) -> None:
        self.waiting, self.without_utc, self.passed_over = await self._books(ledger_outbox.counts)
        self.waiting += len(self._arrived)
        self.passed_over += self._overrun

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {
            "events": {
                "waiting": self.waiting,
                "without_utc": self.without_utc,
                "published": self.published,
                "refused": self.refused,
                "passed_over": self.passed_over,
                "malformed": self.malformed,
                "problem": self.problem,
            }
        }
