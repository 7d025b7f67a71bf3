"""`python -m hub serve`: the SoX hub on this machine. Exit codes: 0 stopped as told, 1 ended by itself, 2 could not start."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hub.errors import HubError
from hub.serve import DOMAIN, HOST, Settings, serve


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
    given = parser.parse_args(arguments)
    trucks = given.trucks.split(",") if given.trucks else []
    settings = Settings(given.home, given.ready, trucks, given.domain, given.host, given.c2s_port, given.http_port)
    try:
        return asyncio.run(serve(settings))
    except HubError as error:
        print(f"hub: {error}", file=sys.stderr)
    except OSError as error:  # a folder or file that cannot be made, read or written
        print(f"hub: {error.filename or 'the hub'}: {error.strerror or error}", file=sys.stderr)
    return 2


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
