"""Every part x every fault, and the table of what came of it.

    python tests/support/fault_matrix.py [--short] [--part NAME] [--seeds N]

A cell is the longest recovery in seconds, from the end of the fault to a sensor that is ok with a sample that came after it. Behind it `u`:
wrong values that no protocol can notice came out (see the legend); `!`: the cell failed, and what is wrong follows below the table. Exit
code 1 if a cell failed."""

import argparse
import multiprocessing
import random
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from fault_rig import UNDETECTABLE, WARM_UP_S, Outcome, Rig, Transaction, run
from parts import PARTS, Part
from rich.console import Console
from rich.table import Table

from sim.faults import Fault

BEGIN_S = 5.0  # by then every part but the PMS5003 delivers
LONG_S = 3.0
SHORT_FLIPS = 8  # of each part and kind of byte in the short form
MOST_FLIPS = 3000  # of each part and kind of byte in the long form
HOUR_S = 3600.0

SHORT_NAMES = {
    "icm20948": "icm",
    "bmp390": "bmp",
    "bmp390-normal": "bmpN",
    "sht45": "sht",
    "sht45-heater": "shtH",
    "opt3001": "opt",
    "as7331": "as73",
    "veml7700": "veml",
    "sps30": "sps",
    "sps30_i2c": "spsI",
    "pms5003": "pms",
    "neo_m9n": "neo",
    "first_fleet": "box",
}


class Case(NamedTuple):
    """One run: `row` of the table, the faults, and how they are judged."""

    row: str
    faults: tuple[Fault, ...]
    visible: bool = False
    wrong: bool = False


def begin_s(part: Part) -> float:
    """When the faults begin: the part has delivered some samples."""
    return BEGIN_S + WARM_UP_S.get(part.name, 0.0)


def _name(part: Part) -> str:
    return str(part.model().SENSOR)


def steady(part: Part, seed: int, *, hour: bool = False) -> Iterator[Case]:
    """Faults that begin while the part delivers, at a moment chosen by the seed."""
    choice = random.Random(f"{part.name} {seed}")
    begin = begin_s(part) + round(choice.random(), 3)
    chip = _name(part)

    def fault(kind: str, **fields: Any) -> Fault:
        return Fault(kind=kind, chip=chip, begin_s=fields.pop("begin_s", begin), **fields)  # type: ignore[arg-type]

    def lasting(kind: str, seconds: float = LONG_S, **fields: Any) -> Fault:
        return fault(kind, end_s=begin + seconds, **fields)

    rattle = tuple(fault("unplugged", begin_s=begin + 0.9 * turn, end_s=begin + 0.9 * turn + 0.2) for turn in range(8))
    yield Case("brown-out", (fault("brown_out"),))
    yield Case("unplugged 5 s", (lasting("unplugged", 5.0),), visible=True)
    yield Case("loose contact 7 s", rattle)
    if hour:
        yield Case("unplugged 1 h", (lasting("unplugged", HOUR_S),), visible=True)
    if part.wire == "i2c":
        yield Case("one NACK", (fault("nack", part="address", times=1),))
        yield Case("one NACK", (fault("nack", part="written", byte=0, times=1),))
        yield Case("NACK of address 3 s", (lasting("nack", part="address"),), visible=True)
        yield Case("NACK of data 3 s", (lasting("nack", part="written", byte=0),), visible=True)
        for clocks in (1, choice.randint(2, 8), 9):
            yield Case("SDA held, k clocks", (fault("stuck_sda", part="read", clocks=clocks, times=1),))
            yield Case("… told as EIO", (fault("stuck_sda", part="read", clocks=clocks, times=1, error="no acknowledge"),))
        yield Case("incomplete write", (fault("stuck_sda", part="written", byte=0, clocks=1, times=1),))
        yield Case("SDA low 3 s", (lasting("stuck_sda"),), visible=True)
        yield Case("SCL low 3 s", (lasting("stuck_scl"),), visible=True)
        yield Case("stretch 2 ms, 3 s", (lasting("stretch", microseconds=2_000),))
        yield Case("stretch 80 ms, 3 s", (lasting("stretch", microseconds=80_000),), visible=True)
    else:
        for kind in ("lost", "doubled", "noise"):
            yield Case(f"UART: byte {kind}", (fault(kind, skip=choice.randrange(40), times=1),))
            yield Case(f"UART: 2 % {kind} 5 s", (lasting(kind, 5.0, probability=0.02),))
        yield Case("UART: byte late", (fault("late", microseconds=150_000, skip=choice.randrange(40), times=1),))
        # 80 of the box's 4000 bytes a second, 30 ms late each, would be 2.4 s a second: no line can be that late
        late = 1_000 if part.name == "first_fleet" else 30_000
        yield Case("UART: 2 % late 5 s", (lasting("late", 5.0, probability=0.02, microseconds=late),))
        yield Case("UART: line dead 5 s", (lasting("dead", 5.0),), visible=True)
        for _ in range(6):
            yield Case("UART: flipped bit", (fault("flip", part="read", skip=choice.randrange(120), times=1),))
            yield Case("UART: flip to chip", (fault("flip", part="written", begin_s=0.0, skip=choice.randrange(16), times=1),))


