"""`cruisers`: one command; each sub-command lives in its room."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from logbook.tool import app as segment
from sim import demo as demo_room

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(segment, name="segment")

BAD_INPUT = 2


@app.callback()
def root() -> None:
    """Garbage trucks as the eyes of a city."""


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option(help="End by itself after this time; without it, run until Ctrl-C.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the outcome to this file.")] = None,
    drive: Annotated[Path | None, typer.Option(help="A recorded drive instead of the invented one: CSV folder, GPX or NMEA file.")] = None,
    truck: Annotated[str, typer.Option(help="The truck's name: a-z, 0-9 and '-'.")] = "truck-001",
    seed: Annotated[int, typer.Option(help="Another seed, another synthetic world.")] = 1,
    page_port: Annotated[int, typer.Option(help="Loopback port of the center's page; 0 takes a free one.")] = 0,
    home: Annotated[Path | None, typer.Option(help="Keep everything in this folder instead of a temporary one.")] = None,
) -> None:
    """One truck drives and the city sees it: hub, simulated truck on the real firmware, gateway, center.

    Example: cruisers demo --seconds 45 --json outcome.json
    """
    options = demo_room.Options(seconds, json_file, drive, truck, seed, page_port, home)
    try:
        code = demo_room.run(options)
    except demo_room.DemoError as error:
        print(f"cruisers demo: {error}", file=sys.stderr)
        code = BAD_INPUT
    raise typer.Exit(code)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
