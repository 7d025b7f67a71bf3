"""Takes the screenshots of docs/technician.md: python docs/take_screens.py (two minutes; it changes the document).

Real commands in a terminal of 80 x 24 on simulated boards (`cruisers sim head`), one of them without its light sensor. A block stands
behind `<!-- screen NAME -->`; its first line is the command. Times, ports and values are those of the run: a test looks at widths and
commands."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rich.cells import cell_len  # noqa: E402

from sim.chips.board import STANDARD  # noqa: E402
from sim.processes import as_hardware, as_program  # noqa: E402
from sim.unit import Unit  # noqa: E402

DOCUMENT = ROOT / "docs" / "technician.md"
WIDTH, HEIGHT = 80, 24
LINK = "ttyHEAD"  # and a number
LACKING = "opt3001"
PATIENCE_S = 300.0
CONSOLE_S = 8.0

TRUCK = """
name = "truck-005"
spool = "spool"
live_socket = "live.sock"

[hub]
domain = "cruisers.test"
host = "127.0.0.1"
port = 5222
ca_file = "ca.pem"
password_file = "password"

[head]
port = "{port}"
"""


class Screen:
    """As much of a terminal as rich needs: lines that scroll, cursor up, erase."""

    _CODE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")

    def __init__(self) -> None:
        self._rows: list[list[str]] = [[]]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """What a program writes; escape sequences come whole."""
        at = 0
        while at < len(text):
            code = self._CODE.match(text, at)
            if code is not None:
                self._obey(code[1], code[2])
                at = code.end()
                continue
            self._put(text[at])
            at += 1

    def _obey(self, numbers: str, letter: str) -> None:
        if letter == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif letter == "K":
            del self._rows[self._row][0 if numbers == "2" else self._column :]
        elif letter == "J":
            del self._rows[self._row + 1 :]

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row += 1
            if self._row == len(self._rows):
                self._rows.append([])
        elif character >= " ":
            row = self._rows[self._row]
            row += [" "] * (self._column - len(row))
            cells = [character, *[""] * (cell_len(character) - 1)]
            row[self._column : self._column + len(cells)] = cells
            self._column += len(cells)

    def lines(self) -> list[str]:
        """What stands there, without the empty lines at the end."""
        shown = ["".join(row).rstrip() for row in self._rows]
        while shown and not shown[-1]:
            shown.pop()
        return shown


Score = Callable[[str], int]


def run(
    command: Sequence[str], folder: Path, score: Score = lambda text: 1, end_s: float = 0.0, lang: str = "en_US.UTF-8"
) -> list[list[str]]:
    """A `cruisers` command in a terminal: the screen at its best moment (highest `score`, the latest of those), and the last one.
    After `end_s` it gets Ctrl-C."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (HEIGHT, WIDTH))
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": lang, "PYTHONPATH": str(ROOT)}
    for name in ("COLUMNS", "LINES", "LC_ALL", "NO_COLOR"):
        environment.pop(name, None)
    words = [sys.executable, "-m", "cruisers", *command]
    screen, best, most = Screen(), [], 0
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=as_program
    ) as process:
        os.close(slave)
        until = time.monotonic() + (end_s or PATIENCE_S)
        for text in _read(master, until):
            screen.feed(text)
            now = score("\n".join(screen.lines()))
            if now and now >= most:
                best, most = screen.lines(), now
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        screen.feed("".join(_read(master, time.monotonic() + PATIENCE_S)))
        process.wait(60)
    os.close(master)
    return [best, screen.lines()]


def _read(master: int, until: float) -> Iterator[str]:
    """What a program writes, in pieces that end outside of escape sequences, until it ends or the time is over."""
    held = b""
    os.set_blocking(master, False)
    while time.monotonic() < until:
        try:
            data = os.read(master, 65536)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        except OSError:  # the program has closed its terminal
            return
        held += data
        cut = held.rfind(b"\x1b")
        whole = len(held) if cut < 0 or re.match(rb"\x1b\[[?0-9;]*[A-Za-z]", held[cut:]) else cut
        try:
            text = held[:whole].decode()
        except UnicodeDecodeError:  # half a character at the end
            continue
        held = held[whole:]
        yield text


