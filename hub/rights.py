"""What the hub was told beyond its accounts: open data, readers, further devices, revoked names; `rights.json` in its folder.

Accounts are the folder of secrets (hub/accounts.py); this file says what they may see. It is read at each start, so what a command
changed holds over restarts; several commands at once wait for each other. Lost or never written: nobody but the center reads.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hub.errors import HubError

FILE = "rights.json"


class Rights(msgspec.Struct, forbid_unknown_fields=True):
    """`open_data`: {truck or device: also packed}; `readers`: {account, or JID of a federated domain: trucks and devices}; `devices`: {SoX
    device that is no truck: the account that writes it}; names of revoked accounts."""

    open_data: dict[str, bool] = {}
    readers: dict[str, list[str]] = {}
    devices: dict[str, str] = {}
    revoked: list[str] = []

    def readers_of(self, device: str) -> list[str]:
        """Who reads the truck or device besides the center."""
        return [reader for reader, devices in self.readers.items() if device in devices]

    def written_by(self, account: str) -> list[str]:
        """The further devices that `account` writes."""
        return [device for device, writer in self.devices.items() if writer == account]


def read(home: Path) -> Rights:
    """The rights in `home`, none if nothing was ever said; raises HubError."""
    try:
        return msgspec.json.decode((home / FILE).read_bytes(), type=Rights)
    except FileNotFoundError:
        return Rights()
    except OSError as error:
        raise HubError(f"{home / FILE}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise HubError(f"{home / FILE}: {error}") from error


@contextmanager
def changing(home: Path) -> Iterator[Rights]:
    """The rights to change; written, durably, when the block ends without an exception. Others wait meanwhile."""
    descriptor = os.open(home / f"{FILE}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        rights = read(home)
        yield rights
        new = home / f"{FILE}.new"
        with open(new, "wb") as out:
            os.fchmod(out.fileno(), 0o600)
            out.write(msgspec.json.format(msgspec.json.encode(rights)) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        new.rename(home / FILE)
    finally:
        os.close(descriptor)
