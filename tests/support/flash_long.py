"""The long forms of the flash tests, as tables: `python tests/support/flash_long.py [flips N] [cuts N] [first N] [units N]`.

flips   one byte damaged, at N places each way spread over a whole update: refused, or what the passport says is on the flash
cuts    unplugged, and power cut, at N places: a second run completes
first   the same two ways, during the first installation of a blank board
units   N units in one command, twice: the second writes nothing"""

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from flash_rig import plan, program, units  # noqa: E402

from fleet import flash_many  # noqa: E402
from fleet.flash_unit import UnitError, run  # noqa: E402
from gateway import head_duty, head_reach, head_repl  # noqa: E402
from sim.unit import Trouble, Unit  # noqa: E402

AT_ONCE = 4
BYTES_TO_UNIT, BYTES_TO_HOST = 10_000, 10_500  # of an update of the small program, measured; later places fall behind its end
FIRST_BYTES = 17_000  # a first installation sends so many more: the board's own files, and every file of the slot


def _impatient() -> None:
    head_repl.CALL_S = 2.0
    head_repl.LONG_CALL_S = 6.0
    head_reach.REACH_S = 8.0
    head_duty.SELF_TEST_S = 8.0


def _spread(count: int, end: int) -> list[int]:
    return [(2 * number + 1) * end // (2 * count) for number in range(count)]


def _on_units(folder: Path, cases: list[Trouble], work: Callable[[Unit, Path, Trouble], str]) -> dict[str, list[Trouble]]:
    """Each case on a fresh update of one of a few units; what came of it: which cases."""
    results: dict[str, list[Trouble]] = {}
    with units(folder, AT_ONCE) as made:
        for unit in made:
            run(plan(unit, folder / unit.folder.name / "passports"))

        def lane(number: int) -> None:
            unit = made[number]
            for case in cases[number::AT_ONCE]:
                results.setdefault(work(unit, folder / unit.folder.name / "passports", case), []).append(case)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lane, range(AT_ONCE)))
    return results


def _settled(unit: Unit, passports: Path, version: str) -> bool:
    """A second run without trouble completes, and so does a third that has nothing to do."""
    for _ in range(2):
        proof = run(plan(unit, passports, version))
    return proof.passport.version == version and proof.written == 0


_count = iter(range(1, 1_000_000))


def flipped(unit: Unit, passports: Path, case: Trouble) -> str:
    """One damaged byte during an update."""
    version = f"1.{next(_count)}.0"
    wanted = plan(unit, passports, version)
    unit.arm(Trouble(to_unit=case.to_unit, to_host=case.to_host, flip=case.flip))
    try:
        proof = run(wanted)
        said = "proved"
    except UnitError:
        said = "refused"
    unit.arm(Trouble())
    if said == "proved":
        # The truth, over a line that damages nothing.
        truth = run(plan(unit, passports, version))
        if truth.written or truth.passport.files != proof.passport.files:
            return "A PASSPORT FOR WHAT IS NOT ON THE FLASH"
        if {name: one.trim for name, one in truth.passport.sensors.items()} != {
            name: one.trim for name, one in proof.passport.sensors.items()
        }:
            return "A PASSPORT WITH A DAMAGED SENSOR"
        return "noticed and repeated, or behind the end: the passport is true"
    return "refused; the next run completes" if _settled(unit, passports, version) else "REFUSED AND NOT TO BE REPAIRED"


def cut(unit: Unit, passports: Path, case: Trouble) -> str:
    """A pulled plug or power cut during an update."""
    version = f"1.{next(_count)}.0"
    unit.arm(Trouble(unplug=case.unplug, cut=case.cut))
    try:
        run(plan(unit, passports, version))
        said = "behind the end"
    except UnitError:
        said = "ended"
    unit.arm(Trouble())
    unit.power_on() if case.cut >= 0 else unit.replug()
    return f"{said}; a second run completes" if _settled(unit, passports, version) else "A SECOND RUN DOES NOT COMPLETE"


def first(unit: Unit, passports: Path, case: Trouble) -> str:
    """The same during the first installation."""
    unit.arm(Trouble())
    unit.blank()
    return cut(unit, passports, case)


def many(folder: Path, count: int) -> dict[str, list[Trouble]]:
    """So many units in one command, twice."""
    with units(folder, count) as made:
        plans = [plan(unit, folder / "passports", "1.0.0", f"truck-{number:03}") for number, unit in enumerate(made)]
        for words in ("first", "repeat"):
            began = time.monotonic()
            outcomes = flash_many.flash(plans, lambda *_: None)
            written = sum(outcome.proof.written for outcome in outcomes if outcome.proof)
            proved = sum(not outcome.error for outcome in outcomes)
            print(f"{words:8} {proved} of {count} proved, {written} files written, {time.monotonic() - began:.1f} s")
            for outcome in outcomes:
                if outcome.error:
                    print(f"         {outcome.port}: {outcome.error}")
    return {}


def main() -> None:
    """As the module's text says."""
    wanted = dict(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True)) or {"flips": 200, "cuts": 60, "first": 60, "units": 20}
    program("1.0.0")
    for name, count in wanted.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            began = time.monotonic()
            if name == "units":
                many(folder, count)
                continue
            _impatient()
            if name == "flips":
                cases = [Trouble(to_unit=at, flip=1 << at % 8) for at in _spread(count, BYTES_TO_UNIT)]
                cases += [Trouble(to_host=at, flip=1 << at % 8) for at in _spread(count, BYTES_TO_HOST)]
                results = _on_units(folder, cases, flipped)
            else:
                end = BYTES_TO_UNIT + BYTES_TO_HOST + (FIRST_BYTES if name == "first" else 0)
                cases = [Trouble(unplug=at) for at in _spread(count, end)]
                cases += [Trouble(cut=at) for at in _spread(count, end)]
                results = _on_units(folder, cases, first if name == "first" else cut)
            print(f"{name}: {len(cases)} cases in {time.monotonic() - began:.0f} s")
            for said, which in sorted(results.items()):
                print(f"  {len(which):5}  {said}" + (f"  {which[:3]}" if said.isupper() else ""))


if __name__ == "__main__":
    main()
