"""The way to a head at a serial port, whatever it does now: into its raw REPL (`maintenance`), and back on duty (`on_duty`).

A head on duty is asked into maintenance by a frame and resets; a board with nothing but MicroPython, or one that was left in its REPL, is
there already. Whatever ends a session, the board's own timer brings it back to duty 10 min later (firmware/boot_duty.py).

The port vanishes at each reset. Somebody else who wants it, as the recorder does when the ignition comes on, can take it in that moment: it
is then waited for until REACH_S is over."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from firmware import frames
from gateway.head_duty import Duty
from gateway.head_repl import RESET_S, LineError, Repl

REACH_S = 30.0  # a head starts within 5: it hashes its slot, then loads 60 kB
MICROPYTHON = (1, 28)
_MPY = 6
_LOOK_S, _DUTY_LOOK_S = 0.05, 0.1

# From a REPL into which a version fell, as from one it never saw: the board's own modules, not a slot's.
_BOARD = """
import sys
for path in ('/a', '/b'):
    while path in sys.path:
        sys.path.remove(path)
for name in list(sys.modules):
    if name.split('.')[0] in ('firmware', 'drivers'):
        del sys.modules[name]
"""


class HeadError(Exception):
    """The head was not proved; one line says why. It starts whatever whole version it has."""


def slots(line: Repl) -> None:
    """From here on `slots` on the unit is the board's own firmware/slots.py. LineError where it has none."""
    line.call(_BOARD + "from firmware import slots\n")


def identify(line: Repl) -> tuple[str, str]:
    """The unit's id, and what runs there, as "micropython 1.29.0 rp2". HeadError where our bytecode would not run."""
    unit, name, numbers, mpy, platform = line.call(
        "import sys, machine\n"
        "answer = [binascii.hexlify(machine.unique_id()).decode(), sys.implementation.name, list(sys.implementation.version[:3]), "
        "getattr(sys.implementation, '_mpy', 0) & 255, sys.platform]"
    )
    runtime = f"{name} {'.'.join(str(number) for number in numbers)} {platform}"
    if tuple(numbers[:2]) < MICROPYTHON or mpy != _MPY:
        needed = f"{MICROPYTHON[0]}.{MICROPYTHON[1]} with bytecode {_MPY} is needed: cruisers flash --uf2"
        raise HeadError(f"{runtime} (bytecode {mpy}) is on the board; {needed}")
    return str(unit), runtime


@contextlib.contextmanager
def maintenance(port: str) -> Iterator[Repl]:
    """The unit's raw REPL; whatever happens there, the unit goes back to duty with the version that its switch names."""
    line = reach(port)
    try:
        yield line
    finally:
        line.reset()


def reach(port: str) -> Repl:
    """The unit's raw REPL, whatever it does now. LineError when nobody there answers in time, BusyError when the port is another's."""
    until = time.monotonic() + REACH_S
    asked = False
    last = LineError("no such port")
    while time.monotonic() < until:
        if Path(port).exists():
            try:
                if not asked:
                    with Duty(port) as head:
                        if head.hello() is not None:
                            head.command(frames.MAINTENANCE)
                            asked = True
                            time.sleep(RESET_S)
                with contextlib.ExitStack() as unless_reached:
                    line = unless_reached.enter_context(Repl(port))  # closed again, or the next try would find the port in use
                    line.call(_BOARD)
                    unless_reached.pop_all()
                return line
            except LineError as error:
                last = LineError("a head answers, but does not go into maintenance") if asked else error
                asked = False
        time.sleep(_LOOK_S)
    raise type(last)(f"{port}: not reached: {last}")


def on_duty(port: str, unit: str) -> Duty:
    """The head when it has started its program. LineError, BusyError when the port is another's, HeadError if it is another unit."""
    until = time.monotonic() + REACH_S
    last = LineError("no such port")
    while time.monotonic() < until:
        if Path(port).exists():
            head: Duty | None = None
            try:
                head = Duty(port)
                about = head.hello()
                if about is not None:
                    if about.get("unique_id") != unit:
                        raise HeadError(f"another unit is at {port} now: {about.get('unique_id')}")
                    return head
                last = LineError("no HELLO")
            except LineError as error:
                last = error
            if head is not None:
                head.__exit__()
        time.sleep(_DUTY_LOOK_S)
    raise type(last)(f"{port}: the head does not come on duty ({last})")
