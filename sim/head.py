"""The sensor head without its silicon: the real firmware on the real MicroPython, its chips simulated, its USB serial a pty.

What is imitated of the RP2040, because the unix port hides it: 30-bit ticks (sim/micropython/time.py), a heap limit, byte 0x03 interrupting
the program until kbd_intr(-1), an input buffer of 256 bytes that overruns, output that stalls when nobody reads, the watchdog, reset_cause
(which says WDT after machine.reset() too), and the words of mem_backup, which only the power takes. A program that ends by itself leaves a
silent head, as the REPL would; only its watchdog, if it had started one, brings it back. The folder keeps the head's file system (`flash/`)
over resets, and its tracebacks (`head.log`).

Limits: the serial port does not vanish while the head restarts (a real one does for about a second; `unplug` does that), and
output waits for ever where the real USB stack gives up after 500 ms.
"""

import contextlib
import fcntl
import json
import os
import queue
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from sim.busserver import BusServer
from sim.chips.board import STANDARD, Board
from sim.chips.faces import Log, Source
from sim.clock import Clock
from sim.compiled import CompileError, compiled
from sim.faults import Faults
from sim.plug import Plug

PARTS_FILE = "parts.json"  # the head's list of parts, on its flash
HEAP_KB = 192  # MicroPython's heap on the RP2040
# What sim/micropython takes of a heap: `machine` and `time` are in the flash of a board.
SHIM_KB = 15
BACKUP_BYTES = 16  # scratch registers 0 to 3
INPUT_BYTES = 256  # what the head's serial input holds; more is lost
OUTPUT_PIPE_BYTES = 4096  # the smallest pipe Linux makes: output beyond it makes the program wait
TICKS_BEFORE_WRAP_S = 20.0  # the 30-bit ticks wrap so soon after every start of the head
_PWRON, _WDT = 1, 3
_CTRL_C = 0x03
BOOT_S = 0.3  # from a reset to the first line of the program
_TURN_MS = 50  # how often the bridge looks at the watchdog and at the child
_F_SETPIPE_SZ = 1031
_ROOT = Path(__file__).resolve().parent.parent
_SHIM = _ROOT / "sim" / "micropython"


class HeadError(Exception):
    """The head could not be started; the text says why in one line."""


