"""An hour (or less) of the head's life in minutes: its real program on the real MicroPython, all chips, random faults, the gateway's log.

    python tests/soak/soak.py --seconds 3600 --seed 1

Checked: the heap is flat; no frame is lost; the watchdog is always fed; of each IMU sample that was made, that it was delivered once, or
that a gap of just so many samples was reported where it is missing (imu_account.py). Where the chip began anew (a supply that failed,
a reset) no samples were made for a while, and what is missing is no whole number of them: there the gap must be right within one sample,
or what it says itself."""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import imu_account
from imu_account import Account
from soaked_gateway import IMU, SoakedGateway
from virtual_head import VirtualHead

from sim.chips.board import Board
from sim.faults import Fault, Faults
from sim.world import World

SECOND = 1_000_000  # µs
G, STEPS_PER_G = 9.80665, 4096  # of the head's range of ±8 g
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
    made: int
    missing: int
    accounts: list[Account]
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
    def running(self) -> list[Account]:
        """What was missing while the chip sampled on."""
        return [account for account in self.accounts if not account.restarts]

    @property
    def anew(self) -> list[Account]:
        """What was missing where it began anew."""
        return [account for account in self.accounts if account.restarts]

    @property
    def wrong(self) -> list[Account]:
        """What was not reported as it must be."""
        return [account for account in self.accounts if not account.right]

    def __str__(self) -> str:
        running, anew = self.running, self.anew
        lost = sum(account.missing for account in running)
        told = sum(account.reported for account in running)
        anew_told = sum(account.reported for account in anew)
        periods = sum(account.missing for account in anew)
        worst = max((abs(account.difference) for account in anew), default=0.0)
        return "\n".join(
            (
                f"{self.seconds:.0f} s of the head's life, {sum(self.faults.values())} faults: {dict(self.faults)}",
                f"IMU: {self.made} samples made, {self.delivered} of them delivered, each once; {self.missing} reported missing",
                f"  while the chip sampled on: {lost:.0f} missing at {len(running)} places, {told} reported: difference {told - lost:.0f}",
                f"  where it began anew: {periods:.2f} periods without a sample at {len(anew)} places, {anew_told} reported; "
                f"none off by more than {worst:.2f}",
                *(f"  wrong: {account}" for account in self.wrong),
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
    """A world that stands still, but that each sample of the IMU has its number in it, and what the chips made."""

    def __init__(self, still: Mapping[str, float]) -> None:
        self.times: list[int] = []
        self._world = dict(still)
        self._number()

    def source(self, t_us: int) -> Mapping[str, float]:
        """The world at any moment."""
        return self._world

    def log(self, sensor: str, t_us: int, values: Mapping[str, float]) -> None:
        """The chips' log."""
        if sensor == IMU:
            self.times.append(t_us)
            self._number()

    def _number(self) -> None:
        self._world["acceleration_x"] = imu_account.code(len(self.times)) * G / STEPS_PER_G


def soak(seconds: float, seed: int, power: bool = True, every_s: float = EVERY_S) -> Outcome:
    """Runs it. AssertionError where the head dies or hangs, a frame is lost, or a sample comes twice or is none that was made."""
    truth = Truth(World(seed=seed).at(5 * SECOND))
    faults = random_faults(seconds, seed, power, every_s)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        gateway = SoakedGateway(Path(folder))
        with VirtualHead(
            truth.source, truth.log, gateway.turn, lambda source, log, clock: Board(source, log, clock, Faults(faults, seed))
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
    delivered = imu_account.numbers(journal.imu_codes)
    assert delivered[0] == 0 and delivered[-1] == len(truth.times) - 1, "the first sample or the last is missing, where no fault was"
    gaps = [gap for gap in journal.gaps if gap.source == IMU]
    return Outcome(
        seconds=seconds,
        faults=Counter(fault.kind for fault in faults),
        delivered=len(delivered),
        made=len(truth.times),
        missing=journal.missing[IMU],
        accounts=imu_account.accounts(truth.times, delivered, journal.imu_times, gaps),
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
    if outcome.wrong:
        print("samples are not accounted for", file=sys.stderr)
    return 1 if outcome.wrong or not outcome.flat else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
