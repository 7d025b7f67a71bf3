"""From announcement to receipt: fetch, verify, store, and only then say so.

A segment is `stored` when its file and its folder are on the disk and the index says so; `refused` when its content or its
announcement is wrong and fetching again could not help. Anything else (hub away, disk full, transfer stalled) is no answer: it is
tried again, and if that does not help the truck repeats its announcement after 10 minutes (design: SoX).
"""

import asyncio
import contextlib
import logging
import random
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from center import admission
from center.archive import Archive, file_sha256
from logbook import reader
from sox.errors import SoxError, TransferError
from sox.segments import REFUSED, STORED, Announcement, BadAnnouncement, Receipt

FETCHES = 2  # at once: one may be slow without stopping the other trucks
WAITING_MOST = 10_000  # announcements in memory; beyond it they are dropped, the trucks repeat them
TRIES = 6  # of one announcement, then it waits for its repetition
RETRY_FIRST_S, RETRY_MOST_S = 1.0, 60.0
GONE = (403, 404, 410)  # an address that will not work again: the truck must upload anew

log = logging.getLogger("center.receive")

Fetch = Callable[[str, Path, int], Awaitable[object]]  # (url, target, size); raises TransferError
Publish = Callable[[str, Receipt], Awaitable[None]]  # (truck, receipt); raises SoxError
Stored = Callable[[str, str], Awaitable[None]]  # (truck, stream), after a segment was stored
Offer = Announcement | BadAnnouncement  # what stood in an item, or why it is no announcement


class Refused(Exception):
    """The object is not what was announced; the text is the reason for the truck."""


class _Job(NamedTuple):
    truck: str
    item_id: str
    offer: Offer
    failures: int


class Receiver:
    """Takes announcements from any number of trucks and answers each."""

    def __init__(self, archive: Archive, fetch: Fetch, publish: Publish, on_stored: Stored, hosts: list[str],
                 max_object_bytes: int, free_reserve_bytes: int, retry_first_s: float = RETRY_FIRST_S) -> None:  # fmt: skip
        self._archive, self._fetch, self._publish, self._on_stored = archive, fetch, publish, on_stored
        self._hosts, self._max_bytes, self._reserve = hosts, max_object_bytes, free_reserve_bytes
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
            for _ in range(FETCHES):
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
        known = await asyncio.to_thread(self._archive.known, announcement.segment_id)
        if known is not None:
            if (known.sha256, known.size) == (announcement.sha256, announcement.size):
                return Receipt(known.segment_id, STORED, known.sha256, known.size, "")
            return _refusal(announcement, "another content is stored under this segment id")
        before = await asyncio.to_thread(self._archive.refusal, announcement)
        if before is not None:
            return _refusal(announcement, before)
        part = self._archive.incoming(announcement.segment_id)
        try:
            await self._receive(announcement, part)
        except Refused as error:
            log.warning("%s: refused: %s", announcement.segment_id, error)
            await asyncio.to_thread(self._archive.quarantine, part, announcement, str(error))
            return _refusal(announcement, str(error))
        finally:
            with contextlib.suppress(FileNotFoundError):  # stored or quarantined: moved away
                part.unlink()
        await self._on_stored(announcement.truck, announcement.stream)
        return Receipt(announcement.segment_id, STORED, announcement.sha256, announcement.size, "")

    async def _receive(self, announcement: Announcement, part: Path) -> None:
        """Fetch, verify, store; raises Refused, or what may pass: SoxError, OSError."""
        if await asyncio.to_thread(self._archive.free_bytes) < announcement.size + self._reserve:
            raise OSError("the archive's disk is full")
        try:
            await self._fetch(announcement.url, part, announcement.size)
        except TransferError as error:
            if error.condition in ("size", "bad-address") or (error.condition == "http" and error.status in GONE):
                raise Refused(str(error)) from error
            raise
        info = await asyncio.to_thread(verified, part, announcement)
        await asyncio.to_thread(self._archive.store, part, announcement, info)
        log.info("%s: stored, %d bytes", announcement.segment_id, announcement.size)


def verified(part: Path, announcement: Announcement) -> reader.SegmentInfo:
    """The fetched file's description, if it is what was announced, bit by bit: size, SHA-256, marks and checksums of every chunk,
    and the identity written inside. Raises Refused."""
    size = part.stat().st_size
    if size != announcement.size:
        raise Refused(f"size is {size}, announced {announcement.size}")
    if file_sha256(part) != announcement.sha256:
        raise Refused("SHA-256 differs from the announced")
    problems = reader.verify(part)
    if problems:
        raise Refused(f"damaged segment: {problems[0]}")
    try:
        info = reader.info(part)
    except reader.SegmentError as error:
        raise Refused(f"damaged segment: {error}") from error
    if (info.segment_id, info.truck, info.stream) != (announcement.segment_id, announcement.truck, announcement.stream):
        raise Refused(f"the file says it is {info.segment_id}")
    return info


def _refusal(announcement: Announcement, reason: str) -> Receipt:
    return Receipt(announcement.segment_id, REFUSED, announcement.sha256, announcement.size, reason)
