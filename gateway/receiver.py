"""A u-blox receiver on a serial port of the truck's computer: set up before gpsd starts, or read where no gpsd runs.

    python -m gateway.receiver CONFIG|PORT

is what stands before gpsd (ExecStartPre of its unit, fleet/units/gpsd.service.conf): it finds the receiver at whatever speed it has, sets
it up (drivers/neo_m9n.py) and ends; from then on gpsd owns the port (`gpsd -b` writes nothing to it, and neither does anybody else). With
the truck's configuration the port is the one of [receiver], or `device` of [gpsd]. One line says what was found and set. Exit codes: 0 set
up, 1 no receiver answers or it does not take the settings, 2 no such port or bad configuration. It takes at most 10 s.

`Receiver` is the recorder's source for a truck without gpsd (section [receiver]). It writes what gateway/positions.py writes, from the
same epochs; the stored raw bytes are NAV-PVT's payload."""

import os
import sys
import threading
import time
from pathlib import Path

from drivers import nav_pvt
from drivers.errors import BAD_CHECKSUM, WRONG_IDENTITY, BusError
from drivers.neo_m9n import BAUDS, NEOM9N, PERIOD_MS, SENSOR
from firmware.frames import REASONS
from gateway import fixes
from gateway.clock import Clock, boottime_ns
from gateway.config import ConfigError, load
from gateway.convert import plausible, raw_numbers
from gateway.journal import Journal
from gateway.linux_bus import LinuxUart
from gateway.snapshot import Snapshot
from logbook.schemas import cruisers_pb2 as pb

LIMIT_SECONDS = 9.3  # from the start of the process: a small computer needs two or three of them to import what we use
LOOK_SECONDS = 0.01  # between two looks at the port; NAV-PVT takes 9 ms at 115200 baud
RECONNECT_SECONDS = 0.5
_TICKS = 0x3FFF_FFFF  # drivers count milliseconds modulo 2**30


class NoReceiver(Exception):
    """Nothing on the port can be set up; the text says why, in one line."""


class BadPort(Exception):
    """The port cannot be used; the text says why, in one line."""


def open_port(port: str) -> LinuxUart:
    """The serial port, for us alone. Raises BadPort."""
    try:
        return LinuxUart(port, BAUDS[0])
    except OSError as error:
        raise BadPort(f"{port}: {error.strerror or error}") from error


def ticks() -> int:
    """Now, as drivers count."""
    return boottime_ns() // 1_000_000 & _TICKS


def age_seconds() -> float:
    """How long this process has run (proc(5): start time in ticks since boot)."""
    began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return boottime_ns() / 1e9 - began


def set_up(port: str, period_ms: int = PERIOD_MS, seconds: float = LIMIT_SECONDS) -> str:
    """Finds the receiver at `port` and sets it up; returns its software version. Raises BadPort, or NoReceiver after `seconds`."""
    uart = open_port(port)
    try:
        return _set_up(uart, port, period_ms, time.monotonic() + seconds)
    except OSError as error:
        raise NoReceiver(f"{port}: {error.strerror or error}") from error
    finally:
        uart.close()


def _set_up(uart: LinuxUart, port: str, period_ms: int, deadline: float) -> str:
    driver = NEOM9N(uart, period_ms)
    driver.start(ticks())
    while time.monotonic() < deadline:
        try:
            driver.poll(ticks())
            if driver.configured:
                return _text(driver.trim())
        except BusError as error:
            if error.code == WRONG_IDENTITY:
                break
            driver.start(ticks())
        time.sleep(LOOK_SECONDS)
    if driver.version:
        raise NoReceiver(f"{port}: the receiver ({_text(driver.version)}) does not take its settings; generation 8 and older cannot")
    raise NoReceiver(f"{port}: no receiver answers at {', '.join(map(str, BAUDS))} baud")


def _text(version: bytes) -> str:
    return version.decode("ascii", "replace")


