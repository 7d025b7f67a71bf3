"""Power cuts while a head is installed, updated, tried out, confirmed, rolled back: `make brick`, and in short tests/firmware.

Each step is run once, and every use of its flash written down; from that follows the flash that a power cut leaves after any operation and
any share of its bytes (brick_cuts.py), and each of them is judged (brick_story.py). docs/updates.md has the tables and the limits."""

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy
from brick_cuts import ALL, Result, operations, places, walk
from brick_story import Head, Program, Small, Step, story
from rich import box
from rich.console import Console
from rich.table import Table

from sim.pico import Use

SHARES = ("0", "1", "half", "less")
WORKERS = 2
_CHUNKS = 24  # of a step's work, dealt out as workers become free; more of them, and equal flashes are judged twice


def run_step(step: Step, folder: Path, shares: tuple[str, ...] = SHARES, only: int = 0, seed: int = 1) -> Result:
    """Cuts the step everywhere, or `only` in so many operations, by chance; all in this process."""
    done = operations(step.uses(folder / "whole.flash")[1])
    numbers = range(len(done)) if not only else sorted(random.Random(seed).sample(range(len(done)), min(only, len(done))))
    result = Result(len(done))
    flash = numpy.frombuffer(step.before.flash.read_bytes(), numpy.uint8)
    for number in numbers:
        result.add(walk(flash, done, number, number + 1, shares, lambda state: step.judge(state, folder / "cut.flash", forks=False)))
    return result


_work: tuple[Step, list[Use], tuple[str, ...], Path]  # of the workers, which are forks


def _walk(span: tuple[int, int]) -> Result:
    step, done, shares, folder = _work
    flash = numpy.frombuffer(step.before.flash.read_bytes(), numpy.uint8)
    return walk(flash, done, *span, shares, lambda state: step.judge(state, folder / f"cut-{os.getpid()}.flash", forks=True))


def _spans(done: list[Use], shares: tuple[str, ...]) -> list[tuple[int, int]]:
    """The operations in pieces of about the same number of cuts."""
    weights = numpy.cumsum([len(places(use.size, shares)) for use in done])
    edges = sorted({0, len(done), *(int(edge) for edge in numpy.searchsorted(weights, numpy.linspace(0, weights[-1], _CHUNKS + 1)[1:-1]))})
    return list(zip(edges, edges[1:], strict=False))


def run_step_on_all_cores(step: Step, folder: Path, shares: tuple[str, ...]) -> Result:
    """As `run_step` everywhere. Only from a process without threads."""
    global _work
    done = operations(step.uses(folder / "whole.flash", forks=True)[1])
    _work = step, done, shares, folder
    result = Result(len(done))
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        for part in pool.imap_unordered(_walk, _spans(done, shares)):
            result.add(part)
    return result


def _table(program: Program, shares: tuple[str, ...], wanted: str) -> list[str]:
    """Prints what came of every step; the bricks."""
    old, new = program.versions
    table = Table(title=program.name, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("step", no_wrap=True)
    for column in ("oper-\nations", "cuts", "differ-\nent", "judged", "bare\nREPL", f"{old}\nruns", f"{new}\nruns", "bricks", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    bricks = []
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as name:
        for step in story(Path(name), program):
            if wanted not in step.name:
                continue
            began = time.monotonic()
            result = run_step_on_all_cores(step, Path(name), shares)
            ran = [result.ran.get(version, 0) for version in ("", old, new)]
            numbers = [result.operations, result.cuts, result.flashes, result.judged, *ran, len(result.bricks)]
            table.add_row(step.name, *map(str, numbers), f"{time.monotonic() - began:.0f}")
            bricks += [f"{step.name}, {brick}" for brick in result.bricks]
            print(
                f"{step.name}: {result.cuts} cuts, {len(result.bricks)} bricks", file=sys.stderr, flush=True
            )  # the table may be hours away
    Console().print(table)
    return bricks


def main() -> int:
    """The long form: a table, and exit code 1 if a unit was bricked."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("--program", choices=["small", "head"], help="default: first the small one, then the head's own")
    arguments.add_argument("--bytes", default="0", help="at so many bytes by chance, too, in each operation; all: every byte")
    arguments.add_argument("--step", default="", help="only steps with this in their name")
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    chance = random.Random(chosen.seed)
    extra = (ALL,) if chosen.bytes == ALL else tuple(str(chance.randrange(2, 4095)) for _ in range(int(chosen.bytes)))
    bricks = []
    for program in (Small, Head):
        if chosen.program in (None, program.__name__.lower()):
            bricks += _table(program(), (*SHARES, *extra), chosen.step)
    for brick in bricks[:20]:
        print(brick)
    return 1 if bricks else 0


if __name__ == "__main__":
    sys.exit(main())
