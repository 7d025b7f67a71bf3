"""How a truck or the center reaches the hub: the address as it stands in a configuration file, the account's password, and how long
to wait between two tries."""

import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from sox.errors import SoxError

if TYPE_CHECKING:
    from sox.client import SoxClient

BACK_OFF_SECONDS = 1.0
BACK_OFF_MOST_SECONDS = 60.0  # a truck that comes out of a tunnel is back within a minute
STEADY_SECONDS = 30.0  # a connection that lived this long ends a series of failures

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Hub(msgspec.Struct, forbid_unknown_fields=True):
    """The SoX hub: its domain, where it listens, the certificate authority that signed it, and the file with the account's password."""

    domain: str
    host: str
    port: Port
    ca_file: str
    password_file: str

    def unreadable_file(self) -> str | None:
        """The first of the two files that cannot be read, with the reason in one line; None if both can."""
        for path in (self.password_file, self.ca_file):
            try:
                Path(path).read_bytes()
            except OSError as error:
                return f"{path}: {error.strerror}"
        return None

    def client(self, user: str) -> "SoxClient":
        """A client for the account `user`. The password is read anew each time, so that it can be changed without a restart.

        Blocks for the file; raises SoxError.
        """
        from sox.client import SoxClient  # XMPP: 8 MB, and time to start, that recorder, sweeper and the center's workers never need

        try:
            password = Path(self.password_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SoxError("not-authorized", f"{self.password_file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SoxError("not-authorized", f"{self.password_file}: not text in UTF-8") from error
        return SoxClient(f"{user}@{self.domain}", password, self.host, self.port, self.ca_file)


def back_off(failures: int, first: float = BACK_OFF_SECONDS, most: float = BACK_OFF_MOST_SECONDS) -> float:
    """Seconds to wait after `failures` failures in a row (>= 1): doubling, at most `most`, half of it random."""
    return min(most, first * 2.0 ** min(failures - 1, 32)) * random.uniform(0.5, 1.0)
