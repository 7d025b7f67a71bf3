"""The lock of a spool's ledger: held by the uplink for as long as it runs, or by the sweeper that stands in for one that is not there."""

import fcntl
import time
from pathlib import Path
from typing import IO

LOCK_NAME = "uplink.lock"
_LOOK_SECONDS = 0.05


class InUse(Exception):
    """Another process holds this spool's ledger."""


def lock(spool: Path, seconds: float = 0.0) -> IO[str]:
    """The spool's lock, held until closed or killed; waits up to `seconds` for it. Raises InUse, OSError."""
    file = (spool / LOCK_NAME).open("w")
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError as error:
            if time.monotonic() >= until:
                file.close()
                raise InUse(f"another uplink already works on {spool}") from error
        time.sleep(_LOOK_SECONDS)
