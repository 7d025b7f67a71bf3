"""One simulated truck: world, sensor head on the real MicroPython, receiver and camera.

    python -m sim.truck --folder DIR [--seed N] [--drive PATH] [--start-utc ISO] [--solar-hour H]

DIR/truck.json is there as soon as everything runs: {"head_port", "gps_port", "camera_url", "start_boottime_ns", "start_utc_ns", "pids"}.
What the chips converted is logged below DIR/truth (sim/truth.py reads it). SIGUSR1, or the end of a recorded drive, is the ignition going
off: the chips make no more samples and DIR/stopped.json says how many each made, {sensor: {"samples": n}}; buses, head and camera go on.
SIGTERM or Ctrl-C ends everything, with exit code 0. What cannot be started is one line on standard error and exit code 2, with nothing
left running.
"""

import argparse
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from sim.clock import Clock, utc_ns
from sim.drive import DriveError, Source, overlay
from sim.head import HeadError, SimulatedHead
from sim.processes import as_hardware
from sim.receiver import SENSOR, Receiver, ReceiverError
from sim.truth import TruthLog
from sim.world import World

LOOK_EVERY = 0.1  # s between looks at signals, children and the drive's end
CAMERA_READY = 30.0  # s for OpenCV to load and the textures to be drawn, on a busy machine
CAMERA_STOP = 10.0  # s


class TruckError(Exception):
    """Why the truck cannot run, in one line."""


class Truck:
    """Everything of one truck in `folder`. `start` raises TruckError and leaves nothing running; `stop` may always be called."""

    def __init__(self, folder: Path, source: Source, clock: Clock, camera_arguments: list[str]) -> None:
        self.folder = folder
        self._source = source
        self._clock = clock
        self._camera_arguments = camera_arguments
        self._truth = TruthLog(folder, clock.start_boottime_ns)
        self._head: SimulatedHead | None = None
        self._receiver: Receiver | None = None
        self._camera: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, Any]:
        """Starts the parts and returns the content of truck.json."""
        try:
            self._camera = self._start_camera()
            self._head = SimulatedHead(self.folder, self._source.at, self._truth.log, self._clock)
            # As delivered: whoever starts gpsd sets it up first, as on a truck (python -m gateway.receiver).
            self._receiver = Receiver(
                self._source.at, self._truth.log, self._clock, self._source.start_utc_ns, link=self.folder / "gps.tty", as_delivered=True
            )
            self._receiver.start()
            camera_url = self._camera_url(self._camera)
        except OSError as error:
            raise TruckError(f"{error.filename or 'start'}: {error.strerror or error}") from error
        except HeadError as error:
            raise TruckError(str(error)) from error
        return {
            "head_port": str(self._head.link.absolute()),  # like a udev name: stays while the port behind it comes and goes
            "gps_port": self._receiver.port,
            "camera_url": camera_url,
            "start_boottime_ns": self._clock.start_boottime_ns,
            "start_utc_ns": self._source.start_utc_ns,
            "pids": {"truck": os.getpid(), "camera": self._camera.pid, "micropython": self._head.pid},
        }

    def check(self) -> None:
        """Raises TruckError when a part that should run does not."""
        if self._camera is not None and self._camera.poll() is not None:
            raise TruckError(f"the camera ended with exit code {self._camera.returncode}")
        try:
            if self._head is not None:
                self._head.check()
            if self._receiver is not None:
                self._receiver.check()
        except (HeadError, ReceiverError) as error:
            raise TruckError(str(error)) from error

    def ignition_off(self) -> dict[str, dict[str, int]]:
        """Stops the chips' clock; returns the number of samples of each sensor."""
        if self._head is None or self._receiver is None:
            raise TruckError("the ignition cannot go off before the truck runs")
        self._head.stop_clock()
        counters = {**self._head.counters(), SENSOR: {"samples": self._receiver.epochs}}
        self._truth.flush()
        return counters

    def stop(self) -> None:
        """Ends all parts, their processes and threads, and writes the rest of the truth."""
        if self._receiver is not None:
            self._receiver.stop()
        if self._head is not None:
            self._head.stop()
        if self._camera is not None:
            self._stop_camera(self._camera)
        self._truth.close()
        self._receiver = self._head = self._camera = None

    def _start_camera(self) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "sim.camera", *self._camera_arguments]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def _camera_url(self, camera: subprocess.Popen[str]) -> str:
        """The camera's first line; it prints it when it listens."""
        assert camera.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(camera.stdout, selectors.EVENT_READ)
            ready = selector.select(CAMERA_READY)
        url = camera.stdout.readline().strip() if ready else ""
        if not url:
            raise TruckError("the camera does not start")
        return url

    def _stop_camera(self, camera: subprocess.Popen[str]) -> None:
        assert camera.stdin is not None and camera.stdout is not None
        camera.stdin.close()  # it ends with its standard input
        try:
            camera.wait(CAMERA_STOP)
        except subprocess.TimeoutExpired:
            camera.kill()
            camera.wait()
        camera.stdout.close()


