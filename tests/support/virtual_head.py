"""The head's real program on the real MicroPython in virtual time: an hour takes minutes, and every run with one seed is the same.

The program runs as in sim/head.py, but its clock stands still while it computes (tests/support/virtual). Whenever it waits, the truck's
side comes to its turn: chips and faults go on to the new moment, the frames that the program wrote are read, and the gateway's side
answers. So nothing depends on how fast this machine is."""

import json
import os
import select
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from both_interpreters import BIN, REPO

from firmware import frames
from sim.busserver import BusServer
from sim.chips.board import Board
from sim.chips.faces import Log, Source
from sim.clock import Clock
from sim.compiled import compiled
from sim.faults import Faults
from sim.head import HEAP_KB, SHIM_KB

SHIM = REPO / "sim" / "micropython"
VIRTUAL = Path(__file__).with_name("virtual")
VIRTUAL_KB = 5  # what tests/support/virtual takes of a heap, beside SHIM_KB
US_PER_BYTE = 25
WAIT, NOW, I2C_TRANSFER = 200, 201, 2
UNIQUE_ID = bytes.fromhex("e6614c311b7d4f2a")
PATIENCE = 60.0  # s of real time for one turn of the program


class _Server(BusServer):
    """The bus server with a clock that the program moves. `on_turn()` is called after each wait, in the server's thread."""

    def __init__(self, board: Board, control: "VirtualHead") -> None:
        super().__init__(board.i2c, board.uart, control, board.pins)
        self._head = control

    def _answer(self, connection, operation, body):  # type: ignore[no-untyped-def]
        if operation == WAIT:
            self._head.pass_us(int.from_bytes(body[:4], "little"))
            self._head.turn()
            return struct.pack("<BH", 0, 0)
        if operation == NOW:
            return struct.pack("<BHQ", 0, 8, self._head.now_us)
        answer = super()._answer(connection, operation, body)
        if operation == I2C_TRANSFER and answer is not None and answer[0] == 0:
            read_n = int.from_bytes(body[3:5], "little")
            self._head.pass_us(US_PER_BYTE * (2 + len(body) - 5 + read_n))
        return answer


