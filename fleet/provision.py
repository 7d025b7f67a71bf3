"""`cruisers provision`: from a list of trucks to a folder each that makes a Pi one of them, and accounts and nodes on the hub.

In order, and everything is looked at before anything is made:

  1. the list, the base, the hub's folder and address, each truck's configuration (gateway/config.py reads it), the folders to write to;
  2. the hub: accounts, nodes, rights (hub/changes.py; a truck that is there keeps its password). On a hub that does not run now, its next
     start makes them;
  3. one folder a truck, whole under its name or as it was: all are written beside their names, then all are renamed.

Broken off anywhere it is run again: the hub's steps may be repeated, and what is left of a folder (`.TRUCK.new`, `.TRUCK.old`) is removed.
Folders hold the truck's password: they are the owner's alone (0700), and go when the Pi has them.
"""

import asyncio
import ipaddress
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509

from fleet.provision_files import File, Hub, bundle
from fleet.provision_head import NO_KEYS, Keys
from fleet.provision_plan import BadPlan, Plan
from hub import changes, rights, running
from sox import carsensor

C2S_PORT = 5222  # registered for XMPP clients (RFC 6120, 14.7)
SUMS = "SHA256SUMS"


class Asked(NamedTuple):
    """What the command line says of the hub; "" and None where it says nothing."""

    home: Path
    domain: str = ""
    host: str = ""
    port: int | None = None
    ca_file: Path | None = None


class Made(NamedTuple):
    """One truck: its folder, whether its account is new, the first fleet's devices it writes, how many files, the unit of its head (None:
    it has no head, or nobody has flashed it)."""

    truck: str
    folder: Path
    new_account: bool
    devices: list[str]
    files: int
    unit: str | None = None


class Outcome(NamedTuple):
    """What was made. A hub that does not run makes accounts and nodes at its next start."""

    hub: Hub
    hub_runs: bool
    made: list[Made]


def find_hub(asked: Asked) -> Hub:
    """The hub's address: as asked, else what the running hub says of itself; raises BadPlan, HubError, OSError."""
    if not (asked.home / "secrets").is_dir():
        raise BadPlan(f"no hub in {asked.home}: this command runs on the hub's machine, after cruisers hub start")
    said = running.look(asked.home) or {}
    domain, host, port = asked.domain or said.get("domain", ""), asked.host or said.get("host", ""), asked.port or said.get("c2s_port")
    if not domain or not host:
        raise BadPlan(f"the hub in {asked.home} does not run and cannot say its address: give --hub-domain and --hub-host")
    if "c2s_port" in said and domain != said["domain"]:
        raise BadPlan(f"--hub-domain {domain}: the hub in {asked.home} is {said['domain']}")
    if not asked.host and _is_no_address_for_trucks(host):
        raise BadPlan(f"the hub listens on {host}, which says no truck where it is: give --hub-host")
    ca_file = asked.ca_file or asked.home / "tls" / "ca.pem"
    ca = ca_file.read_bytes()
    try:
        x509.load_pem_x509_certificates(ca)
    except ValueError as error:
        raise BadPlan(f"{ca_file}: no certificate in PEM") from error
    return Hub(domain, host, port or C2S_PORT, ca)


def _is_no_address_for_trucks(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def provision(plans: Sequence[Plan], asked: Asked, base: Mapping[str, Any], out: Path, keys: Mapping[str, Keys]) -> Outcome:
    """Do it all, with the keys of each truck's head (fleet/provision_head.py); raises BadPlan (nothing was made), HubError or OSError
    (run it again)."""
    hub = find_hub(asked)
    _check(plans, hub, base, asked.home, out)
    new, devices = asyncio.run(_tell_hub(plans, asked.home))
    out.mkdir(parents=True, exist_ok=True)
    made = []
    try:
        for plan in plans:
            of_head = keys.get(plan.truck, NO_KEYS)
            files = bundle(plan, hub, base, (asked.home / "secrets" / plan.truck).read_bytes(), of_head)
            _write(_beside(out / plan.truck, "new"), files)
            made.append(
                Made(plan.truck, out / plan.truck, plan.truck in new, devices.get(plan.truck, []), len(files), of_head.unit or None)
            )
    except BaseException:
        for plan in plans:
            shutil.rmtree(_beside(out / plan.truck, "new"), ignore_errors=True)
        raise
    for one in made:
        _replace(one.folder)
    return Outcome(hub, running.look(asked.home) is not None, made)


def _check(plans: Sequence[Plan], hub: Hub, base: Mapping[str, Any], home: Path, out: Path) -> None:
    """Raises BadPlan with all that is wrong with any truck."""
    wrong: list[str] = []
    writers = rights.read(home).devices
    for plan in plans:
        try:
            bundle(plan, hub, base, b"")
        except BadPlan as error:
            wrong += error.lines
        for device in _devices(plan):
            if writers.get(device, plan.truck) != plan.truck:
                wrong.append(f"{plan.where}: {device} is written by {writers[device]}")
        folder = out / plan.truck
        if folder.exists() and not (folder / SUMS).is_file():
            wrong.append(f"{plan.where}: {folder} is there and was not made by this command")
    above = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        wrong.append(f"{out}: {above} is no folder that can be written to")
    if wrong:
        raise BadPlan(*wrong)


def _devices(plan: Plan) -> list[str]:
    return [] if plan.carsensor is None else [carsensor.device(plan.carsensor), carsensor.device_of_samples(plan.carsensor)]


async def _tell_hub(plans: Sequence[Plan], home: Path) -> tuple[set[str], dict[str, list[str]]]:
    """The trucks that got an account, and the first fleet's devices of each."""
    trucks = [plan.truck for plan in plans]
    new = set(await changes.add(home, trucks))
    numbers = {plan.truck: plan.carsensor for plan in plans if plan.carsensor is not None}
    return new, {truck: await changes.add_carsensor(home, truck, number) for truck, number in numbers.items()}


def _beside(folder: Path, word: str) -> Path:
    return folder.with_name(f".{folder.name}.{word}")


def _write(folder: Path, files: Mapping[str, File]) -> None:
    """`folder` with `files` and nothing else, on the disk; raises OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for path, file in files.items():
        (folder / path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(folder / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode)
        with os.fdopen(descriptor, "wb") as out:
            os.fchmod(descriptor, file.mode)  # whatever the umask
            out.write(file.content)
            out.flush()
            os.fsync(descriptor)


def _replace(folder: Path) -> None:
    """The new folder in the place of an earlier one."""
    old = _beside(folder, "old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    _beside(folder, "new").rename(folder)
    shutil.rmtree(old, ignore_errors=True)
