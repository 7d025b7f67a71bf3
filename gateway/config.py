"""The truck's configuration: one TOML file, read by every process of the gateway, checked on reading.

Example: docs/truck.example.toml (a test reads it)."""

from pathlib import Path
from typing import Annotated

import msgspec

from sox.account import Hub, Port
from sox.nodes import BadName, check_truck

SerialPort = Annotated[str, msgspec.Meta(min_length=1)]


class ConfigError(ValueError):
    """What is wrong with a configuration and where, in one line."""


class Head(msgspec.Struct, forbid_unknown_fields=True):
    """The sensor head: its serial port (udev name on a truck, a pty in the simulation)."""

    port: SerialPort


class Box(msgspec.Struct, forbid_unknown_fields=True):
    """A box of the first fleet: its serial port; `fan` drives air through its dust sensor."""

    port: SerialPort
    fan: bool = True


class Gpsd(msgspec.Struct, forbid_unknown_fields=True):
    """Where gpsd's JSON stream is. `device` is the serial port that gpsd owns, for `python -m gateway.receiver` before it starts."""

    host: str = "127.0.0.1"
    port: Port = 2947
    device: str = ""


class Receiver(msgspec.Struct, forbid_unknown_fields=True):
    """A u-blox receiver that the recorder reads itself, where no gpsd runs: its serial port, and the time from fix to fix in ms."""

    port: SerialPort
    period_ms: int = 1000


class Camera(msgspec.Struct, forbid_unknown_fields=True):
    """A camera: an MJPEG URL (http://...) or a V4L2 device (/dev/video0)."""

    name: str
    source: str


class Truck(msgspec.Struct, forbid_unknown_fields=True):
    """All settings of one truck. Sizes in bytes, times in seconds."""

    name: str
    spool: str
    live_socket: str
    hub: Hub
    head: Head | None = None
    box: Box | None = None
    gpsd: Gpsd | None = None
    receiver: Receiver | None = None
    cameras: list[Camera] = []
    readings_segment_seconds: float = 60.0
    images_segment_seconds: float = 60.0
    images_segment_bytes: int = 16_000_000
    spool_quota_bytes: int = 200_000_000_000
    free_reserve_bytes: int = 1_000_000_000


def load(path: str | Path) -> Truck:
    """The configuration in the TOML file `path`; raises ConfigError."""
    try:
        truck = msgspec.toml.decode(Path(path).read_bytes(), type=Truck)
        check_truck(truck.name)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, BadName) as error:
        raise ConfigError(f"{path}: {error}") from error
    _check_ports(path, truck)
    if truck.gpsd is not None and truck.receiver is not None:
        raise ConfigError(f"{path}: [gpsd] and [receiver] are two owners of one receiver: take one of them out")
    if truck.receiver is not None and not 100 <= truck.receiver.period_ms <= 10_000:
        raise ConfigError(f"{path}: period_ms of [receiver] is {truck.receiver.period_ms}, not 100 to 10000")
    return truck


def _check_ports(path: str | Path, truck: Truck) -> None:
    """Each serial port has one owner."""
    parts = (("[head]", truck.head), ("[box]", truck.box), ("[receiver]", truck.receiver))
    serial = [(f"port of {name}", part.port) for name, part in parts if part is not None]
    if truck.gpsd is not None and truck.gpsd.device:
        serial.append(("device of [gpsd]", truck.gpsd.device))
    owners: dict[str, str] = {}
    for name, port in serial:
        if port in owners:
            raise ConfigError(f"{path}: {owners[port]} and {name} are the same: {port}")
        owners[port] = name
