"""Changes to accounts and rights: trucks, readers and devices come, a stolen truck goes, data is opened. Live on a running hub, else at
its next start.

What was decided is on the disk first (a secret is there or gone, rights.json), then the running hub is brought up to it, and its next
start does the same again: a command that breaks off half-way is finished by running it again or by a restart. Connected trucks notice
nothing, except that `revoke` voids all upload slots not in use yet, and a truck asks for a new one after any refusal.

A revoked account is cut off first (password, session), then loses its rights, and only then its account: ejabberd deletes what a removed
account published where it still has rights, and that belongs to the city.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from hub import accounts, rights
from hub.errors import HubError
from hub.local import LocalCommands
from hub.nodes import ensure_nodes, take_rights
from hub.running import look
from sox import carsensor
from sox.client import SoxClient
from sox.errors import SoxError

_DEVICE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_REMOTE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}@[a-z0-9-]+(\.[a-z0-9-]+)+")


class Live(NamedTuple):
    """A running hub, under our administration."""

    admin: SoxClient
    commands: LocalCommands


async def add(home: Path, trucks: Sequence[str]) -> list[str]:
    """Accounts and nodes for `trucks`; those that are there keep their password. Returns the new ones; raises HubError."""
    accounts.check_trucks(trucks)
    _check_apart(rights.read(home).devices, trucks)
    new = [truck for truck in trucks if truck not in accounts.all_accounts(home / "secrets")]
    accounts.ensure_secrets(home / "secrets", trucks)
    with rights.changing(home) as given:
        given.revoked = [name for name in given.revoked if name not in trucks]
    await _bring_up(home, trucks, trucks)
    return new


async def open_data(home: Path, trucks: Sequence[str], packed: bool, opened: bool = True) -> None:
    """Declare `trucks` open data (their packed blocks too, if `packed`), or take it back; raises HubError."""
    _check_known(home, trucks)
    with rights.changing(home) as given:
        for truck in trucks:
            given.open_data.pop(truck, None)
            if opened:
                given.open_data[truck] = packed
    await _bring_up(home, (), trucks)


async def add_reader(home: Path, reader: str, trucks: Sequence[str]) -> str:
    """Let `reader` read `trucks`, and what it reads already; a JID is of a federated domain and gets no account here, and a writer of
    further devices has one.

    Returns the account; raises HubError.
    """
    written = reader.startswith(accounts.WRITER_PREFIX) and reader in accounts.all_accounts(home / "secrets")
    account = reader if written or _REMOTE.fullmatch(reader) else accounts.reader(reader)
    _check_known(home, trucks)
    local = [] if "@" in account else [account]
    accounts.ensure_secrets(home / "secrets", local)
    with rights.changing(home) as given:
        given.readers[account] = sorted({*given.readers.get(account, []), *trucks})
        given.revoked = [name for name in given.revoked if name != account]
    await _bring_up(home, local, trucks)
    return account


async def add_devices(home: Path, devices: Sequence[str], writer: str) -> str:
    """Nodes for further SoX devices that `writer` writes: a truck that is there, else an account of its own (`writer-NAME`). A device that
    another wrote until now changes hands. Returns the account; raises HubError."""
    trucks = accounts.truck_accounts(home / "secrets")
    account = writer if writer in trucks else accounts.writer(writer)
    for device in devices:
        if not _DEVICE.fullmatch(device) or device != device.strip():
            raise HubError(f"device {device!r}: use 1 to 200 characters that can be printed, no blank at an end")
    _check_apart(devices, trucks)
    local = [] if account in trucks else [account]
    accounts.ensure_secrets(home / "secrets", local)
    with rights.changing(home) as given:
        given.devices |= dict.fromkeys(devices, account)
        given.revoked = [name for name in given.revoked if name != account]
    await _bring_up(home, local, devices)
    return account


async def add_carsensor(home: Path, truck: str, number: int) -> list[str]:
    """The first fleet's devices of this number (sox/carsensor.py), written by `truck`. Returns their names; raises HubError (also: another
    truck has the number)."""
    names = [carsensor.device(number), carsensor.device_of_samples(number)]
    if truck not in accounts.truck_accounts(home / "secrets"):
        raise HubError(f"no truck {truck!r}")
    for name, account in rights.read(home).devices.items():
        if name in names and account != truck:
            raise HubError(f"{name} is written by {account}")
    await add_devices(home, names, truck)
    return names


async def revoke(home: Path, account: str) -> bool:
    """Take `account` its sessions, password, rights, open slots and, at last, the account. Returns whether a running hub did it all
    (else its next start will); raises HubError (the admin and the center cannot be revoked; an account that is not there)."""
    if account in (accounts.ADMIN, accounts.CENTER):
        raise HubError(
            f"{account!r} cannot be revoked: remove its file in {home / 'secrets'} and restart the hub to give it a new password"
        )
    given = rights.read(home)
    known = account in accounts.all_accounts(home / "secrets") or account in given.readers
    if not known and account not in given.revoked:
        raise HubError(f"no account {account!r}")
    (home / "secrets" / account).unlink(missing_ok=True)
    before = rights.read(home)
    with rights.changing(home) as given:
        reads = given.readers.pop(account, [])
        for name in (account, *(written := given.written_by(account))):
            given.open_data.pop(name, None)
            given.devices.pop(name, None)
        given.revoked = sorted({*given.revoked, account})
    async with _live(home) as live:
        if live is not None:
            own = [account] if "@" not in account and not account.startswith(accounts.WRITER_PREFIX) else []
            await _remove(live, account, {*own, *reads, *written}, before)
    return live is not None


async def remove_unknown(admin: SoxClient, commands: LocalCommands, home: Path) -> None:
    """Remove the accounts whose secret is gone, as revoke() does; raises HubError, SoxError."""
    known, given = accounts.all_accounts(home / "secrets"), rights.read(home)
    unknown = [account for account in await asyncio.to_thread(commands.registered) if account not in known]
    trucks = accounts.truck_accounts(home / "secrets") if unknown else []
    for account in unknown:
        own = trucks if account.startswith((accounts.READER_PREFIX, accounts.WRITER_PREFIX)) else [account]
        await _remove(Live(admin, commands), account, [*own, *given.devices], given)


async def _remove(live: Live, account: str, devices: Iterable[str], given: rights.Rights) -> None:
    local = "@" not in account and account in await asyncio.to_thread(live.commands.registered)
    if local:
        await asyncio.to_thread(live.commands.change_password, account, secrets.token_urlsafe(32))
        await asyncio.to_thread(live.commands.kick, account)
    await take_rights(live.admin, account, devices, given)
    if local:
        await asyncio.to_thread(live.commands.unregister, account)
        await asyncio.to_thread(live.commands.forget_slots)


async def _bring_up(home: Path, users: Iterable[str], devices: Iterable[str]) -> None:
    async with _live(home) as live:
        if live is None:
            return
        there = await asyncio.to_thread(live.commands.registered)
        for user in users:
            if user not in there:
                await asyncio.to_thread(live.commands.register, user, (home / "secrets" / user).read_text("ascii"))
        await ensure_nodes(live.admin, devices, rights.read(home))


@asynccontextmanager
async def _live(home: Path) -> AsyncIterator[Live | None]:
    info = look(home)
    if info is None:
        yield None
        return
    if "c2s_port" not in info:
        raise HubError("the hub is starting: try again when it is ready")
    password = (home / "secrets" / accounts.ADMIN).read_text("ascii")
    admin = SoxClient(f"{accounts.ADMIN}@{info['domain']}", password, info["host"], info["c2s_port"], info["ca_file"])
    try:
        await admin.connect()
        yield Live(admin, LocalCommands(home, info["domain"]))
    except SoxError as error:
        raise HubError(f"the running hub did not do all of it: {error}; do it again") from error
    finally:
        await admin.disconnect()


def _check_known(home: Path, devices: Iterable[str]) -> None:
    known = {*accounts.truck_accounts(home / "secrets"), *rights.read(home).devices}
    for device in devices:
        if device not in known:
            raise HubError(f"no truck {device!r}")


def _check_apart(devices: Iterable[str], trucks: Iterable[str]) -> None:
    """No further device may have nodes that belong to a truck (T_data, T_packed_data, ...)."""
    for device in devices:
        for truck in trucks:
            if device == truck or device.startswith(f"{truck}_"):
                raise HubError(f"device {device!r} would have nodes of the truck {truck!r}")
