"""Which segments a request asks for, and what became of them: from the ledger alone, in its thread.

Time: a boot's UTC is its BOOTTIME plus an offset, taken from its newest segment with a clock, so that what was recorded before the first
fix counts too. Place: the truck's track as lines between its points; a circle is met where a line comes within its radius, also between
two points. Two points more than APART_NS apart are no line (a tunnel, a pause), and each stands for ALONE_NS around itself."""

import math
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from gateway import ledger_requests
from gateway.depots import EARTH
from gateway.ledger import KEEP_EVERY_MOST, Ledger
from gateway.ledger_requests import Kept, Point
from sox.requests import Gone, Held, Place, Request

APART_NS = 30_000_000_000
ALONE_NS = 5_000_000_000
MARGIN_METRES = 1_000.0  # around a circle: both ends of a line that may meet it are looked at (30 s at 33 m/s)
EVER = 1 << 62

Interval = tuple[int, int]


class Match(NamedTuple):
    """`waiting`: on the truck and not receipted; `new`: ids of those not yet marked as requested, with their bytes; `there`: whether the
    truck was in the place at all in that time; `recorded`: whether it recorded anything; `unclear`: segments whose time is not known;
    `unseen`: segments that nobody has looked into."""

    waiting: list[Held]
    sent: list[Held]
    gone: list[Gone]
    new: list[str]
    new_bytes: int
    there: bool
    recorded: bool
    unclear: int
    unseen: int


def match(ledger: Ledger, request: Request) -> Match:
    """What there is for `request`. Takes some ms for each 10,000 segments."""
    offsets = ledger_requests.offsets(ledger)
    times = moments(request, offsets)
    timeless = request.place is not None and not (request.from_utc_ns or request.to_utc_ns)  # needs no clock
    if request.place is not None:
        else_covered = [(0, EVER)] if timeless else []
        times = {boot: _common(times.get(boot, else_covered), at) for boot, at in _within(ledger, request.place).items()}
    unclear = 0 if timeless else ledger_requests.without_clock(ledger, list(offsets))
    times = {boot: merged for boot, intervals in times.items() if (merged := union(intervals))}
    found = Match([], [], [], [], 0, bool(times), False, unclear, ledger_requests.still_to_look(ledger))
    new_bytes = 0
    recorded = False
    for boot, intervals in times.items():
        recorded = recorded or ledger_requests.recorded_between(ledger, boot, intervals[0][0], intervals[-1][1])
        for kept in ledger_requests.images_between(ledger, boot, intervals[0][0], intervals[-1][1]):
            if not overlaps(intervals, kept.first_boottime_ns, kept.last_boottime_ns):
                continue
            held = _held(kept, offsets.get(boot))
            match kept.state:
                case "receipted" | "delivered":
                    found.sent.append(held)
                case "superseded" | "gone":
                    if not kept.derived and (how := _how(ledger, kept)):
                        found.gone.append(Gone(held.segment_id, held.first_utc_ns, held.last_utc_ns, how))
                case _:
                    found.waiting.append(held)
                    if not kept.requested:
                        found.new.append(kept.segment_id)
                        new_bytes += kept.size
    return found._replace(new_bytes=new_bytes, recorded=recorded)


def moments(request: Request, offsets: dict[str, int]) -> dict[str, list[Interval]]:
    """For each boot the BOOTTIME ns that the request's window covers."""
    last = request.to_utc_ns or request.asked_utc_ns
    return {boot: [(max(0, request.from_utc_ns - offset), last - offset)] for boot, offset in offsets.items() if last >= offset}


def _within(ledger: Ledger, place: Place) -> dict[str, list[Interval]]:
    """For each boot when the truck was within the place."""
    north = math.degrees((place.radius + MARGIN_METRES) / EARTH)
    east = min(180.0, north / max(1e-6, math.cos(math.radians(min(89.9, abs(place.latitude) + north)))))
    west_end, east_end = place.longitude - east, place.longitude + east
    if east >= 180.0:
        west_end, east_end = -180.0, 180.0
    points = ledger_requests.points_near(ledger, place.latitude - north, place.latitude + north, _wrapped(west_end), _wrapped(east_end))
    inside: dict[str, list[Interval]] = {}
    for before, point in zip([None, *points], points, strict=False):
        intervals = inside.setdefault(point.boot, [])
        here = _flat(point, place)
        if before is not None and before.boot == point.boot and point.boottime_ns - before.boottime_ns <= APART_NS:
            if _line_meets(_flat(before, place), here, place.radius):
                intervals.append((before.boottime_ns, point.boottime_ns))
        elif math.hypot(*here) <= place.radius:
            intervals.append((point.boottime_ns - ALONE_NS, point.boottime_ns + ALONE_NS))
        if math.hypot(*here) <= place.radius:
            intervals.append((point.boottime_ns, point.boottime_ns + 1))
    return {boot: intervals for boot, intervals in inside.items() if intervals}


def _flat(point: Point, place: Place) -> tuple[float, float]:
    """Metres north and east of the place's centre; good to 0.5 % within a city."""
    east = (point.longitude - place.longitude + 180.0) % 360.0 - 180.0
    north = math.radians(point.latitude - place.latitude) * EARTH
    return north, math.radians(east) * EARTH * math.cos(math.radians((point.latitude + place.latitude) / 2))


def _line_meets(a: tuple[float, float], b: tuple[float, float], radius: float) -> bool:
    """Whether the line from `a` to `b` comes within `radius` of the origin."""
    step = b[0] - a[0], b[1] - a[1]
    length = step[0] ** 2 + step[1] ** 2
    along = max(0.0, min(1.0, -(a[0] * step[0] + a[1] * step[1]) / length)) if length else 0.0
    return math.hypot(a[0] + along * step[0], a[1] + along * step[1]) <= radius


def _wrapped(longitude: float) -> float:
    return longitude if -180.0 <= longitude <= 180.0 else (longitude + 180.0) % 360.0 - 180.0


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same moments in rising intervals that do not touch."""
    merged: list[Interval] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        elif first <= last:
            merged.append((first, last))
    return merged


def _common(some: list[Interval], others: list[Interval]) -> list[Interval]:
    return [(max(a[0], b[0]), min(a[1], b[1])) for a in some for b in others if max(a[0], b[0]) <= min(a[1], b[1])]


def overlaps(intervals: list[Interval], first: int, last: int) -> bool:
    """Whether any of the rising `intervals` has a moment from `first` to `last`."""
    index = bisect_right(intervals, (last, EVER)) - 1
    return index >= 0 and intervals[index][1] >= first


def _held(kept: Kept, offset: int | None) -> Held:
    first, last = (0, 0) if offset is None else (kept.first_boottime_ns + offset, kept.last_boottime_ns + offset)
    return Held(kept.segment_id, kept.images, kept.size, first, last, kept.keep_every)


def _how(ledger: Ledger, kept: Kept) -> str | None:
    """How a superseded original's images went, by the last of those that stand in its place; None if they are all in that one."""
    identity, keep_every, depth = kept.successor, 1, 0
    while identity and depth < 2 * KEEP_EVERY_MOST:
        found = ledger_requests.successor(ledger, identity)
        if found is None:
            return "replaced by a segment of which nothing is known any more"
        _, keep_every, identity = found
        depth += 1
    if not kept.successor or keep_every == 1:
        return None  # it only repeats another one, or was shrunk without loss
    return "dropped: disk full" if keep_every == 0 else f"thinned: disk full, every {keep_every}. image outside of events is left"
