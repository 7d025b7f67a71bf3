"""A whole shift of a truck: 4 h of driving on LTE, through tunnels and dead spots, then the depot's Wi-Fi; the books balance to the byte.

    result = shift(city, "t01", seed, LONG_FORM)

Compressed: a minute of the shift takes half a second of the machine's time (LONG_FORM); each minute seals one segment of readings and one
of images, as the recorder does, of 4 and 100 kB instead of some 100 kB and 16 MB; the links' rates are scaled down likewise, so that LTE
carries the readings several times over and could carry a part of the images, which the configuration keeps for the depot:

    [uplink]  rules = [{link = "metered", interface = "wwan*"}, {link = "depot", interface = "wlan*"}],  images = "depot"

The name of the interface is what the kernel says to the uplink (uplink_faults_process.py answers that call from a file). The truck's disk
is too small for a day of images (QUOTA of them fits), so the real sweeper deletes what was receipted and thins what is not sent; what the
thinned segments hold is owed in the place of their originals. Legs of the drive are drawn from the seed: good and weak LTE, tunnels (the
connections live), dead spots (they are gone, and no name resolves). In one leg uplink and sweeper are killed. At the end of the shift
ignition goes off: the uplink is ended in order and started again in the depot."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from hostile_link import Lane
from rich import box
from rich.console import Console
from rich.table import Table
from uplink_faults_rig import PATIENCE_SECONDS, RULES, City, Truck, end, kill
from uplink_oracle import Books

MINUTES = 240
IMAGES_BYTES = 100_000
KILLED_AT = 3  # the leg at whose beginning uplink and sweeper are killed
QUOTA = 0.6  # of the images of a shift
LTE = Lane(2e6, 0.04, loss=0.002, stall=0.1), Lane(4e6, 0.04)
WEAK = Lane(300e3, 0.15, loss=0.05, stall=0.3), Lane(600e3, 0.15, loss=0.05, stall=0.3)
WIFI = Lane(60e6, 0.003), Lane(60e6, 0.003)
# What a leg is: how long it takes in minutes, and how often it comes.
LEGS = {"LTE": (4, 20, 5), "weak LTE": (2, 6, 3), "tunnel": (1, 4, 3), "dead spot": (3, 12, 2)}
DEPOT = "depot"


class Form(NamedTuple):
    """How a shift is compressed: the machine's seconds for a minute, minutes between two segments of a stream, longer legs."""

    seconds_a_minute: float
    segment_minutes: float
    leg_scale: float


LONG_FORM = Form(0.5, 1.0, 1.0)  # 4 h take two minutes
SHORT_FORM = Form(0.025, 12.0, 5.0)  # 6 s, and what LTE needs to connect; few legs


class Stage(NamedTuple):
    """All legs of one kind together. Segments receipted while on it, and bytes that left the truck."""

    what: str
    legs: int
    minutes: float
    readings: int
    images: int
    sent_bytes: int


class Shift(NamedTuple):
    """What came of a shift. `backlog_bytes`: the most there was; `depot_seconds`: until everything had arrived."""

    stages: list[Stage]
    sealed: int
    thinned: int
    backlog_bytes: int
    depot_seconds: float | None
    books: Books | None
    problems: list[str]


def legs(chance: random.Random, scale: float = 1.0) -> Iterator[tuple[str, float]]:
    """The drive: (what, minutes), MINUTES in all; each kind of leg is in it. `scale`: how much longer than usual legs are."""
    kinds = list(LEGS)
    left = float(MINUTES)
    for what in [*kinds, *chance.choices(kinds, [LEGS[kind][2] for kind in kinds], k=200)]:
        shortest, longest, _ = LEGS[what]
        takes = min(chance.uniform(shortest, longest) * scale, left)
        yield what, takes
        left -= takes
        if left <= 0:
            return


class _Counter:
    """Counts, by kind of leg, what was receipted and sent while on it."""

    def __init__(self, truck: Truck) -> None:
        self._truck = truck
        self._seen: set[str] = set()
        self._sent = 0
        self.stages: dict[str, Stage] = {}
        self.backlog = 0

    def look(self) -> None:
        books = self._truck.oracle.books()
        self.backlog = max(self.backlog, books.backlog if books else 0)

    def over(self, what: str, minutes: float) -> None:
        """A leg has ended."""
        new = self._truck.oracle.ever_counted - self._seen
        self._seen |= new
        sent = self._truck.link.counts()["up"]
        held = self.stages.get(what, Stage(what, 0, 0.0, 0, 0, 0))
        images = sum("-images" in segment for segment in new)
        self.stages[what] = Stage(
            what, held.legs + 1, held.minutes + minutes, held.readings + len(new) - images, held.images + images,
            held.sent_bytes + sent - self._sent,
        )  # fmt: skip
        self._sent = sent


