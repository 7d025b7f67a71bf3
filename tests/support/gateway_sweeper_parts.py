"""What the tests of the sweeper share: spools of real segments, their ledger, and the uplink's real desk on its real socket."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from gateway.config import Hub, Truck
from gateway.ledger import LEDGER_NAME, Description, Ledger
from gateway.sweeper_stand_in import answering
from gateway.uplink_books import Books
from gateway.uplink_desk import Desk
from gateway.uplink_scan import scan
from logbook import channels, reader
from logbook.schemas.cruisers_pb2 import ClockMapping, Event, Gap
from logbook.segment_writer import Entry, Identity, SegmentWriter
from sox.segments import Receipt

TRUCK = "truck-1"
BOOT_ID = "aaaaaaaa-0000-4000-8000-000000000000"
FOLDER = "aaaaaaaa-bbbbbbbb"
SECOND = 1_000_000_000
UTC_NS = 1_800_000_000_000_000_000  # of boot time 0


def truck(spool: Path, quota: int = 10**15, **settings: Any) -> Truck:
    """A truck whose disk is never too full but for `quota`, and whose segments are full, so that thinned ones are not merged, unless
    `settings` say so."""
    hub = Hub(domain="hub.test", host="127.0.0.1", port=1, ca_file="/ca", password_file="/password")
    settings = {"free_reserve_bytes": 0, "thinning_reserve_bytes": 0, "images_segment_bytes": 1, **settings}
    return Truck(name=TRUCK, spool=str(spool), live_socket=str(spool / "live"), hub=hub, spool_quota_bytes=quota, **settings)


def image(time_ns: int, size: int = 2_000, camera: str = "front") -> Entry:
    """A message of a camera whose bytes nobody else has."""
    noise = hashlib.shake_128(f"{camera} {time_ns}".encode()).digest(size)
    data = CompressedImage(frame_id=camera, format="jpeg", data=b"\xff\xd8" + noise + b"\xff\xd9").SerializeToString()
    return Entry(channels.camera_topic(camera), time_ns, UTC_NS + time_ns, data)


def event(kind: str, time_ns: int) -> Entry:
    data = Event(kind=kind, source="test", boottime_ns=time_ns).SerializeToString()
    return Entry(channels.EVENT, time_ns, UTC_NS + time_ns, data)


def seal(spool: Path, number: int, stream: str, entries: Sequence[Entry], folder: str = FOLDER, cameras: Sequence[str] = ("front",)) -> str:
    """A sealed segment as the recorder makes it; returns its id."""
    name = f"{number:06d}-{stream}"
    identity = Identity(f"{TRUCK}-{folder}-{name}", TRUCK, stream, folder.partition("-")[0] + BOOT_ID[8:])
    types = channels.channel_types(stream, cameras if stream == "images" else ())
    writer = SegmentWriter.create(spool / folder / f"{name}.mcap", identity, types, {})
    for begin in range(0, len(entries), 10):
        writer.append(entries[begin : begin + 10])
    writer.seal()
    return identity.segment_id


def images(spool: Path, number: int, begin_s: float, count: int = 20, every_s: float = 1.0, size: int = 2_000, folder: str = FOLDER) -> str:
    """A segment of one camera's images; returns its id."""
    times = [int((begin_s + index * every_s) * SECOND) for index in range(count)]
    return seal(spool, number, "images", [image(time, size) for time in times], folder)


def readings(
    spool: Path, number: int, begin_s: float, events: Sequence[tuple[str, float]] = (), folder: str = FOLDER, count: int = 3
) -> str:
    """A segment of readings with `events` (kind, boot time in seconds); returns its id."""
    times = [int(begin_s * SECOND) + index * SECOND for index in range(count)]
    entries = [Entry(channels.CLOCK, at, UTC_NS + at, ClockMapping(boottime_ns=at, source="gnss").SerializeToString()) for at in times]
    return seal(spool, number, "readings", [*entries, *(event(kind, int(at * SECOND)) for kind, at in events)], folder)


def ledger_of(spool: Path) -> Ledger:
    """A ledger that knows what is in the spool now. It is not synced: these tests cut no power."""
    ledger = Ledger(spool / LEDGER_NAME)
    ledger._db.execute("PRAGMA synchronous=OFF")
    ledger.add(scan(spool, TRUCK, ledger.known())[0])
    return ledger


def deliver(ledger: Ledger, segment_id: str) -> None:
    """The center's receipt for a segment arrived."""
    segment = ledger.segment(segment_id)
    assert segment is not None
    ledger.describe(segment_id, Description(segment.size, "00" * 32, 0, 0, 0, 0))
    assert ledger.receipt(Receipt(segment_id, "stored", "00" * 32, segment.size, ""), True) == "delivered"


def announce(ledger: Ledger, segment_id: str) -> None:
    """A segment was uploaded and announced and waits for its receipt."""
    ledger.uploaded(segment_id, "https://hub.test/x")
    ledger.announced(segment_id, "https://hub.test/x")


def without_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that cut no power: a busy disk takes some ms for each sync, and a derived segment needs a dozen."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


class Uplink:
    """What the uplink has in hand, as the tests want it."""

    uploading: str | None = None
    desk: Desk


@contextmanager
def uplink(spool: Path, ledger: Ledger) -> Iterator[Uplink]:
    """The uplink's desk, answering from `ledger` in a thread of its own. The ledger stays open."""
    told = Uplink()
    books = Books(ledger)
    told.desk = Desk(spool, TRUCK, books, lambda: told.uploading, lambda: None)
    with answering(spool, told.desk):
        yield told


def present(spool: Path) -> list[str]:
    """Names of all sealed segments, as folder/number-stream."""
    return sorted(f"{path.parent.name}/{path.name[:-5]}" for path in spool.glob("[!.]*/*.mcap"))


def kept_images(spool: Path) -> list[int]:
    """Boot times (ns) of all images in the spool."""
    messages = [message for path in spool.glob("[!.]*/*-images.mcap") for message in reader.read(path)]
    return sorted(message.log_time for message in messages if message.topic.startswith("/camera/"))


def gaps(spool: Path) -> list[Gap]:
    """All Gaps in the spool."""
    messages = [message.message for path in spool.glob("[!.]*/*.mcap") for message in reader.read(path)]
    return [message for message in messages if isinstance(message, Gap)]
