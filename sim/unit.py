"""A unit on a technician's desk: the real MicroPython, its flash a LittleFS in a file, its chips simulated, its USB serial a pty that can
be pulled out, corrupted and cut. `cruisers sim head` (sim/desk.py) puts some there; sim/head.py is the head of a truck that drives, which
runs one program without a flash.

Between the program and the host stand two ptys and a thread that carries the bytes. It imitates what the unix port lacks of the board: byte
0x03 interrupts a running program until kbd_intr(-1), and is data at a prompt; machine.reset() and a pulled plug make the port vanish and
come back; Ctrl-D at the raw REPL is a soft reset. `Trouble` says what goes wrong at which byte of the line, counted both ways.

The watchdog bites as the chip's does: nobody can stop it but a reset, and a soft reset is none. Bytes for a host that reads nothing wait.

Limits: ticks are those of sim/micropython; a board in maintenance stays there, for its timer of ten minutes counts nothing; what the
program cannot bring out it keeps, where the real USB stack loses it while nobody has the port open."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from logbook.quantities import TABLE, G
from sim.busserver import BusServer
from sim.chips.board import STANDARD, Board
from sim.chips.faces import Source
from sim.clock import Clock
from sim.head import HEAP_KB, SHIM_KB
from sim.plug import Plug

BLOCK_BYTES = 4096
BLOCKS = 352
_SHIM = Path(__file__).resolve().parent / "micropython"
_BOOT = _SHIM / "unit_boot.py"
_PWRON, _WDT = 1, 3
_CTRL_C, _CTRL_D = 3, 4
_RAW_BANNER = b"raw REPL; CTRL-B to exit"
_TURN_MS = 50

# What the chips of a unit on a desk feel, SI units: a window, a level table, clean air. What the table does not name is 0.
AIR = {quantity.id: max(0.0, quantity.low) for quantity in TABLE}
AIR |= dict.fromkeys(("temperature", "temperature_imu", "temperature_barometer", "temperature_uv"), 297.15)
AIR |= {"acceleration_z": G, "magnetic_field_x": 30e-6, "magnetic_field_y": -4e-6, "magnetic_field_z": -35e-6}
AIR |= {"pressure": 101_325.0, "humidity": 48.0, "illuminance": 850.0, "uva": 4.0, "uvb": 0.2, "uvc": 0.1}
AIR |= {"pm1": 7e-9, "pm2_5": 9e-9, "pm4": 10e-9, "pm10": 11e-9, "particle_size": 0.55e-6}
AIR |= {f"particles_{size}": count * 1e6 for size, count in {"0_5": 50, "1": 60, "2_5": 62, "4": 62, "10": 63}.items()}
AIR |= {f"particles_above_{size}": count * 1e6 for size, count in {"0_3": 35, "0_5": 12, "1": 2, "2_5": 0.3}.items()}


def desk(t_us: int) -> dict[str, float]:
    """AIR, whatever the time."""
    return AIR


@dataclass
class Trouble:
    """What goes wrong on the line; counts are of bytes since `arm`, host → unit (`to_unit`) or unit → host (`to_host`)."""

    to_unit: int = -1  # this byte is damaged
    to_host: int = -1
    flip: int = 0x01
    unplug: int = -1  # after so many bytes in both directions the plug is pulled
    cut: int = -1  # the same with the power


class Unit:
    """Runs from construction to `stop`. `link` (by default `folder`/unit.tty) leads to the serial port while it is there. The flash of an
    earlier run in `folder` is the flash of this one. `source` is what its chips feel."""

    def __init__(
        self, folder: Path, unique_id: bytes, *, fit: Sequence[str] = STANDARD, source: Source = desk, link: Path | None = None
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._usb = Plug(folder / "unit.tty" if link is None else link)
        self.link = self._usb.link
        self.flash = folder / "flash.bin"
        if not self.flash.exists():
            self._erase()
        self._backup = folder / "backup.bin"
        self._backup.write_bytes(bytes(28))
        self.trouble = Trouble()
        self.moved = [0, 0]  # bytes to the unit, to the host
        self.starts = 0
        self._unique_id = unique_id
        self._cause = _PWRON
        self._reset = False
        self._watchdog_s = 0.0
        self._watchdog_due = 0.0
        self._interrupt: int | None = None
        self._coming_up = True
        self._child: subprocess.Popen[bytes] | None = None
        self._inner = -1
        self._in_raw = False
        self._stderr = open(folder / "unit.log", "ab")  # noqa: SIM115  (closed in stop)
        self.board = Board(source, lambda *_: None, Clock(), None, fit)
        self._server = BusServer(self.board.i2c, self.board.uart, self, self.board.pins)
        self._server.start()
        self._todo: list[Callable[[], None]] = []
        self._wake_read, self._wake_write = os.pipe()
        self._stopping = False
        self._spawn(raw=False)
        self._thread = threading.Thread(target=self._bridge, name="unit-bridge", daemon=True)
        self._thread.start()

    # What a test does to it.

    def arm(self, trouble: Trouble) -> None:
        """From this byte on `trouble` counts."""
        self.moved[:] = [0, 0]
        self.trouble = trouble

    def wait_plugged(self, seconds: float = 60.0) -> None:
        """Until its port is there: MicroPython has started. Raises TimeoutError."""
        until = time.monotonic() + seconds
        while not self.link.exists():
            if time.monotonic() > until:
                raise TimeoutError(f"{self.link} is not there after {seconds:g} s")
            time.sleep(0.02)

    def power_on(self) -> None:
        """After a cut: the power comes back and the plug is in."""
        self._in_bridge(lambda: self._restart(_PWRON))

    def blank(self) -> None:
        """Another board of the same name: nothing but MicroPython is on its flash."""

        def act() -> None:
            self._power_off()
            self._erase()
            self._restart(_PWRON)

        self._in_bridge(act)

    def replug(self) -> None:
        """After an unplug: the plug is in again; the program ran on."""
        self._in_bridge(self._usb.put_in)

    def check(self) -> None:
        """Raises RuntimeError when what imitates the board has broken: then it is the simulation that is silent, not the board."""
        if self._server.error is not None or not self._thread.is_alive():
            raise RuntimeError(f"the simulated board broke: {self._server.error or 'the bridge to its port ended'}")

    def stop(self) -> None:
        """Ends program, thread and port."""
        self._stopping = True
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._kill()
        self._server.stop()
        self._usb.pull_out()
        for descriptor in (self._wake_read, self._wake_write):
            os.close(descriptor)
        self._stderr.close()

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
        self._reset = True
        os.write(self._wake_write, b"x")

    def reset_cause(self) -> int:
        """machine.reset_cause()."""
        return self._cause

    def unique_id(self) -> bytes:
        """machine.unique_id()."""
        return self._unique_id

    def interrupt_char(self, char: int | None) -> None:
        """micropython.kbd_intr(char); the first call of a start says that the chip has come up, with its USB."""
        self._interrupt = char
        if self._coming_up:
            self._coming_up = False
            self._todo.append(self._usb.put_in)
            os.write(self._wake_write, b"x")

    # The bridge's thread.

    def _erase(self) -> None:
        self.flash.write_bytes(b"\xff" * (BLOCK_BYTES * BLOCKS))

    def _in_bridge(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._todo.append(act)
        os.write(self._wake_write, b"x")
        assert done.wait(10), "the bridge does not answer"

    def _spawn(self, *, raw: bool) -> None:
        inner, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(inner, False)
        environment = dict(
            os.environ, MICROPYPATH=f"{_SHIM}:.frozen", CRUISERS_TRUCK_PORT=str(self._server.port), CRUISERS_FLASH=str(self.flash),
            CRUISERS_BACKUP=str(self._backup), CRUISERS_RAW="1" if raw else "",
        )  # fmt: skip
        command = [sys.executable, "-P", "-m", "micropython_unix", "-X", f"heapsize={HEAP_KB + SHIM_KB}k", "-i", str(_BOOT)]
        self._interrupt = None
        self._coming_up = True
        self._child = subprocess.Popen(command, cwd=self.folder, env=environment, stdin=slave, stdout=slave, stderr=self._stderr)
        os.close(slave)
        self._inner = inner
        self._in_raw = False
        self.starts += 1
        if raw:
            os.write(inner, b"\x01")

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
        if self._inner >= 0:
            os.close(self._inner)
            self._inner = -1

    def _power_off(self) -> None:
        self._kill()
        self._watchdog_s = 0.0
        self._usb.pull_out()

    def _restart(self, cause: int) -> None:
        self._power_off()
        self._cause = cause
        if cause == _PWRON:
            self._backup.write_bytes(bytes(28))
        self._spawn(raw=False)

    def _bridge(self) -> None:
        while not self._stopping:
            poller = select.poll()
            for descriptor in (self._wake_read, self._inner, self._usb.master):
                if descriptor >= 0:
                    poller.register(descriptor, select.POLLIN)
            ready = dict(poller.poll(_TURN_MS))
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
            while self._todo:
                self._todo.pop(0)()
            if self._reset or (self._watchdog_s and time.monotonic() > self._watchdog_due):
                self._reset = False
                self._restart(_WDT)
                continue
            self._to_host(ready)
            self._to_unit(ready)
            self._ended()

    def _ended(self) -> None:
        """A program that ends by itself: Ctrl-D at a prompt is a soft reset; its raw REPL comes back."""
        if self._child is not None and self._child.poll() is not None and self._inner < 0:
            raw = self._in_raw
            self._kill()
            if self._usb.master >= 0:
                os.write(self._usb.master, b"MPY: soft reboot\r\n")
            self._spawn(raw=raw)

    def _to_host(self, ready: dict[int, int]) -> None:
        if self._inner not in ready:
            return
        try:
            data = os.read(self._inner, 512)
        except BlockingIOError:
            return
        except OSError:  # its other end is closed: the program has ended
            os.close(self._inner)
            self._inner = -1
            return
        if _RAW_BANNER in data:
            self._in_raw = True
        data = self._spoilt(data, 1)
        while data and self._usb.master >= 0 and not self._stopping:
            try:
                data = data[os.write(self._usb.master, data) :]
            except BlockingIOError:  # nobody reads: the program waits
                select.select([self._wake_read], [self._usb.master], [], 0.05)
                if self._todo or self._reset:
                    return

    def _to_unit(self, ready: dict[int, int]) -> None:
        if self._usb.master not in ready:
            return
        try:
            data = self._spoilt(os.read(self._usb.master, 512), 0)
        except BlockingIOError:
            return
        if self._inner < 0 or self._child is None:
            return
        if _CTRL_C in data and self._interrupt == _CTRL_C and self._executing(self._child.pid):
            data = data.replace(bytes((_CTRL_C,)), b"")
            self._child.send_signal(signal.SIGINT)
        if data in (b"\x02", b"\r\x02"):
            self._in_raw = False
        with contextlib.suppress(OSError):
            while data:
                try:
                    data = data[os.write(self._inner, data) :]
                except BlockingIOError:
                    select.select([], [self._inner], [], 0.05)

    @staticmethod
    def _executing(pid: int) -> bool:
        """Whether a program runs: MicroPython at its prompt soon waits in read(0)."""
        for _ in range(20):
            if Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 "):
                return False
            time.sleep(0.002)
        return True

    def _spoilt(self, data: bytes, way: int) -> bytes:
        """What becomes of the bytes under `trouble`."""
        trouble = self.trouble
        before = self.moved[way]
        self.moved[way] += len(data)
        at = (trouble.to_unit, trouble.to_host)[way] - before
        if 0 <= at < len(data):
            data = data[:at] + bytes((data[at] ^ trouble.flip,)) + data[at + 1 :]
        moved = sum(self.moved)
        if 0 <= trouble.unplug <= moved:
            trouble.unplug = -1
            self._usb.pull_out()
            return b""
        if 0 <= trouble.cut <= moved:
            trouble.cut = -1
            self._power_off()
            return b""
        return data
