"""Bulk: sealed segments to the hub's web server, of the classes that the link allows, in the order of CLASSES, oldest first.

The link is never idle for a segment's beginning or end: while one is sent the next of its class is read and summed, shortly before the
end it has its slot and its connection, and its first byte follows the other's last one, whose answer may still be on its way.

What waits behind what: readings that are sealed while images are sent do not wait for them (16 MB may take half a minute on LTE) and do not
cut them (what was sent would be lost): both go on, readings have 7 of 8 chunks (uplink_pace.py). Images begin only when no higher class
is in hand.

Never counted as uploaded: anything but 200 or 201. Three ways to fail are told apart:

- refused: the hub answered and will not take this (HTTP 3xx and 4xx, among them 401, 403, 409, 412, 413, but not 408 and
  429; a slot refused for this file).
  Counted per segment; after REFUSALS_MAX the ledger sets it aside. What is larger than the hub says it takes is set aside unsent.
- broken: the way or the hub failed (no connection, no progress for 15 s, certificate, 5xx, hub out of room). Not the segment's fault
  and not counted against it, however long the tunnel.
- cut by us, because the link no longer allows its class, or another one leads to the hub now: within 1 s, with nothing left in our kernel
  to send. Nobody's fault.

After each, the slot is thrown away (ejabberd deletes it when a PUT begins). After the first two the segment waits its own growing time
while others go on, and bulk pauses a little, so that a hub that refuses everything is not hammered with the whole backlog; a hub that names
a time (Retry-After) is left alone for it, at most ASKED_MOST_SECONDS.
"""

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

from gateway.ledger import CLASSES, Ledger, Segment
from gateway.ledger_view import class_of
from gateway.uplink_books import Books
from gateway.uplink_link import REFUSING_CONDITIONS, Link
from gateway.uplink_pace import Pacer
from gateway.uplink_scan import Unreadable, describe
from gateway.uplink_ways import Ways
from sox.account import back_off
from sox.errors import SoxError, TransferError
from sox.transfer import CHUNK, put_file

CONTENT_TYPE = "application/octet-stream"
PAUSE_MOST_SECONDS = 60.0  # between two tries of anything
SEGMENT_MOST_SECONDS = 600.0  # between two tries of the same segment
ASKED_MOST_SECONDS = 600.0
IDLE_SECONDS = 2.0  # between two looks into the ledger when nobody says that something was sealed
BUSY_STATUSES = (408, 429)  # request time-out, too many requests: of the 4xx, these two say "later"
IN_HAND_MOST = 4  # segments being read, sent, or waiting for their answer
SOON_SECONDS = 3.0  # before the end of a transfer the next one has its slot and connection: time for both on a slow link

log = logging.getLogger("uplink")


