"""`make faults-uplink`: the uplink against everything that can go wrong on its way, and the table of what came of it.

    python tests/support/uplink_faults.py [--only TEXT] [--seed N] [--json] [--keep DIR]

One real hub and one real center for all; one truck with its own spool, ledger, link and oracle for each row. The columns: segments owed;
lost; duplicated; deleted without a receipt; counted as delivered and not stored, or stored otherwise than sealed (false): all 0; uploads
beyond one a segment; seconds from the end of the fault until everything sealed by then was receipted. Times of the product are shortened
(SHORT in uplink_faults_rig.py). Then a whole shift (uplink_shift.py). Exit code 1 if a row failed; what is wrong with it follows below the
table."""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from uplink_faults_cases import CASES, HTTP, KILLS, LINK, Case
from uplink_faults_rig import City, Truck
from uplink_shift import Shift, shift
from uplink_shift import as_json as shift_as_json
from uplink_shift import report as report_shift

WIDTH = 80
SHIFT = "a whole shift"
BEFORE, AFTER = 3, 2  # segments sealed before and after the fault
AT_ONCE = 2  # runs that share nothing but hub and center


class Row(NamedTuple):
    """What came of a fault. `recovered`: seconds until everything had arrived, None if it did not."""

    fault: str
    segments: int
    lost: int
    duplicated: int
    unreceipted: int
    false: int
    retries: int
    recovered: float | None
    problems: list[str]

    @property
    def failed(self) -> bool:
        """Whether the promise was not kept."""
        return bool(self.problems) or self.recovered is None


def one(city: City, case: Case, name: str, seed: int, *, short: bool = False) -> Row:
    """One run of a fault, from a truck that begins its shift to its orderly end. The city leads objects where the case wants them."""
    recovered, problems = None, []
    with Truck(city, name, seed, quota_bytes=case.quota_bytes, uplink=case.uplink, short=short) as truck:
        truck.seal(BEFORE)
        truck.start()
        try:
            truck.until(lambda: truck.status().get("connected"), "the first connection")
            case.fault(truck)
            truck.seal(AFTER)
            recovered = truck.arrived()
        except (TimeoutError, RuntimeError) as error:
            problems.append(f"{error} (problem: {truck.status().get('problem')}; last failure: {truck.status().get('last_failure')})")
        verdict = truck.end()
        uploads = truck.link.counts()["by_target"][1]
    false = len(verdict.receipted_unstored) + len(verdict.damaged) + len(verdict.unowed)
    return Row(
        case.name, verdict.segments, len(verdict.lost), len(verdict.duplicated), len(verdict.deleted_unreceipted), false,
        max(0, uploads - verdict.segments), recovered, problems + verdict.problems,
    )  # fmt: skip


def mend(city: City) -> None:
    """What a run that failed in the middle has left broken."""
    city.web.forget()
    if city.hub.poll() is not None:
        city.start_hub()
    if city.center_ended():
        city.start_center()


def several(city: City, cases: Sequence[Case], names: Sequence[str], seed: int) -> Iterator[Row]:
    """Runs of these, as many at a time as share nothing."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda at: one(city, cases[at], names[at], seed + at), range(len(cases)))


def everything(cases: Sequence[Case], seed: int, folder: Path, progress: Console, *, whole_shift: bool) -> tuple[list[Row], Shift | None]:
    """All runs, and a shift if wanted; a bar on `progress` where that is a terminal."""
    names = [f"t{number:02d}" for number in range(len(cases))]
    alone = [at for at, case in enumerate(cases) if case.kind != LINK]
    together = [at for at, case in enumerate(cases) if case.kind == LINK]
    found: dict[int, Row] = {}
    with City(folder, [*names, "shift"]) as city, Progress(console=progress, transient=True, disable=not progress.is_terminal) as bar:
        shown = bar.add_task("faults", total=len(cases))
        rows = several(city, [cases[at] for at in together], [names[at] for at in together], seed)
        for at, row in zip(together, rows, strict=True):
            found[at] = row
            bar.advance(shown)
        for at in alone:
            bar.update(shown, description=cases[at].name)
            city.lead(cases[at].kind == HTTP)
            found[at] = one(city, cases[at], names[at], seed + at)
            mend(city)
            bar.advance(shown)
        bar.update(shown, description="a whole shift")
        city.lead(False)
        driven = shift(city, "shift", seed) if whole_shift else None
    return [found[at] for at in range(len(cases))], driven


def table(rows: Sequence[Row]) -> Table:
    """One row a fault."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    shown.add_column("fault", no_wrap=True)
    for heading in ("segm", "lost", "dupl", "unrec", "false", "again", "rec s"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        recovered = "never" if row.recovered is None else f"{row.recovered:.1f}"
        numbers = [row.segments, row.lost, row.duplicated, row.unreceipted, row.false, row.retries]
        shown.add_row(("! " if row.failed else "") + row.fault, *(str(number) for number in numbers), recovered)
    return shown


def report(rows: Sequence[Row], console: Console) -> None:
    """The table, its legend, and what failed."""
    console.print(table(rows))
    console.print(
        "segm: segments owed; unrec: deleted without a receipt; false: counted as delivered and not stored, or stored otherwise than"
        " sealed; again: uploads beyond one a segment; rec s: from the end of the fault until all was receipted"
    )
    for row in rows:
        for problem in row.problems:
            console.print(f"! {row.fault}: {problem}", style="red")
    console.print(f"{sum(not row.failed for row in rows)} of {len(rows)} kept the promise")


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For machines."""
    return [{**row._asdict(), "failed": row.failed} for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="The uplink against everything that can go wrong on its way.")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help=f"rows whose name contains it, or whose kind it is: {LINK}, {HTTP}, {KILLS}, or shift"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the rows as JSON on stdout, the table on stderr")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty folder for spools, archive and logs; they stay")
    options = parser.parse_args(arguments)
    kinds = {case.kind for case in CASES}
    cases = [case for case in CASES if options.only == case.kind or (options.only not in kinds and options.only in case.name)]
    whole_shift = options.only in SHIFT
    if not cases and not whole_shift:
        print(f"faults-uplink: no row with {options.only!r}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order: hub, center and trucks are ended too
    console = Console(stderr=options.json, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    with tempfile.TemporaryDirectory(prefix="faults-uplink-") as folder:
        rows, driven = everything(cases, options.seed, options.keep or Path(folder), Console(stderr=True), whole_shift=whole_shift)
    if rows:
        report(rows, console)
    if driven is not None:
        console.print(f"\n{SHIFT}: 4 h of driving on LTE, then the depot's Wi-Fi, compressed")
        report_shift(driven, console)
    if options.json:
        print(json.dumps({"faults": as_json(rows), "shift": shift_as_json(driven) if driven else None}, indent=1))
    return int(any(row.failed for row in rows) or (driven is not None and bool(driven.problems)))


if __name__ == "__main__":
    sys.exit(main())