@contextmanager
def _recording(truck: Truck, every_seconds: float) -> Iterator[None]:
    """A segment of each stream, again and again."""
    over = threading.Event()

    def record() -> None:
        due = time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            truck.seal(1, "readings")
            truck.seal(1, "images", IMAGES_BYTES)
            due += every_seconds

    thread = threading.Thread(target=record, name="recorder", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _drive(truck: Truck, what: str, seconds: float, count: _Counter) -> None:
    """One leg. On LTE it takes as long as it takes until something arrives: a busy machine is no dead spot."""
    link, had = truck.link, len(truck.oracle.ever_counted)
    if what in ("tunnel", "dead spot"):
        link.dark(True)
        if what == "dead spot":
            truck.no_dns.touch()
    else:
        link.set(*(LTE if what == "LTE" else WEAK))
    began = time.monotonic()
    while (took := time.monotonic() - began) < seconds or (
        what == "LTE" and len(truck.oracle.ever_counted) == had and took < PATIENCE_SECONDS
    ):
        time.sleep(min(0.1, max(0.01, seconds - took)))
        count.look()
    if what == "dead spot":
        link.cut()
    link.dark(False)
    truck.no_dns.unlink(missing_ok=True)


def _kill_and_start(truck: Truck) -> None:
    assert truck.sweeper is not None
    truck.kill()
    kill(truck.sweeper)
    truck.start(drain_seconds=1)
    truck.start_sweeper()


def shift(city: City, name: str, seed: int, form: Form = LONG_FORM) -> Shift:
    """One shift of a truck that has nothing else to do."""
    quota = int(QUOTA * MINUTES / form.segment_minutes * IMAGES_BYTES)
    problems, took = [], None
    with Truck(city, name, seed, quota_bytes=quota, uplink=RULES, up=LTE[0], down=LTE[1]) as truck:
        truck.interface.write_text("wwan0")
        truck.start(drain_seconds=1)  # the images wait for the depot all the same
        truck.start_sweeper()
        count = _Counter(truck)
        try:
            truck.until(lambda: truck.status().get("connected"), "the first connection")
            with _recording(truck, form.seconds_a_minute * form.segment_minutes):
                for number, (what, takes) in enumerate(legs(truck.chance, form.leg_scale)):
                    if number == KILLED_AT:
                        _kill_and_start(truck)
                    _drive(truck, what, takes * form.seconds_a_minute, count)
                    count.over(what, takes)
            before = [segment for segment in truck.oracle.ever_counted if segment.endswith("-images")]
            if before:
                problems.append(f"images over a metered link: {', '.join(before)}")
            assert truck.process is not None
            end(truck.process)  # ignition off: what may go over LTE goes, the rest waits
            truck.interface.write_text("wlan0")
            truck.link.set(*WIFI)
            truck.start()
            took = truck.arrived()
            count.over(DEPOT, took / form.seconds_a_minute)
        except (TimeoutError, RuntimeError) as error:
            problems.append(f"{error} (problem: {truck.status().get('problem')})")
        verdict = truck.end()
        thinned = len([owed for owed in truck.oracle.owed.values() if owed.derived_from])
        return Shift(list(count.stages.values()), truck.number, thinned, count.backlog, took, verdict.books, problems + verdict.problems)


def as_json(result: Shift) -> dict[str, Any]:
    """For machines."""
    books = result.books._asdict() if result.books else None
    return {**result._asdict(), "stages": [stage._asdict() for stage in result.stages], "books": books}


def report(result: Shift, console: Console) -> None:
    """The shift as a table, and its books."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    shown.add_column("on", no_wrap=True)
    for heading in ("legs", "minutes", "readings", "images", "sent MB"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for stage in result.stages:
        numbers = (str(stage.legs), f"{stage.minutes:.0f}", str(stage.readings), str(stage.images), f"{stage.sent_bytes / 1e6:.1f}")
        shown.add_row(stage.what, *numbers)
    console.print(shown)
    console.print(
        f"readings, images: segments receipted on it; {result.sealed} were sealed, {result.thinned} stand in the place of thinned ones;"
        f" the backlog was {result.backlog_bytes / 1e6:.1f} MB at most"
    )
    if result.books is not None:
        books = result.books
        console.print(
            f"books, in bytes: sealed {books.sealed:,} = receipted {books.receipted:,} + deleted as delivered {books.deleted:,}"
            f" + backlog {books.backlog:,} + freed by thinning {books.freed:,}" + (f"  OFF BY {books.off:,}" if books.off else "")
        )
    for problem in result.problems:
        console.print(f"! {problem}", style="red")
