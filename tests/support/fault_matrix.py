"""Every part x every fault, and the table of what came of it.

    python tests/support/fault_matrix.py [--short] [--part NAME] [--seeds N] [--json]

A cell is the longest recovery in seconds, from the end of the fault to a sensor that is ok with a sample that the chip made after it. Marks
behind it are in the legend. Exit code 1 if a run failed; what is wrong with it follows below the table."""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fault_cases import FIRST_STARTS, ROWS, STARTS, Case, cases
from fault_rig import UNDETECTABLE
from fault_run import RECOVERED_S, Outcome, run
from parts import PARTS, Part
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

SHORT_NAMES = {
    "icm20948": "icm", "bmp390": "bmp", "bmp390-normal": "bmpN", "sht45": "sht", "sht45-heater": "shtH", "opt3001": "opt", "as7331": "as73",
    "veml7700": "veml", "sps30": "sps", "sps30_i2c": "spsI", "pms5003": "pms", "neo_m9n": "neo", "first_fleet": "box",
}  # fmt: skip
BY_NAME = {part.name: part for part in PARTS}
WIDTH = 80
FIRST = "any, in first start"  # the row of the runs that were struck before the first sample
CHUNK = 20  # runs that a process does at a time


class Result(NamedTuple):
    """One run and what came of it."""

    part: str
    seed: int
    case: Case
    outcome: Outcome


def one(part: Part, seed: int, case: Case) -> Result:
    """One run."""
    first_s = FIRST_STARTS.get(part.name, 0.0)
    outcome = run(part, case.faults, seed, visible=case.visible, wrong=case.wrong, own_s=case.own_s, first_s=first_s, stall_s=case.stall_s)
    return Result(part.name, seed, case, outcome)


def results(part: Part, seeds: int, *, short: bool) -> list[Result]:
    """Every run of a part."""
    return [one(part, seed, case) for seed, case in cases(part, seeds, short=short)]


Task = tuple[str, list[tuple[int, Case]]]


def _done(task: Task) -> list[Result]:
    name, chunk = task
    return [one(BY_NAME[name], seed, case) for seed, case in chunk]


def _tasks(names: Iterable[str], seeds: int, short: bool) -> list[Task]:
    tasks = []
    for name in names:
        found = list(cases(BY_NAME[name], seeds, short=short))
        tasks += [(name, found[start : start + CHUNK]) for start in range(0, len(found), CHUNK)]
    return tasks


def everything(names: Sequence[str], seeds: int, *, short: bool, progress: Console) -> list[Result]:
    """Every run of these parts, on all cores; a bar on `progress` where that is a terminal."""
    found: list[Result] = []
    with Progress(console=progress, transient=True, disable=not progress.is_terminal) as bar:
        shown = bar.add_task("choosing the faults", total=None)
        tasks = _tasks(names, seeds, short)
        bar.update(shown, description="runs", total=sum(len(chunk) for _, chunk in tasks))
        with multiprocessing.Pool(os.cpu_count()) as pool:
            for some in pool.imap(_done, tasks):
                found += some
                bar.advance(shown, len(some))
    return found


def table(found: Sequence[Result], parts: Sequence[str], wire: str) -> Table:
    """One row a fault, one column a part, of those on an "i2c" bus or a "uart"."""
    parts = [name for name in parts if BY_NAME[name].wire == wire]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    shown.add_column("fault", no_wrap=True)
    for name in parts:
        shown.add_column(SHORT_NAMES[name], justify="right", no_wrap=True)
    for row in (*ROWS[wire], FIRST):
        cells = [[result for result in found if _row(result) == row and result.part == name] for name in parts]
        if any(cells):
            shown.add_row(row, *(_cell(runs) for runs in cells))
    return shown


def _row(result: Result) -> str:
    return FIRST if result.outcome.first else result.case.row


def _longest(runs: Sequence[Result]) -> float:
    return max((result.outcome.recovery_s or 0.0 for result in runs), default=0.0)


def _cell(runs: Sequence[Result]) -> str:
    if not runs:
        return ""
    longest = _longest(runs)
    mark = "s" if longest > RECOVERED_S + 0.01 else ""
    if any(result.outcome.undetectable for result in runs):
        mark = "u"
    if any(result.outcome.problems for result in runs):
        mark = "!"
    return f"{longest:.0f}{mark}" if longest >= 10 else f"{longest:.1f}{mark}"


