"""The short form of tests/crash runs in `make test`, the long one behind `make crash` (CRASH_LONG=1)."""

import os

LONG = bool(os.environ.get("CRASH_LONG"))
