"""The long forms of the flash tests, as tables (docs/updates.md): `make flash-long`, or

    python tests/support/flash_long.py [flips N] [every STEP] [cuts STEP] [units N]

flips   one bit of one byte damaged, at N places by chance in each of an update, a first installation, a way back and a repeated run
every   the same at every STEPth byte of one session over the raw REPL: a repeated run's, and the transfer of one file
cuts    after every STEPth command of an update and of a first installation the plug is pulled, or the power cut: in the command's middle,
        and in its answer
units   N units in one command, twice: the second writes nothing"""

import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from flash_cases import (  # noqa: E402
    BAD,
    EVENTS,
    KINDS,
    SEED,
    WAYS,
    AtCommand,
    Case,
    clean,
    commands,
    count_commands,
    cut,
    flipped,
    session,
    session_flipped,
    wanted_run,
)  # fmt: skip
from flash_rig import plan, units  # noqa: E402
from flash_watch import UNEXPLAINED, Watched, watch, watching  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from fleet import flash_many  # noqa: E402
from fleet.flash_unit import UnitError, run  # noqa: E402
from gateway import head_duty, head_reach, head_repl  # noqa: E402
from gateway.head_repl import LineError  # noqa: E402
from sim.unit import Trouble  # noqa: E402

PROCESSES, LANES = 2, 8  # they wait more than they compute


def _impatient() -> None:
    """What is wrong here is so at once; yet a machine that stalls for a second is not wrong."""
    head_repl.CALL_S = 3.0
    head_repl.LONG_CALL_S = 6.0
    head_reach.REACH_S = 20.0
    head_duty.SELF_TEST_S = 8.0


Said = tuple[str, Case]
Work = Callable[[Watched, Path, Case], str]


def _work(work: Work, unit: Watched, folder: Path, case: Case) -> str:
    try:
        return work(unit, folder, case)
    except (UnitError, LineError) as error:
        unit.arm(Trouble())
        return f"{BAD}: not where nothing was damaged: {error}"


def _share(task: tuple[Work, list[Case], bool]) -> list[Said]:
    """The cases of one process, on a few units at once."""
    work, cases, watched = task
    _impatient()
    if watched:
        watch()
    with tempfile.TemporaryDirectory() as scratch, units(Path(scratch), LANES, Watched) as made:

        def lane(number: int) -> list[Said]:
            unit, folder = made[number], Path(scratch) / f"passports{number}"
            watching(unit)
            run(plan(unit, folder))
            return [(_work(work, unit, folder, case), case) for case in cases[number::LANES]]

        with ThreadPoolExecutor(LANES) as pool:
            return [said for lane_said in pool.map(lane, range(LANES)) for said in lane_said]


def _on_units(work: Work, cases: Sequence[Case], *, watched: bool = True) -> list[Said]:
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        shares = pool.map(_share, [(work, list(cases[number::PROCESSES]), watched) for number in range(PROCESSES)], chunksize=1)
    return [said for share in shares for said in share]


# --- flips in whole runs


def _lengths(kind: str) -> tuple[int, int]:
    """Bytes to the unit and to the host of such a run."""
    with tempfile.TemporaryDirectory() as scratch, units(Path(scratch), 1, Watched) as (unit,):
        folder = Path(scratch) / "passports"
        run(plan(unit, folder))
        wanted = wanted_run(unit, folder, kind)
        unit.arm(Trouble())
        run(wanted)
        return unit.moved[0], unit.moved[1]


