"""What a bridge is told: the hub from a TOML file (the center's will do), what goes where, and the broker.

[hub]                       # as the center's configuration; `user` is the bridge's own account
domain = "sox.city.example"
host = "127.0.0.1"
port = 5222
ca_file = "/etc/cruisers/ca.pem"
password_file = "/etc/cruisers/writer-bridge"
user = "writer-bridge"      # made by: cruisers hub device weather-hut --writer bridge
                            #          cruisers hub reader writer-bridge --truck truck-1 --truck truck-2

[bridge]                    # where the two ways differ; else: the trucks given, both ways or one
to_mqtt = ["truck-1", "truck-2"]
to_sox = ["weather-hut"]
"""

from datetime import tzinfo
from pathlib import Path
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from sox import account
from sox.mqtt_session import CLEAR_PORT, TLS_PORT

Way = Literal["mqtt", "sox", "both"]
TOPIC_MOST = 65_535 - len("_meta")  # bytes; MQTT


class ConfigError(ValueError):
    """What is wrong with what the bridge was told and where, in one line."""


class Hub(account.Hub, forbid_unknown_fields=False):
    """The hub, and the bridge's account on it."""

    user: str = "writer-bridge"


class Lists(msgspec.Struct, forbid_unknown_fields=True):
    """Devices whose values go from the hub to the broker, and from the broker to the hub."""

    to_mqtt: list[str] = []
    to_sox: list[str] = []


class File(msgspec.Struct):
    """The file; what concerns others (the center's archive) is passed over."""

    hub: Hub
    trucks: list[str] = []
    bridge: Lists | None = None


class Ways(NamedTuple):
    """Devices by the way their values go."""

    to_mqtt: list[str]
    to_sox: list[str]


def load(path: Path) -> File:
    """The file; raises ConfigError."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=File)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def ways(file: File, trucks: list[str], to: Way | None) -> Ways:
    """Which devices go where: those given, else the file's lists, else the file's trucks; raises ConfigError."""
    if file.bridge is not None and not trucks and to is None:
        found = Ways(file.bridge.to_mqtt, file.bridge.to_sox)
    else:
        devices = trucks or file.trucks
        found = Ways(devices if to != "sox" else [], devices if to in ("sox", "both") else [])
    for device in [*found.to_mqtt, *found.to_sox]:
        if not device or set(device) & set("+#\0") or len(device.encode()) > TOPIC_MOST or device.startswith("$"):
            raise ConfigError(f"device {device!r} cannot be an MQTT topic")
    if not found.to_mqtt and not found.to_sox:
        raise ConfigError("no devices: give --trucks, or [bridge] lists in the configuration")
    return found


def address(text: str, tls: bool) -> tuple[str, int]:
    """HOST, HOST:PORT or [IPv6]:PORT; raises ConfigError."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") and text.count(":") == 1 or "]:" in text else (text, "", "")
    host = host.removeprefix("[").removesuffix("]")
    if not host or (colon and not (port.isdecimal() and 0 < int(port) < 65_536)):
        raise ConfigError(f"broker {text!r}: use HOST or HOST:PORT")
    return host, int(port) if colon else TLS_PORT if tls else CLEAR_PORT


def zone(name: str) -> tzinfo:
    """The time zone of the times on MQTT; raises ConfigError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"no time zone {name!r}, as Asia/Tokyo") from error
