"""What each image policy keeps and what it loses: the policy itself (`gateway.image_policy`) over the frames of a drive, in simulated
time. No picture is rendered and nothing is written: 30 frames a second of 97 kB, a fix a second, an event every ten minutes.

    python -m bench.image_policies          the table of docs/image-policies.md
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bench.measure import Row
from gateway.config import Images
from gateway.image_policy import ImagePolicy
from gateway.journal import Entry
from gateway.travel import Travel
from logbook.channels import camera_topic
from sim.drive import Source, overlay
from sim.world import World

FPS, IMAGE_BYTES = 30, 97_000  # a camera's 252 GB a day
FIX_US = 1_000_000
COLLECTING_S = 3_600  # of the simulated round
EVENT_EVERY_S = 600
TOLD_AFTER_S = 1  # an event is told so long after it happened
AROUND_S = 10
DAY_S = 36_000  # a truck's shift: 10 h
RECORDED = Path(__file__).parents[2] / "shared" / "data" / "drive-comma2k19"
TOPIC = camera_topic("front")

POLICIES = {
    "all": Images(),
    "distance, 5 m or 10 s": Images(policy="distance"),
    "distance, 2 m or 10 s": Images(policy="distance", metres=2),
    "event, 5 m or 10 s": Images(policy="event"),
}


class Drive(NamedTuple):
    """Something to drive: its name, the world, how long (s), and the times of its events (s)."""

    name: str
    world: Source
    seconds: int
    events: tuple[float, ...]


class Outcome(NamedTuple):
    """What a policy made of a drive of `metres` and `seconds`. `longest_m`, `longest_s`: between two images that were kept; `around`: the
    share of the frames within AROUND_S of an event that was kept."""

    drive: str
    policy: str
    frames: int
    kept: int
    metres: float
    seconds: int
    longest_m: float
    longest_s: float
    around: float

    @property
    def bytes_per_km(self) -> float:
        """Of images."""
        return self.kept * IMAGE_BYTES / self.metres * 1000

    @property
    def gb_per_day(self) -> float:
        """If the whole shift is like this."""
        return self.kept * IMAGE_BYTES / self.seconds * DAY_S / 1e9


class _Writer:
    """Takes what is kept, and counts."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.counts: Counter[str] = Counter()

    def write(self, topic: str, log_time: int, publish_time: int, data: bytes) -> bool:
        self.kept.append(log_time)
        return True

    def count(self, name: str, number: int = 1) -> None:
        self.counts[name] += number

    def image(self, camera: str, at_ns: int, size: int) -> None:
        self.counts["images"] += 1


class _Journal:
    """What the policy says of itself: nothing here, for there are fixes, and the ring is long enough."""

    def write(self, entries: Sequence[Entry]) -> bool:
        raise AssertionError(f"the policy says {entries}")


def drives() -> list[Drive]:
    """The simulated collection round, and the recorded drive where it is at hand."""
    choice = random.Random(4)
    begins = range(0, COLLECTING_S, EVENT_EVERY_S)
    events = tuple(begin + choice.uniform(60, EVENT_EVERY_S - 60) for begin in begins)
    found = [Drive("simulated collection round, stop and go", World(seed=1), COLLECTING_S, events)]
    if RECORDED.is_dir():
        recorded = overlay(RECORDED, World(seed=1))
        found.append(Drive("recorded drive, a car in town", recorded, recorded.duration_us // 1_000_000, (30.0,)))
    return found


def drive_under(drive: Drive, policy: str) -> Outcome:
    """Every frame of `drive` through `policy`."""
    writer, travel = _Writer(), Travel()
    images = ImagePolicy(POLICIES[policy], writer, travel, _Journal(), writer)
    data, frames = bytes(IMAGE_BYTES), drive.seconds * FPS
    told = [*drive.events]
    next_fix_us = 0
    for number in range(frames):
        at_us = number * 1_000_000 // FPS
        if at_us >= next_fix_us:
            travel.drive(at_us * 1000, drive.world.at(at_us)["speed"])
            next_fix_us += FIX_US
        if told and at_us >= (told[0] + TOLD_AFTER_S) * 1e6:
            images.event("shock", int(told.pop(0) * 1e9))
        images.write(TOPIC, at_us * 1000, 0, data)
    images.finish()
    assert len(writer.kept) == writer.counts["images"] == frames - writer.counts["images_passed_over"]
    return _outcome(drive, policy, frames, writer.kept)


def _outcome(drive: Drive, policy: str, frames: int, kept: list[int]) -> Outcome:
    def way(at_ns: int) -> float:
        return drive.world.at(at_ns // 1000)["distance"]

    def near(at_s: float) -> bool:
        return any(abs(at_s - event) <= AROUND_S for event in drive.events)

    ways = [way(at) for at in kept]
    return Outcome(
        drive.name, policy, frames, len(kept), way(drive.seconds * 1_000_000_000), drive.seconds,
        max(after - before for before, after in pairwise(ways)),
        max(after - before for before, after in pairwise(kept)) / 1e9,
        sum(near(at / 1e9) for at in kept) / sum(near(number * 1_000_000 // FPS / 1e6) for number in range(frames)),
    )  # fmt: skip


def outcomes() -> Iterator[Outcome]:
    """Of each drive under each policy."""
    for drive in drives():
        for policy in POLICIES:
            yield drive_under(drive, policy)


def rows() -> Iterator[Row]:
    """For `make bench`: bytes of each policy over those of `all`, and what is kept around events."""
    everything = 0.0
    for one in outcomes():
        everything = one.bytes_per_km if one.policy == "all" else everything
        yield Row(f"{one.drive}: {one.policy}: bytes/km", "all", [one.bytes_per_km / everything])
        yield Row(f"{one.drive}: {one.policy}: frames kept within {AROUND_S} s of an event", "all", [one.around])


def table(found: Sequence[Outcome]) -> Table:
    """For people."""
    made = Table(box=None, pad_edge=False)
    headings = ("drive", "policy", "kept", "of frames", "MB/km", "GB a day of 10 h", "longest m", "longest s", "around events")
    for heading in headings:
        made.add_column(heading, justify="left" if heading in headings[:2] else "right")
    for one in found:
        made.add_row(
            one.drive, one.policy, f"{one.kept:,}", f"{one.kept / one.frames:.1%}", f"{one.bytes_per_km / 1e6:,.1f}",
            f"{one.gb_per_day:.1f}", f"{one.longest_m:.1f}", f"{one.longest_s:.1f}", f"{one.around:.1%}",
        )  # fmt: skip
    return made


if __name__ == "__main__":
    Console(width=160).print(table(list(outcomes())))
