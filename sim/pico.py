"""A Pico's flash without the Pico: a file with a LittleFS that the real MicroPython mounts, starts from, and loses power over.

`tests/firmware` and `make brick` cut updates with it. What is imitated stands in sim/micropython/pico_flash.py."""

import os
import subprocess
import sys
from pathlib import Path

FLASH_BYTES = 352 * 4096
HEAP_KB = 192  # MicroPython's heap on the RP2040
SHIM_KB = 12  # what pico_flash.py takes of it, which is C in a board's firmware
_BOARD = Path(__file__).resolve().parent / "micropython" / "pico_flash.py"
_LIMIT_S = 60


class PicoError(Exception):
    """The simulation itself failed: what MicroPython said, at its end."""


class Pico:
    """A board whose flash is the file `flash`. `host` is the folder that its programs see as /host."""

    def __init__(self, flash: Path, host: Path) -> None:
        self.flash = flash
        self.host = host
        self.operations = 0  # programs and erases of the last run

    def blank(self) -> None:
        """A new chip, as MicroPython formats it at its first start."""
        self.flash.write_bytes(b"\xff" * FLASH_BYTES)
        self._run("blank", -1, "0")

    def copy(self, flash: Path) -> "Pico":
        """Another board with the same flash."""
        flash.write_bytes(self.flash.read_bytes())
        return Pico(flash, self.host)

    def start(self, cut: int = -1, part: str = "0") -> list[str]:
        """The board's start after a reset; the lines it says, `#waits` in maintenance, `#REPL` where no program runs, `#off` when the power
        was cut (in operation `cut` after `part` of its bytes: a number, "half", "less")."""
        return self._run("start", cut, part)

    def run(self, script: str, cut: int = -1, part: str = "0") -> list[str]:
        """The board's boot.py and then `script` of the host's folder, as in a raw REPL."""
        return self._run(script, cut, part)

    def _run(self, what: str, cut: int, part: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "micropython_unix", "-X", f"heapsize={HEAP_KB + SHIM_KB}k"]
            + [str(_BOARD), str(self.flash), str(cut), part, str(self.host), what],
            env=dict(os.environ, MICROPYPATH=".frozen"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",  # a real version speaks in frames
            timeout=_LIMIT_S,
            check=False,
        )
        lines = done.stdout.splitlines()
        if not lines or not lines[-1].startswith("#operations "):
            raise PicoError((done.stdout + done.stderr)[-2000:])
        self.operations = int(lines[-1].split()[1])
        return lines[:-1]
