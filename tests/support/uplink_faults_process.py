"""A process of the truck or the city whose way to the hub is what a test says, and whose times are shorter.

The program is the real one (`python -m gateway.uplink`, `python -m center` and the workers it starts): `environment(...)` gives the
environment in which Python reads uplink_faults_site/sitecustomize.py first. There, before the program begins, some calls to the kernel
are answered otherwise and constants of the product replaced. The variable HOSTILE says how, in JSON:

    {"ports": {"5443": 40001},        connections to 127.0.0.1:5443 go to port 40001 (the link, or the hostile web server)
     "name": "hub.city.test",         this host name is 127.0.0.1, except while
     "no_dns": "/path",               this file exists: then nothing resolves
     "interface": "/path",            while this file exists, the name in it is that of every network interface
     "graveyard": "/path",            a segment that is deleted lives on in this folder, under its id
     "truck": "t01",                  whose
     "times": {...}}                  see `Times`; null: those of the product
"""

import inspect
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]


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


def environment(way: dict[str, Any], times: Times | None) -> dict[str, str]:
    """The environment of such a process."""
    told = {**way, "times": times._asdict() if times else None}
    path = os.pathsep.join(str(folder) for folder in (ROOT, SUPPORT, SUPPORT / "uplink_faults_site"))
    return {**os.environ, "PYTHONPATH": path, "HOSTILE": json.dumps(told)}


def take_over() -> None:
    """Do what HOSTILE says to this process, which has just begun."""
    told = json.loads(os.environ["HOSTILE"])
    _redirect(told)
    if "graveyard" in told:
        _bury(Path(told["graveyard"]), told["truck"])
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else ""
    if told["times"] and module in ("gateway.uplink", "center", "center.ingest"):
        times = Times(**told["times"])
        _shorten_ways(times)
        if module == "gateway.uplink":
            _shorten_uplink(times)
        elif module == "center":
            _shorten_center(times)


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

    socket.socket.connect = connect_elsewhere  # type: ignore[method-assign]
    socket.getaddrinfo = resolve
    socket.if_indextoname = interface


def _bury(graveyard: Path, truck: str) -> None:
    """Every name that is taken from a segment's file is given to it again in the graveyard, before: what stood where can be told later."""
    unlink = os.unlink

    def unlink_and_keep(path: Any, *arguments: Any, **options: Any) -> None:
        place = Path(os.fsdecode(path))
        if place.suffix == ".mcap" and not place.parent.name.startswith(".") and not options and place.exists():
            grave = graveyard / f"{truck}-{place.parent.name}-{place.name}"
            if not grave.exists():
                os.link(place, grave)
        unlink(path, *arguments, **options)

    os.unlink = os.remove = unlink_and_keep


def _shorten_ways(times: Times) -> None:
    from sox import account, client, stream, transfer

    _default(account.back_off, "first", times.back_off_first)
    _default(account.back_off, "most", times.back_off_most)
    _default(client.SoxClient.connect, "seconds", times.request)
    _default(stream.Stream.request, "seconds", times.request)
    _constant(stream, "PING_SECONDS", times.ping)
    for function in (transfer.put_file, transfer.fetch):
        _default(function, "stall_seconds", times.stall)


def _shorten_uplink(times: Times) -> None:
    from gateway import ledger, uplink, uplink_bulk

    _constant(uplink_bulk, "PAUSE_MOST_SECONDS", times.back_off_most)
    _constant(uplink_bulk, "SEGMENT_MOST_SECONDS", times.back_off_most)
    _default(ledger.Ledger.next_upload, "set_aside_seconds", times.set_aside)
    pace = uplink.Pace(repeat_seconds=times.repeat, back_off_first=times.back_off_first, look_seconds=times.look)
    _constant(uplink, "Pace", lambda: pace)


def _shorten_center(times: Times) -> None:
    from center import link, receive

    _default(receive.Receiver.__init__, "retry_first_s", times.back_off_first)
    _default(link.Link.__init__, "back_off_first_s", times.back_off_first)
    _constant(receive, "RETRY_MOST_S", times.back_off_most)


def _default(function: Callable[..., Any], parameter: str, value: object) -> None:
    """Another default for a parameter, where it was bound when the product's module was read. Raises ValueError where it has none."""
    names = [name for name, p in inspect.signature(function).parameters.items() if p.default is not inspect.Parameter.empty]
    defaults = list(function.__defaults__ or ())
    defaults[names.index(parameter)] = value
    function.__defaults__ = tuple(defaults)


def _constant(module: ModuleType, name: str, value: object) -> None:
    """Another value for a constant of the product. Raises AttributeError where it is none."""
    getattr(module, name)
    setattr(module, name, value)
