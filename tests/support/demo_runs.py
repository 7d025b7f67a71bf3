"""The demo as a person runs it: `cruisers demo` in a process of its own, with its own home folder."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

START_SECONDS = 90.0


class RunningDemo:
    """`cruisers demo ARGUMENTS --home HOME`; killed with its children if a test leaves it running."""

    def __init__(self, home: Path, *arguments: str):
        self.home = home
        self.json_file = home.with_suffix(".json")
        command = [sys.executable, "-m", "cruisers", "demo", "--home", str(home), "--json", str(self.json_file), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def wait(self, timeout: float) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err

    def outcome(self) -> dict[str, Any]:
        """What it wrote by --json."""
        loaded: dict[str, Any] = json.loads(self.json_file.read_text())
        return loaded

    def child(self, module: str) -> int:
        """The process id of its newest child that runs `python -m MODULE`; waits for it."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the demo ended early"
            found = [pid for pid, words in processes() if words[1:3] == ["-m", module] and str(self.home) in " ".join(words)]
            if found:
                return max(found)
            time.sleep(0.1)
        raise AssertionError(f"no process {module} within {START_SECONDS} s")


def processes() -> Iterator[tuple[int, list[str]]]:
    """(pid, command line) of all processes."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it ended meanwhile
            yield int(folder.name), words


def listening(pid: int) -> list[tuple[str, int]]:
    """The TCP addresses (address, port) on which the process `pid` and its descendants listen (proc(5): /proc/net/tcp, state 0A)."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue  # it ended meanwhile
    family = {pid}
    for _ in range(5):
        family |= {child for child, parent in parents.items() if parent in family}
    sockets = set()
    for member in family:
        for descriptor in Path(f"/proc/{member}/fd").glob("*"):
            try:
                sockets.add(os.readlink(descriptor))
            except OSError:
                continue  # closed meanwhile
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in [line.split() for line in Path(table).read_text().splitlines()[1:]] if Path(table).exists() else []:
            if row[3] == "0A" and f"socket:[{row[9]}]" in sockets:
                address, port = row[1].split(":")
                family4 = len(address) == 8
                text = socket.inet_ntop(socket.AF_INET, bytes.fromhex(address)[::-1]) if family4 else address
                found.append((text, int(port, 16)))
    return found


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Until `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
