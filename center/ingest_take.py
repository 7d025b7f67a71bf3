"""One announced segment: fetch, verify, store durably; then, and only then, the receipt that says so.

A segment is `stored` when its object is durable under its name and the index says so; `refused` when its content is wrong and fetching
this object again could not help: what came is kept in quarantine, and the truck, told so, uploads anew. Anything else (hub away, disk
full, transfer stalled) is no answer and raises.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from center.archive import Archive, file_sha256
from center.config import Center
from center.ingest_check import Damaged, check
from logbook import reader
from sox.errors import TransferError
from sox.segments import REFUSED, STORED, Announcement, Receipt
from sox.transfer import fetch

FETCHES = 2  # of a process at once: one may be slow without stopping the other trucks
GONE = (403, 404, 410)  # an address that will not work again: the truck must upload anew

log = logging.getLogger("center.ingest")

Fetch = Callable[[str, Path, int], Awaitable[object]]  # (url, target, size) -> SHA-256 if it took it on the way; raises TransferError


class Refused(Exception):
    """The object is not what was announced; the text is the reason for the truck."""


class Taker:
    """Takes segments into an archive, FETCHES at a time."""

    def __init__(self, archive: Archive, fetch: Fetch, free_reserve_bytes: int) -> None:
        self._archive, self._fetch, self._reserve = archive, fetch, free_reserve_bytes
        self._room = asyncio.Semaphore(FETCHES)

    async def take(self, announcement: Announcement) -> Receipt:
        """The receipt of an announced segment, whatever was done for it before; raises SoxError, OSError, sqlite3.Error."""
        async with self._room:
            before = await asyncio.to_thread(answered, self._archive, announcement)
            return before or await self._take(announcement)

    async def _take(self, announcement: Announcement) -> Receipt:
        part = self._archive.incoming(announcement.segment_id)
        try:
            await self._receive(announcement, part)
        except Refused as error:
            log.warning("%s: refused: %s", announcement.segment_id, error)
            await asyncio.to_thread(self._archive.quarantine, part, announcement, str(error))
            return refusal(announcement, str(error))
        finally:
            with contextlib.suppress(FileNotFoundError):  # stored or quarantined: moved away
                part.unlink()
        log.info("%s: stored, %d bytes", announcement.segment_id, announcement.size)
        return Receipt(announcement.segment_id, STORED, announcement.sha256, announcement.size, "")

    async def _receive(self, announcement: Announcement, part: Path) -> None:
        if await asyncio.to_thread(self._archive.free_bytes) < announcement.size + self._reserve:
            raise OSError("the archive's disk is full")
        try:
            sha256 = await self._fetch(announcement.url, part, announcement.size)
        except TransferError as error:
            if error.condition in ("size", "bad-address") or (error.condition == "http" and error.status in GONE):
                raise Refused(str(error)) from error
            raise
        await asyncio.to_thread(keep, self._archive, part, announcement, sha256 if isinstance(sha256, str) else None)


def answered(archive: Archive, announcement: Announcement) -> Receipt | None:
    """The receipt of a segment that was stored, or of an object that was refused, before; None if there is something to do."""
    known = archive.known(announcement.segment_id)
    if known is not None:
        if (known.sha256, known.size) == (announcement.sha256, announcement.size):
            return Receipt(known.segment_id, STORED, known.sha256, known.size, "")
        return refusal(announcement, "another content is stored under this segment id")
    before = archive.refusal(announcement)
    return None if before is None else refusal(announcement, before)


def keep(archive: Archive, part: Path, announcement: Announcement, sha256: str | None) -> None:
    """Verify a fetched file (its SHA-256 as taken on the way, or None) and store it; raises Refused, OSError, sqlite3.Error."""
    archive.store(part, announcement, verified(part, announcement, sha256))


def verified(part: Path, announcement: Announcement, sha256: str | None = None) -> reader.SegmentInfo:
    """The fetched file's description, if it is what was announced, bit by bit: size, SHA-256, marks and checksums of every chunk,
    and the identity written inside. Raises Refused."""
    size = part.stat().st_size
    if size != announcement.size:
        raise Refused(f"size is {size}, announced {announcement.size}")
    if (sha256 or file_sha256(part)) != announcement.sha256:
        raise Refused("SHA-256 differs from the announced")
    try:
        info = check(part)
    except Damaged as error:
        raise Refused(f"damaged segment: {error}") from error
    if (info.segment_id, info.truck, info.stream) != (announcement.segment_id, announcement.truck, announcement.stream):
        raise Refused(f"the file says it is {info.segment_id}")
    return info


def refusal(announcement: Announcement, reason: str) -> Receipt:
    """The receipt that says no."""
    return Receipt(announcement.segment_id, REFUSED, announcement.sha256, announcement.size, reason)


def taker(config: Center, archive: Archive) -> Taker:
    """As the configuration has it, from the hub's own upload service."""
    return Taker(archive, functools.partial(_fetched, config.hub.ca_file), config.free_reserve_bytes)


async def _fetched(ca_file: str, url: str, target: Path, size: int) -> str:
    return await fetch(url, ca_file, target, size)
