"""One node of a city's hub, from start to stop.

What lasts is in PostgreSQL and in the shared folder. A node's own db/ holds who the other nodes are (who is connected where is in memory
only). A node with an empty db/ joins one that runs; where none does the desk begins alone, and the others wait for one. Later any node
starts in any order, alone too. Erlang's distribution listens on the node's own address and one port, by TLS (render.distribution),
without an epmd.

The desk refuses to start with an empty secrets/ on a database that has accounts: it would shut them all out. Restore its backup first.
"""

import os
import secrets
import stat
from pathlib import Path

from hub import accounts, certificates
from hub.accounts import REGISTER
from hub.ejabberd import Ejabberd
from hub.errors import HubError
from hub.local import SOCKET
from hub.production import render
from hub.production.city import City, Node

WAIT_SECONDS = 60  # for a node that runs, at the first start of one that is not the desk
COOKIE = ".erlang.cookie"  # Erlang reads it from its HOME, and refuses it when others may
REFUSED = "refused"  # a file: why erl ended itself
NEW = "new"  # a file: the secrets were made by a start that has not succeeded yet

# erl runs -s and -eval in order. Before ejabberd starts: join a running node. ejabberd's own join starts it at the end, which fails here,
# where nothing it needs runs yet; so nobody is served before the node has joined. Afterwards: whether it is one with all that run.
_RUNNING = """
    Running = fun(Node) -> net_adm:ping(Node) =:= pong andalso
        lists:keymember(ejabberd, 1, rpc:call(Node, application, which_applications, [], 5000)) end,
"""
_JOIN = (
    _RUNNING
    + """
    Peers = [list_to_atom(Name) || Name <- string:tokens(os:getenv("CRUISERS_PEERS"), " ")],
    Find = fun Find(Turns) -> case lists:filter(Running, Peers) of
        [Node | _] -> atom_to_list(Node);
        [] when Turns =< 1 -> "";
        [] -> timer:sleep(250), Find(Turns - 1) end end,
    Found = Find(list_to_integer(os:getenv("CRUISERS_TURNS"))),
    case {Found, os:getenv("CRUISERS_ALONE")} of
        {"", "no"} -> file:write_file(os:getenv("CRUISERS_REFUSED"), "no other node runs: start the first one"), halt(3);
        {"", "yes"} -> ok;
        {Master, _} -> ejabberd_cluster_mnesia:join(list_to_atom(Master)) end.
"""
)
_JOINED = (
    _RUNNING
    + """
    Strangers = [Other || Other <- [list_to_atom(Name) || Name <- string:tokens(os:getenv("CRUISERS_OTHERS"), " ")],
        Running(Other), not lists:member(Other, ejabberd_cluster:get_nodes())],
    case Strangers of
        [] -> ok;
        _ -> file:write_file(os:getenv("CRUISERS_REFUSED"), io_lib:format(
            "~p runs, but not as one with this node: ~s", [hd(Strangers), os:getenv("CRUISERS_REMOVE")])), halt(3) end.
"""
)
_GUARD = """
    {ok, Ours} = file:list_dir(os:getenv("CRUISERS_SECRETS")),
    Theirs = [User || {User, _} <- ejabberd_auth:get_users(list_to_binary(os:getenv("CRUISERS_DOMAIN")))],
    case os:getenv("CRUISERS_NEW") =:= "yes" andalso [User || User <- Theirs, not lists:member(binary_to_list(User), Ours)] of
        [_ | _] -> file:write_file(os:getenv("CRUISERS_REFUSED"),
            "the database has accounts and this node no secrets: restore its backup, or name an empty database"), halt(3);
        _ -> ok end.
"""
_MNESIA = "Failed to start Erlang application 'mnesia'"  # what ejabberd says where the running nodes have another schema
_REMOVE = "remove db/ in this node's folder and start it again (what lasts is in PostgreSQL)"
_DONE = """
    ok = file:write_file(os:getenv("CRUISERS_REGISTERED"), <<>>).
"""


