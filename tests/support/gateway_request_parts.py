"""What the tests of requests share: segments that say where the truck was, and a ledger that was looked through."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway_sweeper_parts import FOLDER, SECOND, UTC_NS, seal

from gateway import ledger_requests
from gateway.depots import EARTH
from gateway.ledger import Ledger
from gateway.recorder_call import SOCKET_NAME, Ear
from gateway.uplink_requests_look import Unreadable, look
from logbook import channels
from logbook.schemas.cruisers_pb2 import Position
from logbook.segment_writer import Entry
from sox.requests import IMAGES, Place, Request

HOME = (35.3391, 139.4902)


def east_of_home(metres: float) -> tuple[float, float]:
    """A place so far east of HOME."""
    return HOME[0], HOME[1] + math.degrees(metres / EARTH / math.cos(math.radians(HOME[0])))


def way(
    spool: Path,
    number: int,
    begin_s: float,
    places: Sequence[tuple[float, float]],
    folder: str = FOLDER,
    clock: bool = True,
    every_s: float = 1.0,
) -> str:
    """A segment of readings with a position every second; returns its id."""
    entries = []
    for index, (latitude, longitude) in enumerate(places):
        at = int((begin_s + index * every_s) * SECOND)
        data = Position(boottime_ns=at, valid=True, mode=3, latitude=latitude, longitude=longitude).SerializeToString()
        entries.append(Entry(channels.POSITION, at, UTC_NS + at if clock else 0, data))
    return seal(spool, number, "readings", entries, folder)


def look_through(spool: Path, ledger: Ledger) -> None:
    """What the looking task does, at once."""
    while segments := ledger_requests.to_look(ledger):
        for segment in segments:
            try:
                seen = look(spool / segment.path, segment.stream)
            except Unreadable:
                ledger_requests.looked(ledger, segment.segment_id, 0, None, [])
                continue
            ledger_requests.looked(ledger, segment.segment_id, seen.images, seen.times, seen.points)


@contextmanager
def listening(spool: Path, bookmark: Callable[[str, str], bool]) -> Iterator[Ear]:
    """The recorder's end of its socket, in a thread as the recorder's supervisor gives it."""
    (spool / SOCKET_NAME).unlink(missing_ok=True)
    ear, stop = Ear(spool, bookmark), threading.Event()
    thread = threading.Thread(target=ear.run, args=(stop,))
    thread.start()
    while thread.is_alive() and not ((spool / SOCKET_NAME).exists() and (spool / SOCKET_NAME).stat().st_mode & 0o777 == 0o600):
        stop.wait(0.005)
    try:
        yield ear
    finally:
        stop.set()
        thread.join()


def asking(
    from_s: float | None = None, to_s: float | None = None, place: Place | None = None, asked_s: float = 10_000, id: str = "r-1"
) -> Request:
    """A request for images between two boot times (s) of a boot that has a clock."""

    def utc(seconds: float | None) -> int:
        return 0 if seconds is None else UTC_NS + int(seconds * SECOND)

    return Request(id, IMAGES, utc(from_s), utc(to_s), place, utc(asked_s))
