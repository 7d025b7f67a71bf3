"""`cruisers center ask | bookmark | requests`: ask a truck for images of a time and a place, and see what became of it.

A connection of its own as the center's account, beside the running center: the center archives what comes, whoever asked for it."""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from center import clock, requests_table
from center.config import Center, ConfigError, load
from center.requests import Asked, ask, asked, follow, new_id
from sox.client import SoxClient
from sox.documents import parse_xep0082
from sox.errors import SoxError
from sox.requests import BOOKMARK, IMAGES, REFUSED, Answer, BadRequest, Place, Request, check

FIRST_SECONDS = 5.0  # a truck with a link has answered by then
BAD_INPUT, FAILED = 2, 1
AGO = re.compile(r"(\d{1,9})([smhd])")
AGO_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

ConfigFile = Annotated[Path, typer.Option("--config", envvar="CRUISERS_CENTER", help="The center's TOML file.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")]
Wait = Annotated[bool, typer.Option("--wait", help="Until everything is sent, refused or gone; Ctrl-C leaves it open.")]
Truck = Annotated[str, typer.Argument(help="The truck's name.")]
DEFAULT_CONFIG = Path("/etc/cruisers/center.toml")


def ask_command(
    truck: Truck,
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="2026-11-22T09:00:00Z, or 2h for two hours ago.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="The same; without it, until now.")] = None,
    at: Annotated[str | None, typer.Option(metavar="LAT,LON", help="Where the truck was, in degrees north and east.")] = None,
    radius: Annotated[float, typer.Option(min=1, help="Around that place, in metres.")] = 50.0,
    wait: Wait = False,
    json_out: Json = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Ask a truck for its images of a time, of a place, or of both.

    Example: cruisers center ask truck-14 --from 2026-11-22T09:00:00Z --to 2026-11-22T09:10:00Z --at 35.3391,139.4902 --radius 80 --wait
    """
    now = clock.utc_ns()
    try:
        place = None if at is None else _place(at, radius)
        request = check(Request(new_id(), IMAGES, _moment("--from", begin, now), _moment("--to", end, now), place, now))
    except BadRequest as error:
        _refuse("ask", str(error))
    _run("ask", config, truck, lambda client: _ask(client, truck, request, wait, json_out))


def bookmark_command(truck: Truck, wait: Wait = False, json_out: Json = False, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Mark this moment on a truck: an event, around which its images are kept longest.

    Example: cruisers center bookmark truck-14
    """
    request = Request(new_id(), BOOKMARK, 0, 0, None, clock.utc_ns())
    _run("bookmark", config, truck, lambda client: _ask(client, truck, request, wait, json_out))


def requests_command(
    truck: Annotated[str | None, typer.Argument(help="One truck; without it, all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are done or refused.")] = False,
    json_out: Json = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Requests that are open, and what their trucks have answered.

    Example: cruisers center requests truck-14 --all
    """
    center = _load("requests", config, truck)

    async def show(client: SoxClient) -> int:
        found = [one for name in ([truck] if truck else center.trucks) for one in await asked(client, name)]
        found = [one for one in found if every or one.open]
        if json_out:
            print(json.dumps([requests_table.machine(one) for one in found], indent=1))
        elif found:
            requests_table.show_list(Console(), found)
        else:
            print("no requests" if every else "no open requests (--all shows the others)")
        return 0

    raise typer.Exit(_connected("requests", center, show))


def add_to(app: typer.Typer) -> None:
    """Make these commands sub-commands of `app`."""
    app.command("ask")(ask_command)
    app.command("bookmark")(bookmark_command)
    app.command("requests")(requests_command)


def _run(command: str, config: Path, truck: str, work: Callable[[SoxClient], Awaitable[int]]) -> NoReturn:
    raise typer.Exit(_connected(command, _load(command, config, truck), work))


def _load(command: str, config: Path, truck: str | None) -> Center:
    try:
        center = load(config)
    except ConfigError as error:
        _refuse(command, str(error))
    if truck is not None and truck not in center.trucks:
        _refuse(command, f"no truck {truck!r} in {config}: {', '.join(center.trucks)}")
    if (unreadable := center.hub.unreadable_file()) is not None:
        _refuse(command, unreadable)
    return center


def _connected(command: str, center: Center, work: Callable[[SoxClient], Awaitable[int]]) -> int:
    """Do `work` on a connection; returns its exit code."""

    async def run() -> int:
        client = center.hub.client(center.hub.user)
        try:
            await client.connect()
            return await work(client)
        finally:
            await client.disconnect()

    try:
        return asyncio.run(run())
    except SoxError as error:
        print(f"cruisers center {command}: hub {center.hub.domain}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("left open: cruisers center requests shows what becomes of it", file=sys.stderr)
        return 130


async def _ask(client: SoxClient, truck: str, request: Request, wait: bool, json_out: bool) -> int:
    await ask(client, truck, request)
    said: list[Answer] = []

    def told(answer: Answer) -> None:
        said.append(answer)
        if wait and sys.stderr.isatty():
            print(f"{truck}: {requests_table.state(answer)}", file=sys.stderr)

    if wait:
        await follow(client, truck, request.request_id, told)
    else:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await follow(client, truck, request.request_id, told, enough=lambda answer: True)
    found = Asked(truck, request, said[-1] if said else None)
    if json_out:
        print(json.dumps(requests_table.machine(found), indent=1))
    else:
        requests_table.show(Console(), found)
        if found.open:
            print(f"it goes on: cruisers center requests {truck}")
    return FAILED if found.answer is not None and found.answer.state == REFUSED else 0


def _place(text: str, radius: float) -> Place:
    numbers = text.split(",")
    try:
        latitude, longitude = (float(number) for number in numbers)
    except ValueError:
        raise BadRequest(f"--at {text!r}: LAT,LON, as 35.3391,139.4902") from None
    return Place(latitude, longitude, radius)


def _moment(option: str, text: str | None, now: int) -> int:
    if text is None:
        return 0
    if text == "now":
        return now
    if ago := AGO.fullmatch(text):
        return now - int(ago[1]) * AGO_SECONDS[ago[2]] * 1_000_000_000
    try:
        return parse_xep0082(text)
    except (ValueError, OverflowError):
        raise BadRequest(f"{option} {text!r}: a time as 2026-11-22T09:00:00Z, or 30m, 2h, 3d for so long ago") from None


def _refuse(command: str, text: str) -> NoReturn:
    print(f"cruisers center {command}: {text}", file=sys.stderr)
    raise typer.Exit(BAD_INPUT)


def main(arguments: list[str] | None = None) -> Any:
    """The commands alone, as `python -m center.ask_tool`."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    add_to(app)
    return app(arguments, prog_name="cruisers center")


if __name__ == "__main__":
    main()