class ClusterNode(Ejabberd):
    """The ejabberd of `node` in `home`, laid out as the single hub's is."""

    def __init__(self, home: Path, city: City, node: Node, files: certificates.Files, libraries: Path) -> None:
        super().__init__(home, render.addresses(city, node), files, libraries)
        self._city, self._node, self._files = city, node, files

    async def start(self) -> None:
        """Start and wait until it listens, has joined, and (the desk) every account is there; raises HubError."""
        for name, text in (
            ("cluster.yml", render.configuration(self._city, self._node, self._files, SOCKET)),
            ("distribution.conf", render.distribution(self._files)),
        ):
            _write_private(self._home / name, text)
        refused = self._home / REFUSED
        refused.unlink(missing_ok=True)
        try:
            await super().start()
        except HubError as error:
            if refused.exists():
                raise HubError(refused.read_text("utf-8")) from error
            if _MNESIA in (self._home / "log" / "console.log").read_text("utf-8", "replace"):
                raise HubError(f"{self._home / 'db'} is of another cluster, or damaged: {_REMOVE}") from error
            raise
        (self._home / NEW).unlink(missing_ok=True)

    def _command(self) -> list[str]:
        command = super()._command()
        begin = command.index("-s")  # "-s", "ejabberd", "-eval", REGISTER
        desk = self._city.is_desk(self._node)
        return [
            *command[:begin], "-name", self._node.erlang, "-erl_epmd_port", str(self._city.distribution_port),
            "-proto_dist", "inet_tls", "-ssl_dist_optfile", str(self._home / "distribution.conf"),
            "-kernel", "inet_dist_use_interface", "{" + self._node.host.replace(".", ",") + "}",
            "-eval", _JOIN, "-s", "ejabberd", "-eval", _JOINED, *(("-eval", _GUARD, "-eval", REGISTER) if desk else ("-eval", _DONE)),
        ]  # fmt: skip

    def _environment(self, configuration: Path, registered: Path) -> dict[str, str]:
        known = (self._home / "db" / "schema.DAT").exists()
        desk = self._city.is_desk(self._node)
        others = " ".join(other.erlang for other in self._city.others(self._node))
        return super()._environment(self._home / "cluster.yml", registered) | {
            "CRUISERS_OTHERS": others,
            "CRUISERS_REMOVE": _REMOVE,
            "CRUISERS_PEERS": "" if known else others,
            "CRUISERS_TURNS": str(1 if known or desk else WAIT_SECONDS * 4),
            "CRUISERS_ALONE": "yes" if known or desk else "no",
            "CRUISERS_NEW": "yes" if (self._home / NEW).exists() else "no",
            "CRUISERS_REFUSED": str(self._home / REFUSED),
        }


def prepare(home: Path, city: City, node: Node) -> certificates.Files:
    """Certificates, cookie and, on the desk, the secrets of admin and center; returns the certificates. Raises HubError.

    What the desk makes (tls/ without ca-key.pem, and the cookie) is copied to the others by hand.
    """
    cookie = home / COOKIE
    if not city.is_desk(node):
        files = certificates.Files(*(home / "tls" / name for name in ("ca.pem", "server.pem", "server-key.pem")))
        for file in (*files, cookie):
            if not file.is_file():
                raise HubError(f"{file}: not there: copy it from node {city.nodes[0].name}")
    else:
        files = certificates.ensure(home / "tls", city.domain, node.host)
        if not cookie.exists():
            _write_private(cookie, secrets.token_urlsafe(32), 0o400)
        if not accounts.all_accounts(home / "secrets"):
            (home / NEW).touch()
        accounts.ensure_secrets(home / "secrets", [accounts.ADMIN, accounts.CENTER])
    for file in (files.server_key, cookie):
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise HubError(f"{file}: others may read it: chmod 400")
    return files


def _write_private(file: Path, text: str, mode: int = 0o600) -> None:
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as out:
        out.write(text)
    new.rename(file)
