"""Bulk: sealed segments to the hub's web server, one after the other, readings before images, oldest first.

Never counted as uploaded: anything but 200 or 201. Two kinds of failure are told apart:

- refused: the hub answered and will not take this (HTTP 3xx and 4xx, among them 401, 403, 409, 412, 413, but not 408 and
  429; a slot refused for this file).
  Counted per segment; after REFUSALS_MAX the ledger sets it aside.
- broken: the way or the hub failed (no connection, no progress for 15 s, certificate, 5xx, hub out of room). Not the segment's fault
  and not counted against it, however long the tunnel.

After either, the slot is thrown away (ejabberd deletes it when a PUT begins), the segment waits its own growing time while others go
on, and the task pauses a little, so that a hub that refuses everything is not hammered with the whole backlog.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from gateway.ledger import Ledger, Segment
from gateway.uplink_books import Books
from gateway.uplink_link import REFUSING_CONDITIONS, Link
from gateway.uplink_scan import Unreadable, describe
from sox.account import back_off
from sox.client import SoxClient
from sox.errors import SoxError, TransferError
from sox.transfer import put_file

CONTENT_TYPE = "application/octet-stream"
PAUSE_MOST_SECONDS = 60.0  # between two tries of anything
SEGMENT_MOST_SECONDS = 600.0  # between two tries of the same segment
IDLE_SECONDS = 2.0  # between two looks into the ledger when nobody says that something was sealed
BUSY_STATUSES = (408, 429)  # request time-out, too many requests: of the 4xx, these two say "later"

log = logging.getLogger("uplink")


class Uploading(NamedTuple):
    """The transfer under way: bytes sent and to send."""

    segment_id: str
    sent: int
    size: int


class Bulk:
    """The uploading task. `leased` is the segment it has in hand; counters are of this process."""

    def __init__(self, spool: Path, ca_file: str, books: Books, link: Link, uploaded: asyncio.Event, back_off_first: float) -> None:
        self._spool = spool
        self._ca_file = ca_file
        self._books = books
        self._link = link
        self._uploaded = uploaded
        self._back_off_first = back_off_first
        self.taken: Callable[[], Collection[str]] = tuple  # ids of segments that the sweeper has in hand
        self._failures: dict[str, int] = {}
        self._waiting: dict[str, float] = {}  # segment id -> time of the event loop before which it is not tried
        self.wake = asyncio.Event()
        self.uploading: Uploading | None = None
        self.uploads = 0
        self.refused = 0
        self.broken = 0
        self.last_failure: str | None = None

    @property
    def leased(self) -> str | None:
        """Id of the segment being read or sent."""
        return self.uploading.segment_id if self.uploading else None

    async def run(self) -> None:
        """Upload until cancelled."""
        in_a_row = 0
        while True:
            await self._link.client()
            self.wake.clear()  # before the look: what is sealed after it wakes us
            segment = await self._books(Ledger.next_upload, self._skip())
            if segment is None:
                await self._idle()
            elif segment.segment_id in self.taken():  # since the ledger was asked; from here to `uploading` nothing waits
                continue
            elif await self._upload(segment):
                in_a_row = 0
            else:
                in_a_row += 1
                await asyncio.sleep(back_off(in_a_row, self._back_off_first, PAUSE_MOST_SECONDS))

    async def _idle(self) -> None:
        """Until something was sealed, a waiting time is over, or IDLE_SECONDS."""
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min([IDLE_SECONDS, *(until - now for until in self._waiting.values())])):
                await self.wake.wait()
        except TimeoutError:
            return

    def _skip(self) -> frozenset[str]:
        now = asyncio.get_running_loop().time()
        self._waiting = {segment: until for segment, until in self._waiting.items() if until > now}
        return frozenset(self._waiting).union(self.taken())

    async def _upload(self, segment: Segment) -> bool:
        """One try; True if the web server took the whole of it."""
        self.uploading = Uploading(segment.segment_id, 0, segment.size)
        try:
            url = await self._send(segment)
            await self._books(Ledger.uploaded, segment.segment_id, url)
        except Unreadable as error:
            await self._books(Ledger.set_aside, segment.segment_id, str(error))
            self._note(segment, f"set aside: {error}")
            return False
        except SoxError as error:
            await self._failed(segment, error)
            return False
        finally:
            self.uploading = None
        self.uploads += 1
        self._failures.pop(segment.segment_id, None)
        self._uploaded.set()
        return True

    async def _send(self, segment: Segment) -> str:
        """Describe, get a fresh slot, PUT; returns the address to fetch it from."""
        path = self._spool / segment.path
        description = await asyncio.to_thread(describe, path)
        await self._books(Ledger.describe, segment.segment_id, description)
        client: SoxClient = await self._link.client()
        slot = await client.upload_slot(path.name, description.size, CONTENT_TYPE)

        def progress(sent: int) -> None:
            self.uploading = Uploading(segment.segment_id, sent, description.size)

        await put_file(slot, path, self._ca_file, progress)
        return slot.get

    async def _failed(self, segment: Segment, error: SoxError) -> None:
        if isinstance(error, TransferError) and error.condition == "file":
            await self._books(Ledger.set_aside, segment.segment_id, str(error))
        elif is_refusal(error):
            self.refused += 1
            await self._books(Ledger.upload_refused, segment.segment_id, str(error))
        else:
            self.broken += 1
        self._note(segment, str(error))

    def _note(self, segment: Segment, problem: str) -> None:
        failures = self._failures[segment.segment_id] = self._failures.get(segment.segment_id, 0) + 1
        # Several times the task's own pause: the next segment has its turn first.
        pause = back_off(failures, self._back_off_first * 4, SEGMENT_MOST_SECONDS)
        self._waiting[segment.segment_id] = asyncio.get_running_loop().time() + pause
        self.last_failure = f"{segment.segment_id}: {problem}"
        log.warning("upload of %s", self.last_failure)

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {
            "uploading": self.uploading._asdict() if self.uploading else None,
            "uploads": self.uploads,
            "uploads_refused": self.refused,
            "uploads_broken": self.broken,
            "last_failure": self.last_failure,
        }


def is_refusal(error: SoxError) -> bool:
    """Whether the hub refused this very segment (else the way or the hub as a whole failed)."""
    if isinstance(error, TransferError):
        if error.condition == "http" and error.status is not None:
            return error.status < 500 and error.status not in BUSY_STATUSES
        return error.condition == "size"
    return error.condition in REFUSING_CONDITIONS or error.condition == "bad-slot"
