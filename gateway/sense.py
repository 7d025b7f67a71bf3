"""`cruisers sense`: what the chips on this machine's own buses say, now. A live table for people, one JSON object for machines."""

import errno
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.ending import Ending
from gateway.parts import Part, PartError, Place, on_i2c, on_uarts, open_parts, turn
from gateway.shown import COLOURS, groups, label, of_group, width
from gateway.shown import as_json as as_json_value

RAW_WIDTH = 22
PLACE_WIDTH = 24  # the end of a serial port's path tells the most
TURN = 0.004  # s between turns; the ICM-20948's FIFO holds 0.2 s
SHOW_EVERY = 0.5  # s
ONCE_PATIENCE = 8.0  # s that --once and --json wait for a part that is there and has not delivered


class Request(NamedTuple):
    """What was asked for: `bus` is a device or its number, `chips` as "opt3001@0x46", `uarts` as "/dev/serial0=sps30"."""

    bus: str | None = None
    chips: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    uarts: tuple[str, ...] = ()
    once: bool = False
    seconds: float | None = None
    json: bool = False


def run(request: Request) -> int:
    """Reads until Ctrl-C, or as `request` says; returns the exit code: 0 done, 1 nothing answered, 2 it cannot be done as asked."""
    with Ending() as ending:
        return _run(request, ending)


