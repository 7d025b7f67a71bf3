"""`python -m hub serve`: the SoX hub on this machine. Exit codes: 0 stopped as told, 1 ended by itself, 2 could not start."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hub.errors import HubError
from hub.serve import DOMAIN, HOST, S2S_PORT, Settings, serve


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"hub: {message}", file=sys.stderr)
        sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _Parser(prog="hub", description="The SoX hub: ejabberd with its own folders, certificates, accounts and nodes.")
    command = parser.add_subparsers(dest="command", required=True).add_parser("serve", help="run the hub until SIGTERM")
    command.add_argument("--home", type=Path, required=True, help="folder of the hub (made if absent)")
    command.add_argument("--ready", type=Path, required=True, help="JSON file written when the hub is ready, removed when it stops")
    command.add_argument("--trucks", default="", help="names of trucks, separated by commas")
    command.add_argument("--domain", default=DOMAIN)
    command.add_argument("--host", default=HOST, help="IP address to listen on")
    command.add_argument("--c2s-port", type=_port, default=0, help="XMPP port (default: a free one)")
    command.add_argument("--http-port", type=_port, default=0, help="HTTPS port for uploads (default: a free one)")
    command.add_argument("--open-data", default="", help="trucks that everyone may read, separated by commas")
    command.add_argument("--federation", default="", help="domains whose servers may talk to ours, separated by commas (default: none)")
    command.add_argument("--federation-ca", type=Path, help="PEM file of the authorities of those servers (default: the system's)")
    command.add_argument("--s2s-port", type=_port, default=S2S_PORT, help="port for those servers")
    command.add_argument("--no-reaper", action="store_true", help="leave objects where they are after their receipt")
    given = parser.parse_args(arguments)
    settings = Settings(
        given.home, given.ready, _listed(given.trucks), given.domain, given.host, given.c2s_port, given.http_port,
        _listed(given.open_data), _listed(given.federation), given.federation_ca, given.s2s_port, not given.no_reaper,
    )  # fmt: skip
    try:
        return asyncio.run(serve(settings))
    except HubError as error:
        print(f"hub: {error}", file=sys.stderr)
    except OSError as error:  # a folder or file that cannot be made, read or written
        print(f"hub: {error.filename or 'the hub'}: {error.strerror or error}", file=sys.stderr)
    return 2


def _listed(text: str) -> list[str]:
    return text.split(",") if text else []


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
