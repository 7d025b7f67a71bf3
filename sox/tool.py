"""`cruisers bridge`: other networks' devices on the hub, and the hub's on theirs.

Exit codes: 0 ended as told, 2 bad input. A hub or broker that is away is waited for, and told."""

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from sox import bridge_config
from sox.bridge import Bridge
from sox.bridge_config import ConfigError, Way
from sox.mqtt_session import Broker

BAD_INPUT = 2

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Other networks' devices on the hub, and the hub's on theirs.")


@app.callback()
def root() -> None:
    """Other networks' devices on the hub, and the hub's on theirs."""


@app.command("mqtt")
def mqtt_command(
    hub_config: Annotated[
        Path, typer.Option(metavar="FILE", help="TOML file with a table `hub` (the center's will do), perhaps one `bridge`.")
    ],
    broker: Annotated[str, typer.Option(metavar="HOST[:PORT]", help="The MQTT broker.")],
    trucks: Annotated[str, typer.Option(help="Names of devices, separated by commas. Default: the file's.")] = "",
    to: Annotated[Way | None, typer.Option(help="Which way. Default: the file's table `bridge`, else mqtt.")] = None,
    user: Annotated[str | None, typer.Option(help="The bridge's account on the hub. Default: the file's.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="Its password. Default: the file's.")] = None,
    zone: Annotated[str, typer.Option(help="Of the times on MQTT, which have none.")] = "Asia/Tokyo",
    broker_ca: Annotated[Path | None, typer.Option(help="TLS to the broker, whose certificate this authority signed.")] = None,
    broker_user: Annotated[str | None, typer.Option(help="Account on the broker.")] = None,
    broker_password_file: Annotated[Path | None, typer.Option(help="Its password.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End by itself after this time.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="At the end one JSON object instead of a table.")] = False,
) -> None:
    """SoX over MQTT, as Keio's sox_mqtt has it: runs until Ctrl-C or SIGTERM, then says what it did.

    Nodes must exist on the hub, with the bridge's account as member where it reads and publisher where it writes.

    Example: cruisers bridge mqtt --hub-config center.toml --broker mqtt.city.example --broker-ca ca.pem --trucks truck-1,truck-2 --to mqtt
    """
    try:
        file = bridge_config.load(hub_config)
        ways = bridge_config.ways(file, [name.strip() for name in trucks.split(",") if name.strip()], to)
        host, port = bridge_config.address(broker, broker_ca is not None)
        local = bridge_config.zone(zone)
    except ConfigError as error:
        _refuse(str(error))
    if password_file is not None:
        file.hub.password_file = str(password_file)
    unreadable = file.hub.unreadable_file() or next(filter(None, map(_unreadable, (broker_ca, broker_password_file))), None)
    if unreadable is not None:
        _refuse(unreadable)
    if broker_password_file is not None and broker_user is None:
        _refuse("--broker-password-file goes with --broker-user")
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    where = Broker(host, port, broker_ca, broker_user, broker_password_file)
    status = asyncio.run(_run(Bridge(file.hub, user or file.hub.user, where, ways.to_mqtt, ways.to_sox, local), seconds))
    if json_out:
        print(json.dumps(status, indent=1))
    else:
        _show(status)


async def _run(bridge: Bridge, seconds: float | None) -> dict[str, Any]:
    """Bridge until told to end; returns what was done."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    running = asyncio.create_task(bridge.run())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait([running, stopping], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    status = bridge.status()
    failed = running.done()
    for task in (running, stopping):
        task.cancel()
    await asyncio.gather(running, stopping, return_exceptions=True)
    if failed:
        running.result()  # a fault in this program: loud
    return json.loads(json.dumps(status))


def _show(status: dict[str, Any]) -> None:
    table = Table("", "to MQTT", "to SoX", box=None, pad_edge=False)
    for label, name in (("bridged", ""), ("dropped, no room", "dropped_"), ("waiting", "waiting_")):
        table.add_row(label, str(status[f"{name}to_mqtt"]), str(status[f"{name}to_sox"]))
    console = Console()
    console.print(table, highlight=False)
    for label, name in (("own messages that came back", "echoes"), ("unreadable", "unreadable"), ("refused", "refused"),
                        ("values left out", "values_left_out")):  # fmt: skip
        last = status["last"].get(name, "")
        console.print(f"{label}: {status[name]}{f', the last one {last}' if last else ''}", highlight=False, markup=False)
    for side, problem in status["problems"].items():
        if problem:
            console.print(f"{side}: {problem}", highlight=False, markup=False)


def _unreadable(path: Path | None) -> str | None:
    try:
        if path is not None:
            path.read_bytes()
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def _refuse(text: str) -> NoReturn:
    print(f"cruisers bridge mqtt: {text}", file=sys.stderr)
    raise typer.Exit(BAD_INPUT)
