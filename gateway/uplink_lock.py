"""The lock of one duty on a spool. That of the ledger is held by the uplink for as long as it runs, or by the sweeper that stands in for
one that is not there."""

import fcntl
import time
from pathlib import Path
from typing import IO

UPLINK = "uplink"
_LOOK_SECONDS = 0.05


class InUse(Exception):
    """Another process has this duty on the spool."""


def lock(spool: Path, seconds: float = 0.0, duty: str = UPLINK) -> IO[str]:
    """The lock `<spool>/<duty>.lock`, held until closed or killed; waits up to `seconds` for it. Raises InUse, OSError."""
    file = (spool / f"{duty}.lock").open("w")
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError as error:
            if time.monotonic() >= until:
                file.close()
                raise InUse(f"another {duty} already works on {spool}") from error
        time.sleep(_LOOK_SECONDS)
