"""The uplink's desk: what the sweeper may ask and tell (docs/formats.md 6), and the looks into the spool's folder.

    {"ask": "deletable", "limit": n}                       receipted, oldest first
    {"ask": "superseded", "limit": n}                      others stand in their place: their files may go at any time
    {"ask": "unsent", "purpose": p, "stream": s, "limit"}  may be taken; p: "thinning", "shrinking", "dropping" or "records"
        -> {"segments": [{"segment_id", "path", "size", "keep_every"}, ...]}
    {"ask": "images left"}                                 -> {"segments": n}   with images, not delivered, those on their way included
    {"ask": "take", "segment_ids": [...]}                  -> {"taken": [...]}   those that this connection holds now
    {"tell": "given back", "segment_ids": [...]}           -> {}
    {"tell": "look"}                                       -> {"found": n}       sealed segments that the ledger did not know
    {"tell": "tried", "segment_id", "keep_every", "shrunk"}-> {}                 nothing was to gain by it
    {"tell": "deleted", "segment_ids": [...]}              -> {"forgotten": n}

Taking. A segment belongs to one of two: the upload that has it in hand, or the connection that took it. What is uploaded or announced and
waits for its receipt cannot be taken. Both sides decide in the event loop's thread without waiting in between: `take` first puts the
segment into `taken` (unless the upload has it) and then asks the ledger whether it is still unsent; bulk asks `taken` after the ledger
named a segment and begins at once. A take ends with its connection. If it ends too early (this process was killed), the sweeper notices
before it gives a derived segment its name; should an upload have begun all the same, the ledger supersedes one of the two.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.ledger import Ledger, Segment
from gateway.uplink_books import Books
from gateway.uplink_scan import present_ids, scan
from gateway.uplink_socket import Refused
from logbook.channels import STREAMS

ASK_MOST = 1000  # segments in one answer


class Desk:
    """`uploading` gives the id of the segment that the upload has in hand, `on_found` is called when a look found new segments."""

    def __init__(self, spool: Path, truck: str, books: Books, uploading: Callable[[], str | None], on_found: Callable[[], None]) -> None:
        self._spool = spool
        self._truck = truck
        self._books = books
        self._uploading = uploading
        self._on_found = on_found
        self._known: set[str] | None = None
        self._looking = asyncio.Lock()
        self.taken: dict[str, object] = {}  # segment id -> the connection that took it

    async def look(self) -> int:
        """Enter sealed segments that are new, forget those that are receipted or superseded and gone; returns how many are new.

        Raises sqlite3.OperationalError, OSError when the disk refuses."""
        async with self._looking:
            if self._known is None:
                self._known = await self._books(Ledger.known)
            found, present = await asyncio.to_thread(scan, self._spool, self._truck, self._known)
            if found:
                await self._books(Ledger.add, found)
                self._known.update(segment.segment_id for segment in found)
                self._on_found()
            gone = self._known - present - {segment.segment_id for segment in found}
            if gone:
                # The sweeper deleted it and could not say so. Others stay in the ledger: bulk or the center will say.
                await self._books(Ledger.forget, sorted(gone))
                self._known -= gone
            return len(found)

    async def answer(self, request: dict[str, Any], connection: object) -> dict[str, Any]:
        """The answer to one request; raises Refused."""
        try:
            return await self._answer(request, connection)
        except (sqlite3.OperationalError, OSError) as error:
            raise Refused(f"ledger: {error}") from error

    def closed(self, connection: object) -> None:
        """What was taken on the connection is given back."""
        self.taken = {identity: holder for identity, holder in self.taken.items() if holder is not connection}

    async def _answer(self, request: dict[str, Any], connection: object) -> dict[str, Any]:
        match request:
            case {"ask": "deletable" | "superseded" as state, "limit": int(limit)} if 0 < limit <= ASK_MOST:
                method = Ledger.deletable if state == "deletable" else Ledger.superseded
                return {"segments": self._free(await self._books(method, limit), connection)}
            case {"ask": "unsent", "purpose": str(purpose), "stream": stream, "limit": int(limit)} if 0 < limit <= ASK_MOST:
                return {"segments": self._free(await self._unsent(purpose, stream, limit), connection)}
            case {"ask": "images left"}:
                return {"segments": await self._books(Ledger.images_left)}
            case {"ask": "take", "segment_ids": list(identities)} if _are_texts(identities):
                return {"taken": await self._take(identities, connection)}
            case {"tell": "given back", "segment_ids": list(identities)} if _are_texts(identities):
                self.taken = {i: holder for i, holder in self.taken.items() if holder is not connection or i not in identities}
                return {}
            case {"tell": "look"}:
                return {"found": await self.look()}
            case {"tell": "tried", "segment_id": str(identity), "keep_every": int(keep_every), "shrunk": bool(shrunk)}:
                await self._books(Ledger.tried, identity, keep_every, shrunk)
                return {}
            case {"tell": "deleted", "segment_ids": list(identities)} if _are_texts(identities):
                present = await asyncio.to_thread(present_ids, self._spool, self._truck)
                return {"forgotten": await self._books(Ledger.forget, [i for i in identities if i not in present])}
        raise Refused("unknown request")

    async def _unsent(self, purpose: str, stream: object, limit: int) -> list[Segment]:
        match purpose, stream:
            case "thinning", "images":
                return await self._books(Ledger.to_thin, limit)
            case "shrinking", "images":
                return await self._books(Ledger.to_shrink, limit)
            case "dropping", str(name) if name in STREAMS:
                return await self._books(Ledger.to_drop, name, limit)
            case "records", str(name) if name in STREAMS:
                return await self._books(Ledger.drop_records, name, limit)
        raise Refused(f"no purpose {purpose!r} for {stream!r}")

    async def _take(self, identities: list[str], connection: object) -> list[str]:
        mine = [i for i in identities if i != self._uploading() and self.taken.get(i, connection) is connection]
        for identity in mine:
            self.taken[identity] = connection  # before the ledger is asked: from here on no upload begins
        unsent = await self._books(Ledger.unsent, mine)
        for identity in mine:
            if identity not in unsent:
                self.taken.pop(identity, None)
        return [identity for identity in mine if identity in unsent]

    def _free(self, segments: list[Segment], connection: object) -> list[dict[str, Any]]:
        """Without those that somebody else has in hand."""
        mine = (s for s in segments if s.segment_id != self._uploading() and self.taken.get(s.segment_id, connection) is connection)
        return [{"segment_id": s.segment_id, "path": s.path, "size": s.size, "keep_every": s.keep_every} for s in mine]


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
