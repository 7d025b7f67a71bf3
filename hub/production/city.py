"""`city.toml`: the nodes of a city's hub and what they share. The same file lies on every node.

The first node is the desk: it alone has the passwords (secrets/) and rights.json, makes accounts and nodes, and runs the reaper. The others
serve trucks and center just as well, with or without it.
"""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import msgspec

from hub.errors import HubError

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
C2S_PORT, OBJECTS_PORT, DISTRIBUTION_PORT = 5222, 5443, 4370

_NAME = re.compile(r"[a-z][a-z0-9]{0,30}")


class Sql(msgspec.Struct, forbid_unknown_fields=True):
    """The PostgreSQL database; `ca_file`: authority of its certificate (the connection is then by TLS, and checked)."""

    server: str
    database: str
    user: str
    password_file: Path
    port: Port = 5432
    ca_file: Path | None = None

    def password(self) -> str:
        """Raises HubError."""
        try:
            return self.password_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise HubError(f"{self.password_file}: {getattr(error, 'strerror', 'not text in UTF-8')}") from error


class Node(msgspec.Struct, forbid_unknown_fields=True):
    """One ejabberd. `host`: its own address, for trucks and the other nodes; `put_port`: where it takes uploads, another on each node."""

    name: str
    host: str
    put_port: Port

    @property
    def erlang(self) -> str:
        """Its name among the nodes."""
        return f"{self.name}@{self.host}"


class City(msgspec.Struct, forbid_unknown_fields=True):
    """`domain` is the name of the accounts and the DNS name that has the addresses of all nodes."""

    domain: str
    upload_folder: Path
    sql: Sql
    nodes: list[Node]
    c2s_port: Port = C2S_PORT
    objects_port: Port = OBJECTS_PORT
    distribution_port: Port = DISTRIBUTION_PORT

    def node(self, name: str) -> Node:
        """The node `name`; raises HubError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise HubError(f"no node {name!r}: there are {', '.join(node.name for node in self.nodes)}")

    def is_desk(self, node: Node) -> bool:
        """Whether `node` is the one that administers."""
        return node is self.nodes[0]

    def others(self, node: Node) -> list[Node]:
        """All nodes but `node`."""
        return [other for other in self.nodes if other is not node]


def read(file: Path) -> City:
    """The city in `file`; raises HubError with what is wrong."""
    try:
        city = msgspec.toml.decode(file.read_bytes(), type=City, dec_hook=_path)
    except OSError as error:
        raise HubError(f"{file}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HubError(f"{file}: {error}") from error
    problem = _problem(city)
    if problem:
        raise HubError(f"{file}: {problem}")
    return city


def _path(kind: type, value: object) -> Path:
    if kind is not Path or not isinstance(value, str):
        raise ValueError("not a path")
    return Path(value)


def _problem(city: City) -> str:
    if not city.nodes:
        return "no [[nodes]]"
    if not city.upload_folder.is_absolute() or not city.sql.password_file.is_absolute():
        return "upload_folder and password_file must be absolute"
    for node in city.nodes:
        if not _NAME.fullmatch(node.name):
            return f"node name {node.name!r}: use a letter and up to 30 of a-z, 0-9"
        try:
            address = ip_address(node.host)
        except ValueError:
            return f"host {node.host!r} of node {node.name} is not an IP address"
        if address.is_unspecified or address.version != 4:  # Erlang's distribution would need -proto_dist inet6_tls on all nodes
            return f"host {node.host!r} of node {node.name}: one IPv4 address of that machine"
    for what in ("name", "host", "put_port"):
        given = [getattr(node, what) for node in city.nodes]
        if len(set(given)) != len(given):
            return f"two nodes have the same {what}"
    ports = [city.c2s_port, city.objects_port, city.distribution_port, *(node.put_port for node in city.nodes)]
    return "two services have the same port" if len(set(ports)) != len(ports) else ""