class Transfer:
    """A segment in hand. `soon` is set when its body is nearly handed over, `handed` when all of it is; both also when it failed."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.user = class_of(segment)
        self.rank = list(CLASSES).index(self.user)
        self.begun = False  # its body
        self.sent = 0
        self.size = segment.size
        self.soon = asyncio.Event()
        self.handed = asyncio.Event()
        self.cut: str | None = None  # why we ended it
        self.task: asyncio.Task[None]


class Bulk:
    """The uploading task; counters are of this process. `leases`: segments that somebody has in hand, by id, with who (this, or a
    connection of the sweeper). `max_file_bytes`: what the hub says it takes, None if it does not say."""

    def __init__(
        self, spool: Path, ca_file: str, books: Books, link: Link, ways: Ways, uploaded: Callable[[], None], back_off_first: float
    ) -> None:
        self._spool = spool
        self._ca_file = ca_file
        self._books = books
        self._link = link
        self._ways = ways
        self._uploaded = uploaded
        self._back_off_first = back_off_first
        self._pacer = Pacer(link)
        self._in_hand: list[Transfer] = []
        self._failures: dict[str, int] = {}
        self._waiting: dict[str, float] = {}  # segment id -> time of the event loop before which it is not tried
        self._failed_in_a_row = 0
        self._paused_until = 0.0
        self._fault: BaseException | None = None
        self._interface: str | None = None
        own: dict[str, object] = {}
        self.leases: Callable[[], MutableMapping[str, object]] = lambda: own
        self.max_file_bytes: int | None = None
        self.wake = asyncio.Event()
        self.uploads = 0
        self.refused = 0
        self.broken = 0
        self.cut = 0
        self.last_failure: str | None = None
        ways.on_change.append(self._link_changed)

    async def run(self) -> None:
        """Upload until cancelled. Raises what the disk under the ledger raises; what is in hand is cut then."""
        pacing = asyncio.create_task(self._pacer.run(), name="pace")
        self._fault = None
        try:
            while True:
                await self._link.client()
                self.wake.clear()  # before the look: what is sealed after it wakes us
                if not await self._begin():
                    await self._idle()
                if self._fault is not None:
                    raise self._fault
                if pacing.done():
                    pacing.result()
        finally:
            tasks = [pacing, *(transfer.task for transfer in self._in_hand)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self) -> bool:
        """Take the next segment in hand, if it is time; False if there is nothing to do now, else look again."""
        if self._now() < self._paused_until or len(self._in_hand) >= IN_HAND_MOST:
            return False
        allowed = [name for name in CLASSES if self._ways.allows(name)]
        if not allowed:
            return False
        segment = await self._books(Ledger.next_upload, self._skip(), classes=allowed)
        if segment is None:
            return False
        if segment.segment_id in self.leases() or not self._ways.allows(class_of(segment)):
            return True  # asking took time; from here to the lease nothing waits
        transfer = Transfer(segment)
        if any(other.rank < transfer.rank or (other.rank == transfer.rank and not other.begun) for other in self._in_hand):
            return False
        self.leases()[segment.segment_id] = self
        ahead = [other for other in self._in_hand if other.rank == transfer.rank]
        self._in_hand.append(transfer)
        transfer.task = asyncio.create_task(self._upload(transfer, ahead), name=segment.segment_id)
        transfer.task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()
            self.wake.set()

    async def _idle(self) -> None:
        """Until something was sealed, a transfer came further, a waiting time is over, or IDLE_SECONDS."""
        times = [until - self._now() for until in (*self._waiting.values(), self._paused_until)]
        try:
            async with asyncio.timeout(min([IDLE_SECONDS, *(seconds for seconds in times if seconds > 0)])):
                await self.wake.wait()
        except TimeoutError:
            return

    def _skip(self) -> frozenset[str]:
        self._waiting = {segment: until for segment, until in self._waiting.items() if until > self._now()}
        return frozenset(self._waiting).union(self.leases())

    def _link_changed(self) -> None:
        """Cut what the link no longer allows, and what goes over a link that is no longer the way to the hub; begin what is allowed now."""
        now = self._ways.now
        moved = now.interface is not None and self._interface not in (None, now.interface)
        if now.interface is not None:  # else: a gap, after which it may go on
            self._interface = now.interface
        if moved:
            self._pacer.another_link()
        for transfer in self._in_hand:
            if transfer.cut is None and (moved or not self._ways.allows(transfer.user)):
                transfer.cut = f"the link is {now.interface}, {now.link} ({now.why})"
                transfer.task.cancel()
        self.wake.set()

    async def _upload(self, transfer: Transfer, ahead: list[Transfer]) -> None:
        """One try."""
        segment = transfer.segment
        try:
            url = await self._send(transfer, ahead)
            await self._books(Ledger.uploaded, segment.segment_id, url)
            self.uploads += 1
            self._failed_in_a_row = 0
            self._failures.pop(segment.segment_id, None)
            self._uploaded()
        except Unreadable as error:
            await self._set_aside(segment, str(error))
        except SoxError as error:
            await self._failed(segment, error)
        except asyncio.CancelledError:
            if transfer.cut is None:
                raise
            self.cut += 1
            log.info("upload of %s cut: %s", segment.segment_id, transfer.cut)
        finally:
            transfer.soon.set()
            transfer.handed.set()
            self._in_hand.remove(transfer)
            self.leases().pop(segment.segment_id, None)
            self.wake.set()

    async def _send(self, transfer: Transfer, ahead: list[Transfer]) -> str:
        """Describe, get a fresh slot, PUT behind those `ahead`; returns the address to fetch it from."""
        identity, path = transfer.segment.segment_id, self._spool / transfer.segment.path
        description = await asyncio.to_thread(describe, path)
        await self._books(Ledger.describe, identity, description)
        transfer.size = description.size
        if self.max_file_bytes is not None and description.size > self.max_file_bytes:
            raise Unreadable(f"{description.size} bytes, and the hub takes objects of up to {self.max_file_bytes}")
        for other in ahead:
            await other.soon.wait()
        slot = await (await self._link.client()).upload_slot(path.name, description.size, CONTENT_TYPE)

        async def progress(sent: int) -> None:
            if not sent:
                for other in ahead:
                    await other.handed.wait()
                transfer.begun = True
                self.wake.set()  # the next one may be read
            transfer.sent = sent
            left = description.size - sent
            if left < SOON_SECONDS * self._pacer.rate.now(self._now()):
                transfer.soon.set()
            if left:
                await self._pacer.take(min(CHUNK, left), transfer.rank)
            else:
                transfer.handed.set()

        await put_file(slot, path, self._ca_file, progress, on_wire=self._ways.count)
        return slot.get

    async def _failed(self, segment: Segment, error: SoxError) -> None:
        if isinstance(error, TransferError) and error.condition == "file":
            await self._set_aside(segment, str(error))
            return
        if is_refusal(error):
            self.refused += 1
            await self._books(Ledger.upload_refused, segment.segment_id, str(error))
            self._note(segment, str(error))
        else:
            self.broken += 1
            asked = error.retry_after if isinstance(error, TransferError) else None
            self._note(segment, str(error), min(asked or 0.0, ASKED_MOST_SECONDS))

    async def _set_aside(self, segment: Segment, problem: str) -> None:
        await self._books(Ledger.set_aside, segment.segment_id, problem)
        self._note(segment, f"set aside: {problem}")

    def _note(self, segment: Segment, problem: str, asked_seconds: float = 0.0) -> None:
        failures = self._failures[segment.segment_id] = self._failures.get(segment.segment_id, 0) + 1
        # Several times the task's own pause: the next segment has its turn first.
        pause = back_off(failures, self._back_off_first * 4, SEGMENT_MOST_SECONDS)
        self._waiting[segment.segment_id] = self._now() + pause
        self._failed_in_a_row += 1
        pause = max(asked_seconds, back_off(self._failed_in_a_row, self._back_off_first, PAUSE_MOST_SECONDS))
        self._paused_until = max(self._paused_until, self._now() + pause)
        self.last_failure = f"{segment.segment_id}: {problem}"
        log.warning("upload of %s", self.last_failure)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def status(self) -> dict[str, Any]:
        """For the status file."""
        sending = next((t for t in self._in_hand if t.begun and not t.handed.is_set()), None)
        return {
            "uploading": {"segment_id": sending.segment.segment_id, "sent": sending.sent, "size": sending.size} if sending else None,
            "uploads": self.uploads,
            "uploads_refused": self.refused,
            "uploads_broken": self.broken,
            "uploads_cut": self.cut,
            "last_failure": self.last_failure,
            "pace": self._pacer.status(),
        }


def is_refusal(error: SoxError) -> bool:
    """Whether the hub refused this very segment (else the way or the hub as a whole failed)."""
    if isinstance(error, TransferError):
        if error.condition == "http" and error.status is not None:
            return error.status < 500 and error.status not in BUSY_STATUSES
        return error.condition == "size"
    return error.condition in REFUSING_CONDITIONS or error.condition == "bad-slot"
