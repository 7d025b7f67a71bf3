"""`make crash`: power cuts by the thousand (CUTS, SEED), a progress bar, a table; exit code 1 if a promise did not hold.

Some trucks write in this process, each on a file system of its own that forgets (crash_disk, crash_fuse); their cuts are judged in others.
A truck lives some seconds, then the next begins with another seed; the disk of every second one also stalls and refuses. Half of the cuts
are followed by one more while the recovery works on what the first left."""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from crash_disk import KINDS, Disk, Image
from crash_fuse import mounted, unavailable
from crash_judge import Verdict, judge, write_image
from crash_truck import CUT_SECONDS, Cut, driving
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from logbook.recovery import recover_spool

ALLOWED_SECONDS = 1.0  # of unacknowledged messages, beyond the disk's own stall
TRUCKS = 3
LIFE_CUTS = 30
WAITING_CUTS = 30  # not yet judged; each is an image of some MB
AGAIN = "again in recovery"


def cut_recovery(image: Image, dice: random.Random, kind: str, operation: int, folder: Path) -> Image:
    """What a cut leaves that comes at the `operation`-th change which a recovery of `image` makes on our file system (or at its end)."""
    disk = Disk(dice.randrange(1 << 30))
    disk.load(image)
    left: list[Image] = []
    changes = 0

    def on_change() -> None:
        nonlocal changes
        changes += 1
        if changes == operation:
            left.append(disk.image(dice, kind))

    disk.on_change = on_change
    with mounted(disk, folder) as spool:
        recover_spool(spool)
    return left[0] if left else disk.image(dice, kind)


def judge_cut(cut: Cut) -> list[tuple[str, Verdict]]:
    """The verdicts on a cut, and on one during the recovery from it."""
    with tempfile.TemporaryDirectory(prefix="cruisers-crash-") as folder:
        write_image(cut.image, Path(folder) / "spool")
        verdicts = [(cut.kind, judge(Path(folder) / "spool", cut.seed, cut.known))]
        verdicts[0][1].details.append(f"life {cut.seed}: {sorted(path for path in cut.image if not path.endswith('.mcap'))}")
        if cut.recovery_cut is not None:
            dice = random.Random(f"{cut.seed} {cut.recovery_cut}")
            image = cut_recovery(cut.image, dice, cut.kind, cut.recovery_cut, Path(folder) / "disk")
            write_image(image, Path(folder) / "again")
            verdicts.append((AGAIN, judge(Path(folder) / "again", cut.seed, cut.known)))
        return verdicts


@dataclass
class Row:
    """One line of the table."""

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    loss: float = 0.0
    beyond: float = 0.0
    damaged: int = 0
    ranges: int = 0
    not_reported: int = 0
    wrong: int = 0
    problems: int = 0
    failed: int = 0

    def add(self, verdict: Verdict) -> None:
        """Counts one cut."""
        self.cuts += 1
        self.acknowledged += verdict.acknowledged
        self.lost += verdict.lost
        self.loss = max(self.loss, verdict.loss)
        self.beyond = max(self.beyond, verdict.beyond)
        self.damaged += verdict.damaged
        self.ranges += verdict.ranges
        self.not_reported += verdict.ranges - verdict.reported
        self.wrong += verdict.wrong
        self.problems += len(verdict.problems)
        self.failed += not verdict.ok(ALLOWED_SECONDS)

    def join(self, other: "Row") -> None:
        """Counts what another counted."""
        for name, value in asdict(other).items():
            mine = getattr(self, name)
            setattr(self, name, max(mine, value) if isinstance(value, float) else mine + value)


