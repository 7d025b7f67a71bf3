"""What the city knows of each truck right now: the newest value of every quantity, from live items that may come late, twice or
out of order; its IMU of the last seconds, its newest events, its health. One thread (the event loop) writes and reads; nothing waits."""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from center.live_events import EventsLive
from center.live_latency import Latency
from center.live_packed import PackedLive
from logbook.quantities import BY_ID, Quantity
from sox.documents import CALIBRATED, REASON, TransducerValue, parse_xep0082
from sox.health import Health

FRESH_S = 10.0  # younger is fresh
OFFLINE_S = 60.0  # older is offline; between them: stale
AHEAD_S = 5.0  # a time further ahead of ours is a wrong clock there (or here), not a network delay


class Live(NamedTuple):
    """The newest statement about a quantity: `value` in its SI unit, or None and the `reason`; `utc_ns` is the time of collection."""

    value: float | None
    reason: str
    raw: str
    utc_ns: int
    calibrated: bool


class Position(NamedTuple):
    """A valid position: degrees (WGS 84) and UTC of collection."""

    latitude: float
    longitude: float
    utc_ns: int


class Picture(NamedTuple):
    """A JPEG as recorded. `utc_ns` is 0 where the truck had no clock."""

    jpeg: bytes
    camera: str
    segment_id: str
    boottime_ns: int
    utc_ns: int


class TruckState:
    """All that is known of one truck."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, Live] = {}
        self.position: Position | None = None
        self.picture: Picture | None = None
        self.items = 0  # live items taken
        self.older = 0  # values left out because a newer one was there
        self.unreadable = 0  # values left out because their time or id could not be read
        self.latency = Latency()
        self.packed = PackedLive()
        self.events = EventsLive()
        self.health: Health | None = None

    def take(self, values: Iterable[TransducerValue], now_ns: int, on_its_way: bool = False) -> int:
        """Take the values of one live item that came at UTC `now_ns`; returns how many were newer than what was known. `on_its_way`: it was
        not read from the hub, where it may have waited: its latency, of its newest value, counts."""
        self.items += 1
        listed = list(values)
        calibrated = {value.id.removesuffix(CALIBRATED) for value in listed
                      if value.id.endswith(CALIBRATED) and value.typed == "true"}  # fmt: skip
        taken = newest_ns = 0
        for value in listed:
            quantity = BY_ID.get(value.id.removesuffix(REASON))
            if quantity is None:
                continue  # other transducers (counters, marks) are no quantities
            try:
                utc_ns = _moment(value.timestamp)
            except ValueError:
                self.unreadable += 1
                continue
            newest_ns = max(newest_ns, utc_ns)
            taken += self._put(quantity.id, statement(quantity, value, utc_ns, quantity.id in calibrated), now_ns)
        latitude, longitude = self.values.get("latitude"), self.values.get("longitude")
        if latitude and longitude and latitude.value is not None and longitude.value is not None and latitude.utc_ns == longitude.utc_ns:
            self.position = Position(latitude.value, longitude.value, latitude.utc_ns)
        if on_its_way and taken:
            self.latency.add((now_ns - newest_ns) / 1e9)
        return taken

    def _put(self, quantity: str, live: Live, now_ns: int) -> int:
        known = self.values.get(quantity)
        # A held time that lies ahead of our clock came from a wrong clock: it must not shut out the right ones that follow.
        if known is not None and live.utc_ns <= known.utc_ns <= now_ns + AHEAD_S * 1e9:
            self.older += live.utc_ns < known.utc_ns
            return 0
        if known == live:
            return 0
        self.values[quantity] = live
        return 1

    def age_s(self, quantity: str, now_ns: int) -> float | None:
        """Seconds since the newest statement about `quantity` was collected; negative if its clock is ahead; None if there is none."""
        live = self.values.get(quantity)
        return None if live is None else (now_ns - live.utc_ns) / 1e9

    def fix_age_s(self, now_ns: int) -> float | None:
        """Age in seconds of the last valid position, also while there is no fix now; None if there never was one."""
        return None if self.position is None else (now_ns - self.position.utc_ns) / 1e9

    def heard_age_s(self, now_ns: int) -> float | None:
        """Age in seconds of the newest statement about anything; None if there is none."""
        newest = max((live.utc_ns for live in self.values.values()), default=None)
        return None if newest is None else (now_ns - newest) / 1e9

    def status(self, now_ns: int) -> str:
        """`fresh`: a position younger than FRESH_S. `stale`: an older one. `nofix`: data, but never a position. `offline`: nothing
        younger than OFFLINE_S. `ahead`: the times lie ahead of our clock, so that no age can be told."""
        heard, fix = self.heard_age_s(now_ns), self.fix_age_s(now_ns)
        if heard is None or heard >= OFFLINE_S:
            return "offline"
        if heard < -AHEAD_S:
            return "ahead"
        if fix is None:
            return "nofix"
        return "fresh" if fix < FRESH_S else "stale"


class Fleet:
    """The trucks of this center by name, in the order of the configuration."""

    def __init__(self, trucks: Iterable[str]) -> None:
        self.trucks = {name: TruckState(name) for name in trucks}

    def latency(self) -> Latency:
        """From collection to here, of all live items of all trucks."""
        return Latency.total(truck.latency for truck in self.trucks.values())

    def live(self, reset: bool = False) -> dict[str, float | int | None]:
        """What came live since the start, or since it was read with `reset`: snapshots, packed blocks and how many of these are missing;
        latencies of the snapshots in s (`ahead`: how many had none, for the truck's clock is ahead of ours)."""
        trucks, latency = self.trucks.values(), self.latency()
        found = {
            "snapshots": latency.count,
            "blocks": sum(truck.packed.items for truck in trucks),
            "missing": sum(truck.packed.missing for truck in trucks),
            "p50_s": latency.quantile(0.5),
            "p99_s": latency.quantile(0.99),
            "most_s": latency.most_s,
            "ahead": latency.ahead,
        }
        if reset:
            for truck in trucks:
                truck.latency = Latency()
                truck.packed.items = truck.packed.missing = 0
        return found


_moment = lru_cache(4096)(parse_xep0082)  # values collected together have one time; raises ValueError


def freshness(age_s: float | None) -> str:
    """`offline`, `ahead`, `fresh` or `stale` for the age in seconds of one value (None: there is none)."""
    if age_s is None or age_s >= OFFLINE_S:
        return "offline"
    if age_s < -AHEAD_S:
        return "ahead"
    return "fresh" if age_s < FRESH_S else "stale"


def statement(quantity: Quantity, value: TransducerValue, utc_ns: int, calibrated: bool) -> Live:
    """One transducer value as a statement in SI units: never a number outside the quantity's range, never a number and a reason."""
    raw = value.raw or ""
    typed = value.typed if value.typed is not None else raw
    if value.id.endswith(REASON):
        return Live(None, typed or "no value", raw, utc_ns, calibrated)
    try:
        number = quantity.sox.si(float(typed))
    except ValueError:
        return Live(None, "unreadable value", raw, utc_ns, calibrated)
    # One step of tolerance: the ends of the range themselves pass through decimal text and two scalings.
    if not math.isfinite(number) or not quantity.low - quantity.resolution <= number <= quantity.high + quantity.resolution:
        return Live(None, "implausible", raw, utc_ns, calibrated)
    return Live(number, "", raw, utc_ns, calibrated)
