"""Accounts: random passwords in files of the owner's alone, registered by ejabberd itself while it starts.

There is no HTTP API, no in-band registration and no Erlang distribution through which an account could be made: the only way in is
the folder of secrets on the hub's own disk. Start the hub again after adding one, or after removing one: an account without a secret
is removed with its rights. The hub stores SCRAM-SHA-256 keys, not passwords.
"""

import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from hub.errors import HubError
from sox.nodes import BadName, check_truck

ADMIN = "admin"  # owns all nodes; used by the hub only
CENTER = "center"

# Runs inside ejabberd after its start (erl runs -s and -eval in order; a failure ends the whole node). Passwords never stand on a
# command line. The last step makes the file that says: every account is there.
REGISTER = """
    {ok, Host} = {ok, list_to_binary(os:getenv("CRUISERS_DOMAIN"))},
    Folder = os:getenv("CRUISERS_SECRETS"),
    {ok, Listed} = file:list_dir(Folder),
    Names = [Name || Name <- Listed, not lists:member($., Name)],
    [ok = ejabberd_auth:remove_user(User, Server)
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
        if trucks.count(name) > 1:
            raise HubError(f"truck name {name!r} is given twice")
    return list(trucks)


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
