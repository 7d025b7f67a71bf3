"""ejabberd.yml of one node of a city's hub: what hub/configuration.py writes, with these parts in place of its own.

| part | the single hub | a node of a city |
|---|---|---|
| accounts, pubsub | mnesia, in its folder | PostgreSQL, for all nodes |
| uploads are kept | in its folder | in the folder that all nodes share |
| PUT | at its address | at the domain's name and the node's own port, for ejabberd keeps its slots in memory |
| GET | at its address | at the domain's name and the common port: any node gives any object |

Everything else (TLS, SCRAM, limits, rights, commands) is the same text. A part that is no longer there to be replaced is an error, so the
two cannot drift apart unseen.
"""

import json

from hub import certificates
from hub.configuration import Addresses, render
from hub.errors import HubError
from hub.production.city import City, Node

POOL = 10  # connections of one node to PostgreSQL, which takes 100; one publish is one transaction of some ms
KEEPALIVE_SECONDS = 60


def addresses(city: City, node: Node) -> Addresses:
    """Where `node` listens."""
    return Addresses(city.domain, node.host, city.c2s_port, city.objects_port)


def configuration(city: City, node: Node, files: certificates.Files, commands: str) -> str:
    """The configuration as YAML, with the database's password in it; raises HubError."""
    at = addresses(city, node)
    text = render(at, files, str(city.upload_folder), commands)
    text = _replaced(text, "auth_method: mnesia\n", f"auth_method: sql\n{_sql(city)}")
    text = _replaced(text, "    plugins: [flat]\n", "    plugins: [flat]\n    db_type: sql\n")
    here = f"https://{at.host}:{at.http_port}/upload"
    for which, port in (("put_url", node.put_port), ("get_url", city.objects_port)):
        text = _replaced(text, f"    {which}: {json.dumps(here)}\n", f"    {which}: {json.dumps(f'https://{city.domain}:{port}/upload')}\n")
    return _with_put_listener(text, at, node.put_port)


def distribution(files: certificates.Files) -> str:
    """How nodes talk to each other: TLS 1.3, and only who has a certificate of our authority gets in; beside it stands the cookie.

    The one who calls does not check the other's certificate, because it names the domain and not the machine. An impostor without
    the cookie cannot end the handshake, and cannot pass it on to a real node without a certificate.
    """
    own = f"{{certfile, {json.dumps(str(files.server))}}}, {{keyfile, {json.dumps(str(files.server_key))}}}"
    authority = f"{{cacertfile, {json.dumps(str(files.ca))}}}"
    return (
        f"[{{server, [{own}, {authority}, {{verify, verify_peer}}, {{fail_if_no_peer_cert, true}}, {{versions, ['tlsv1.3']}}]}},\n"
        f" {{client, [{own}, {{verify, verify_none}}, {{versions, ['tlsv1.3']}}]}}].\n"
    )


def _sql(city: City) -> str:
    sql = city.sql
    lines = {
        "default_db": "sql", "sql_type": "pgsql", "sql_server": sql.server, "sql_port": sql.port, "sql_database": sql.database,
        "sql_username": sql.user, "sql_password": sql.password(), "sql_pool_size": POOL, "sql_keepalive_interval": KEEPALIVE_SECONDS,
    }  # fmt: skip
    if sql.ca_file is not None:
        lines |= {"sql_ssl": True, "sql_ssl_verify": True, "sql_ssl_cafile": str(sql.ca_file)}
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in lines.items())


def _with_put_listener(text: str, at: Addresses, port: int) -> str:
    begin = text.find(f"  - module: ejabberd_http\n    ip: {json.dumps(at.host)}\n    port: {at.http_port}\n")
    last = "      /upload: mod_http_upload\n"
    end = text.find(last, begin)
    if begin < 0 or end < 0:
        raise HubError("hub/configuration.py has changed: no listener for uploads")
    listener = text[begin : end + len(last)]
    return text.replace(listener, listener + listener.replace(f"    port: {at.http_port}\n", f"    port: {port}\n"))


def _replaced(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise HubError(f"hub/configuration.py has changed: {old.strip()!r} is there {text.count(old)} times")
    return text.replace(old, new)
