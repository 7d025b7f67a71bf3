"""`cruisers`: one command; each sub-command lives in its room."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from center import ask_tool
from center import tool as center_tool
from cruisers import plain
from drivers import addresses
from gateway import sense as sense_room
from gateway.tool import status
from hub.tool import app as hub
from logbook.tool import app as segment
from sim import demo as demo_room
from sim import fleet as fleet_room
from sim import run as run_room
from sox.tool import app as bridge

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(segment, name="segment")
app.command()(status)
app.add_typer(hub, name="hub")
app.add_typer(bridge, name="bridge")
center = typer.Typer(no_args_is_help=True, help="The city's side.")
ask_tool.add_to(center)
center_tool.add_to(center)
app.add_typer(center, name="center")
sim = typer.Typer(no_args_is_help=True, help="A truck without hardware.")
app.add_typer(sim, name="sim")

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


@app.command()
def sense(
    bus: Annotated[str | None, typer.Option(help="The I2C bus: /dev/i2c-1, or 1 for it.")] = None,
    uart: Annotated[list[str] | None, typer.Option(metavar="PATH=PART", help="A part on a serial port, e.g. /dev/serial0=sps30.")] = None,
    chip: Annotated[list[str] | None, typer.Option(metavar="PART@ADDRESS", help="A part that is not at its default address.")] = None,
    without: Annotated[list[str] | None, typer.Option(metavar="PART", help="Do not look for this part.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One table when every part has delivered, instead of a live one.")] = False,
    seconds: Annotated[float | None, typer.Option(help="End by itself after this time.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Read every known chip on this machine's own buses: values, raw numbers, states.

    Example: cruisers sense --bus /dev/i2c-1 --uart /dev/serial0=sps30
    """
    request = sense_room.Request(bus, tuple(chip or ()), tuple(without or ()), tuple(uart or ()), once, seconds, json_out)
    raise typer.Exit(sense_room.run(request))


@sim.command("run", context_settings={"allow_interspersed_args": False})  # what follows the program's name is the program's
def sim_run(
    program: Annotated[list[str], typer.Argument(help="The program and its arguments, after --.", metavar="PROGRAM")],
    i2c: Annotated[
        int | None, typer.Option(min=0, help="Number N of the bus that the program finds as /dev/i2c-N (Python programs only).")
    ] = None,
    uart: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH[=PART]", help=f"Link a serial port there, with a part behind it ({', '.join(run_room.UART_PARTS)})."),
    ] = None,
    chips: Annotated[str, typer.Option(help=f"Parts on the bus, PART or PART@ADDRESS: {', '.join(run_room.I2C_PARTS)}.")] = "standard",
    seed: Annotated[int, typer.Option(help="Another seed, another world.")] = 1,
    faults: Annotated[Path | None, typer.Option(metavar="FILE", help="A script of faults on the wires, JSON (sim/faults.py).")] = None,
    truth: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Log there what every chip really converted (sim/truth.py).")] = None,
) -> None:
    """Run any program against the simulated truck's chips, in real time; its exit code is ours.

    Example: cruisers sim run --i2c 1 --uart /tmp/pm=sps30 -- python my_sensors.py
    """
    try:
        wanted = run_room.chips(chips)
        ports = tuple(run_room.uart(text) for text in uart or ())
        wrong = addresses.clash([(part, i2c or 0, address) for part, address in wanted])
        if wrong:
            raise run_room.RunError(wrong)
        code = run_room.run(run_room.Options(program, i2c, wanted, ports, seed, truth, faults))
    except run_room.RunError as error:
        print(f"cruisers sim run: {error}", file=sys.stderr)
        code = BAD_INPUT
    raise typer.Exit(code)


@sim.command("fleet")
def sim_fleet(
    trucks: Annotated[int, typer.Option(help="How many.")] = 100,
    seconds: Annotated[float, typer.Option(help="How long it is measured, after a warm-up of 5 s.")] = 30.0,
    most: Annotated[int, typer.Option(help="Then grow in steps of half as many again, until values are late, or to so many.")] = 0,
    late_s: Annotated[float, typer.Option("--late", help="Late: p99 from collection to center above this, in seconds.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Other worlds.")] = 1,
    home: Annotated[Path | None, typer.Option(help="Keep everything in this folder instead of a temporary one.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Live data of many trucks through real uplinks, one hub and one center: does every block arrive, and how late are values?

    Example: cruisers sim fleet --trucks 100 --most 400
    """
    raise typer.Exit(fleet_room.run(fleet_room.Options(trucks, seconds, most, late_s, seed, home), json_out))


def main() -> None:
    """The console script."""
    plain.install()
    app()


if __name__ == "__main__":
    main()
