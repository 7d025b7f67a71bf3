"""Which images go when the disk is full, and what is said about them. No disk in here: contents in, contents out.

Thinning halves the images of each camera that lie outside of events: of those left by the last time every second one stays, so that of the
original's the 2nd, 4th, 8th … part remains, evenly spread. An image within 10 s of an event stays however often its segment is thinned.

What goes is told by a Gap in the derived segment (source = the topic, count, log_time of the first and last of those that went), and the
Gaps and events of the original are copied: over all generations, images that arrive + counts of Gaps = images that were recorded."""

import dataclasses
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.sweeper_derivation import ORIGINAL, Derivation
from gateway.sweeper_derive import Content, is_image, is_note
from gateway.sweeper_events import AROUND_NS
from logbook.channels import GAP, channel_types
from logbook.images import AS_TAKEN
from logbook.schemas.cruisers_pb2 import Gap
from logbook.segment_writer import Entry, Identity

# A Gap costs about 100 bytes; less than this is not worth a file.
GAIN_LEAST = 1_000


class Derived(NamedTuple):
    """What stands in the place of a segment: its content (channels and what was taken), messages, and how it came about."""

    content: Content
    derivation: Derivation
    entries: list[Entry]


def is_near(time: int, events: Sequence[int]) -> bool:
    """Whether `time` is within 10 s of one of `events` (both boot times in ns; `events` rise)."""
    index = bisect_left(events, time - AROUND_NS)
    return index < len(events) and events[index] <= time + AROUND_NS


def thin(content: Content, events: Sequence[int]) -> Derived | None:
    """`content` with half of its images outside of `events`; None if nothing is to gain by it."""
    goes: set[int] = set()
    for topic in {entry.topic for entry in content.entries if is_image(entry.topic)}:
        images = [(entry.log_time, index) for index, entry in enumerate(content.entries) if entry.topic == topic]
        free = [index for time, index in sorted(images) if not is_near(time, events)]
        goes.update(free[1::2])
    if sum(len(content.entries[index].data) for index in goes) < GAIN_LEAST:
        return None
    keep_every = 2 * content.derivation.keep_every
    reason = f"thinned: disk full, every {keep_every}. image outside of events is left"
    gaps = _gaps((entry for index, entry in enumerate(content.entries) if index in goes), reason)
    entries = [entry for index, entry in enumerate(content.entries) if index not in goes]
    derivation = Derivation("thinning", keep_every, content.derivation.shrink, len(goes))
    rest = dataclasses.replace(_without(content, goes), entries=[])  # what goes shall not stay in memory while others are read
    return Derived(rest, derivation, entries + gaps)


def fit(one: Derived, other: Derived) -> bool:
    """Whether two thinned segments can be one: the same boot, cameras and ways of packing."""

    def kind(derived: Derived) -> tuple[object, ...]:
        content, derivation = derived.content, derived.derivation
        metadata = {topic: {k: v for k, v in said.items() if k != AS_TAKEN} for topic, said in content.metadata.items()}
        return content.identity.boot_id, content.types, metadata, derivation.keep_every, derivation.shrink

    return kind(one) == kind(other)


def merge(parts: Sequence[Derived]) -> Derived:
    """Thinned segments that fit each other, in the order of time, as one."""
    topics = {topic for part in parts for topic in part.content.as_taken}
    as_taken: dict[str, list[str | None]] = {topic: [] for topic in topics}
    for part in parts:
        for topic in topics:
            untouched = [None for entry in part.entries if entry.topic == topic]
            as_taken[topic] += part.content.as_taken.get(topic, untouched)
    first = parts[0].derivation
    derivation = Derivation("thinning", first.keep_every, first.shrink, sum(part.derivation.dropped for part in parts))
    content = dataclasses.replace(parts[0].content, as_taken=as_taken)
    return Derived(content, derivation, [entry for part in parts for entry in part.entries])


def lost(content: Content) -> list[Entry]:
    """What is said of a segment that is dropped as a whole: a Gap for each camera (or topic of readings)."""
    reason = "dropped: disk full" + (f"; damaged: {content.problem}" if content.problem else "")
    gaps = _gaps((entry for entry in content.entries if not is_note(entry.topic)), reason, content)
    return gaps or ([_unknown(content.identity.stream, reason)] if content.problem else [])


def lost_unread(segment_id: str, stream: str, why: str) -> list[Entry]:
    """What is said of a segment of which nothing could be read."""
    return [_unknown(stream, f"dropped: disk full; {segment_id}: {why}")]


def drop_record(stream: str, boot_id: str, gaps: Sequence[Entry], notes: Sequence[Entry]) -> Derived:
    """The record of dropped segments of one stream and boot: the new `gaps`, and the `notes` (Gaps and events) that they held."""
    content = Content(Identity("", "", stream, boot_id), ORIGINAL, channel_types(stream), {}, [])
    derivation = Derivation("drop", 0, dropped=sum(Gap.FromString(entry.data).count for entry in gaps))
    return Derived(content, derivation, sorted([*notes, *gaps], key=lambda entry: entry.log_time))


def _gaps(lost: Iterable[Entry], reason: str, damaged: Content | None = None) -> list[Entry]:
    """A Gap for each topic among `lost`; `damaged`: what is known of those that cannot be read."""
    by_topic: dict[str, list[Entry]] = {}
    for entry in lost:
        by_topic.setdefault(entry.topic, []).append(entry)
    gaps = []
    for topic, entries in sorted(by_topic.items()):
        first, last = (choose(entries, key=lambda entry: entry.log_time) for choose in (min, max))
        count = max(len(entries), damaged.counts.get(topic, 0) if damaged else 0)
        begin, end = damaged.span if damaged and damaged.span else (first.log_time, last.log_time)
        message = Gap(source=topic, reason=reason, from_boottime_ns=begin, to_boottime_ns=end, count=count)
        gaps.append(Entry(GAP, last.log_time, last.publish_time, message.SerializeToString()))
    return gaps


def _unknown(stream: str, reason: str) -> Entry:
    """A Gap of which neither time nor count is known."""
    return Entry(GAP, 0, 0, Gap(source=stream, reason=reason).SerializeToString())


def _without(content: Content, goes: set[int]) -> Content:
    """What `content` says of its images, for those that stay."""
    if not content.as_taken:
        return content
    position: dict[str, int] = {}
    as_taken: dict[str, list[str | None]] = {topic: [] for topic in content.as_taken}
    for index, entry in enumerate(content.entries):
        if entry.topic in as_taken:
            order = position[entry.topic] = position.get(entry.topic, 0) + 1
            if index not in goes:
                as_taken[entry.topic].append(content.as_taken[entry.topic][order - 1])
    return dataclasses.replace(content, as_taken=as_taken)
