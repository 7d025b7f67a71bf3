"""What the hub was told beyond its accounts: open data, readers, revoked names; `rights.json` in its folder.

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
    """`open_data`: {truck: also packed}; `readers`: {account, or JID of a federated domain: trucks}; names of revoked accounts."""

    open_data: dict[str, bool] = {}
    readers: dict[str, list[str]] = {}
    revoked: list[str] = []

    def readers_of(self, truck: str) -> list[str]:
        """Who reads `truck` besides the center."""
        return [reader for reader, trucks in self.readers.items() if truck in trucks]


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