def flips(count: int) -> list[Said]:
    """So many of each kind, by chance, on both ways alike."""
    chance = random.Random(SEED)
    cases = []
    for kind in KINDS:
        ends = _lengths(kind)
        print(f"{kind}: {ends[0]} bytes to the unit, {ends[1]} to the host")
        for way in (0, 1):
            cases += [
                Case(kind, way, at, chance.randrange(8)) for at in sorted(chance.sample(range(ends[way]), min(count // 2, ends[way])))
            ]
    return _on_units(flipped, cases)


# --- flips at every byte of one session


def every(step: int) -> list[Said]:
    """Every `step`th byte, its bit by chance."""
    chance = random.Random(SEED)
    with tempfile.TemporaryDirectory() as scratch, units(Path(scratch), 1, Watched) as (unit,):
        run(plan(unit, Path(scratch) / "passports"))
        clean(unit)
        unit.arm(Trouble())
        session(unit, "1.0.0")
        ends = list(unit.moved)
    print(f"one session: {ends[0]} bytes to the unit, {ends[1]} to the host")
    cases = [Case("session", way, at, chance.randrange(8)) for way in (0, 1) for at in range(chance.randrange(step), ends[way], step)]
    return _on_units(session_flipped, cases)


# --- the plug and the power, at every command


def cuts(step: int) -> list[Said]:
    """At every `step`th command."""
    cases = []
    for kind in ("update", "first installation"):
        with tempfile.TemporaryDirectory() as scratch, units(Path(scratch), 1, Watched) as (unit,):
            folder = Path(scratch) / "passports"
            run(plan(unit, folder))
            wanted = wanted_run(unit, folder, kind)
            count_commands()
            counter = commands[wanted.port] = AtCommand(unit, -1, "")
            run(wanted)
        print(f"{kind}: {counter.count} commands")
        cases += [Case(kind, 0, at, event=event) for event in EVENTS for at in range(0, counter.count, step)]
    return _on_units(cut, cases, watched=False)


# --- many


def many(count: int) -> list[Said]:
    """So many units in one command, twice."""
    said: list[Said] = []
    with tempfile.TemporaryDirectory() as scratch, units(Path(scratch), count) as made:
        plans = [plan(unit, Path(scratch) / "passports", "1.0.0", f"truck-{number:03}") for number, unit in enumerate(made)]
        for words in ("first command", "the same again"):
            began = time.monotonic()
            outcomes = flash_many.flash(plans, lambda *_: None)
            proofs = [outcome.proof for outcome in outcomes if outcome.proof]
            written = sum(proof.written for proof in proofs)
            print(f"{words}: {len(proofs)} of {count} proved, {written} files written, {time.monotonic() - began:.1f} s")
            said += [(f"{BAD}: {outcome.error}", Case(words, -1, 0)) for outcome in outcomes if outcome.error]
            said += [("proved, and written to" if proof.written else "proved, nothing written", Case(words, -1, 0)) for proof in proofs]
        said += [(f"{BAD}: it wrote", Case(words, -1, 0)) for proof in proofs if proof.written]
    return said


def show(name: str, said: Iterable[Said], seconds: float) -> bool:
    """Prints the table; whether all is as it must be."""
    said = list(said)
    rows = Counter((case.kind, case.event or WAYS[case.way] if case.way >= 0 else "", words.split(": to ")[0]) for words, case in said)
    title = f"{name}: {len(said)} cases in {seconds:.0f} s"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("run", "where", "what came of it"):
        table.add_column(column)
    table.add_column("cases", justify="right")
    for (kind, where, words), count in sorted(rows.items(), key=lambda row: (row[0][:2], -row[1])):
        table.add_row(kind, where, words, str(count))
    Console(width=None if sys.stdout.isatty() else 80).print(table)
    wrong = [(words, case) for words, case in said if words.startswith((BAD, UNEXPLAINED))]
    for words, case in wrong[:20]:
        print(words, case)
    return not wrong


def main() -> int:
    """As the module's text says."""
    wanted = dict(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True)) or {"flips": 60, "every": 10, "cuts": 2, "units": 20}
    whole = True
    for name, count in wanted.items():
        began = time.monotonic()
        said = {"flips": flips, "every": every, "cuts": cuts, "units": many}[name](count)
        whole = show(name, said, time.monotonic() - began) and whole
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
