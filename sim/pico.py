"""A Pico's flash without the Pico: a file with a LittleFS that the real MicroPython mounts, starts from, and loses power over.

`tests/firmware` and `make brick` cut updates with it. What is imitated stands in sim/micropython/pico_flash.py."""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FLASH_BYTES = 352 * 4096
HEAP_KB = 192  # MicroPython's heap on the RP2040
SHIM_BYTES = 12_960  # what pico_flash.py takes of it, which is C in a board's firmware
_BOARD = Path(__file__).resolve().parent / "micropython" / "pico_flash.py"
_LIMIT_S = 60
LOG_BYTES = 2048  # the same, of its record
_RECORD = struct.Struct("<BII")
_NEVER_RETURNED = 70


class PicoError(Exception):
    """The simulation itself failed: what MicroPython said, at its end."""


@dataclass(frozen=True)
class Use:
    """One use of the flash: `kind` "r", "p" or "e" (read, program, erase), position and size in bytes, the bytes of a program."""

    kind: str
    position: int
    size: int
    data: bytes = b""


class Pico:
    """A board whose flash is the file `flash`. `host` is the folder that its programs see as /host. `log`: where each run writes down every
    use of the flash, None: nowhere.

    `forks`: each run is a fork of this process with a MicroPython that starts in it, which saves a Python's start; the run is as fresh as
    in a process of its own. Only for a process without threads."""

    def __init__(self, flash: Path, host: Path, log: Path | None = None, *, forks: bool = False) -> None:
        self.flash = flash
        self.host = host
        self.log = log
        self.forks = forks
        self.operations = 0  # programs and erases of the last run
        self.output = b""  # of the last run

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

    def uses(self) -> Iterator[Use]:
        """Of the flash, in the last run, in order."""
        assert self.log is not None
        record = self.log.read_bytes()
        at = 0
        while at < len(record):
            kind, position, size = _RECORD.unpack_from(record, at)
            at += _RECORD.size
            data = record[at : at + size] if kind == ord("p") else b""
            at += len(data)
            yield Use(chr(kind), position, size, data)

    def _run(self, what: str, cut: int, part: str) -> list[str]:
        log = [str(self.log)] if self.log else []
        heap = HEAP_KB * 1024 + SHIM_BYTES + (LOG_BYTES if log else 0)
        arguments = ["-X", f"heapsize={heap}", str(_BOARD), str(self.flash), str(cut), part, str(self.host), what, *log]
        self.output, errors = (_forked if self.forks else _in_a_process)(arguments)
        lines = self.output.decode(errors="replace").splitlines()  # a real version speaks in frames
        if not lines or not lines[-1].startswith("#operations "):
            raise PicoError((self.output + errors)[-2000:].decode(errors="replace"))
        self.operations = int(lines[-1].split()[1])
        return lines[:-1]


def _in_a_process(arguments: list[str]) -> tuple[bytes, bytes]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "micropython_unix", *arguments],
        env=dict(os.environ, MICROPYPATH=".frozen"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT_S,
        check=False,
    )
    return done.stdout, done.stderr


def _forked(arguments: list[str]) -> tuple[bytes, bytes]:
    import micropython_run  # type: ignore[import-not-found]  # the C half of micropython_unix

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(_LIMIT_S)
            os.environ["MICROPYPATH"] = ".frozen"
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(write, 1)
            os.dup2(write, 2)
            micropython_run.run_main(["micropython", *arguments])
        finally:
            os._exit(_NEVER_RETURNED)
    os.close(write)
    output = bytearray()
    while piece := os.read(read, 65536):
        output += piece
    os.close(read)
    os.waitpid(child, 0)
    return bytes(output), b""
