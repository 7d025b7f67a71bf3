"""An hour (or less) of the head's life in minutes: its real program on the real MicroPython, all chips, random faults, the gateway's log.

    python tests/soak/soak.py --seconds 3600 --seed 1

Checked: the heap is flat; no frame is lost; the watchdog is always fed; IMU samples delivered + samples reported missing = samples made.

What is "made"? What the chip pushed into its FIFO, and what it would have pushed in the time in which it had no supply or was being set
up anew: between two samples that are d apart, round(d / interval) − 1. Whether it kept its phase or began a new one the gateway finds out
by itself. Where a new phase begins, the number of samples that fit is no whole number, and each such restart may differ by one; where the
phase goes on (every fault that leaves the chip its supply) the numbers must be equal."""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from soaked_gateway import IMU, SoakedGateway
from virtual_head import VirtualHead

from sim.chips.board import Board
from sim.faults import Fault, Faults
from sim.world import World

SECOND = 1_000_000  # µs
QUIET_S = 70.0  # without faults: the gateway's clock of the samples settles
LAST_S = 15.0  # without faults at the end: what is missing is known when samples come again
EVERY_S = 12.0  # a fault begins so often, on average
SLOW = ("bmp390", "sht45", "opt3001", "as7331")
I2C_KINDS = ("nack", "nack", "flip", "stretch", "stuck_sda", "stuck_sda", "stuck_scl", "brown_out", "unplugged")
UART_KINDS = ("lost", "doubled", "late", "noise", "dead", "flip", "brown_out", "unplugged")
HEAP_SLACK = 256  # bytes: what is kept for a while (a reason, a pending STATE) comes and goes, a leak only grows


class Outcome(NamedTuple):
    """What a soak found; `str()` is a line for each figure."""

    seconds: float
    faults: Counter[str]
    delivered: int
    missing: int
    made: int
    not_made: int
    restarts: int
    heap: tuple[int, int]  # free bytes, the least in the second and in the last quarter
    longest_feed_s: float
    gaps: int
    states: Counter[str]
    readings: Counter[str]
    chip_samples: dict[str, int]

    @property
    def flat(self) -> bool:
        """Whether the heap does not grow."""
        return self.heap[1] >= self.heap[0] - HEAP_SLACK

    @property
    def exact(self) -> bool:
        """Whether every sample is accounted for; see the module's text."""
        return abs(self.difference) <= self.restarts

    @property
    def difference(self) -> int:
        """(delivered + missing) − (made + not made)."""
        return self.delivered + self.missing - self.made - self.not_made

    def __str__(self) -> str:
        return "\n".join(
            (
                f"{self.seconds:.0f} s of the head's life, {sum(self.faults.values())} faults: {dict(self.faults)}",
                f"IMU: {self.delivered} delivered + {self.missing} reported missing = {self.delivered + self.missing}; "
                f"{self.made} made + {self.not_made} not made in {self.restarts} restarts of the chip = {self.made + self.not_made}; "
                f"difference {self.difference}",
                f"heap: at least {self.heap[0]} bytes free in the second quarter, {self.heap[1]} in the last",
                f"watchdog fed at least every {self.longest_feed_s:.1f} s",
                f"{self.gaps} gaps; states {dict(self.states)}",
                f"slow samples delivered {dict(self.readings)}, made {self.chip_samples}",
            )
        )