def position(raw: bytes, values: dict[str, float | str], at_ns: int) -> pb.Position:
    """A NAV-PVT payload with its decoded `values`, whole at boot time `at_ns`."""
    message = fixes.position(at_ns, raw, nav_pvt.mode(raw), values)
    errors = nav_pvt.errors(raw)
    for name in ("horizontal", "speed", "bearing", "time"):
        if name in errors:
            setattr(message, f"{name}_error", errors[name])
    utc = nav_pvt.utc(raw)
    if message.valid and utc is not None:  # only a fix dates, as with gpsd
        message.utc_ns = utc
    return message


def take(into: fixes.Fixes, trim: bytes, raw: bytes, at_ns: int) -> None:
    """One NAV-PVT payload, whole at boot time `at_ns`: written down, and told to the clock and the live picture."""
    values = plausible(nav_pvt.decode(trim, raw))
    message = position(raw, values, at_ns)
    into.take(message, values, raw_numbers(SENSOR, raw), nav_pvt.moment(raw), nav_pvt.errors(raw).get("vertical"))


class Receiver:
    """The source: `run(stop)` reads the receiver at `port` until `stop` is set, and survives its going and coming.

    `malformed` counts messages that came damaged. `since_ns`: see Outage."""

    def __init__(self, port: str, period_ms: int, clock: Clock, journal: Journal, snapshot: Snapshot, since_ns: int | None = None) -> None:
        self._port = port
        self._period_ms = period_ms
        self._fixes = fixes.Fixes(clock, journal, snapshot, since_ns=since_ns)
        self.malformed = 0

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            try:
                uart = open_port(self._port)
                try:
                    self._read(NEOM9N(uart, self._period_ms), stop)
                finally:
                    uart.close()
            except BadPort as error:
                self._fixes.missing(str(error))
            except OSError as error:  # pulled out
                self._fixes.missing(f"{self._port}: {error.strerror or error}")
            stop.wait(RECONNECT_SECONDS)
        self._fixes.finish()

    def _read(self, driver: NEOM9N, stop: threading.Event) -> None:
        raw = bytearray(driver.RAW_SIZE)
        driver.start(ticks())
        while not stop.wait(LOOK_SECONDS):
            try:
                if driver.poll(ticks()):
                    at = boottime_ns()
                    driver.read_into(raw)
                    self.take(driver.trim(), bytes(raw), at)
            except BusError as error:
                self.malformed += error.code == BAD_CHECKSUM
                if not driver.configured:
                    self._fixes.missing(REASONS[error.code])
                    driver.start(ticks())

    def take(self, trim: bytes, raw: bytes, at_ns: int) -> None:
        """One NAV-PVT payload, whole at boot time `at_ns`."""
        take(self._fixes, trim, raw, at_ns)


def port_of(argument: str) -> tuple[str, int]:
    """Port and period (ms) of a command line argument: a serial port, or the truck's configuration. Raises ConfigError, BadPort."""
    path = Path(argument)
    if not path.exists() and path.suffix != ".toml":
        raise BadPort(f"{argument}: No such file or directory")
    if path.exists() and not path.is_file():
        return argument, PERIOD_MS
    truck = load(path)
    if truck.receiver is not None:
        return truck.receiver.port, truck.receiver.period_ms
    if truck.gpsd is not None and truck.gpsd.device:
        return truck.gpsd.device, PERIOD_MS
    raise ConfigError(f"{argument}: names no receiver ([receiver] port, or device of [gpsd])")


def main(arguments: list[str], seconds: float = LIMIT_SECONDS) -> int:
    """The command, which takes at most `seconds`; returns its exit code."""
    if len(arguments) != 1:
        print("usage: python -m gateway.receiver CONFIG|PORT", file=sys.stderr)
        return 2
    try:
        port, period_ms = port_of(arguments[0])
        version = set_up(port, period_ms, seconds)
    except (ConfigError, BadPort) as error:
        print(f"receiver: {error}", file=sys.stderr)
        return 2
    except NoReceiver as error:
        print(f"receiver: {error}", file=sys.stderr)
        return 1
    print(f"{port}: {version}: {BAUDS[-1]} baud, NAV-PVT every {period_ms} ms, no NMEA, automotive model")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], LIMIT_SECONDS - age_seconds()))
