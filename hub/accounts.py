"""Accounts: random passwords in files of the owner's alone, registered by ejabberd itself while it starts.

The folder of secrets says who has an account: `admin`, `center`, `reader-NAME`, `writer-NAME`, and every other file is a truck. Nothing
over the network makes an account (no in-band registration, no Erlang distribution); a running hub takes new ones through the Unix socket
in its own folder (hub/changes.py). The hub stores SCRAM-SHA-256 keys, not passwords.

An account whose secret is gone is shut out while ejabberd starts (a password nobody knows) and removed by hub/changes.py after its
rights are: ejabberd's pubsub deletes the items of a removed account that still has rights, and they belong to the city.
"""

import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from hub.errors import HubError
from sox.nodes import BadName, check_truck

ADMIN = "admin"  # owns all nodes; used by the hub only
CENTER = "center"
READER_PREFIX = "reader-"  # ejabberd's rules know readers by it; no truck may have such a name
WRITER_PREFIX = "writer-"  # the same for who writes further devices, such as a bridge

# Runs inside ejabberd after its start (erl runs -s and -eval in order; a failure ends the whole node). Passwords never stand on a
# command line. The last step makes the file that says: every account is there.
REGISTER = """
    {ok, Host} = {ok, list_to_binary(os:getenv("CRUISERS_DOMAIN"))},
    Folder = os:getenv("CRUISERS_SECRETS"),
    {ok, Listed} = file:list_dir(Folder),
    Names = [Name || Name <- Listed, not lists:member($., Name)],
    [ok = ejabberd_auth:set_password(User, Server, base64:encode(crypto:strong_rand_bytes(32)))
     || {User, Server} <- ejabberd_auth:get_users(Host), not lists:member(binary_to_list(User), Names)],
    [begin
        {ok, Password} = file:read_file(filename:join(Folder, Name)),
        User = list_to_binary(Name),
        case ejabberd_auth:try_register(User, Host, Password) of
            ok -> ok;
            {error, exists} -> ok = ejabberd_auth:set_password(User, Host, Password)
        end
     end || Name <- Names],
    ok = file:write_file(os:getenv("CRUISERS_REGISTERED"), <<>>).
"""


def check_trucks(trucks: Sequence[str]) -> list[str]:
    """`trucks`, each a possible name and there once; raises HubError."""
    for name in trucks:
        try:
            check_truck(name)
        except BadName as error:
            raise HubError(str(error)) from error
        if name in (ADMIN, CENTER):
            raise HubError(f"truck name {name!r} is the name of another account of the hub")
        for prefix in (READER_PREFIX, WRITER_PREFIX):
            if name.startswith(prefix):
                raise HubError(f"truck name {name!r}: names of {prefix.removesuffix('-')}s begin with {prefix!r}")
        if trucks.count(name) > 1:
            raise HubError(f"truck name {name!r} is given twice")
    return list(trucks)


def reader(name: str) -> str:
    """The account of the reader `name` (given with or without the prefix); raises HubError."""
    return _prefixed(READER_PREFIX, name)


def writer(name: str) -> str:
    """The account of the writer `name` of further devices (given with or without the prefix); raises HubError."""
    return _prefixed(WRITER_PREFIX, name)


def _prefixed(prefix: str, name: str) -> str:
    try:
        return prefix + check_truck(name.removeprefix(prefix))
    except BadName as error:
        raise HubError(str(error).replace("truck name", f"{prefix.removesuffix('-')} name")) from error


def truck_accounts(folder: Path) -> list[str]:
    """The trucks that have an account, sorted."""
    return [name for name in all_accounts(folder) if name not in (ADMIN, CENTER) and not name.startswith((READER_PREFIX, WRITER_PREFIX))]


def all_accounts(folder: Path) -> list[str]:
    """All accounts, sorted; none where the hub was never started."""
    try:
        return sorted(file.name for file in folder.iterdir() if "." not in file.name)
    except FileNotFoundError:
        return []


def ensure_secrets(folder: Path, users: Iterable[str]) -> None:
    """A file with a random password (256 bit) for each of `users` in `folder`, 0600; those that exist are kept."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for user in users:
        file = folder / user
        if file.exists() and file.stat().st_size:
            continue
        new = folder / f"{user}.new"  # the dot keeps a half-written one from being registered
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(secrets.token_urlsafe(32))
        new.rename(file)
