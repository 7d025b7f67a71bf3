"""When something happened to the truck: images within 10 s of it are never thinned.

Times are CLOCK_BOOTTIME of one boot of the kernel, so the index is by boot (the first 8 hex digits of its id, as folders are named).
Every segment of a boot is looked into once, its open ones at each question: the /event messages of `readings` and of `images`. A summary
that counts no /event spares reading the file. Readings are delivered, and deleted, long before the images of their time are thinned; so
before the sweeper deletes a segment it writes the events of it into `<spool>/events.json`, durably.

Events of the machinery (a sensor came back, the disk refused) protect nothing, or a loose contact would keep the disk full; a kind that
is not listed here protects."""

import json
import logging
from pathlib import Path

from mcap.exceptions import McapError
from mcap.reader import make_reader

from gateway.sweeper_disk import replace, spooled
from logbook import reader
from logbook.channels import EVENT
from logbook.closing import closing_of_file
from logbook.schemas.cruisers_pb2 import Event

NAME = "events.json"
AROUND_NS = 10_000_000_000
MACHINERY = frozenset(
    {
        "box_identity", "broken_frames", "camera_settings", "camera_tables", "disk_error", "head_identity", "images_by_time",
        "images_ring_short", "malformed_frame", "nothing_missing", "ring_full", "segment_recovered", "segment_set_aside", "sensor_state",
        "source_delivers", "source_failed", "source_lost",
    }
)  # fmt: skip

log = logging.getLogger("sweeper")


class Events:
    """The index of one spool."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._path = spool / NAME
        self._kept: dict[str, set[int]] = {boot: set(times) for boot, times in _load(self._path).items()}
        self._read: dict[str, dict[str, tuple[int, ...]]] = {}  # boot -> sealed segment, as folder/name -> its events

    def of_boot(self, boot: str) -> list[int]:
        """Boot times (ns) of all events of the boot that are known, rising. Raises OSError."""
        times = set(self._kept.get(boot, ()))
        there = set()
        for segment in spooled(self._spool):
            if segment.folder.partition("-")[0] != boot:
                continue
            name = f"{segment.folder}/{segment.name}"
            there.add(name)
            times.update(self._events_of(name) if segment.sealed else _times(self._spool / name))
        read = self._read.get(boot, {})
        self._read[boot] = {name: found for name, found in read.items() if name in there}
        return sorted(times)

    def keep(self, path: str) -> None:
        """Call it before the segment at `path` (in the spool) is deleted: its events outlive it. Raises OSError: then do not delete it."""
        boot = path.partition("-")[0]
        new = set(self._events_of(path)) - self._kept.get(boot, set())
        if not new:
            return
        boots = {segment.folder.partition("-")[0] for segment in spooled(self._spool)}
        kept = {known: times for known, times in self._kept.items() if known in boots}
        kept[boot] = kept.get(boot, set()) | new
        replace(self._path, json.dumps({known: sorted(times) for known, times in kept.items()}).encode())
        self._kept = kept

    def _events_of(self, name: str) -> tuple[int, ...]:
        known = self._read.setdefault(name.partition("-")[0], {})
        if name not in known:
            known[name] = _times(self._spool / name)
        return known[name]


def _times(path: Path) -> tuple[int, ...]:
    """Boot times (ns) of the events in a segment; () for one that vanished or is none. Raises OSError."""
    try:
        if not _may_have_events(path):
            return ()
        messages = [message.message for message in reader.read(path) if message.topic == EVENT]
    except FileNotFoundError:
        return ()
    except reader.SegmentError as error:
        log.warning("no events from %s: %s", path, error)
        return ()
    return tuple(event.boottime_ns for event in messages if isinstance(event, Event) and event.kind not in MACHINERY)


def _may_have_events(path: Path) -> bool:
    """False if the file is sealed and its summary, whose CRC is right, counts no message of /event."""
    if closing_of_file(path) is None:
        return True
    with path.open("rb") as file:
        try:
            summary = make_reader(file).get_summary()
        except McapError:
            return True
    if summary is None or summary.statistics is None:
        return True
    counts = summary.statistics.channel_message_counts
    return any(counts.get(channel.id) for channel in summary.channels.values() if channel.topic == EVENT)


def _load(path: Path) -> dict[str, list[int]]:
    """What was kept; a file that is missing or none of ours is an empty one (and said)."""
    try:
        kept = json.loads(path.read_bytes())
        return {str(boot): [int(time) for time in times] for boot, times in kept.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        log.error("%s: events of deleted segments are not known any more: %s", path, error)
        return {}
