"""The uplink or the center as a process whose way to the hub is what a test says: `python uplink_faults_process.py MODULE [ARGUMENTS]`.

The program is the real one (`python -m MODULE`); only calls to the kernel are answered otherwise, and times are shortened. The environment
variable HOSTILE says how, in JSON:

    {"ports": {"5443": 40001},        connections to 127.0.0.1:5443 go to port 40001 (the link, or the hostile web server)
     "name": "hub.city.test",         this host name is 127.0.0.1, except while
     "no_dns": "/path",               this file exists: then nothing resolves
     "interface": "/path",            while this file exists, the name in it is that of every network interface
     "times": {...}}                  see `Times`; absent: those of the product
"""

import importlib
import inspect
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Times(NamedTuple):
    """Times in seconds, each in the place of one of the product's."""

    back_off_first: float
    back_off_most: float
    stall: float
    ping: float
    request: float
    repeat: float
    look: float
    set_aside: float


def _default(function: Callable[..., Any], parameter: str, value: object) -> None:
    """Another default for a parameter, bound when the product's module was read."""
    names = [name for name, p in inspect.signature(function).parameters.items() if p.default is not inspect.Parameter.empty]
    defaults = list(function.__defaults__ or ())
    defaults[names.index(parameter)] = value
    function.__defaults__ = tuple(defaults)


def _redirect(told: dict[str, Any]) -> None:
    ports = {int(port): int(other) for port, other in told.get("ports", {}).items()}
    connect, getaddrinfo, if_indextoname = socket.socket.connect, socket.getaddrinfo, socket.if_indextoname

    def connect_elsewhere(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_INET and address[0] == "127.0.0.1":
            address = (address[0], ports.get(address[1], address[1]))
        return connect(self, address)

    def resolve(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if host not in (None, "127.0.0.1") and os.path.exists(told.get("no_dns", "")):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return getaddrinfo("127.0.0.1" if host == told.get("name") else host, port, *arguments, **options)

    def interface(index: int) -> str:
        try:
            return Path(told.get("interface", "")).read_text("ascii").strip()
        except OSError:
            return if_indextoname(index)

    socket.if_indextoname = interface
    socket.socket.connect = connect_elsewhere  # type: ignore[method-assign]
    socket.getaddrinfo = resolve


def _shorten(times: Times, module: str) -> None:
    from sox import account, client, stream, transfer

    _default(account.back_off, "first", times.back_off_first)
    _default(account.back_off, "most", times.back_off_most)
    _default(client.SoxClient.connect, "seconds", times.request)
    _default(stream.Stream.request, "seconds", times.request)
    stream.PING_SECONDS = times.ping
    for function in (transfer.put_file, transfer.fetch):
        _default(function, "stall_seconds", times.stall)
    if module == "gateway.uplink":
        from gateway import ledger, uplink, uplink_bulk

        uplink_bulk.PAUSE_MOST_SECONDS = uplink_bulk.SEGMENT_MOST_SECONDS = times.back_off_most
        _default(ledger.Ledger.next_upload, "set_aside_seconds", times.set_aside)
        pace = uplink.Pace(repeat_seconds=times.repeat, back_off_first=times.back_off_first, look_seconds=times.look)
        uplink.Pace = lambda: pace  # type: ignore[misc, assignment]
    else:
        from center import link, receive

        _default(receive.Receiver.__init__, "retry_first_s", times.back_off_first)
        _default(link.Link.__init__, "back_off_first_s", times.back_off_first)
        receive.RETRY_MOST_S = times.back_off_most


def main() -> int:
    """Run the module with what is left of the command line."""
    told = json.loads(os.environ["HOSTILE"])
    module, sys.argv = sys.argv[1], sys.argv[1:]
    sys.path[0] = os.getcwd()
    _redirect(told)
    if told.get("times"):
        _shorten(Times(**told["times"]), module)
    return int(importlib.import_module(module if module != "center" else "center.__main__").main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