class SimulatedHead:
    """Runs from construction to `stop`. `source` and `log` go to the chips (called in the bus server's thread), `clock` is the truck's.

    `faults` stand in front of the chips; their seconds are those of `clock`. `fit` are the parts on the board (sim/chips/board.py), which
    the head's list of parts then says; None: the standard fit, and whatever list is on the flash.
    `backup` False: a MicroPython before 1.29, whose machine has no mem_backup.
    `program` is the module the board runs (its `run()` too, if it has one), found on `path` (None: the repository's rooms, as bytecode).
    """

    def __init__(
        self,
        folder: Path | str,
        source: Source,
        log: Log,
        clock: Clock,
        *,
        program: str = "firmware.main",
        path: Path | str | None = None,
        ticks_before_wrap_s: float = TICKS_BEFORE_WRAP_S,
        unique_id: bytes = bytes.fromhex("e6614c311b7d4f2a"),
        faults: Faults | None = None,
        fit: Sequence[str] | None = None,
        backup: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.flash = self.folder / "flash"
        self.flash.mkdir(parents=True, exist_ok=True)
        if fit is not None:
            (self.flash / PARTS_FILE).write_text(json.dumps([{"part": part} for part in fit]))
        self.link = self.folder / "head.tty"
        self.clock = clock
        self.board = Board(source, log, clock, faults, STANDARD if fit is None else fit)
        self.starts = 0  # how often the program was started
        self.input_lost = 0  # bytes that found the input buffer full
        self._program = program
        try:
            self._path = compiled(_ROOT) if path is None else Path(path)
        except (CompileError, OSError) as error:
            raise HeadError(f"the head's program cannot be compiled: {error}") from error
        self._ticks_before_wrap_ms = int(ticks_before_wrap_s * 1000)
        self._unique_id = unique_id
        self._backup = self.folder / "backup" if backup else None
        self._forget()
        self._cause = _PWRON
        self._reset_asked = False
        self._interrupt: int | None = _CTRL_C
        self._watchdog_s = 0.0
        self._watchdog_due = 0.0
        self._start_due = 0.0  # when a program that was reset starts again; 0 = nothing to start
        self._child: subprocess.Popen[bytes] | None = None
        self._usb = Plug(self.link)
        self._output = b""
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        self._stderr = open(self.folder / "head.log", "ab")  # noqa: SIM115  (closed in stop)
        self.server = BusServer(self.board.i2c, self.board.uart, self, self.board.pins)
        self._usb.put_in()
        try:
            self._spawn()
        except OSError as error:
            raise HeadError(f"MicroPython does not start: {error}") from error
        self.server.start()
        self._thread = threading.Thread(target=self._bridge, name="head-bridge", daemon=True)
        self._thread.start()

    def __enter__(self) -> "SimulatedHead":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def port(self) -> str:
        """Path of the serial port now ("" while unplugged); `folder`/head.tty always leads to it."""
        return self._usb.path

    @property
    def pid(self) -> int:
        """Process id of the running (or last) program."""
        return self._child.pid if self._child else 0

    @property
    def halted(self) -> bool:
        """True when the program has ended by itself and nothing restarted it yet."""
        return self._child is None or self._child.poll() is not None

    def check(self) -> None:
        """Raises HeadError when what imitates the head's silicon has broken: then it is the simulation that is silent, not the head."""
        if self.server.error is not None:
            raise HeadError(f"the simulated buses broke: {type(self.server.error).__name__}: {self.server.error}")
        if not self._thread.is_alive():
            raise HeadError("the bridge between the program and its port broke (see the log)")

    def stop_clock(self) -> None:
        """Ignition off: the chips make what is due until now and then no more; the buses still answer, the program runs on."""
        with self.server.lock:
            self.clock.stop()
            self.board.advance()

    def counters(self) -> dict[str, dict[str, int]]:
        """What every chip has made, brought to the present."""
        with self.server.lock:
            self.board.advance()
            return self.board.counters()

    def unplug(self) -> None:
        """Pulls the USB cable: the port vanishes, what the head sends is lost; the head runs on."""
        self._in_bridge(self._usb.pull_out)

    def plug(self) -> None:
        """Puts the USB cable back: a new port, under the same link."""
        self._in_bridge(self._usb.put_in)

    def restart(self) -> None:
        """Takes the head's power away and gives it back: the program starts anew with reset cause PWRON. The chips keep theirs."""
        self._in_bridge(lambda: self._reset(_PWRON))

    def stop(self) -> None:
        """Ends the program, the threads and the port."""
        self._stopping = True
        self._wake()
        self._thread.join()
        self._kill()
        self.server.stop()
        self._usb.pull_out()
        self._stderr.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # What the program's `machine` asks for (sim.busserver.Control), in the server's thread.

    def watchdog_start(self, milliseconds: int) -> None:
        """machine.WDT(timeout=milliseconds)."""
        self._watchdog_s = milliseconds / 1000
        self.watchdog_feed()

    def watchdog_feed(self) -> None:
        """machine.WDT.feed()."""
        self._watchdog_due = time.monotonic() + self._watchdog_s

    def request_reset(self) -> None:
        """machine.reset()."""
        self._reset_asked = True
        self._wake()

    def reset_cause(self) -> int:
        """machine.reset_cause()."""
        return self._cause

    def unique_id(self) -> bytes:
        """machine.unique_id()."""
        return self._unique_id

    def interrupt_char(self, char: int | None) -> None:
        """micropython.kbd_intr(char)."""
        self._interrupt = char

    # The bridge thread: owns the child and the port.

    def _wake(self) -> None:
        os.write(self._wake_write, b"x")

    def _in_bridge(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._commands.put(act)
        self._wake()
        if not done.wait(10):
            raise HeadError("the head's bridge does not answer")

    def _spawn(self) -> None:
        environment = dict(
            os.environ,
            MICROPYPATH=f"{_SHIM}:{self._path}:.frozen",
            CRUISERS_TRUCK_PORT=str(self.server.port),
            CRUISERS_TICKS_BEFORE_WRAP_MS=str(self._ticks_before_wrap_ms),
            CRUISERS_BACKUP="" if self._backup is None else str(self._backup.resolve()),
        )
        heap = f"heapsize={HEAP_KB + SHIM_KB}k"
        command = [sys.executable, "-P", "-m", "micropython_unix", "-X", heap, str(_SHIM / "truck_boot.py"), self._program]
        self._interrupt = _CTRL_C
        self._watchdog_s = 0.0
        self._output = b""
        self._child = subprocess.Popen(
            command, cwd=self.flash, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0
        )
        assert self._child.stdout is not None
        fcntl.fcntl(self._child.stdout, _F_SETPIPE_SZ, OUTPUT_PIPE_BYTES)
        self.starts += 1

    def _kill(self) -> None:
        child = self._child
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        self._child = None

    def _forget(self) -> None:
        if self._backup is not None:
            self._backup.write_bytes(bytes(BACKUP_BYTES))

    def _reset(self, cause: int) -> None:
        self._kill()
        if cause == _PWRON:
            self._forget()
        self._cause = cause
        self._watchdog_s = 0.0
        self._start_due = time.monotonic() + BOOT_S

    def _bridge(self) -> None:
        while not self._stopping:
            ready = self._poll()
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
            while not self._commands.empty():
                self._commands.get()()
            if self._reset_asked or (self._watchdog_s and time.monotonic() > self._watchdog_due):
                self._reset_asked = False
                self._reset(_WDT)
            if self._start_due and time.monotonic() >= self._start_due:
                self._start_due = 0.0
                self._spawn()
            self._move_output(ready)
            if self._usb.master in ready:
                self._move_input(self._usb.master)

    def _poll(self) -> dict[int, int]:
        """Waits until something can be moved, at most a turn."""
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        if self._usb.master >= 0:
            poller.register(self._usb.master, select.POLLIN | (select.POLLOUT if self._output else 0))
        child = self._child
        if child is not None and child.stdout is not None and not child.stdout.closed and not self._output:
            poller.register(child.stdout, select.POLLIN)
        return dict(poller.poll(_TURN_MS))

    def _move_output(self, ready: dict[int, int]) -> None:
        """Program → port. Nothing more is taken from the program until the port took what there is: so a reader that sleeps stalls it."""
        pipe = self._child.stdout if self._child else None
        if pipe is not None and not pipe.closed and pipe.fileno() in ready:
            self._output = os.read(pipe.fileno(), 256)
            if not self._output:  # the program has ended
                pipe.close()
        if self._usb.master < 0:
            self._output = b""
        elif self._output:
            with contextlib.suppress(BlockingIOError):  # the pty is full; the next turn tries again
                self._output = self._output[os.write(self._usb.master, self._output) :]

    def _move_input(self, master: int) -> None:
        """Port → program, as far as its input buffer has room; the interrupt character becomes a signal."""
        try:
            data = os.read(master, 4096)
        except BlockingIOError:
            return
        child = self._child
        if child is None or child.stdin is None or child.poll() is not None:
            return
        if self._interrupt is not None and self._interrupt in data:
            data = data.replace(bytes([self._interrupt]), b"")
            child.send_signal(signal.SIGINT)
        waiting = struct.unpack("i", fcntl.ioctl(child.stdin, termios.FIONREAD, bytes(4)))[0]
        room = max(0, INPUT_BYTES - waiting)
        self.input_lost += max(0, len(data) - room)
        if data[:room]:
            with contextlib.suppress(BrokenPipeError):  # the program has just ended: nobody reads its input
                child.stdin.write(data[:room])