@contextmanager
def desk(folder: Path) -> Iterator[tuple[list[str], Unit]]:
    """Four blank boards by `cruisers sim head`, and a fifth that lacks a part; yields what the command said, and the fifth."""
    command = ["sim", "head", "--blank", "--units", "4", "--link", LINK]
    words = [sys.executable, "-m", "cruisers", *command]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().rstrip().replace(f"{folder}/", "") for _ in range(8)]
        fit = [part for part in STANDARD if part != LACKING]
        lame = Unit(folder / "unit5", bytes.fromhex("e6614c311b7d4f05"), fit=fit, link=folder / f"{LINK}5")
        try:
            lame.wait_plugged()
            yield [shown("cruisers", *command), *said], lame
        finally:
            lame.stop()
            process.send_signal(signal.SIGINT)


def shown(*words: str) -> str:
    """A command as a person types it, within the width."""
    line, lines = "$", []
    together = re.sub(r"(--[a-z]+) (?!-)", r"\1\0", " ".join(words)).split(" ")  # an option and its value
    for word in (one.replace("\0", " ") for one in together):
        if cell_len(f"{line} {word} \\") > WIDTH:
            lines.append(f"{line} \\")
            line = "     "
        line += f" {word}"
    return "\n".join([*lines, line])


def taken(folder: Path) -> dict[str, list[str]]:
    """Every screenshot by its name."""
    pictures = {}
    with desk(folder) as (pictures["sim"], lame):
        one = ["flash", "--port", f"{LINK}1", "--truck", "truck-001", "--passports", "units"]
        during, after = run(one, folder, lambda text: "write" in text)
        pictures["flash-during"] = [shown("cruisers", *one), *during]
        pictures["flash"] = [shown("cruisers", *one), *after]
        many = ["flash", *(word for number in range(1, 6) for word in ("--port", f"{LINK}{number}"))]
        many += [*(word for number in range(1, 6) for word in ("--truck", f"truck-{number:03}")), "--passports", "units"]
        stages = ("compare", "write", "self-test", "prove", "done")
        during, after = run(many, folder, lambda text: 0 if "outcome" in text else sum(stage in text for stage in stages))
        pictures["all-during"] = [shown("cruisers", *many), *during]
        pictures["all"] = [shown("cruisers", *many), *after]
        console = ["head", "console", "--port", f"{LINK}1"]
        pictures["console"] = [shown("cruisers", *console), *run(console, folder, end_s=CONSOLE_S)[0]]
        lame.power_on()  # what it says at its start is soon gone from its ring
        lame.wait_plugged()
        lacking = ["head", "console", "--port", f"{LINK}5", "--once"]
        pictures["console-lacking"] = [shown("cruisers", *lacking), *run(lacking, folder)[1]]
        (folder / "truck.toml").write_text(TRUCK.format(port=folder / f"{LINK}5"))
        doctor = ["doctor", "--config", "truck.toml", "--only", "head", "--only", "sensors"]
        for language in ("en_US.UTF-8", "ja_JP.UTF-8"):
            pictures[f"doctor-{language[:2]}"] = [shown("cruisers", *doctor), *run(doctor, folder, lang=language)[1]]
    return {name: [line.replace(f"{folder}/", "") for line in lines] for name, lines in pictures.items()}


def main() -> None:
    """Takes all of them and puts them into the document."""
    document = DOCUMENT.read_text()
    as_hardware()
    with tempfile.TemporaryDirectory(prefix="desk-", dir="/tmp") as folder:
        pictures = taken(Path(folder).resolve())
    for name, lines in pictures.items():
        block = re.compile(rf"(?<=<!-- screen {name} -->\n```text\n).*?(?=```)", re.DOTALL)
        if block.search(document) is None:
            sys.exit(f"{DOCUMENT}: no place for screen {name}")
        picture = "\n".join(lines) + "\n"
        document = block.sub(lambda _, picture=picture: picture, document, count=1)
    DOCUMENT.write_text(document)


if __name__ == "__main__":
    main()