def random_faults(seconds: float, seed: int, power: bool, every_s: float = EVERY_S) -> list[Fault]:
    """Faults of all kinds on all chips, one after the other and at times together. `power` False: none that takes a chip's supply."""
    choice = random.Random(f"soak {seed}")
    found: list[Fault] = []
    at = QUIET_S
    while True:
        at += choice.expovariate(1 / every_s)
        if at > seconds - LAST_S - 6:
            return found
        chip = choice.choice((IMU, IMU, IMU, *SLOW, "sps30"))
        kind = choice.choice(UART_KINDS if chip == "sps30" else I2C_KINDS)
        if kind in ("brown_out", "unplugged") and not power:
            continue
        end = at + min(choice.choice((0.02, 0.1, 0.4, 1.0, 3.0)) * choice.uniform(0.5, 1.5), seconds - LAST_S - at)
        options: dict[str, Any] = {}
        if kind in ("nack", "flip", "lost", "doubled", "late", "noise"):
            options["probability"] = choice.choice((0.05, 0.5, 1.0))
        if kind == "stretch":
            options["microseconds"] = choice.choice((200, 5_000, 60_000))
        if kind == "late":
            options["microseconds"] = choice.choice((5_000, 300_000))
        if kind == "stuck_sda" and choice.random() < 0.7:
            options |= {"clocks": choice.randint(1, 9), "times": 1}
        if kind == "flip" and chip == IMU:
            options["part"] = choice.choice(("address", "written"))  # a flipped data bit of a FIFO read cannot be seen: docs/faults.md
        found.append(Fault(kind=kind, chip=chip, begin_s=at, end_s=None if kind == "brown_out" else end, **options))


class Truth:
    """What the chips made."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.samples: Counter[str] = Counter()

    def log(self, sensor: str, t_us: int, values: Mapping[str, float]) -> None:
        """The chips' log."""
        self.samples[sensor] += 1
        if sensor == IMU:
            self.times.append(t_us)

    def not_made(self) -> tuple[int, int]:
        """(samples that fit into the pauses of the IMU, number of pauses)."""
        steps = [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]
        interval = sorted(steps)[len(steps) // 2]
        pauses = [step for step in steps if step > 1.5 * interval]
        return sum(round(step / interval) - 1 for step in pauses), len(pauses)


def soak(seconds: float, seed: int, power: bool = True, every_s: float = EVERY_S) -> Outcome:
    """Runs it. AssertionError where the head dies or hangs, or a frame is lost."""
    truth = Truth()
    still = World(seed=seed).at(5 * SECOND)
    faults = random_faults(seconds, seed, power, every_s)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        gateway = SoakedGateway(Path(folder))
        with VirtualHead(
            lambda t_us: still, truth.log, gateway.turn, lambda source, log, clock: Board(source, log, clock, Faults(faults, seed))
        ) as head:
            head.until(int(seconds * SECOND))
            head.clock.stop()
            head.until(int((seconds + 3) * SECOND))
            assert head.bad == 0 and head.resets == 0, (head.bad, head.resets, head.errors())
            fed = max(head.fed_us)
            chip_samples = {name: row["samples"] for name, row in head.board.counters().items()}
        gateway.close()
    assert gateway.ring_dropped == 0
    journal = gateway.journal
    heap = [free for _, free in gateway.heap_free]
    quarter = len(heap) // 4
    not_made, restarts = truth.not_made()
    return Outcome(
        seconds=seconds,
        faults=Counter(fault.kind for fault in faults),
        delivered=journal.imu_samples,
        missing=journal.missing[IMU],
        made=len(truth.times),
        not_made=not_made,
        restarts=restarts,
        heap=(min(heap[quarter : 2 * quarter]), min(heap[-quarter:])),
        longest_feed_s=fed / 1e6,
        gaps=len(journal.gaps),
        states=Counter(f"{sensor} {state}" for _, sensor, state, _ in gateway.states),
        readings=journal.readings,
        chip_samples=chip_samples,
    )


def main(arguments: list[str]) -> int:
    """The command; 1 if a figure is not what it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-power-faults", action="store_true", help="only faults that leave every chip its supply")
    options = parser.parse_args(arguments)
    outcome = soak(options.seconds, options.seed, not options.no_power_faults)
    print(outcome)
    if not outcome.flat:
        print("the heap is not flat", file=sys.stderr)
    if not outcome.exact:
        print("samples are not accounted for", file=sys.stderr)
    return 0 if outcome.flat and outcome.exact else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
