"""A node of a city's hub as a command: its folder held, its ejabberd run, the trucks' nodes made (by the desk), until told to stop."""

import asyncio
import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

from hub import accounts, certificates, rights
from hub.changes import remove_unknown
from hub.ejabberd import find_libraries
from hub.errors import HubError
from hub.local import LocalCommands
from hub.nodes import ensure_nodes
from hub.production.city import City, Node
from hub.production.node import ClusterNode, prepare
from hub.reaper_process import reaper_beside
from hub.running import own
from sox.client import SoxClient
from sox.errors import SoxError


async def serve(home: Path, ready: Path, city: City, node: Node) -> int:
    """Run until SIGTERM or SIGINT (returns 0), or until ejabberd ends by itself (1); raises HubError where it cannot start.

    `cruisers hub` administers the desk's `home` as it does a single hub's.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    libraries = find_libraries()
    with own(home) as held:
        files = prepare(home, city, node)
        server = ClusterNode(home, city, node, files, libraries)
        starting = asyncio.ensure_future(server.start())
        told = asyncio.ensure_future(stopped.wait())
        await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():  # told to stop while starting
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        starting.result()
        try:
            if city.is_desk(node):
                await _make_nodes(home, city, node, files)
            info = {
                "domain": city.domain, "host": node.host, "c2s_port": city.c2s_port, "http_port": city.objects_port, "node": node.name,
                "ca_file": str(files.ca), "secrets": str(home / "secrets"), "pid": os.getpid(), "ejabberd_pid": server.pid,
            }  # fmt: skip
            held.tell(info)
            _announce(ready, info)
            ended = asyncio.ensure_future(server.wait())
            async with reaper_beside(home, ready, city.upload_folder) if city.is_desk(node) else nullcontext():
                await asyncio.wait([ended, told], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                print(f"hub: ejabberd ended by itself (exit code {ended.result()}): see {home / 'log'}", file=sys.stderr)
                return 1
            return 0
        finally:
            _withdraw(ready)
            await server.stop()


def _announce(ready: Path, info: dict[str, object]) -> None:
    written = ready.with_name(ready.name + ".new")
    written.write_text(json.dumps(info, indent=1) + "\n", "utf-8")
    written.rename(ready)


def _withdraw(ready: Path) -> None:
    ready.unlink(missing_ok=True)


async def _make_nodes(home: Path, city: City, node: Node, files: certificates.Files) -> None:
    password = (home / "secrets" / accounts.ADMIN).read_text("ascii")
    admin = SoxClient(f"{accounts.ADMIN}@{city.domain}", password, node.host, city.c2s_port, files.ca)
    try:
        await admin.connect()
        given = rights.read(home)
        await ensure_nodes(admin, [*accounts.truck_accounts(home / "secrets"), *given.devices], given)
        await remove_unknown(admin, LocalCommands(home, city.domain), home)
    except SoxError as error:
        raise HubError(f"the nodes of the trucks could not be made: {error}") from error
    finally:
        await admin.disconnect()
