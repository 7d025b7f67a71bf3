"""`cruisers sim`: any program, a whole fleet, or sensor heads on a desk, without hardware."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from drivers import addresses
from sim import run as run_room

BAD_INPUT = 2

app = typer.Typer(no_args_is_help=True, help="A truck without hardware.")


@app.command("run", context_settings={"allow_interspersed_args": False})  # what follows the program's name is the program's
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


@app.command("fleet")
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
    from sim import fleet as fleet_room

    raise typer.Exit(fleet_room.run(fleet_room.Options(trucks, seconds, most, late_s, seed, home), json_out))


@app.command("head")
def sim_head(
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the boards' flash there; the same folder, the same boards.")
    ] = None,
    link: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where the serial port is found; of several with 1, 2, ... behind.")
    ] = None,
    units: Annotated[int, typer.Option(help="How many boards.")] = 1,
    blank: Annotated[bool, typer.Option("--blank", help="Nothing but MicroPython on them: to try `cruisers flash`.")] = False,
) -> None:
    """Sensor heads on a desk without hardware: real MicroPython, a flash in a file, simulated chips. Until Ctrl-C.

    Example: cruisers sim head --link /tmp/head --blank
    """
    from sim import desk

    try:
        desk.run(desk.Options(folder, link, units, blank))
    except desk.DeskError as error:
        print(f"cruisers sim head: {error}", file=sys.stderr)
        raise typer.Exit(BAD_INPUT) from None
