"""From announcement to receipt: every announcement is answered, by what `take` says of its segment (center/ingest_take.py, in this
process or through center/ingest_desk.py in a worker).

What is no answer (hub away, disk full, transfer stalled, a worker killed) is tried again, and if that does not help the truck repeats its
announcement after 10 minutes (design: SoX).
"""

import asyncio
import logging
import random
import sqlite3
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from center import admission
from center.archive import Archive
from center.ingest_take import answered
from sox.errors import SoxError
from sox.segments import REFUSED, STORED, Announcement, BadAnnouncement, Receipt

WORKING = 32  # announcements at once: most of them wait for a worker, so that known ones are answered meanwhile
WAITING_MOST = 10_000  # announcements in memory; beyond it they are dropped, the trucks repeat them
TRIES = 6  # of one announcement, then it waits for its repetition
RETRY_FIRST_S, RETRY_MOST_S = 1.0, 60.0

log = logging.getLogger("center.receive")

Take = Callable[[Announcement], Awaitable[Receipt]]  # raises SoxError, OSError, sqlite3.Error
Publish = Callable[[str, Receipt], Awaitable[None]]  # (truck, receipt); raises SoxError
Stored = Callable[[str, str], Awaitable[None]]  # (truck, stream), after a segment was stored
Offer = Announcement | BadAnnouncement  # what stood in an item, or why it is no announcement


class _Job(NamedTuple):
    truck: str
    item_id: str
    offer: Offer
    failures: int


class Receiver:
    """Takes announcements from any number of trucks and answers each."""

    def __init__(self, archive: Archive, take: Take, publish: Publish, on_stored: Stored, hosts: list[str],
                 max_object_bytes: int, retry_first_s: float = RETRY_FIRST_S) -> None:  # fmt: skip
        self._archive, self._take, self._publish, self._on_stored = archive, take, publish, on_stored
        self._hosts, self._max_bytes = hosts, max_object_bytes
        self._retry_first_s = retry_first_s
        self._waiting: asyncio.Queue[_Job] = asyncio.Queue()
        self._busy: dict[tuple[str, str], Offer] = {}  # waiting, being worked on, or put back for later
        self._answering: set[tuple[str, str]] = set()  # of those: the receipt may be out already
        self._repeated: dict[tuple[str, str], Offer] = {}  # announced anew meanwhile: worked on next
        self.given_up = 0

    @property
    def open(self) -> int:
        """Announcements that are waiting, being worked on, or put back for later."""
        return len(self._busy)

    def announced(self, truck: str, item_id: str, offer: Offer) -> None:
        """An announcement came in. Each is answered by a receipt that goes out after it came; one receipt may answer several."""
        key = (truck, item_id)
        if key in self._busy:
            if offer != self._busy[key] or key in self._answering:
                self._repeated[key] = offer
            return
        if len(self._busy) >= WAITING_MOST:
            self.given_up += 1
            return
        self._busy[key] = offer
        self._waiting.put_nowait(_Job(truck, item_id, offer, 0))

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKING):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            job = await self._waiting.get()
            try:
                await self._answer(job)
            except (SoxError, OSError, sqlite3.Error) as error:
                self._again(job, error)
            except Exception:  # a fault of ours: this one announcement waits for its repetition, the others must not
                log.exception("%s: not answered", job.item_id)
                self.given_up += 1
                self._done(job)
            else:
                self._done(job)

    def _done(self, job: _Job) -> None:
        key = (job.truck, job.item_id)
        del self._busy[key]
        self._answering.discard(key)
        if key in self._repeated:
            self.announced(*key, self._repeated.pop(key))

    def _again(self, job: _Job, error: Exception) -> None:
        failures = job.failures + 1
        log.warning("%s: attempt %d: %s", job.item_id, failures, error)
        if failures >= TRIES:
            self.given_up += 1
            self._done(job)
            return
        if self._repeated.get((job.truck, job.item_id), job.offer) != job.offer:
            self._done(job)  # the truck has uploaded anew: no use in waiting for the old object
            return
        self._answering.discard((job.truck, job.item_id))  # the next attempt sends a receipt of its own
        delay = min(RETRY_MOST_S, self._retry_first_s * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)
        asyncio.get_running_loop().call_later(delay, self._waiting.put_nowait, job._replace(failures=failures))

    async def _answer(self, job: _Job) -> None:
        try:
            announcement = self._admitted(job)
        except BadAnnouncement as error:
            log.warning("%s: refused: %s", job.item_id, error)
            receipt = Receipt(job.item_id, REFUSED, "", 0, str(error))
        else:
            receipt = await self._decide(announcement)
        self._answering.add((job.truck, job.item_id))
        await self._publish(job.truck, receipt)
        if receipt.state == STORED:
            await asyncio.to_thread(self._archive.mark_receipted, receipt.segment_id)

    def _admitted(self, job: _Job) -> Announcement:
        if isinstance(job.offer, BadAnnouncement):
            raise job.offer
        admission.check(job.offer, job.truck, self._hosts, self._max_bytes)
        return job.offer

    async def _decide(self, announcement: Announcement) -> Receipt:
        receipt = await asyncio.to_thread(answered, self._archive, announcement)
        if receipt is None:
            receipt = await self._take(announcement)
            if receipt.state == STORED:
                await self._on_stored(announcement.truck, announcement.stream)
        return receipt
