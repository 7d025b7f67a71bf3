"""`cruisers hub`: the embedded hub, from start to stop; trucks, readers, devices, open data, and the one command for a stolen truck.

Exit codes: 0 done (status: it runs), 1 not running, 2 bad input or not possible."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hub import changes, control
from hub.errors import HubError
from hub.production.tool import app as city
from hub.serve import DOMAIN, HOST, S2S_PORT, Settings

NOT_RUNNING = 1
BAD_INPUT = 2
GIB = 1 << 30

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The SoX hub: ejabberd with its own folders, certificates and accounts.")
app.add_typer(city, name="city")

Home = Annotated[Path | None, typer.Option(help="Folder of the hub. Default: ~/.local/state/cruisers/hub.")]
Trucks = Annotated[list[str], typer.Argument(metavar="TRUCK...", help="Names of trucks: a-z, 0-9 and '-'.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text for people.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")]


@app.command()
def start(
    home: Home = None,
    trucks: Annotated[str, typer.Option(help="Names of trucks, separated by commas; those of earlier starts stay.")] = "",
    domain: Annotated[str, typer.Option(help="The hub's XMPP domain.")] = DOMAIN,
    host: Annotated[str, typer.Option(help="IP address to listen on.")] = HOST,
    c2s_port: Port = 5222,
    http_port: Port = 5443,
    open_data: Annotated[list[str] | None, typer.Option(metavar="TRUCK", help="Everyone may read this truck's _meta and _data.")] = None,
    federate: Annotated[list[str] | None, typer.Option(metavar="DOMAIN", help="The server of this domain may talk to ours.")] = None,
    federation_ca: Annotated[Path | None, typer.Option(help="PEM file of their authorities. Default: the system's.")] = None,
    s2s_port: Annotated[int, typer.Option(min=1, max=65535, help="Port for servers; open with --federate only.")] = S2S_PORT,
    as_json: Json = False,
) -> None:
    """Start the hub in the background and wait until it is ready. A hub that runs already is left alone.

    Example: cruisers hub start --trucks truck-001,truck-002
    """
    folder = _home(home)
    settings = Settings(
        folder, control.ready_file(folder), trucks.split(",") if trucks else [], domain, host, c2s_port, http_port,
        open_data or [], federate or [], federation_ca.resolve() if federation_ca else None, s2s_port,
    )  # fmt: skip
    with _refusals("start"):
        info, ran = control.start(settings)
        status = control.status(folder)
    if as_json:
        print(control.to_json(status))
        return
    if ran:
        missing = [truck for truck in settings.trucks if truck not in status["trucks"]]
        print(f"already running (pid {info['pid']}); its settings are as they were")
        if missing:
            print(f"not among its trucks: {', '.join(missing)} (cruisers hub add {' '.join(missing)})")
    else:
        print(f"the hub runs (pid {info['pid']})")
    _show(status)


@app.command()
def stop(home: Home = None) -> None:
    """End the hub and wait until it is gone. Exit code 1 if none runs.

    Example: cruisers hub stop
    """
    folder = _home(home)
    with _refusals("stop"):
        ran = control.stop(folder)
    print("stopped" if ran else f"not running in {folder}")
    raise typer.Exit(0 if ran else NOT_RUNNING)


@app.command()
def status(home: Home = None, as_json: Json = False) -> None:
    """What runs, where it listens, who is connected, what the uploads take. Exit code 1 if it does not run.

    Example: cruisers hub status --json
    """
    folder = _home(home)
    with _refusals("status"):
        found = control.status(folder)
    if as_json:
        print(control.to_json(found))
    else:
        _show(found)
    raise typer.Exit(0 if found["running"] else NOT_RUNNING)


@app.command()
def add(
    trucks: Trucks,
    home: Home = None,
    open_data: Annotated[bool, typer.Option("--open-data", help="Everyone may read their _meta and _data.")] = False,
    packed: Annotated[bool, typer.Option("--packed", help="With --open-data: their packed blocks too.")] = False,
) -> None:
    """Accounts and nodes for more trucks; connected trucks notice nothing. Passwords are files in HOME/secrets.

    Example: cruisers hub add truck-003 truck-004
    """
    folder = _home(home)
    with _refusals("add"):
        if packed and not open_data:
            raise HubError("--packed goes with --open-data")
        new = asyncio.run(changes.add(_made(folder), trucks))
        if open_data:
            asyncio.run(changes.open_data(folder, trucks, packed))
    for truck in trucks:
        print(f"{truck}: {'password in' if truck in new else 'there already, password in'} {folder / 'secrets' / truck}")


@app.command("open-data")
def open_data_command(
    trucks: Trucks,
    home: Home = None,
    packed: Annotated[bool, typer.Option("--packed", help="Their packed blocks too.")] = False,
    off: Annotated[bool, typer.Option("--off", help="Back to the whitelist.")] = False,
) -> None:
    """Declare trucks open data: whoever has an account here, or comes from a federated domain, may read _meta and _data.

    Example: cruisers hub open-data truck-003 --packed
    """
    folder = _home(home)
    with _refusals("open-data"):
        asyncio.run(changes.open_data(folder, trucks, packed, not off))
    print(f"{', '.join(trucks)}: {'whitelist' if off else 'open data'}")


@app.command()
def reader(
    account: Annotated[str, typer.Argument(metavar="NAME", help="A name (its account: reader-NAME), a writer, or a JID elsewhere.")],
    truck: Annotated[list[str], typer.Option(metavar="TRUCK", help="A truck it may read: meta, data, packed blocks, events.")],
    home: Home = None,
) -> None:
    """A further reader on the whitelist of trucks. It can neither publish nor upload nor create nodes.

    Example: cruisers hub reader map --truck truck-001 --truck truck-002
    """
    folder = _home(home)
    with _refusals("reader"):
        made = asyncio.run(changes.add_reader(folder, account, truck))
    where = "no account here" if "@" in made else f"password in {folder / 'secrets' / made}"
    print(f"{made} reads {', '.join(truck)}: {where}")


@app.command()
def device(
    names: Annotated[list[str], typer.Argument(metavar="DEVICE...", help="Names of SoX devices that are no trucks.")],
    writer: Annotated[str, typer.Option(metavar="NAME", help="Who writes them: its account is writer-NAME.")],
    home: Home = None,
) -> None:
    """Nodes for devices that are no trucks, such as those that a bridge brings from MQTT. The center reads them.

    Example: cruisers hub device weather-1 weather-2 --writer bridge
    """
    folder = _home(home)
    with _refusals("device"):
        account = asyncio.run(changes.add_devices(_made(folder), names, writer))
    print(f"{account} writes {', '.join(names)}: password in {folder / 'secrets' / account}")


@app.command()
def carsensor(
    truck: Annotated[str, typer.Argument(metavar="TRUCK")],
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=0, max=999, help="NNN of carsensorNNN.")],
    home: Home = None,
) -> None:
    """Nodes under the first fleet's names, carsensorNNN and carsensorNNN_100Hz, written by a truck (setting `carsensor` of its uplink).

    Example: cruisers hub carsensor truck-014 14
    """
    with _refusals("carsensor"):
        names = asyncio.run(changes.add_carsensor(_made(_home(home)), truck, number))
    print(f"{truck} writes {', '.join(names)}")


@app.command()
def revoke(account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="A truck or a reader.")], home: Home = None) -> None:
    """For a stolen truck: ends its session at once, takes its password, rights, open upload slots and account.

    What it published stays readable to the center. Run it again if it did not end with "revoked".

    Example: cruisers hub revoke truck-002
    """
    folder = _home(home)
    with _refusals("revoke"):
        done = asyncio.run(changes.revoke(folder, account))
    print(f"{account}: revoked" if done else f"{account}: revoked; the hub does not run, its next start removes the account")


def _home(given: Path | None) -> Path:
    return given.absolute() if given is not None else control.default_home()


def _made(home: Path) -> Path:
    """`home`, if a hub was ever started there."""
    if not (home / "secrets").is_dir():
        raise HubError(f"no hub in {home}: cruisers hub start")
    return home


@contextmanager
def _refusals(command: str) -> Iterator[None]:
    try:
        yield
    except HubError as error:
        text = str(error)
    except OSError as error:
        text = f"{error.filename or 'the hub'}: {error.strerror or error}"
    else:
        return
    print(f"cruisers hub {command}: {text}", file=sys.stderr)
    raise typer.Exit(BAD_INPUT)


def _show(found: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(found):
        table.add_row(name, text)
    Console().print(table)


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not found["running"]:
        yield "state", "not running"
    elif not found["ready"]:
        yield "state", f"starting (pid {found['pid']})"
    else:
        yield "state", f"running (pid {found['pid']}, ejabberd {found['ejabberd_pid']})"
        yield "domain", found["domain"]
        yield "XMPP", f"{found['host']} port {found['c2s_port']} (STARTTLS, SCRAM-SHA-256)"
        yield "uploads at", f"https://{found['host']}:{found['http_port']}/upload"
        yield "authority", found["ca_file"]
    yield "home", found["home"]
    yield "trucks", _names(found["trucks"])
    if found["connected"] is not None:
        yield "connected", _names(found["connected"])
    if found["open_data"]:
        yield "open data", _names([name + (" (packed too)" if packed else "") for name, packed in found["open_data"].items()])
    for name, account in found["devices"].items():
        yield name, f"written by {account}"
    for name, trucks in found["readers"].items():
        yield name, f"reads {_names(trucks)}"
    if found["revoked"]:
        yield "revoked", _names(found["revoked"])
    yield "uploads", f"{found['upload_objects']} objects, {found['upload_bytes'] / GIB:.2f} GiB"
    if found["disk_free_bytes"] is not None:
        yield "disk free", f"{found['disk_free_bytes'] / GIB:.1f} GiB"


def _names(names: list[str], shown: int = 12) -> str:
    """How many and which, the first `shown`."""
    if not names:
        return "none"
    more = f" and {len(names) - shown} more (--json)" if len(names) > shown else ""
    return f"{len(names)}: {', '.join(names[:shown])}{more}"
