"""`cruisers head`: what a technician does with a head that is in a truck: look at it, and bring it up to date.

The commands' work is in the gateway, which does the same without him; a technician's machine finds the board on USB, too."""

import math
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fleet import boards, doctor_ports
from fleet.boards import BoardError
from fleet.doctor_machine import Machine
from gateway.config import ConfigError, load
from gateway.head_repl import BusyError, LineError
from gateway.tool_head_update import update

BAD_INPUT = 2
STOP_IT = "sudo systemctl stop cruisers-recorder (and start it again afterwards)"

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A sensor head that is on duty: what it says, and its update.")


@app.callback()
def head() -> None:
    """A sensor head that is on duty: what it says, and its update."""


app.command()(update)


@app.command()
def console(
    port: Annotated[str | None, typer.Option(help="Its serial port; by default the only board on USB.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The truck's TOML file, which names the port.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One page when every sensor has delivered, instead of a live one.")] = False,
    seconds: Annotated[float | None, typer.Option(help="End by itself after this time.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object instead of pages.")] = False,
) -> None:
    """What the head says, live: who it is, how it is, every sensor's values, the last errors. Ctrl-C ends it.

    It acknowledges nothing: what the head measured stays in its ring for the recorder.

    Example: cruisers head console --port /dev/ttyACM0
    """
    from gateway import head_console

    try:
        if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
            raise BoardError(f"--seconds {seconds:g}: it must be more than 0")
        found = _port(port, config)
        code = head_console.run(head_console.Request(found, once, seconds, json_out))
    except BusyError:
        _refuse(f"{found} is in use; if by the recorder: {STOP_IT}")
    except (BoardError, ConfigError, LineError) as error:
        _refuse(str(error))
    raise typer.Exit(code)


def _refuse(why: str) -> NoReturn:
    print(f"cruisers head console: {why}", file=sys.stderr)
    raise typer.Exit(BAD_INPUT)


def _port(port: str | None, config: Path | None) -> str:
    """The serial port that is meant, when nobody has it open. Raises BoardError, ConfigError."""
    if port is not None and config is not None:
        raise BoardError("--port and --config: one or the other")
    if config is not None:
        truck = load(config)
        if truck.head is None:
            raise BoardError(f"{config}: no [head] there, so this truck has none")
        port = truck.head.port
    if port is None:
        port = boards.chosen([], every=False)[0].port
    wrong = doctor_ports.missing(port)
    if wrong is not None:
        raise BoardError(f"{port}: no such port" if not Path(port).exists() else f"{port}: not yours to open (group dialout?)")
    if not _is_serial(port):
        raise BoardError(f"{port}: it is not a serial port")
    owner = doctor_ports.owner(Machine(), port)
    if owner is not None:
        what = f"the recorder has it: {STOP_IT}" if owner.recorder else f"{owner.name} (process {owner.pid}) has it: end that first"
        raise BoardError(f"{port}: {what}")
    return port


def _is_serial(port: str) -> bool:
    """By the kernel's list, which leaves out ptys: to open it would already change its lines."""
    if os.path.realpath(port).startswith("/dev/pts/"):
        return True
    device = os.stat(port).st_rdev
    return os.path.realpath(f"/sys/dev/char/{os.major(device)}:{os.minor(device)}/subsystem").endswith("/tty")