def flips(part: Part, seed: int, most: int) -> Iterator[Case]:
    """One flipped bit in one byte of each kind of transaction of an I2C part, in the set-up and while it delivers: all of them, or `most`
    chosen by the seed for each of address, written and read bytes."""
    if part.wire != "i2c":
        return
    rig = Rig(part)
    rig.advance(begin_s(part) + 2.5)
    chosen = _kinds(rig.trace, rig.samples[0] if rig.samples else 0)
    for target in ("address", "written", "read"):
        cases = []
        for index in chosen:
            transaction = rig.trace[index]
            for byte in range(_size(transaction, target)):
                skip = sum(_size(earlier, target) > byte for earlier in rig.trace[:index])
                for bit in range(8):
                    cases.append((skip, byte, bit))
        random.Random(f"{part.name} {target} {seed}").shuffle(cases)
        for skip, byte, bit in cases[:most]:
            flip = Fault(kind="flip", chip=_name(part), part=target, skip=skip, byte=byte, bit=bit, times=1)  # type: ignore[arg-type]
            yield Case(f"flip: {target}", (flip,), wrong=target == "read")


def _size(transaction: Transaction, target: str) -> int:
    written, read = len(transaction.write), transaction.read_n
    return {"address": 2 if written and read else 1, "written": written, "read": read}[target]


def _kinds(trace: list[Transaction], delivers_us: int) -> list[int]:
    """The first transaction of each kind in the set-up, and two of each while the part delivers."""
    seen: dict[tuple[Any, ...], int] = {}
    chosen = []
    for index, transaction in enumerate(trace):
        running = transaction.t_us > delivers_us
        kind = (running, transaction.write[:1] if transaction.read_n else transaction.write, bool(transaction.read_n))
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] == 1 or (running and seen[kind] == 4):
            chosen.append(index)
    return chosen


def cases(part: Part, seeds: int, *, short: bool) -> Iterator[tuple[int, Case]]:
    """All runs of a part, with their seeds."""
    for seed in range(seeds):
        for case in steady(part, seed, hour=not short and seed == 0):
            yield seed, case
        for case in flips(part, seed, SHORT_FLIPS if short else MOST_FLIPS):
            yield seed, case
        if not short and part.wire == "i2c":
            break  # the long form has all flips; more moments of the other faults follow
    if not short and part.wire == "i2c":
        for seed in range(1, seeds):
            for case in steady(part, seed):
                yield seed, case


class Result(NamedTuple):
    """One run and what came of it."""

    part: str
    seed: int
    case: Case
    outcome: Outcome


def results(part: Part, seeds: int, *, short: bool) -> list[Result]:
    """Every run of a part."""
    found = []
    for seed, case in cases(part, seeds, short=short):
        outcome = run(part, case.faults, seed, visible=case.visible, wrong=case.wrong)
        found.append(Result(part.name, seed, case, outcome))
    return found


def _all_of(task: tuple[str, int, bool]) -> list[Result]:
    name, seeds, short = task
    return results(next(part for part in PARTS if part.name == name), seeds, short=short)


def table(found: list[Result], parts: list[str], wire: str) -> Table:
    """One row a fault, one column a part, of those on an "i2c" bus or a "uart"."""
    wires = {part.name: part.wire for part in PARTS}
    parts = [name for name in parts if wires[name] == wire]
    found = [result for result in found if result.part in parts]
    shown = Table(title=f"{wire.upper()}: recovery after the fault's end, s", title_justify="left", padding=(0, 0), pad_edge=False)
    shown.add_column("fault", no_wrap=True)
    for name in parts:
        shown.add_column(SHORT_NAMES.get(name, name[:4]), justify="right", no_wrap=True)
    for row in dict.fromkeys(result.case.row for result in found):
        shown.add_row(row, *(_cell([result for result in found if result.case.row == row and result.part == name]) for name in parts))
    return shown


def _cell(found: list[Result]) -> str:
    if not found:
        return ""
    longest = max((result.outcome.recovery_s or 0.0 for result in found), default=0.0)
    mark = "u" if any(result.outcome.undetectable for result in found) else ""
    if any(result.outcome.problems for result in found):
        mark = "!"
    return f"{longest:.0f}{mark}" if longest >= 10 else f"{longest:.1f}{mark}"


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="every part x every fault")
    parser.add_argument("--short", action="store_true", help="what make test runs")
    parser.add_argument("--part", action="append", choices=[part.name for part in PARTS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--show", type=int, default=40, help="how many failed runs are told")
    options = parser.parse_args()
    names = options.part or [part.name for part in PARTS]
    seeds = 1 if options.short else options.seeds
    console = Console(width=80, highlight=False)
    with multiprocessing.Pool(min(2, multiprocessing.cpu_count())) as pool:
        found = [result for some in pool.imap(_all_of, [(name, seeds, options.short) for name in names]) for result in some]
    for wire in ("i2c", "uart"):
        if any(part.wire == wire for part in PARTS if part.name in names):
            console.print(table(found, names, wire))
    failed = [result for result in found if result.outcome.problems]
    hidden = sum(result.outcome.undetectable for result in found)
    console.print("! failed   u wrong values that nobody can notice")
    for name, why in UNDETECTABLE.items():
        if name in names:
            console.print(f"u: {name}: {why}; {hidden} such in these runs, all within the register's range")
    for name in names:
        if name in WARM_UP_S:
            console.print(f"{SHORT_NAMES.get(name, name)}: with its own start of up to {WARM_UP_S[name]:.1f} s")
    console.print(f"{len(found)} runs, {len(failed)} failed")
    for result in failed[: options.show]:
        fault = result.case.faults[0]
        fields = {name: getattr(fault, name) for name in fault.__struct_fields__ if getattr(fault, name) is not None}
        console.print(
            f"{result.part}, {result.case.row}, seed {result.seed}: {'; '.join(result.outcome.problems)}\n    {fields}", soft_wrap=True
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
