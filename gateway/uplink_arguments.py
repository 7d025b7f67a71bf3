"""Command lines of uplink and sweeper: what is wrong with one is one line on stderr and exit code 2."""

import argparse
import math
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser without the usage text before an error."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(2)


def seconds(text: str) -> float:
    """A time of 0 s or more; raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds")
    return value