def legend(found: Sequence[Result], names: Sequence[str]) -> list[str]:
    """What stands below the tables."""
    own = {name: max([FIRST_STARTS.get(name, 0.0)] + [seconds for (part, _), seconds in STARTS.items() if part == name]) for name in names}
    starts = ", ".join(f"{SHORT_NAMES[name]} {seconds:g}" for name, seconds in own.items() if seconds)
    hidden = {name: sum(result.outcome.undetectable for result in found if result.part == name) for name in names}
    lines = [", ".join(f"{SHORT_NAMES[name]} = {name}" for name in names), "! failed: see below"]
    if starts:
        lines.append(f"s with the part's own start, allowed beyond {RECOVERED_S:g} s (docs/faults.md): at most {starts}")
    lines += [f"u {name}: {why} ({hidden[name]} wrong values here)" for name, why in UNDETECTABLE.items() if name in names]
    return lines


def as_json(found: Sequence[Result], seconds: float) -> dict[str, Any]:
    """The same for machines."""
    cells: dict[tuple[str, str], list[Result]] = {}
    for result in found:
        cells.setdefault((result.part, _row(result)), []).append(result)
    return {
        "runs": len(found),
        "failed": sum(bool(result.outcome.problems) for result in found),
        "seconds": round(seconds, 1),
        "cells": [
            {
                "part": part,
                "fault": row,
                "runs": len(runs),
                "failed": sum(bool(result.outcome.problems) for result in runs),
                "longest_s": round(_longest(runs), 3),
                "own_start_s": FIRST_STARTS.get(part, 0.0) if row == FIRST else STARTS.get((part, row), 0.0),
                "undetectable": sum(result.outcome.undetectable for result in runs),
            }
            for (part, row), runs in cells.items()
        ],
        "failures": [
            {
                "part": result.part,
                "fault": result.case.row,
                "seed": result.seed,
                "script": [_fields(fault) for fault in result.case.faults],
                "problems": result.outcome.problems,
                "states": result.outcome.states,
            }
            for result in found
            if result.outcome.problems
        ],
    }


def _fields(fault: Any) -> dict[str, Any]:
    """As a script of faults has it (sim/faults.py)."""
    defaults = type(fault)(kind=fault.kind, chip=fault.chip, microseconds=fault.microseconds)
    return {
        name: getattr(fault, name)
        for name in fault.__struct_fields__
        if name in ("kind", "chip", "microseconds") and getattr(fault, name) is not None or getattr(fault, name) != getattr(defaults, name)
    }


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="what make test runs")
    parser.add_argument("--part", action="append", choices=list(BY_NAME), help="only this one; may be given again")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="moments at which the faults that are not aimed begin")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="how many failed runs are told")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args(arguments)
    names = [name for name in BY_NAME if not options.part or name in options.part]
    begun = time.monotonic()
    found = everything(names, 1 if options.short else options.seeds, short=options.short, progress=Console(stderr=True))
    seconds = time.monotonic() - begun
    failed = [result for result in found if result.outcome.problems]
    if options.json:
        print(json.dumps(as_json(found, seconds), indent=1, ensure_ascii=False))
        return 1 if failed else 0
    console = Console(width=WIDTH, highlight=False)
    for wire in ROWS:
        if any(BY_NAME[name].wire == wire for name in names):
            console.print(f"{wire.upper()}: seconds from a fault's end to a good sample made after it (longest run)")
            console.print(table(found, names, wire))
    for line in legend(found, names):
        console.print(line)
    console.print(f"{len(found)} runs in {seconds:.0f} s, {len(failed)} failed")
    for result in failed[: options.show]:
        console.print(f"{result.part}, {result.case.row}, seed {result.seed}: {'; '.join(result.outcome.problems)}", markup=False)
        console.print(f"    {json.dumps([_fields(fault) for fault in result.case.faults])}", soft_wrap=True, markup=False)
    if len(failed) > options.show:
        console.print(f"... and {len(failed) - options.show} more (--show, --json)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
