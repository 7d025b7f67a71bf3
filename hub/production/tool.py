"""The commands of a city's hub: a node, its configuration, backup and restore.

Exit codes: 0 done, or stopped as told; 1 ejabberd ended by itself; 2 bad input or not possible."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hub import certificates
from hub.errors import HubError
from hub.local import SOCKET
from hub.production import backup as backups
from hub.production import city as cities
from hub.production import render
from hub.production.serve import serve

BAD_INPUT = 2

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="A city's hub: several ejabberd nodes as one, PostgreSQL, one folder of uploads (docs/hub.md).",
)  # fmt: skip

CityFile = Annotated[Path, typer.Option("--city", help="city.toml, the same on every node.")]
Home = Annotated[Path, typer.Option(help="Folder of this node.")]
Name = Annotated[str, typer.Option(help="This node's name in city.toml.")]


@app.command()
def node(
    city: CityFile, name: Name, home: Home,
    ready: Annotated[Path, typer.Option(help="JSON file, written when the node is ready and removed when it stops.")],
) -> None:  # fmt: skip
    """Run one node until SIGTERM.

    Example: python -m hub.production node --city city.toml --name a --home /var/lib/cruisers-hub --ready /run/cruisers/hub.json
    """
    with _refusals():
        given = cities.read(city)
        if not given.upload_folder.is_dir():
            raise HubError(f"{given.upload_folder}: no such folder (is the shared file system mounted?)")
        code = asyncio.run(serve(home.resolve(), ready, given, given.node(name)))
    raise typer.Exit(code)


@app.command()
def configuration(city: CityFile, name: Name, home: Home) -> None:
    """Print the ejabberd.yml of one node, but for the database's password.

    Example: python -m hub.production configuration --city city.toml --name b --home /var/lib/cruisers-hub
    """
    with _refusals():
        given = cities.read(city)
        files = certificates.Files(*(home / "tls" / file for file in ("ca.pem", "server.pem", "server-key.pem")))
        text = render.configuration(given, given.node(name), files, SOCKET)
    for line in text.splitlines():
        print("sql_password: (not shown)" if line.startswith("sql_password:") else line)


@app.command()
def backup(city: CityFile, home: Home, to: Annotated[Path, typer.Option(help="Folder to be made.")]) -> None:
    """Back up the database and the desk, while the hub runs.

    Example: python -m hub.production backup --city city.toml --home /var/lib/cruisers-hub --to /backup/2026-05-09
    """
    with _refusals():
        sizes = backups.backup(cities.read(city), home, to)
    print(f"{to}: " + ", ".join(f"{name} {size} bytes" for name, size in sizes.items()))


@app.command()
def restore(city: CityFile, home: Home, source: Annotated[Path, typer.Option("--from", help="Folder of the backup.")]) -> None:
    """Put a backup into an empty database and an empty folder; then start the desk there.

    Example: python -m hub.production restore --city city.toml --from /backup/2026-05-09 --home /var/lib/cruisers-hub
    """
    with _refusals():
        backups.restore(cities.read(city), source, home)
    print(f"{home}: restored; start the desk with it, then the other nodes")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except HubError as error:
        problem = str(error)
    except OSError as error:  # a folder or file that cannot be made, read or written
        problem = f"{error.filename or 'the hub'}: {error.strerror or error}"
    else:
        return
    print(f"hub: {problem}", file=sys.stderr)
    raise typer.Exit(BAD_INPUT)
