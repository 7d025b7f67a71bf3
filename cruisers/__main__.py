"""`cruisers`: one command; each sub-command lives in its room.

A room is imported when its sub-command is called: all of them together take a second of a desktop's time, and more of a Pi's.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from cruisers import plain

BAD_INPUT = 2


def _segment() -> Any:
    from logbook.tool import app

    return get_group(app)


def _status() -> Any:
    from gateway.tool import status

    alone = typer.Typer(add_completion=False)
    alone.command("status")(status)
    return get_command(alone)


def _hub() -> Any:
    from hub.tool import app

    return get_group(app)


def _bridge() -> Any:
    from sox.tool import app

    return get_group(app)


def _center() -> Any:
    from center import ask_tool, tool

    center = typer.Typer(no_args_is_help=True, help="The city's side.")
    ask_tool.add_to(center)
    tool.add_to(center)
    return get_group(center)


def _sim() -> Any:
    from cruisers.sim_tool import app

    return get_group(app)


def _provision() -> Any:
    from fleet.tool_provision import command

    alone = typer.Typer(add_completion=False)
    alone.command("provision")(command)
    return get_command(alone)


def _doctor() -> Any:
    from fleet.tool_doctor import doctor

    alone = typer.Typer(add_completion=False)
    alone.command("doctor")(doctor)
    return get_command(alone)


def _flash() -> Any:
    from fleet.tool_flash import flash

    alone = typer.Typer(add_completion=False)
    alone.command("flash")(flash)
    return get_command(alone)


def _image() -> Any:
    from fleet.tool_flash import image_app

    return get_group(image_app)


def _head() -> Any:
    from fleet.tool_head import app

    return get_group(app)


ROOMS: dict[str, Callable[[], Any]] = {
    "status": _status, "segment": _segment, "hub": _hub, "bridge": _bridge, "center": _center, "sim": _sim,
    "provision": _provision, "doctor": _doctor, "flash": _flash, "image": _image, "head": _head,
}  # fmt: skip


class Rooms(TyperGroup):
    """The commands that stand here, and those of ROOMS when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, for the help."""
        return [*super().list_commands(ctx), *(name for name in ROOMS if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; None where there is none."""
        if cmd_name in ROOMS and cmd_name not in self.commands:
            made = ROOMS[cmd_name]()
            made.name = cmd_name  # as the help says it
            self.add_command(made)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As in other groups: what is nearly a name is told beside it."""
        if args and args[0] not in self.list_commands(ctx):
            for name in ROOMS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=Rooms, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.partition("\n")[0])


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
    from sim import demo as demo_room

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
    from gateway import sense as sense_room

    request = sense_room.Request(bus, tuple(chip or ()), tuple(without or ()), tuple(uart or ()), once, seconds, json_out)
    raise typer.Exit(sense_room.run(request))


def main() -> None:
    """The console script."""
    plain.install()
    app()


if __name__ == "__main__":
    main()