class VirtualHead:
    """`board(source, log, clock)` makes the chips, or `fit` names them, and the head's list of parts then does so, too; `faults` are in
    front of those. `on_frames(list of
    frames, now µs)` is called in the server's thread at each turn of the program and returns the bytes to send to it. `until(µs)` runs the
    program to that moment of its life. `path` is where its modules are
    (None: the repository's, as bytecode)."""

    def __init__(
        self,
        source: Source,
        log: Log,
        on_frames: Callable[[list[frames.Frame], int], bytes],
        board: Callable[[Source, Log, Clock], Board] = Board,
        program: str = "firmware.main",
        fit: Sequence[str] | None = None,
        faults: Faults | None = None,
        path: Path | None = None,
    ) -> None:
        self._us = 0
        self.clock = Clock(lambda: self._us * 1000, self.pass_us)
        self.board = board(source, log, self.clock) if fit is None else Board(source, log, self.clock, faults, fit)
        self.turns = 0
        self.resets = 0
        self.fed_us: list[int] = []  # longest pause between two feedings of the watchdog, and the last
        self.at: list[tuple[int, Callable[[], None]]] = []  # what the truck does at a moment, sorted, latest first
        self._watchdog_us = 0
        self._on_frames = on_frames
        self._decoder = frames.Decoder()
        self._tail = b""
        self._end_us = 0
        self._reached = threading.Event()
        self._go = threading.Event()
        self._folder = tempfile.TemporaryDirectory(prefix="virtual-head-")
        if fit is not None:
            (Path(self._folder.name) / "parts.json").write_text(json.dumps([{"part": part} for part in fit]))
        self.server = _Server(self.board, self)
        self.server.start()
        modules = f"{VIRTUAL}:{SHIM}:{compiled(REPO) if path is None else path}:.frozen"
        environment = dict(os.environ, MICROPYPATH=modules, CRUISERS_TRUCK_PORT=str(self.server.port))
        heap = f"heapsize={HEAP_KB + SHIM_KB + VIRTUAL_KB}k"
        command = [str(BIN / "micropython"), "-X", heap, str(VIRTUAL / "virtual_boot.py"), program]
        self._errors = open(Path(self._folder.name) / "head.log", "w+b")  # noqa: SIM115  # closed in stop
        self._child = subprocess.Popen(
            command, cwd=self._folder.name, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
        )

    def __enter__(self) -> "VirtualHead":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def now_us(self) -> int:
        """Virtual microseconds since the head's power came."""
        return self._us

    @property
    def bad(self) -> int:
        """Frames that did not decode."""
        return self._decoder.bad

    def until(self, us: int) -> None:
        """Let the head live to the moment `us`; raises AssertionError when its program ends or hangs."""
        self._end_us = us
        self._reached.clear()
        self._go.set()
        turns = -1
        while not self._reached.wait(PATIENCE / 20):
            assert self._child.poll() is None, f"the program ended at {self._us} µs: {self._tail!r} {self.errors()}"
            assert self.server.error is None, repr(self.server.error)
            assert turns != self.turns or self._child.poll() is None, "the program hangs"
            turns = self.turns

    def errors(self) -> str:
        """What the program wrote to its standard error."""
        self._errors.flush()
        return Path(self._errors.name).read_text()[-2000:]

    def stop(self) -> None:
        """Ends the program."""
        self._child.kill()
        self._child.wait(10)
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            pipe.close()
        self._go.set()
        self.server.stop()
        self._errors.close()
        self._folder.cleanup()

    # --- in the server's thread

    def pass_us(self, us: int) -> None:
        """Virtual time passes."""
        self._us += us

    def turn(self) -> None:
        """The program waits: what it wrote is read and answered."""
        self.turns += 1
        while self.at and self.at[-1][0] <= self._us:
            self.at.pop()[1]()
        assert self._child.stdout is not None and self._child.stdin is not None
        data = b""
        while select.select([self._child.stdout], [], [], 0)[0]:
            chunk = os.read(self._child.stdout.fileno(), 65536)
            if not chunk:
                break
            data += chunk
        self._tail = (self._tail + data)[-600:]
        answer = self._on_frames(self._decoder.feed(data), self._us)
        if answer:
            os.write(self._child.stdin.fileno(), answer)
        if self._us >= self._end_us:
            self._go.clear()
            self._reached.set()
            self._go.wait()

    # --- what the program's `machine` asks for (sim.busserver.Control)

    def watchdog_start(self, milliseconds: int) -> None:
        self._watchdog_us = self._us

    def watchdog_feed(self) -> None:
        self.fed_us.append(self._us - self._watchdog_us)
        self._watchdog_us = self._us

    def request_reset(self) -> None:
        self.resets += 1
        self._child.kill()

    def reset_cause(self) -> int:
        return 1

    def unique_id(self) -> bytes:
        return UNIQUE_ID

    def interrupt_char(self, char: int | None) -> None:
        assert char is None or char == 3


if __name__ == "__main__":  # how fast: python tests/support/virtual_head.py SECONDS
    import time

    counts: dict[int, int] = {}

    def count(found: list[frames.Frame], now: int) -> bytes:
        for frame in found:
            counts[frame.type] = counts.get(frame.type, 0) + 1
        return b""

    still = {name: 0.0 for name in ()}
    from sim.world import World

    world = World(seed=1)
    with VirtualHead(world.at, lambda *told: None, count) as head:
        began = time.monotonic()
        head.until(int(float(sys.argv[1]) * 1e6))
        print(time.monotonic() - began, "s", head.turns, "turns", head.server.transactions, "transactions", counts, head.bad)
