"""The hub from start to stop: folders, certificates, accounts, ejabberd, nodes, ready file."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from hub import accounts, certificates, rights
from hub.changes import remove_unknown
from hub.configuration import Addresses, Federation
from hub.ejabberd import Ejabberd, PortTaken, find_libraries
from hub.errors import HubError
from hub.local import LocalCommands
from hub.nodes import ensure_nodes
from hub.reaper_process import reaper_beside
from hub.running import own
from sox.client import SoxClient
from sox.errors import SoxError

DOMAIN = "cruisers.test"  # .test never exists in the public DNS (RFC 6761)
HOST = "127.0.0.1"
S2S_PORT = 5269  # registered for servers (RFC 6120, 14.7)
SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
TRIES = 4  # a free port may be taken by a neighbour between choosing and listening
_DOMAIN = re.compile(r"(?=.{1,200}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+")


class Settings(NamedTuple):
    """What the hub is started with; port 0: any free one."""

    home: Path
    ready: Path
    trucks: Sequence[str] = ()
    domain: str = DOMAIN
    host: str = HOST
    c2s_port: int = 0
    http_port: int = 0
    open_data: Sequence[str] = ()  # trucks, beside those that were declared so before
    federation: Sequence[str] = ()  # domains whose servers may talk to ours; none: no port for servers
    federation_ca: Path | None = None  # PEM file of the authorities of those servers; None: the system's
    s2s_port: int = S2S_PORT
    reaper: bool = True  # delete objects after their receipt


async def serve(settings: Settings) -> int:
    """Run the hub until SIGTERM or SIGINT (returns 0) or until ejabberd ends by itself (1); raises HubError if it cannot start."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    check(settings)
    libraries = find_libraries()
    home = settings.home.resolve()
    with own(home) as held:
        files = certificates.ensure(home / "tls", settings.domain, settings.host)
        accounts.ensure_secrets(home / "secrets", [accounts.ADMIN, accounts.CENTER, *settings.trucks])
        if settings.open_data:
            with rights.changing(home) as given:
                given.open_data |= dict.fromkeys(settings.open_data, False) | given.open_data
        starting = asyncio.ensure_future(_start(settings, home, files, libraries))
        await _first(starting, asyncio.ensure_future(stopped.wait()))
        if not starting.done():  # told to stop while starting
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        server, addresses = starting.result()
        try:
            await _prepare(home, files, addresses)
            info = _info(home, files, addresses, server.pid)
            held.tell(info)
            _announce(settings.ready, info)
            ended = asyncio.ensure_future(server.wait())
            async with reaper_beside(home, settings.ready) if settings.reaper else nullcontext():
                await _first(ended, asyncio.ensure_future(stopped.wait()))
            if ended.done():
                print(f"hub: ejabberd ended by itself (exit code {ended.result()}): see {home / 'log'}", file=sys.stderr)
                return 1
            return 0
        finally:
            settings.ready.unlink(missing_ok=True)
            await server.stop()


def check(settings: Settings) -> None:
    """Raises HubError where the hub could not be started so, before anything is made."""
    accounts.check_trucks(settings.trucks)
    unknown = [
        truck for truck in settings.open_data if truck not in {*settings.trucks, *accounts.truck_accounts(settings.home / "secrets")}
    ]
    if unknown:
        raise HubError(f"open data: no truck {unknown[0]!r}")
    for domain in (settings.domain, *settings.federation):
        if not _DOMAIN.fullmatch(domain):
            raise HubError(f"domain {domain!r}: use lower-case names with dots, e.g. {DOMAIN}")
    if settings.domain in settings.federation:
        raise HubError(f"domain {settings.domain!r} is the hub's own and cannot be federated with")
    try:
        ip_address(settings.host)
    except ValueError as error:
        raise HubError(f"host {settings.host!r} is not an IP address") from error
    if not settings.ready.parent.is_dir():
        raise HubError(f"{settings.ready}: its folder does not exist")
    for port in (settings.c2s_port, settings.http_port, *([settings.s2s_port] if settings.federation else [])):
        if port:
            _bindable(settings.host, port).close()


async def _start(settings: Settings, home: Path, files: certificates.Files, libraries: Path) -> tuple[Ejabberd, Addresses]:
    for last in [False] * (TRIES - 1) + [True]:
        addresses = _addresses(settings)
        server = Ejabberd(home, addresses, files, libraries, _federation(settings, home, files))
        try:
            await server.start()
            return server, addresses
        except PortTaken:
            if last or (settings.c2s_port and settings.http_port):
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def _addresses(settings: Settings) -> Addresses:
    # Both are held open until both are chosen, or the same one could come twice.
    with _bindable(settings.host, settings.c2s_port) as c2s, _bindable(settings.host, settings.http_port) as http:
        return Addresses(settings.domain, settings.host, c2s.getsockname()[1], http.getsockname()[1])


def _bindable(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as ejabberd does: a port just left is free
        probe.bind((host, port))
    except OSError as error:
        probe.close()
        raise PortTaken(f"port {port} on {host} cannot be used: {error.strerror}") from error
    return probe


async def _prepare(home: Path, files: certificates.Files, addresses: Addresses) -> None:
    """All trucks have their nodes, everyone has the rights given and no others, and accounts without a secret are gone."""
    secrets = home / "secrets"
    admin = SoxClient(
        f"{accounts.ADMIN}@{addresses.domain}", (secrets / accounts.ADMIN).read_text("ascii"), addresses.host, addresses.c2s_port, files.ca
    )
    try:
        await admin.connect()
        given = rights.read(home)
        await ensure_nodes(admin, [*accounts.truck_accounts(secrets), *given.devices], given)
        await remove_unknown(admin, LocalCommands(home, addresses.domain), home)
    except SoxError as error:
        raise HubError(f"the nodes of the trucks could not be made: {error}") from error
    finally:
        await admin.disconnect()


def _federation(settings: Settings, home: Path, files: certificates.Files) -> Federation | None:
    if not settings.federation:
        return None
    authorities = home / "tls" / "federation.pem"
    try:
        authorities.write_bytes(files.ca.read_bytes() + b"\n" + (settings.federation_ca or SYSTEM_AUTHORITIES).read_bytes())
    except OSError as error:
        raise HubError(f"{error.filename}: {error.strerror}") from error
    return Federation(settings.federation, settings.s2s_port, authorities)


def _info(home: Path, files: certificates.Files, addresses: Addresses, ejabberd_pid: int) -> dict[str, Any]:
    return {
        **addresses._asdict(), "ca_file": str(files.ca), "secrets": str(home / "secrets"), "pid": os.getpid(), "ejabberd_pid": ejabberd_pid,
    }  # fmt: skip


def _announce(ready: Path, info: dict[str, Any]) -> None:
    new = ready.with_name(ready.name + ".new")
    new.write_text(json.dumps(info, indent=1) + "\n", "utf-8")
    new.rename(ready)


async def _first(*tasks: asyncio.Future) -> None:
    """Wait for one of `tasks`; waiters that did not end and are no longer needed are left to the loop's end."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
