"""The hub from start to stop: folders, certificates, accounts, ejabberd, nodes, ready file."""

import asyncio
import fcntl
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from hub import accounts, certificates
from hub.configuration import Addresses
from hub.ejabberd import Ejabberd, PortTaken, find_libraries
from hub.errors import HubError
from hub.nodes import ensure_nodes
from sox.client import SoxClient
from sox.errors import SoxError

DOMAIN = "cruisers.test"  # .test never exists in the public DNS (RFC 6761)
HOST = "127.0.0.1"
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


async def serve(settings: Settings) -> int:
    """Run the hub until SIGTERM or SIGINT (returns 0) or until ejabberd ends by itself (1); raises HubError if it cannot start."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    _check(settings)
    libraries = find_libraries()
    home = settings.home.resolve()
    with _own(home):
        files = certificates.ensure(home / "tls", settings.domain, settings.host)
        accounts.ensure_secrets(home / "secrets", [accounts.ADMIN, accounts.CENTER, *settings.trucks])
        starting = asyncio.ensure_future(_start(settings, home, files, libraries))
        await _first(starting, asyncio.ensure_future(stopped.wait()))
        if not starting.done():  # told to stop while starting
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        server, addresses = starting.result()
        try:
            await _prepare_nodes(settings, home, files, addresses)
            _announce(settings.ready, home, files, addresses, server.pid)
            ended = asyncio.ensure_future(server.wait())
            await _first(ended, asyncio.ensure_future(stopped.wait()))
            if ended.done():
                print(f"hub: ejabberd ended by itself (exit code {ended.result()}): see {home / 'log'}", file=sys.stderr)
                return 1
            return 0
        finally:
            settings.ready.unlink(missing_ok=True)
            await server.stop()


def _check(settings: Settings) -> None:
    accounts.check_trucks(settings.trucks)
    if not _DOMAIN.fullmatch(settings.domain):
        raise HubError(f"domain {settings.domain!r}: use lower-case names with dots, e.g. {DOMAIN}")
    try:
        ip_address(settings.host)
    except ValueError as error:
        raise HubError(f"host {settings.host!r} is not an IP address") from error
    if not settings.ready.parent.is_dir():
        raise HubError(f"{settings.ready}: its folder does not exist")
    for port in (settings.c2s_port, settings.http_port):
        if port:
            _bindable(settings.host, port).close()


@contextmanager
def _own(home: Path) -> Iterator[None]:
    """Hold `home` for this process alone: two ejabberds in one database folder destroy it."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HubError(f"{error.filename}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise HubError(f"another hub runs in {home}") from error
    try:
        yield
    finally:
        os.close(descriptor)


async def _start(settings: Settings, home: Path, files: certificates.Files, libraries: Path) -> tuple[Ejabberd, Addresses]:
    for last in [False] * (TRIES - 1) + [True]:
        addresses = _addresses(settings)
        server = Ejabberd(home, addresses, files, libraries)
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


async def _prepare_nodes(settings: Settings, home: Path, files: certificates.Files, addresses: Addresses) -> None:
    password = (home / "secrets" / accounts.ADMIN).read_text("ascii")
    admin = SoxClient(f"{accounts.ADMIN}@{addresses.domain}", password, addresses.host, addresses.c2s_port, files.ca)
    try:
        await admin.connect()
        await ensure_nodes(admin, settings.trucks)
    except SoxError as error:
        raise HubError(f"the nodes of the trucks could not be made: {error}") from error
    finally:
        await admin.disconnect()


def _announce(ready: Path, home: Path, files: certificates.Files, addresses: Addresses, ejabberd_pid: int) -> None:
    content = {
        **addresses._asdict(), "ca_file": str(files.ca), "secrets": str(home / "secrets"), "pid": os.getpid(), "ejabberd_pid": ejabberd_pid,
    }  # fmt: skip
    new = ready.with_name(ready.name + ".new")
    new.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    new.rename(ready)


async def _first(*tasks: asyncio.Future) -> None:
    """Wait for one of `tasks`; waiters that did not end and are no longer needed are left to the loop's end."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
