"""The center's configuration: one TOML file, checked on reading.

    archive = "/srv/cruisers/archive"     # folder of the received segments; made if absent
    trucks = ["truck-1", "truck-2"]

    [hub]
    domain = "sox.city.example"
    host = "127.0.0.1"
    port = 5222
    ca_file = "/etc/cruisers/ca.pem"
    password_file = "/etc/cruisers/center"

`http_host` stays on loopback unless the operator says otherwise: the page shows where people work, and has no log-in of its own.
"""

from pathlib import Path
from typing import Annotated

import msgspec

from sox import account
from sox.nodes import BadName, check_truck

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]


class ConfigError(ValueError):
    """What is wrong with a configuration and where, in one line."""


class Hub(account.Hub, forbid_unknown_fields=True):
    """The SoX hub, the center's account on it, and whence objects may be fetched.

    `upload_hosts` are the names an announced address may have; empty means the hub's own (`host`, `domain` and names below it):
    a truck must not be able to make the center fetch from anywhere else.
    """

    user: str = "center"
    upload_hosts: list[str] = []


class Center(msgspec.Struct, forbid_unknown_fields=True):
    """All settings of the center. Sizes in bytes."""

    archive: str
    trucks: list[str]
    hub: Hub
    http_host: str = "127.0.0.1"
    http_port: Port = 0
    max_object_bytes: Bytes = 256_000_000  # a segment is 16 MB (images) or a minute of readings; far above is not a segment
    free_reserve_bytes: Bytes = 1_000_000_000  # the archive's disk is never filled beyond this
    quarantine_bytes: Bytes = 10_000_000_000  # refused objects kept for a look, oldest out first


def load(path: str | Path) -> Center:
    """The configuration in the TOML file `path`; raises ConfigError."""
    try:
        center = msgspec.toml.decode(Path(path).read_bytes(), type=Center)
        for truck in center.trucks:
            check_truck(truck)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, BadName) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not center.trucks:
        raise ConfigError(f"{path}: `trucks` names no truck")
    if len(set(center.trucks)) != len(center.trucks):
        raise ConfigError(f"{path}: `trucks` names a truck twice")
    return center