class _Signals:
    """Notes SIGTERM, SIGINT and SIGUSR1; the main loop looks at them."""

    def __init__(self) -> None:
        self.end = False
        self.ignition_off = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.ignition_off = True
        else:
            self.end = True


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON so that a reader sees all of it or nothing."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(content) + "\n")
    temporary.replace(path)


def _start_utc(text: str | None) -> int:
    """ns since 1970, in whole µs, of an ISO time (UTC unless it says otherwise), or of now."""
    if text is None:
        return utc_ns() // 1000 * 1000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TruckError(f"--start-utc {text!r} is not an ISO 8601 time") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e6) * 1000


def _prepare(options: argparse.Namespace) -> tuple[Path, Truck, float]:
    """Checks the input; returns the folder, the truck (not started) and the end of the drive in µs. Raises TruckError, DriveError."""
    start_utc_ns = _start_utc(options.start_utc)
    source: Source = World(options.seed, start_utc_ns, options.solar_hour)
    duration_us = float("inf")
    if options.drive:
        source = drive = overlay(options.drive, source)
        duration_us = drive.duration_us
    folder = Path(options.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in ("truck.json", "stopped.json"):
            (folder / stale).unlink(missing_ok=True)
    except OSError as error:
        raise TruckError(f"{folder}: {error.strerror}") from error
    clock = Clock()
    arguments = ["--start-boottime-ns", str(clock.start_boottime_ns), "--start-utc-ns", str(start_utc_ns), "--seed", str(options.seed)]
    arguments += ["--solar-hour", str(options.solar_hour)] if options.solar_hour is not None else []
    return folder, Truck(folder, source, clock, arguments + (["--drive", str(options.drive)] if options.drive else [])), duration_us


def run(options: argparse.Namespace) -> int:
    """The truck until a signal ends it; returns the exit code."""
    signals = _Signals()
    as_hardware()
    try:
        folder, truck, duration_us = _prepare(options)
    except (TruckError, DriveError) as error:
        print(f"sim.truck: {error}", file=sys.stderr)
        return 2
    code = 2
    try:
        ready = truck.start()
        write_whole(folder / "truck.json", ready)
        code = 1
        stopped = False
        while not signals.end:
            truck.check()
            now_us = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ready["start_boottime_ns"]) // 1000
            if not stopped and (signals.ignition_off or now_us >= duration_us):
                write_whole(folder / "stopped.json", truck.ignition_off())
                stopped = True
            time.sleep(LOOK_EVERY)
        code = 0
    except TruckError as error:
        print(f"sim.truck: {error}", file=sys.stderr)
    finally:
        (folder / "truck.json").unlink(missing_ok=True)  # its ports are gone
        truck.stop()
    return code


def main(arguments: list[str] | None = None) -> int:
    """The command line of the truck."""
    parser = argparse.ArgumentParser(prog="sim.truck", description="one simulated truck")
    parser.add_argument("--folder", required=True, help="where ports, truck.json and the truth go")
    parser.add_argument("--seed", type=int, default=1, help="which world (default 1)")
    parser.add_argument("--drive", help="recorded drive: folder of CSV files, .gpx or .nmea")
    parser.add_argument("--start-utc", help="the world's time at the start (default: now)")
    parser.add_argument("--solar-hour", type=float, help="hour of the world's day at the start (default: by the clock)")
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
