"""Everything the recorder's threads write into the stream of readings goes through here, in whole batches.

Why the data of head frames and the record of them can never be separated. The head's frames are acknowledged once the chunk that
holds them is durable, and after a crash the recorder asks for what follows the newest durable `HeadFrames` record. Data without the
record would come again and count twice; a record without the data would lose it. So:

- a batch (all messages made of some head frames, then their one HeadFrames message) is handed over as one group
  (`Segments.write_group`), and a group stands in one chunk or is not written at all, whatever ends a chunk: time, size, a new segment;
- a chunk is atomic on disk: its mark has the CRC-32 of all of it, recovery keeps it whole or drops it whole;
- the token (boot, last sequence) of the group comes back only after the chunk's fdatasync, in the order of writing;
- a group that is refused (the disk stalls and memory is full) is not passed over: `has_room` says so before, the frames stay with
  their reader, and nothing later of the head is written or acknowledged before they are.

A batch with a token is committed at once; other messages ride with it, or wait 0.5 s at most (logbook/segment.py)."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from gateway.clock import Clock, boottime_ns
from logbook import segment
from logbook.channels import EVENT, GAP
from logbook.schemas import cruisers_pb2 as pb

# Head frames stop here while the disk stalls, well below the 16 MB at which readings are refused (logbook/segment.py MEMORY_BYTES):
# some 7 minutes of them. The rest is for sources that cannot wait.
ROOM_BYTES = 8_000_000


class Entry(NamedTuple):
    """One message to write: its topic, boottime_ns of what it tells, and the encoded message."""

    topic: str
    log_time: int
    data: bytes


def gap(source: str, reason: str, from_ns: int, to_ns: int, count: int = 0) -> Entry:
    """`count` samples or frames of `source` are missing in [from_ns, to_ns] (0: cannot be known), and why."""
    message = pb.Gap(source=source, reason=reason, from_boottime_ns=from_ns, to_boottime_ns=to_ns, count=count)
    return Entry(GAP, to_ns, message.SerializeToString())


def event(kind: str, source: str, detail: str, at_ns: int | None = None) -> Entry:
    """Something happened (now, or at boot time `at_ns`)."""
    at = boottime_ns() if at_ns is None else at_ns
    return Entry(EVENT, at, pb.Event(kind=kind, source=source, boottime_ns=at, detail=detail).SerializeToString())


class Sink(Protocol):
    """Where a source's messages go."""

    def write(self, entries: Sequence[Entry], /) -> bool:
        """Takes `entries` as one batch; False if it cannot."""


class Journal:
    """Writes batches into `segments` (stream `readings`). `on_gap` is called for each Gap that was written."""

    def __init__(self, segments: segment.Segments, clock: Clock, on_gap: Callable[[], None] = lambda: None) -> None:
        self._segments = segments
        self._clock = clock
        self._on_gap = on_gap
        self._observers: dict[str, list[Callable[[Entry], None]]] = {}
        self._described: dict[str, dict[str, str]] = {}

    def observe(self, topic: str, heard: Callable[[Entry], None]) -> None:
        """`heard(entry)` is called for every message of `topic` from now on, in its writer's thread, also if the disk's stall refused it:
        events and the choice of images follow what happens, not what could be kept. To be called before the sources start."""
        self._observers.setdefault(topic, []).append(heard)

    def write(self, entries: Sequence[Entry], token: object = None) -> bool:
        """Writes `entries` as one batch: all in one chunk. With a `token` the chunk is cut at once, and the token comes back through
        on_durable when it is on disk. Never waits for the disk; False if memory is full (the writer counts it and writes a Gap)."""
        if not entries:
            return True
        mapping = self._clock.mapping()
        offset = mapping.utc_ns - mapping.boottime_ns if mapping.utc_ns else None
        group = [segment.Entry(e.topic, e.log_time, e.log_time + offset if offset is not None else 0, e.data) for e in entries]
        taken = self._segments.write_group(group, token)
        if token is not None:
            self._segments.flush()
        for entry in entries:
            if taken and entry.topic == GAP:
                self._on_gap()
            for heard in self._observers.get(entry.topic, ()):
                heard(entry)
        return taken

    def has_room(self) -> bool:
        """Whether a batch of head frames would be taken now. Only one thread writes those, so it stays true until it does."""
        return self._segments.stats().waiting_bytes < ROOM_BYTES

    def describe(self, topic: str, metadata: dict[str, str]) -> None:
        """Metadata of a channel for what is written from now on."""
        self._described[topic] = metadata
        self._segments.describe(topic, metadata)

    def described(self, topic: str) -> Mapping[str, str]:
        """The metadata of a channel as last told: to an observer, those of the message that it hears."""
        return self._described.get(topic, {})