class Run:
    """Some trucks, and what the judges say. `told` is called with every verdict."""

    def __init__(self, cuts: int, seed: int, folder: Path, told: Callable[[], None] = lambda: None) -> None:
        self.rows = {name: Row() for name in (*KINDS, AGAIN)}
        self.problems: list[str] = []
        self._cuts = cuts
        self._dice = random.Random(seed)
        self._folder = folder
        self._told = told
        self._lock = threading.Lock()
        self._room = threading.Semaphore(WAITING_CUTS)
        self._errors: list[BaseException] = []
        self._ending = threading.Event()

    def drive(self, trucks: int) -> None:
        """Takes all cuts and returns when they are judged. Raises what a truck or a judge raised."""
        with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
            threads = [threading.Thread(target=self._lives, args=(pool,)) for _ in range(trucks)]
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    thread.join()
            finally:
                self._ending.set()
                for thread in threads:
                    thread.join()
        if self._errors:
            raise self._errors[0]

    def _lives(self, pool: ProcessPoolExecutor) -> None:
        try:
            while (life := self._next_life()) is not None:
                seed, cuts = life
                dice = random.Random(seed)
                taken: list[Cut] = []
                with driving(self._folder, seed, faults=seed % 2 == 1) as truck:
                    while len(taken) < cuts and not self._ending.wait(dice.uniform(0, 2 * CUT_SECONDS)):
                        taken.append(truck.cut(dice))
                for cut in taken:
                    self._room.acquire()
                    pool.submit(judge_cut, cut).add_done_callback(self._judged)
        except Exception as error:  # noqa: BLE001 (told by drive, in the main thread)
            self._errors.append(error)

    def _next_life(self) -> tuple[int, int] | None:
        with self._lock:
            cuts = min(LIFE_CUTS, self._cuts)
            self._cuts -= cuts
            return (self._dice.randrange(1 << 31), cuts) if cuts and not self._errors and not self._ending.is_set() else None

    def _judged(self, future: "Future[list[tuple[str, Verdict]]]") -> None:
        self._room.release()
        with self._lock:
            error = future.exception()
            if error is not None:
                self._errors.append(error)
                return
            for name, verdict in future.result():
                self.rows[name].add(verdict)
                if not verdict.ok(ALLOWED_SECONDS):
                    self.problems.append(f"{name}: {verdict}")
        self._told()

    def total(self) -> Row:
        """All rows as one."""
        row = Row()
        for each in self.rows.values():
            row.join(each)
        return row


def table(run: Run) -> Table:
    """What `make crash` prints."""
    title = f"Power cuts: {sum(run.rows[kind].cuts for kind in KINDS)}, and {run.rows[AGAIN].cuts} more during recovery from them"
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    made.add_column("damage")
    headings = (
        "cuts", "acknow-\nledged", "lost", "loss\ns", "own\ns", "dam-\naged", "ranges", "unre-\nported", "wrong", "other", "failed",
    )  # fmt: skip
    for heading in headings:
        made.add_column(heading, justify="right")
    for name, row in [*run.rows.items(), ("all", run.total())]:
        made.add_row(name, *(f"{value:.2f}" if isinstance(value, float) else f"{value:,}" for value in asdict(row).values()))
    return made


def main(arguments: list[str]) -> int:
    """The command; returns its exit code: 0 all promises held, 1 one did not, 2 it cannot be tried here."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trucks", type=int, default=TRUCKS)
    parser.add_argument("--json", action="store_true", help="the table for machines, on stdout")
    options = parser.parse_args(arguments)
    if why := unavailable():
        print(f"crash: cannot be tried here: {why}", file=sys.stderr)
        return 2
    sys.setswitchinterval(0.0005)  # a truck's file system, writers and sources are threads of one process: they are not to wait in turn
    # libfuse would take SIGTERM for itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with tempfile.TemporaryDirectory(prefix="cruisers-crash-") as folder, Progress(*columns, console=console) as progress:
        task = progress.add_task("power cuts", total=options.cuts)
        run = Run(options.cuts, options.seed, Path(folder), lambda: progress.advance(task))
        run.drive(options.trucks)
    for problem in run.problems[:20]:
        console.print(problem, markup=False)
    if options.json:
        rows = {name: asdict(row) for name, row in [*run.rows.items(), ("all", run.total())]}
        print(json.dumps({"seed": options.seed, "allowed_seconds": ALLOWED_SECONDS, "rows": rows}))
    else:
        Console(width=140).print(table(run))
    return 1 if run.total().failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
