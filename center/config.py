"""The center's configuration: one TOML file, checked on reading.

    archive = "/srv/cruisers/archive"     # folder of the received segments, made if absent; or "s3://bucket/prefix"
    trucks = ["truck-1", "truck-2"]
    workers = 1                           # processes that fetch, verify, store and table; 0: the center does it itself

    [hub]
    domain = "sox.city.example"
    host = "127.0.0.1"
    port = 5222
    ca_file = "/etc/cruisers/ca.pem"
    password_file = "/etc/cruisers/center"

    [s3]                                  # only with an s3:// archive, which also needs `state = "/srv/cruisers/state"`
    endpoint = "https://s3.city.example"
    key_file = "/etc/cruisers/s3.toml"    # access_key = "…", secret_key = "…"; without it the environment's AWS_… count

`http_host` stays on loopback unless the operator says otherwise: the page shows where people work, and has no log-in of its own.
"""

from pathlib import Path
from typing import Annotated

import msgspec

from center.store import SCHEME, FolderStore, Store, StoreError
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


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who we are to the S3 service."""

    access_key: str
    secret_key: str


class S3(msgspec.Struct, forbid_unknown_fields=True):
    """How to reach the bucket; what is not said comes from the environment."""

    endpoint: str = ""
    region: str = "us-east-1"
    key_file: str = ""


class Tables(msgspec.Struct, forbid_unknown_fields=True):
    """When segments become rows (center/tables.py), and how their files are kept few."""

    every_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0  # a batch at least so often while there are segments
    segments: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 400  # of a batch at most: memory
    compact_every_s: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    keep_hours: Annotated[int, msgspec.Meta(ge=0)] = 24  # files that no table names any more: a query may still read them


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
    state: str = ""  # index, incoming files, quarantine; "": in the archive's folder
    workers: Annotated[int, msgspec.Meta(ge=0, le=64)] = 1
    zone: str = "UTC"  # what a date means in questions, e.g. Asia/Tokyo; the tables themselves are in UTC
    s3: S3 = msgspec.field(default_factory=S3)
    tables: Tables = msgspec.field(default_factory=Tables)

    @property
    def state_folder(self) -> Path:
        """Where the index is."""
        return Path(self.state or self.archive)

    def store(self) -> Store:
        """Where the objects are; raises ConfigError, before anything is touched."""
        if not self.archive.startswith(SCHEME):
            return FolderStore(Path(self.archive))
        from center.store_s3 import S3Store  # here: a folder needs no pyarrow

        try:
            return S3Store(self.archive, self.s3.endpoint, self.s3.region, self._keys())
        except StoreError as error:
            raise ConfigError(f"archive: {error}") from error

    def _keys(self) -> tuple[str, str] | None:
        """(access key, secret key) of the S3 service; None where no file is named. Raises ConfigError, which never quotes them."""
        path = self.s3.key_file
        if not path:
            return None
        try:
            keys = msgspec.toml.decode(Path(path).read_bytes(), type=Keys)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: it is to hold access_key and secret_key, in TOML") from error
        return keys.access_key, keys.secret_key


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
    if center.archive.startswith(SCHEME) and not center.state:
        raise ConfigError(f"{path}: an archive on S3 needs `state`, a folder for its index and incoming files")
    return center
