"""What is to be exported: segments looked through once, then their messages in the order of time. Memory is bounded by what overlaps.

The first look (`survey`) reads of each segment who wrote it and when, all statements of the clock, and which quantities there are, so that
every table knows its columns before its first row. The second (`in_order`) goes through the segments of one boot of one truck by their
first message: whatever lies before the next segment's first message is given out, so only what overlaps is held.

Boots come one after the other, those with a UTC by it. A message that stands twice (in a file that a disk error cut short and in its
continuation, at the beginning of each segment that restates it) is given out once; what a damaged segment has lost is counted."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import Message as ProtobufMessage
from mcap.exceptions import McapError
from mcap.reader import make_reader

from logbook import channels
from logbook.closing import closing_of_file
from logbook.export_clock import Statement, Utc
from logbook.records import DamagedChunk
from logbook.scan import UNFINISHED_SEAL, Scan, chunk_messages, scan
from logbook.schemas.cruisers_pb2 import ClockMapping, Reading
from logbook.segment_writer import SEGMENT, Identity

CAMERAS, READINGS = channels.camera_topic(""), channels.reading_topic("")


class Unreadable(ValueError):
    """A file of which nothing can be read, and why."""


class Item(NamedTuple):
    """One message on its way out; `message` is None where its channel is not protobuf (a column block), `metadata` its channel's."""

    log_time: int
    topic: str
    data: bytes
    segment_id: str
    sequence: int
    message: ProtobufMessage | None
    metadata: dict[str, str]


class Part(NamedTuple):
    """A segment: its first log_time in ns."""

    first: int
    path: Path
    stream: str


@dataclass
class Boot:
    """All segments of one boot of one truck's gateway."""

    truck: str
    boot_id: str
    parts: list[Part] = field(default_factory=list)
    clock: dict[Statement, str] = field(default_factory=dict)  # each statement, and the first segment that has it

    @property
    def utc(self) -> Utc:
        """UTC of this boot's times."""
        return Utc(self.clock)


@dataclass
class Losses:
    """What did not come out whole. `notes` is a line for each file that has lost something; `damaged` counts stretches of a file (some
    chunks each) that hold nothing whole, `messages` those that are not what their channel says."""

    notes: list[str] = field(default_factory=list)
    unreadable: int = 0
    damaged: int = 0
    messages: int = 0
    images: int = 0
    gaps: int = 0

    def __bool__(self) -> bool:
        return bool(self.unreadable or self.damaged or self.messages or self.images or self.gaps)


@dataclass
class Survey:
    """What the segments hold: their boots in the order of time, the quantities of each slow sensor, the descriptions of IMU columns
    (JSON of the channel), and the topics that have messages or may have some."""

    boots: list[Boot] = field(default_factory=list)
    quantities: dict[str, dict[str, None]] = field(default_factory=dict)
    columns: dict[str, None] = field(default_factory=dict)
    bytes: int = 0


def survey(paths: Iterable[Path], losses: Losses, read: Callable[[int], None]) -> Survey:
    """Looks through `paths`; `read` is told how many bytes are done. Raises OSError."""
    found = Survey()
    boots: dict[tuple[str, str], Boot] = {}
    for path in paths:
        try:
            _look(path, found, boots)
        except Unreadable as error:
            losses.unreadable += 1
            losses.notes.append(str(error))
        read(path.stat().st_size)
    for boot in boots.values():
        boot.parts.sort()
    found.boots = sorted(boots.values(), key=lambda boot: (boot.truck, boot.utc.at(boot.parts[0].first), boot.boot_id))
    return found


def in_order(boot: Boot, losses: Losses, read: Callable[[int], None], pictures: bool) -> Iterator[Item]:
    """Every message of a boot once, by log_time. Without `pictures` those of the cameras are passed over. Raises OSError."""
    waiting: list[Item] = []
    told: set[tuple[str, bytes]] = set()  # what each segment restates
    now: set[tuple[str, bytes]] = set()  # of one moment
    moment = -1
    for part in (*boot.parts, None):
        cut = bisect_left(waiting, part.first, key=lambda item: item.log_time) if part else len(waiting)
        for item in waiting[:cut]:
            if item.log_time != moment:
                moment, now = item.log_time, set()
            known = told if item.topic in (channels.TRIM, channels.CLOCK) else now
            if (item.topic, item.data) not in known:
                known.add((item.topic, item.data))
                yield item
        del waiting[:cut]
        if part is not None:
            waiting += _items(part.path, losses, lambda topic: pictures or not topic.startswith(CAMERAS))
            waiting.sort(key=lambda item: (item.log_time, item.topic, item.data, item.segment_id))
            read(part.path.stat().st_size)


