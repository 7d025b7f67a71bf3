"""Any program against the simulated truck's chips: `cruisers sim run --i2c 1 --uart /tmp/pm=sps30 -- PROGRAM ARGUMENTS`.

The program, unmodified, finds /dev/i2c-N (Python only: sim/kernel/fake.py) and serial ports (any program: sim/kernel/port.py). Behind them
are the chip models in a world that runs in real time. Everything lives in this process and ends with the program; its exit code is ours.
"""

import functools
import importlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from sim.bus import I2CBus, I2CChip, UartLine
from sim.chips.faces import Log
from sim.clock import Clock, utc_ns
from sim.faults import FaultError, Faults, parse
from sim.kernel.fake import BUSES, SOCKET
from sim.kernel.port import Port
from sim.kernel.server import KernelServer
from sim.processes import before_program
from sim.truth import TruthLog
from sim.world import World

SITE = Path(__file__).resolve().parent / "kernel" / "site"
SOLAR_HOUR = 10.5  # the simulated day begins so late: there is ultraviolet light to measure
DIED = 128  # and the signal's number, as a shell says it
_FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
_LOOK_EVERY = 0.5  # s; SIGCHLD comes earlier

# Part → module, class, address on I2C (hardware.md).
I2C_PARTS = {
    "icm20948": ("icm20948", "ICM20948", 0x68),
    "bmp390": ("bmp390", "BMP390", 0x77),
    "sht45": ("sht45", "SHT45", 0x44),
    "opt3001": ("opt3001", "OPT3001", 0x45),
    "as7331": ("as7331", "AS7331", 0x74),
    "sps30": ("sps30_i2c", "SPS30I2C", 0x69),
    "veml7700": ("veml7700", "VEML7700", 0x10),
}
_QUICK = {"sps30": {"wait_us": 0}}  # replies at once, which Sensirion's own driver takes for granted
STANDARD = ("icm20948", "bmp390", "sht45", "opt3001", "as7331", "sps30")
# Part → module, class, baud after power-on.
UART_PARTS = {
    "sps30": ("sps30", "SPS30", 115_200),
    "pms5003": ("pms5003", "PMS5003", 9_600),
    "neo_m9n": ("neo_m9n", "NEOM9N", 38_400),
    "first_fleet": ("first_fleet", "FirstFleetBox", 115_200),
}
_DATED = ("neo_m9n", "first_fleet")  # their models know the time of day


class RunError(Exception):
    """Why the program cannot be run, in one line."""


class Options(NamedTuple):
    """What `sim run` is asked for: `chips` as (part, address), `uarts` as (link, part)."""

    program: list[str]
    i2c: int | None = None
    chips: tuple[tuple[str, int], ...] = ()
    uarts: tuple[tuple[Path, str], ...] = ()
    seed: int = 1
    truth: Path | None = None
    faults: Path | None = None


def chips(text: str) -> tuple[tuple[str, int], ...]:
    """(part, address) of each in "standard,veml7700,...": `standard` is the standard fit, all on one bus. Raises RunError."""
    found: list[tuple[str, int]] = []
    for item in text.split(","):
        name, at, address = item.strip().partition("@")
        if name == "standard" and not at:
            found += [(part, I2C_PARTS[part][2]) for part in STANDARD]
            continue
        if name not in I2C_PARTS:
            raise RunError(f"--chips: no model of {name or 'nothing'!r} on I2C (there are {', '.join(I2C_PARTS)}, and standard)")
        try:
            found.append((name, int(address, 0) if at else I2C_PARTS[name][2]))
        except ValueError:
            raise RunError(f"--chips: {address!r} is not an address (e.g. {name}@0x{I2C_PARTS[name][2]:02x})") from None
    return tuple(found)


def uart(text: str) -> tuple[Path, str]:
    """(link, part) of "PATH" or "PATH=PART". Raises RunError."""
    path, _, part = text.partition("=")
    part = part or "sps30"
    if part not in UART_PARTS:
        raise RunError(f"--uart: no model of {part!r} on a UART (there are {', '.join(UART_PARTS)})")
    if not path:
        raise RunError("--uart: where shall the port be linked? (e.g. --uart /tmp/pm=sps30)")
    return Path(path), part


def _check(options: Options) -> None:
    """RunError where the options together make no sense."""
    if options.i2c is None and not options.uarts:
        raise RunError("nothing to simulate: name a bus (--i2c 1) or a serial port (--uart /tmp/pm=sps30)")
    places = [os.path.abspath(link) for link, _ in options.uarts]
    for place in places:
        if places.count(place) > 1:
            raise RunError(f"--uart: two parts at {place}")


