"""A look into the segments as they are found, so that a request finds them by time and place later: of images how many and when, of
readings where the truck was.

Of a segment with images the summary at its end and its first and last chunk are read, not the 16 MB between; nothing is verified here (bulk
describes every segment before it is sent). Of readings all is read: some 100 kB a minute. The newest first: their bytes are still in the
machine's memory. After each a pause, so that a ledger begun anew does not take the disk from the recorder.

The track holds a point every TRACK_SECONDS or TRACK_METRES, whichever comes first, so a place is matched against the lines between."""

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mcap.exceptions import McapError
from mcap.reader import make_reader

from gateway import ledger_requests
from gateway.depots import distance
from gateway.ledger import Segment
from gateway.ledger_requests import Point
from gateway.uplink_books import Books
from logbook import channels, reader, records
from logbook.schemas.cruisers_pb2 import Position

TRACK_SECONDS = 10.0
TRACK_METRES = 20.0
PAUSE_SECONDS = 0.05  # between two looks: at most 20 segments a second, 16,000 of a full spool in a quarter of an hour
IDLE_SECONDS = 5.0  # between two looks into the ledger when nobody says that something was found

log = logging.getLogger("uplink")


class Seen(NamedTuple):
    """What a segment holds: images, its first and last BOOTTIME and UTC ns (0: unknown), and the way of the truck."""

    images: int
    times: tuple[int, int, int, int]
    points: list[Point]


class Unreadable(Exception):
    """A sealed segment that says nothing; the text says why."""


def look(path: Path, stream: str) -> Seen:
    """What the sealed segment at `path` holds; raises Unreadable. Not for an event loop's thread."""
    try:
        return _images(path) if stream == channels.IMAGES else _readings(path)
    except (OSError, ValueError, McapError, records.DamagedChunk) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(f"{path.name}: {text}") from error


def _images(path: Path) -> Seen:
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
        if summary is None or summary.statistics is None:
            raise ValueError("no summary")
        statistics = summary.statistics
        counts = statistics.channel_message_counts
        images = sum(counts.get(c.id, 0) for c in summary.channels.values() if c.topic.startswith(channels.camera_topic("")))
        ends = sorted(summary.chunk_indexes, key=lambda chunk: chunk.chunk_start_offset)
        utc = [
            message.publish_time
            for chunk in {0: ends[0], 1: ends[-1]}.values()
            for message in _messages(os.pread(file.fileno(), chunk.chunk_length, chunk.chunk_start_offset))
            if message.publish_time
        ] if ends else []  # fmt: skip
    times = statistics.message_start_time, statistics.message_end_time
    return Seen(images, (*times, min(utc, default=0), max(utc, default=0)), [])


def _messages(chunk: bytes) -> Iterator[records.RawMessage]:
    return records.messages(records.chunk_content(chunk, records.parse_chunk_head(chunk, 0, len(chunk))))


def _readings(path: Path) -> Seen:
    first = last = first_utc = last_utc = 0
    positions = []
    for message in reader.read(path):
        first, last = min(first or message.log_time, message.log_time), max(last, message.log_time)
        if message.publish_time:
            first_utc, last_utc = min(first_utc or message.publish_time, message.publish_time), max(last_utc, message.publish_time)
        found = message.message
        if isinstance(found, Position) and found.valid and found.HasField("latitude") and found.HasField("longitude"):
            positions.append(Point(path.parent.name[:8], found.boottime_ns, message.publish_time, found.latitude, found.longitude))
    return Seen(0, (first, last, first_utc, last_utc), thinned(sorted(positions, key=lambda point: point.boottime_ns)))


def thinned(way: list[Point]) -> list[Point]:
    """The points of a way that stay: the first, the last, and between them one every TRACK_SECONDS or TRACK_METRES."""
    kept = way[:1]
    for point in way[1:]:
        before = kept[-1]
        far = distance((before.latitude, before.longitude), (point.latitude, point.longitude)) >= TRACK_METRES
        if far or point.boottime_ns - before.boottime_ns >= TRACK_SECONDS * 1e9 or point is way[-1]:
            kept.append(point)
    return kept


class Looking:
    """The looking task. `found` is to be set when segments were found."""

    def __init__(self, spool: Path, books: Books, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._spool = spool
        self._books = books
        self._pause_seconds = pause_seconds
        self.found = asyncio.Event()

    async def run(self) -> None:
        """Look until cancelled. Raises sqlite3.OperationalError when the ledger's disk refuses."""
        while True:
            self.found.clear()  # before the look: what is found after it wakes us
            segments = await self._books(ledger_requests.to_look)
            for segment in segments:
                await self._look(segment)
                await asyncio.sleep(self._pause_seconds)
            if not segments:
                try:
                    async with asyncio.timeout(IDLE_SECONDS):
                        await self.found.wait()
                except TimeoutError:
                    continue

    async def _look(self, segment: Segment) -> None:
        try:
            seen = await asyncio.to_thread(look, self._spool / segment.path, segment.stream)
        except Unreadable as error:  # bulk will say the same, and set it aside
            log.warning("not looked into: %s", error)
            await self._books(ledger_requests.looked, segment.segment_id, 0, None, [])
            return
        await self._books(ledger_requests.looked, segment.segment_id, seen.images, seen.times, seen.points)
