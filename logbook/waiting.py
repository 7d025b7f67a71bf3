"""What waits in memory for the writer of a stream (logbook/segment.py), and what found no room there."""

from collections.abc import Iterable
from typing import NamedTuple

from logbook import channels
from logbook.schemas.cruisers_pb2 import Gap
from logbook.segment_writer import Entry

# Bytes of memory that a queued message and its group cost beside the data (tracemalloc, CPython 3.11: tuples, integers, bytes objects).
_ENTRY_OVERHEAD = 200
_GROUP_OVERHEAD = 240


def memory_of(entries: Iterable[Entry]) -> int:
    """Bytes of memory that a group of messages takes."""
    return _GROUP_OVERHEAD + sum(len(entry.data) + _ENTRY_OVERHEAD for entry in entries)


class Group(NamedTuple):
    """Messages that must stand in one chunk."""

    entries: tuple[Entry, ...]
    token: object
    size: int
    arrived: float


class Describe(NamedTuple):
    """From here on a channel has other metadata: a new segment begins."""

    topic: str
    metadata: dict[str, str]


class Dropped:
    """What was refused on one topic since the last Gap about it."""

    def __init__(self, entry: Entry) -> None:
        self.first = self.last = entry
        self.count = 0

    def gap(self, topic: str) -> Entry:
        """The message that says so."""
        gap = Gap(
            source=topic,
            reason="disk stalled: memory full",
            from_boottime_ns=self.first.log_time,
            to_boottime_ns=self.last.log_time,
            count=self.count,
        )
        return Entry(channels.GAP, self.last.log_time, self.last.publish_time, gap.SerializeToString())