def _look(path: Path, found: Survey, boots: dict[tuple[str, str], Boot]) -> None:
    """Adds what one file holds to what was found. Raises Unreadable, OSError."""
    found.bytes += path.stat().st_size
    sealed = _of_images(path)
    if sealed is not None:
        identity, first = sealed
    else:
        contents = _contents(path)
        identity, first = _identity(contents), min((chunk.head.first_time for chunk in contents.chunks), default=0)
    boot = boots.setdefault((identity.truck, identity.boot_id), Boot(identity.truck, identity.boot_id))
    boot.parts.append(Part(first, path, identity.stream))
    if sealed is not None:
        return
    for channel in contents.channels.values():
        if channel.topic == channels.IMU_BLOCK and "columns" in channel.metadata:
            found.columns[channel.metadata["columns"]] = None
    for item in _items(path, None, lambda topic: topic == channels.CLOCK or topic.startswith(READINGS)):
        if isinstance(item.message, ClockMapping):
            boot.clock.setdefault(Statement.of(item.message), item.segment_id)
        elif isinstance(item.message, Reading):
            quantities = found.quantities.setdefault(item.message.sensor, {})
            quantities.update(dict.fromkeys(value.quantity for value in item.message.values))


def _of_images(path: Path) -> tuple[Identity, int] | None:
    """(who wrote it, first log_time) of a sealed segment of images by its end alone: there is nothing in it that the survey reads."""
    closing = closing_of_file(path)
    if closing is None or closing.metadata.get(SEGMENT, {}).get("stream") != channels.IMAGES:
        return None
    try:
        with path.open("rb") as file:
            summary = make_reader(file).get_summary()
    except McapError:
        return None
    if summary is None or summary.statistics is None:
        return None
    return _identity_of(closing.metadata[SEGMENT]), summary.statistics.message_start_time


def _contents(path: Path) -> Scan:
    found = scan(path.read_bytes())
    if not found.channels or not _identity(found).boot_id:
        raise Unreadable(f"{path}: {found.head_problem or 'nobody says who wrote it'}")
    return found


def _identity(found: Scan) -> Identity:
    if found.head:
        return found.head.identity
    return _identity_of(found.closing.metadata.get(SEGMENT, {}) if found.closing else {})


def _identity_of(metadata: dict[str, str]) -> Identity:
    return Identity(*(metadata.get(name, "") for name in Identity._fields))


def _items(path: Path, losses: Losses | None, wanted: Callable[[str], bool]) -> list[Item]:
    """The messages of `wanted` topics in all whole chunks; what is not whole is counted. Raises OSError, Unreadable."""
    data = path.read_bytes()
    found = scan(data)
    identity, schemas, listed = _identity(found), found.schemas, found.channels
    items = []
    wrong = 0
    for chunk in found.chunks:
        try:
            for raw in chunk_messages(data, chunk):
                channel = listed[raw.channel]
                if not wanted(channel.topic):
                    continue
                schema = schemas[channel.schema_id].name if channel.schema_id in schemas else ""
                try:
                    message = channels.parse(channel.message_encoding, schema, raw.data)
                except channels.WrongMessage:
                    wrong += 1
                    continue
                items.append(Item(raw.log_time, channel.topic, raw.data, identity.segment_id, raw.sequence, message, channel.metadata))
        except (DamagedChunk, KeyError):
            wrong += 1
    if losses is not None:
        damage = [stretch.reason for stretch in found.damage]
        if found.tail and found.tail != UNFINISHED_SEAL:
            damage.append(found.tail)
        if found.head_problem:
            damage.append(found.head_problem)
        losses.damaged += len(damage)
        losses.messages += wrong
        if damage or wrong:
            losses.notes.append(f"{path}: " + "; ".join([*damage, *([f"{wrong} messages without sense"] if wrong else [])]))
    return items