class Bench:
    """The chips of `options` with the ways to them. `start` begins to serve, `stop` ends all of it; the ways are there before."""

    def __init__(self, options: Options) -> None:
        faults = _faults(options.faults)
        clock = Clock()
        world = World(options.seed, utc_ns() // 1000 * 1000, SOLAR_HOUR)
        self._lock = threading.Lock()
        self._truth = _truth(options.truth, clock)
        log: Log = self._truth.log if self._truth is not None else _unlogged
        buses = {}
        if options.i2c is not None:
            buses[options.i2c] = I2CBus(_fitted(options.chips, world, log), clock, faults)
        self.server = KernelServer(buses, self._lock)
        self.ports: list[Port] = []
        try:
            for link, part in options.uarts:
                module, name, baud = UART_PARTS[part]
                dated = {"start_utc_ns": world.start_utc_ns} if part in _DATED else {}
                line = UartLine(_model(module, name)(world.at, log, **dated), clock, baud, faults=faults)
                self.ports.append(Port(line, self._lock, link))
        except OSError as error:
            self.stop()
            raise RunError(f"--uart: {error.filename2 or error.filename}: {error.strerror}") from None
        chips = [chip for bus in buses.values() for chip in bus.chips.values()] + [port.line.chip for port in self.ports]
        nobody = [strike.fault.chip for strike in faults.strikes if not any(strike.fault.means(chip) for chip in chips)]
        if nobody:
            self.stop()
            names = dict.fromkeys(getattr(chip, "SENSOR", f"0x{getattr(chip, 'address', 0):02x}") for chip in chips)
            raise RunError(f"{options.faults}: there is no {nobody[0]} here (there are {', '.join(names)})")
        self.environment = {SOCKET: self.server.name, BUSES: ",".join(str(number) for number in buses)}

    def start(self) -> None:
        """Begins to serve."""
        self.server.start()
        for port in self.ports:
            port.start()

    def stop(self) -> None:
        """Ends the threads, takes the links away and writes the rest of the truth."""
        self.server.stop()
        for port in self.ports:
            port.stop()
        if self._truth is not None:
            self._truth.close()

    def trouble(self) -> str:
        """What broke in the simulation itself, in one line; "" if nothing did."""
        for error in (self.server.error, *[port.error for port in self.ports]):
            if error is not None:
                return f"the simulation broke: {type(error).__name__}: {error}"
        return ""


def _truth(folder: Path | None, clock: Clock) -> TruthLog | None:
    try:
        return TruthLog(folder, clock.start_boottime_ns) if folder is not None else None
    except OSError as error:
        raise RunError(f"--truth: {error.filename}: {error.strerror}") from None


def _unlogged(sensor: str, t_us: int, values: Any) -> None:
    """Nobody asked for the truth."""


def _model(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"sim.chips.{module}"), name)


def _faults(path: Path | None) -> Faults:
    if path is None:
        return Faults()
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from None
    except FaultError as error:
        raise RunError(f"{path}: {error}") from None


def _fitted(wanted: tuple[tuple[str, int], ...], world: World, log: Log) -> list[I2CChip]:
    fitted: list[I2CChip] = []
    for part, address in wanted:
        module, name, _ = I2C_PARTS[part]
        chip = _model(module, name)(world.at, log, address=address, **_QUICK.get(part, {}))
        fitted.append(chip)
        if part == "icm20948":
            fitted.append(chip.magnetometer)  # on the bus itself while the ICM-20948 is in bypass
    return fitted


def environment(extra: dict[str, str]) -> dict[str, str]:
    """The program's environment: ours, the fake kernel first on its Python path, this virtual environment's commands first on its PATH, or
    last where the user has activated another one."""
    paths = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    commands = [str(Path(sys.executable).parent), *filter(None, [os.environ.get("PATH")])]
    active = os.environ.get("VIRTUAL_ENV")
    if active and Path(active).resolve() != Path(sys.prefix).resolve():
        commands.reverse()
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PATH": os.pathsep.join(commands), **extra}


def run(options: Options) -> int:
    """Runs the program to its end; returns its exit code (128 + n if signal n ended it). Raises RunError if it cannot be started."""
    _check(options)
    bench = Bench(options)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})
    try:
        process = _start(options.program, environment(bench.environment), before)
        bench.start()  # after the fork: threads do not go through it
        code = _follow(process)
    finally:
        bench.stop()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if bench.trouble():
        print(f"cruisers sim run: {bench.trouble()}", file=sys.stderr)
    return DIED - code if code < 0 else code


def _start(program: list[str], variables: dict[str, str], mask: set[signal.Signals | int]) -> "subprocess.Popen[bytes]":
    before = functools.partial(before_program, os.getpid(), 0, mask)
    try:
        return subprocess.Popen(program, env=variables, preexec_fn=before)
    except OSError as error:
        raise RunError(f"{program[0]}: {error.strerror}") from None


def _follow(process: "subprocess.Popen[bytes]") -> int:
    """Waits for the program's end and hands on what is sent to us. A terminal's Ctrl-C reaches the program by itself."""
    while process.poll() is None:
        came = signal.sigtimedwait(_FORWARDED | {signal.SIGCHLD}, _LOOK_EVERY)
        if came is not None and came.si_signo in _FORWARDED and came.si_code <= 0:  # sent by a process (SI_USER), not by the terminal
            process.send_signal(came.si_signo)
    return process.returncode
