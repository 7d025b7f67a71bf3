"""`cruisers provision`: what a truck's Pi needs, for one truck or a city. Exit codes: 0 done, 2 bad input or not possible."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from fleet import provision_head
from fleet.provision import Asked, Outcome, provision
from fleet.provision_files import read_base
from fleet.provision_plan import BadPlan, Plan, plan, read_fleet
from hub.control import default_home
from hub.errors import HubError

BAD_INPUT = 2
SHOWN = 3  # trucks of a city, in one line


def command(
    truck: Annotated[str | None, typer.Argument(metavar="TRUCK", help="Its name: a-z, 0-9 and '-'. Or --fleet.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the folders go, one a truck.")] = Path("provision"),
    fleet: Annotated[Path | None, typer.Option(metavar="CSV", help="A list of trucks, one a line (docs/provision.md).")] = None,
    base: Annotated[Path | None, typer.Option(metavar="TOML", help="Settings that all share: a truck.toml without name and hub.")] = None,
    hub_home: Annotated[Path | None, typer.Option(help="Folder of the hub. Default: ~/.local/state/cruisers/hub.")] = None,
    hub_domain: Annotated[str, typer.Option(help="The hub's XMPP domain. Default: what the running hub says.")] = "",
    hub_host: Annotated[str, typer.Option(help="Its name or address, as trucks reach it. Default: likewise.")] = "",
    hub_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Its XMPP port. Default: likewise, else 5222.")] = None,
    ca: Annotated[Path | None, typer.Option(metavar="PEM", help="Certificate of the hub's authority. Default: HOME/tls/ca.pem.")] = None,
    camera: Annotated[list[str] | None, typer.Option(metavar="NAME", help="NAME, NAME@USB-PORT or NAME=ADDRESS; may be repeated.")] = None,
    carsensor: Annotated[str, typer.Option(metavar="NUMBER", help="Publish also as the first fleet's carsensorNNN.")] = "",
    head: Annotated[str, typer.Option(help="usb or none.")] = "usb",
    gps: Annotated[str, typer.Option(help="usb, none, or a serial port such as ttyAMA0.")] = "usb",
    pps: Annotated[bool, typer.Option("--pps", help="The receiver's pulse is wired to GPIO18.")] = False,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME", help="A switch on its pin: bookmark, lid, ignition; may be repeated.")
    ] = None,
    passports: Annotated[Path | None, typer.Option(metavar="DIR", help="Passports and unit keys, as cruisers flash wrote them.")] = None,
    image_key: Annotated[
        list[Path] | None, typer.Option(metavar="PEM", help="Public key whose images the head may get; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text for people.")] = False,
) -> None:
    """Everything a truck's Pi needs, in a folder with an install.sh; its account and nodes on the hub. Runs on the hub's machine.

    Example: cruisers provision truck-001 --camera front --pps --input ignition --out pi --hub-host hub.city.example
    """
    cells = {
        "truck": truck or "", "carsensor": carsensor, "cameras": " ".join(camera or ()), "head": head, "gps": gps,
        "pps": "yes" if pps else "no", "inputs": " ".join(inputs or ()),
    }  # fmt: skip
    try:
        plans = _plans(fleet, cells)
        asked = Asked((hub_home or default_home()).absolute(), hub_domain, hub_host, hub_port, ca)
        keys = provision_head.keys(plans, passports, image_key or [])
        outcome = provision(plans, asked, read_base(base) if base is not None else {}, out, keys)
    except BadPlan as error:
        _refuse(*error.lines)
    except HubError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename or out}: {error.strerror or error}")
    if as_json:
        _print_json(outcome)
    else:
        _show(outcome, out)
    _warn(keys, passports or provision_head.default_passports())


def _plans(fleet: Path | None, cells: dict[str, str]) -> list[Plan]:
    if fleet is None:
        if not cells["truck"]:
            raise BadPlan("which truck? cruisers provision TRUCK, or --fleet fleet.csv")
        return [plan(cells)]
    given = [name for name, default in (("truck", ""), ("carsensor", ""), ("cameras", ""), ("head", "usb"), ("gps", "usb"), ("pps", "no"),
             ("inputs", ""))
             if cells[name] != default]  # fmt: skip
    if given:
        raise BadPlan(f"--fleet says it all: {', '.join(given)} stand in its lines")
    return read_fleet(fleet)


def _say(line: str) -> None:
    print(f"cruisers provision: {line}", file=sys.stderr)


def _refuse(*lines: str) -> None:
    for line in lines:
        _say(line)
    raise typer.Exit(BAD_INPUT)


def _warn(keys: dict[str, provision_head.Keys], passports: Path) -> None:
    """What was left out: the truck drives without it, but its head is a technician's alone."""
    bare = [truck for truck, of_head in keys.items() if not of_head.unit]
    if bare:
        more = f" and {len(bare) - SHOWN} more" if len(bare) > SHOWN else ""
        _say(f"no passport in {passports} names {', '.join(bare[:SHOWN])}{more}: flash the head, then run this again")
    if any(of_head.unit and not of_head.image_keys for of_head in keys.values()):
        _say("no --image-key: no truck will take an update for its head")


def _print_json(outcome: Outcome) -> None:
    hub = outcome.hub
    said = {
        "hub": {"domain": hub.domain, "host": hub.host, "port": hub.port, "running": outcome.hub_runs},
        "trucks": [{**one._asdict(), "folder": str(one.folder)} for one in outcome.made],
    }
    print(msgspec.json.format(msgspec.json.encode(said)).decode())


def _show(outcome: Outcome, out: Path) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("truck", overflow="fold")
    table.add_column("account", no_wrap=True)
    table.add_column("also publishes as", overflow="fold")
    table.add_column("head's unit", overflow="fold")
    table.add_column("files", justify="right", no_wrap=True)
    for one in outcome.made:
        table.add_row(one.truck, "new" if one.new_account else "kept", ", ".join(one.devices) or "-", one.unit or "-", str(one.files))
    Console().print(table)
    hub = outcome.hub
    print(f"\nHub {hub.domain} at {hub.host}, port {hub.port}")
    if not outcome.hub_runs:
        print("It does not run: its next start makes the accounts and nodes.")
    print("On each Pi, with its folder (it holds the truck's secrets):")
    print(f"  sudo sh {outcome.made[0].truck}/install.sh")
    print(f"Folders: {out}/")
