"""Programs of other people against a simulated kernel: buses in this process, programs as processes of their own."""

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sim.bus import I2CBus, I2CChip, UartChip, UartLine
from sim.chips.faces import RegisterFace
from sim.clock import Clock, boottime_ns
from sim.faults import Faults
from sim.kernel.fake import BUSES, SOCKET
from sim.kernel.port import Port
from sim.kernel.server import KernelServer
from sim.run import environment


class Memory(RegisterFace):
    """256 bytes at `address`; register n holds n at first."""

    SENSOR = "memory"

    def __init__(self, address: int = 0x50) -> None:
        super().__init__()
        self.address = address
        self.power_cycle()

    def power_cycle(self) -> None:
        """As new."""
        self.content = bytearray(range(256))

    def get(self, register: int) -> int:
        return self.content[register]

    def put(self, register: int, value: int) -> None:
        self.content[register] = value

    def advance(self, now_us: int) -> None:
        """Nothing happens by itself."""


class Kernel:
    """Runs programs with /dev/i2c-1 before them."""

    def __init__(self, server: KernelServer, memory: Memory) -> None:
        self.server = server
        self.memory = memory
        self.environment = environment({SOCKET: server.name, BUSES: "1"})

    def run(self, program: str, *arguments: str, extra: Mapping[str, str] | None = None, python: str = sys.executable) -> str:
        """The output of a Python program, which must end well."""
        done = subprocess.run(
            [python, "-c", textwrap.dedent(program), *arguments],
            env={**self.environment, **(extra or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def port(link: Path, chip: UartChip, baud: int, age_s: int = 0) -> Iterator[Path]:
    """A serial port at `link` with `chip` behind it, which has run for `age_s` when the port opens."""
    age_ns = 0
    line = UartLine(chip, Clock(lambda: boottime_ns() + age_ns), baud)
    age_ns = age_s * 1_000_000_000
    opened = Port(line, threading.Lock(), link)
    opened.start()
    try:
        yield link
    finally:
        opened.stop()
        assert opened.error is None, opened.error


@contextmanager
def kernel(*chips: I2CChip, faults: Faults | None = None) -> Iterator[Kernel]:
    """A bus with a Memory at 0x50, and `chips`."""
    memory = Memory()
    server = KernelServer({1: I2CBus((memory, *chips), Clock(), faults)}, threading.Lock())
    server.start()
    try:
        yield Kernel(server, memory)
    finally:
        server.stop()
        assert server.error is None, server.error


def cruisers(*arguments: str, timeout: float = 60, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The command `cruisers`."""
    return subprocess.run(
        [sys.executable, "-m", "cruisers", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        encoding=variables.get("PYTHONIOENCODING", "utf-8"),
        timeout=timeout,
        check=False,
    )
