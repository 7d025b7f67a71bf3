"""`cruisers sim head`: sensor heads on a desk without hardware, to try `cruisers flash` and `cruisers head` on, until Ctrl-C.

Each is a board with its own flash and its own chips in the simulated world (sim/unit.py). New ones get the program by `cruisers flash`
itself, or stay blank. What is on their flash stays in the folder: the same folder again is the same boards."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from sim.clock import utc_ns
from sim.plug import PTYS
from sim.processes import as_hardware, as_program
from sim.run import SOLAR_HOUR
from sim.unit import Unit
from sim.world import World

UNITS_MOST = 32
FIRST_ID = 0xE661_4C31_1B7D_4F01
TRUCK = "truck-{:03}"
_UP_S = 60.0
_LOOK_S = 0.5


class DeskError(Exception):
    """Why there are no boards, in one line."""


class Options(NamedTuple):
    """`link`: where the port is found (with several: their numbers behind it); `blank`: nothing but MicroPython on them."""

    folder: Path | None = None
    link: Path | None = None
    units: int = 1
    blank: bool = False


def run(options: Options) -> None:
    """Until Ctrl-C or SIGTERM. Raises DeskError."""
    if not 1 <= options.units <= UNITS_MOST:
        raise DeskError(f"--units {options.units}: from 1 to {UNITS_MOST}")
    as_hardware()  # the chips', and MicroPython's: a busy machine must not be a head that loses samples
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    with ExitStack() as stack:
        folder = (options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cruisers-head-")))).resolve()
        links = _links(options, folder)
        try:
            units = [_unit(folder, index, link, options.blank, stack) for index, link in enumerate(links)]
        except OSError as error:
            raise DeskError(f"{error.filename2 or error.filename}: {error.strerror}") from None
        fresh = [(unit, TRUCK.format(index + 1)) for index, (unit, new) in enumerate(units) if new and not options.blank]
        if fresh and not ending.is_set():
            _flash(fresh, folder)
        _tell([unit for unit, _ in units], options.blank)
        while not ending.wait(_LOOK_S):
            for unit, _ in units:
                unit.check()


def _links(options: Options, folder: Path) -> list[Path]:
    if options.link is None:
        return [folder / f"head{number + 1}.tty" for number in range(options.units)]
    link = options.link.absolute()
    links = [link] if options.units == 1 else [link.with_name(f"{link.name}{number + 1}") for number in range(options.units)]
    for one in links:
        if os.path.lexists(one) and not (one.is_symlink() and os.readlink(one).startswith(PTYS)):
            raise DeskError(f"--link {one}: there is something else")
    return links


def _unit(folder: Path, index: int, link: Path, blank: bool, stack: ExitStack) -> tuple[Unit, bool]:
    """A board, and whether it is a new one."""
    place = folder / f"unit{index + 1}"
    if blank:
        (place / "flash.bin").unlink(missing_ok=True)
    new = not (place / "flash.bin").exists()
    world = World(index + 1, utc_ns() // 1000 * 1000, SOLAR_HOUR)
    unit = Unit(place, (FIRST_ID + index).to_bytes(8, "big"), source=world.at, link=link)
    stack.callback(unit.stop)
    try:
        unit.wait_plugged(_UP_S)
    except TimeoutError as error:
        raise DeskError(str(error)) from None
    return unit, new


def _flash(fresh: list[tuple[Unit, str]], folder: Path) -> None:
    """As a technician would, bars and all."""
    command = [sys.executable, "-m", "cruisers", "flash", "--passports", str(folder / "units")]
    for unit, truck in fresh:
        command += ["--port", str(unit.link), "--truck", truck]
    if subprocess.run(command, stdin=subprocess.DEVNULL, preexec_fn=as_program, check=False).returncode:
        raise DeskError("the boards could not be flashed")


def _tell(units: list[Unit], blank: bool) -> None:
    print(f"{len(units)} simulated head{'s' if len(units) > 1 else ''}{', blank but for MicroPython' if blank else ''}:")
    for unit in units:
        print(f"  {unit.link}")
    port = units[0].link
    print("Try in another terminal; Ctrl-C here ends it:")
    if blank:
        print(f"  cruisers flash --port {port} --truck {TRUCK.format(1)}")
    print(f"  cruisers head console --port {port}", flush=True)
