"""The machine that the doctor looks at: its /sys and /proc, and the commands of others that it asks. Tests give other roots and another
PATH."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

COMMAND_SECONDS = 4.0
SEARCH = "/usr/sbin:/sbin:/usr/bin:/bin"  # a technician's PATH lacks the first two on Debian


class Done(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The last line of what it said, errors first."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return lines[-1] if lines else f"exit code {self.code}"


@dataclass(frozen=True)
class Machine:
    """`path`: where commands are looked for; by default PATH and the system's folders."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")
    path: str | None = None

    def run(self, *command: str, seconds: float = COMMAND_SECONDS) -> Done | None:
        """The answer of a command, in English; None where there is no such command. Raises TimeoutError, OSError."""
        search = self.path if self.path is not None else f"{os.environ.get('PATH', '')}:{SEARCH}"
        program = shutil.which(command[0], path=search)
        if program is None:
            return None
        try:
            done = subprocess.run(
                [program, *command[1:]],
                capture_output=True, text=True, errors="replace", timeout=seconds, check=False, stdin=subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C", "PATH": search},
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{command[0]} did not answer within {seconds:g} s") from error
        return Done(done.returncode, done.stdout, done.stderr)


def text(path: Path) -> str | None:
    """The one line of a file of /sys or /proc; None where it is not there, or says nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