def _run(request: Request, ending: Ending) -> int:
    device = f"/dev/i2c-{request.bus}" if request.bus is not None and re.fullmatch("[0-9]+", request.bus) else request.bus
    try:
        i2c, uarts = _places(device, request)
        parts = open_parts(device, i2c, uarts)
    except PartError as error:
        print(f"cruisers sense: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"cruisers sense: {_cannot_open(device, error)}", file=sys.stderr)
        return 2
    try:
        _follow(parts, request, ending)
        if request.json:
            print(json.dumps(as_json(device, parts, _now_ms())), flush=True)
        else:
            Console(width=width()).print(table(parts, _now_ms()))
    except OSError as error:  # trouble of a bus or a port is its part's state: this is the output's
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  what is left of it would be written again at the end
        print(f"cruisers sense: cannot write: {error.strerror}", file=sys.stderr)
        return 2
    if any(part.readings.samples for part in parts):
        return 0
    late = [part.place.part for part in parts if part.state != "absent"]
    if late:
        print(f"cruisers sense: no sample yet of {', '.join(late)} (--seconds 60 waits longer)", file=sys.stderr)
    elif not request.json:
        wires = [device] if device is not None else []
        print(f"cruisers sense: nothing answers on {' or '.join(wires + [place.shown for place in uarts])}", file=sys.stderr)
    return 1


def _places(device: str | None, request: Request) -> tuple[list[Place], list[Place]]:
    """What is looked for on the bus, and on serial ports. Raises PartError."""
    if request.seconds is not None and not request.seconds > 0:
        raise PartError(f"--seconds {request.seconds:g}: it must be more than 0")
    if device == "":
        raise PartError("--bus takes a device, /dev/i2c-1, or 1 for it")
    if device is None and (request.chips or request.without):
        raise PartError("--chip and --without are about a bus: name one (--bus /dev/i2c-1)")
    uarts = on_uarts(request.uarts)
    number = int(re.sub("[^0-9]", "", (device or "").rpartition("-")[2]) or 0)
    i2c = on_i2c(request.chips, request.without, number, [place.part for place in uarts]) if device is not None else []
    if not i2c and not uarts:
        raise PartError(
            "nothing to read: name a bus (--bus /dev/i2c-1) or a serial port (--uart /dev/serial0=sps30), and leave a part to it"
        )
    return i2c, uarts


def _cannot_open(device: str | None, error: OSError) -> str:
    """What and why, and what a Raspberry Pi wants then."""
    path = error.filename or device
    on_bus = path == device
    if error.errno == errno.ENOTTY:
        return f"{path}: it is not {'an I2C bus' if on_bus else 'a serial port'}"
    hints = {errno.EACCES: f" (is this user in the group {'i2c' if on_bus else 'dialout'}?)"}
    if on_bus and str(path).startswith("/dev/i2c-"):
        hints[errno.ENOENT] = " (enable I2C: raspi-config, Interface Options)"
    return f"{path}: {error.strerror or error}{hints.get(error.errno or 0, '')}"


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _follow(parts: list[Part], request: Request, ending: Ending) -> None:
    """Turns of all parts until it is time to end."""
    begin = time.monotonic()
    quiet = request.once or request.json
    patience = request.seconds if request.seconds is not None else ONCE_PATIENCE if quiet else float("inf")
    console = Console(width=width())
    live = Live(console=console, auto_refresh=False, transient=True) if not quiet else None  # what it said last is printed whole at the end
    shown = 0.0
    try:
        for part in parts:
            part.start(_now_ms())
        if live is not None:
            live.start()
        while not ending.wished and time.monotonic() - begin < patience:
            turn(parts, _now_ms)
            if quiet and request.seconds is None and all(part.settled for part in parts):
                break
            if live is not None and time.monotonic() - shown >= SHOW_EVERY:
                shown = time.monotonic()
                live.update(table(parts, _now_ms(), console.height - 1), refresh=True)
            time.sleep(TURN)
        for part in parts:
            part.stop()
    finally:
        if live is not None:
            live.stop()


# --- what is shown


def table(parts: Iterable[Part], now_ms: int, height: int | None = None) -> RenderableType:
    """The parts that are there, with everything they say; those that are not in one line at the end. What a failed part said before is
    no value any more. In less than `height` lines the last parts show their state only: a state nobody sees is worse than a value."""
    said: list[tuple[Text, Table | None]] = []
    absent = []
    for part in parts:
        part.decode()
        if part.state == "absent":
            absent.append(f"{part.place.part} {part.place.shown}")
        else:
            said.append((_headline(part, now_ms), _values(part) if part.values and part.state != "failed" else None))
    ends = [Text(f"absent: {', '.join(absent)}", style="bright_black")] if absent else []
    rows = [values.row_count if values is not None else 0 for _, values in said]
    room = None if height is None else height - len(said) - sum(len(end.wrap(Console(), width())) for end in ends)
    if room is not None and sum(rows) > room:
        ends.append(Text("a higher window shows all values", style="bright_black"))
        room -= 1
    shown: list[RenderableType] = []
    for (headline, values), count in zip(said, rows, strict=True):
        shown.append(headline)
        if values is not None and (room is None or count <= room):
            shown.append(values)
            room = None if room is None else room - count
    return Group(*shown, *ends)


def _headline(part: Part, now_ms: int) -> Text:
    age = part.age_ms(now_ms)
    place = part.place.shown if len(part.place.shown) <= PLACE_WIDTH else f"…{part.place.shown[1 - PLACE_WIDTH :]}"
    line = Text(f"{part.place.part:<9} {place:<6} ", style="bold")
    line.append(part.state, style=COLOURS[part.state])
    if part.reason:
        line.append(f" ({part.reason})", style="not bold")
    line.append(f"  {age / 1000:.1f} s ago" if age is not None else "  no sample yet", style="not bold bright_black")
    return line


def _values(part: Part) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(min_width=23, no_wrap=True)
    grid.add_column(justify="right", min_width=30, no_wrap=True)
    grid.add_column(style="bright_black", no_wrap=True, overflow="ellipsis")
    for group in groups(part.values):
        grid.add_row(f"  {label(group)}", of_group(group, part.values), _raw([part.raw[quantity] for quantity in group]))
    return grid


def _raw(numbers: list[str]) -> str:
    """The chip's own numbers: a float of the SPS30 as people read it, a message's bytes cut short, every other number as it is."""
    text = " ".join(f"{float(number):.4g}" if "." in number else number for number in numbers)
    return text if len(text) <= RAW_WIDTH else f"{text[: RAW_WIDTH - 1]}…"


def as_json(device: str | None, parts: Iterable[Part], now_ms: int) -> dict[str, Any]:
    """Everything as one object: values in SI (`value`) with their unit and as shown, or the `reason` why there is none (any more)."""
    found = []
    for part in parts:
        part.decode()
        age = part.age_ms(now_ms)
        values: dict[str, dict[str, Any]] = {}
        for quantity, value in part.values.items():
            said = part.reason if part.state == "failed" and not isinstance(value, str) else value
            values[quantity] = {"raw": part.raw[quantity], **as_json_value(quantity, said)}
        found.append(
            {
                "part": part.place.part,
                "at": part.place.shown,
                "state": part.state,
                "reason": part.reason,
                "failures": part.failures,
                "samples": part.readings.samples,
                "age_s": None if age is None else age / 1000,
                "values": values,
            }
        )
    return {"bus": device, "parts": found}
