"""`cruisers doctor`: what is wrong with this truck and what to do, for a technician in front of it.

Exit codes: 0 all is well (green, or grey: not applicable), 1 something is to be seen to, 2 bad input."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fleet.doctor import CHECKS, all_well, examine
from fleet.doctor_report import as_dict, table
from fleet.doctor_visit import Visit
from fleet.doctor_words import LANGUAGES, language_of
from gateway.config import ConfigError, load

CONFIG = Path("/etc/cruisers/truck.toml")
WRONG = 1
BAD_INPUT = 2
WIDTH = 80
SPARE = 2  # columns: terminals set for Japanese may give two to a character that others give one


def doctor(
    config: Annotated[Path, typer.Option(metavar="FILE", help="The truck's TOML file.")] = CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help=f"This check alone; may be repeated: {', '.join(CHECKS)}.")] = None,
    lang: Annotated[str | None, typer.Option(metavar="en|ja", help="Language; by default that of LANG.")] = None,
) -> None:
    """Power, disk, clock, head, sensors, receiver, camera, hub, link and spool: how they are, and what to do. Changes nothing.

    Run it as root: the disk's wear and other users' processes are hidden else. Exit code 1 if something is to be seen to.

    Example: sudo cruisers doctor --only disk --only hub
    """
    try:
        names = _names(only)
        language = language_of(os.environ) if lang is None else lang
        if language not in LANGUAGES:
            raise ConfigError(f"--lang {language}: it takes one of {', '.join(LANGUAGES)}")
        truck = load(config)
    except ConfigError as error:
        print(f"cruisers doctor: {error}", file=sys.stderr)
        raise typer.Exit(BAD_INPUT) from None
    with Console(stderr=True).status(", ".join(names)):
        results = examine(Visit(truck), names)
    if as_json:
        print(json.dumps(as_dict(truck.name, results, language), ensure_ascii=False), flush=True)
    else:
        console = Console()
        width = min(WIDTH, console.width) if console.is_terminal else WIDTH
        console.print(table(truck.name, results, language), width=width - SPARE)
    code = 0 if all_well(results) else WRONG
    if any(result.late for result in results):
        sys.stdout.flush()
        os._exit(code)  # what hangs in the kernel, or in a name server's time-out, must not keep the technician
    raise typer.Exit(code)


def _names(only: list[str] | None) -> list[str]:
    """The checks to run, in the order of CHECKS. Raises ConfigError."""
    for name in only or ():
        if name not in CHECKS:
            raise ConfigError(f"--only {name}: there are {', '.join(CHECKS)}")
    return [name for name in CHECKS if not only or name in only]
