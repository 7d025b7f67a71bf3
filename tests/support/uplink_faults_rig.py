"""The rig of the uplink's proofs: a real hub (ejabberd), the real center, and for each run a truck, its real uplink behind a hostile link.

    with City(folder, ["t01", "t02"]) as city:             # hub, center, hostile web server: shared
        with Truck(city, "t01", seed=1) as truck:          # spool, link, oracle; no process yet
            truck.start(); truck.seal(3); truck.arrived()  # waits until everything sealed is counted as delivered
            verdict = truck.end()                          # ends it in order, asks the oracle

The processes are `python -m gateway.uplink`, `gateway.sweeper`, `center` (with a worker, `center.ingest`) and `hub`; for uplink and center
uplink_faults_process.py leads connections to the link and the hostile web server, and shortens their times (SHORT). Every process is ended
by its own pid; those that a run kills are killed with SIGKILL."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_http import HostileHttp
from hostile_link import HostileLink, Lane
from uplink_faults_process import ROOT, Times, environment
from uplink_oracle import Oracle, Verdict

from logbook import channels
from logbook.schemas.cruisers_pb2 import ClockMapping
from logbook.segment_writer import Entry, Identity, SegmentWriter

NAME = "hub.city.test"  # what the truck's configuration calls the hub: a name, so that it can fail to resolve
# The product's are 1, 60, 15, 20, 30, 600, 1 s and 6 h: a run waits for several of them, one after the other.
SHORT = Times(back_off_first=0.1, back_off_most=1.0, stall=1.5, ping=1.5, request=3.0, repeat=2.0, look=0.1, set_aside=3.0)
UP = DOWN = Lane(rate=30e6, latency=0.01)
# Classes of links by the name of the interface (Truck.interface), for the configuration's table [uplink].
RULES = """images = "depot"
[[uplink.rules]]
link = "metered"
interface = "wwan*"
[[uplink.rules]]
link = "depot"
interface = "wlan*"
"""
BOOT = "aaaaaaaa-bbbbbbbb"
UTC_NS = 1_800_000_000_000_000_000
START_SECONDS = 60.0
PATIENCE_SECONDS = 90.0  # for what arrives within seconds where nothing is wrong


class City:
    """Hub, center and hostile web server. `by_web`: objects go to the hostile web server instead of the hub's own."""

    def __init__(self, folder: Path, trucks: list[str], times: Times | None = SHORT, *, by_web: bool = False) -> None:
        self.folder, self.trucks, self.times, self.by_web = folder, trucks, times, by_web
        folder.mkdir(parents=True, exist_ok=True)
        self.archive = folder / "archive"
        self.info: dict[str, Any] = {}
        self.hub: subprocess.Popen[bytes]
        self.center: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()  # kills of one run and starts of another
        self.start_hub()
        tls = folder / "hub" / "tls"
        self.web = HostileHttp(tls / "server.pem", tls / "server-key.pem")
        self.start_center()

    def __enter__(self) -> "City":
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.center, self.hub):
            if process is not None:
                end(process)
        self.web.stop()

    @property
    def objects_port(self) -> int:
        """Where a truck's link leads what goes to the hub's upload service."""
        return self.web.port if self.by_web else int(self.info["http_port"])

    def start_hub(self) -> None:
        """Start the hub, on the ports it had, and wait until it is ready."""
        ready = self.folder / "hub.json"
        ready.unlink(missing_ok=True)
        ports = ["--c2s-port", str(self.info["c2s_port"]), "--http-port", str(self.info["http_port"])] if self.info else []
        command = ["-m", "hub", "serve", "--home", str(self.folder / "hub"), "--ready", str(ready), "--trucks", ",".join(self.trucks)]
        self.hub = self._run([*command, *ports], "hub")
        wait(lambda: ready.exists() or self.hub.poll() is not None, START_SECONDS, "the hub")
        if not ready.exists():
            raise RuntimeError(f"the hub did not start: {(self.folder / 'hub.log').read_text()[-2000:]}")
        self.info = json.loads(ready.read_text("utf-8"))

    def kill_hub(self) -> None:
        """SIGKILL to ejabberd itself; `hub serve` then ends by itself."""
        os.kill(self.info["ejabberd_pid"], signal.SIGKILL)
        self.hub.wait(30)

    def start_center(self) -> None:
        """Start the center and wait until it answers."""
        config, ready = self.folder / "center.toml", self.folder / "center.json"
        ready.unlink(missing_ok=True)
        config.write_text(
            f'archive = "{self.archive}"\ntrucks = {json.dumps(self.trucks)}\nfree_reserve_bytes = 0\n'
            + hub_table(self.info, "center", "127.0.0.1")
        )
        way = {"ports": {self.info["http_port"]: self.web.port} if self.by_web else {}}
        self.center = self._run(["-m", "center", str(config), "--ready", str(ready)], "center", way)
        wait(lambda: ready.exists() or self.center_ended(), START_SECONDS, "the center")
        if not ready.exists():
            raise RuntimeError(f"the center did not start: {(self.folder / 'center.log').read_text()[-2000:]}")

    def center_ended(self) -> bool:
        """Whether the center's process is over."""
        return self.center is None or self.center.poll() is not None

    def kill_center(self) -> None:
        """SIGKILL."""
        assert self.center is not None
        kill(self.center)

    def kill_workers(self) -> int:
        """SIGKILL to the workers that the center has started; how many there were."""
        assert self.center is not None
        pids = Path(f"/proc/{self.center.pid}/task/{self.center.pid}/children").read_text().split()
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
        return len(pids)

    def lead(self, by_web: bool) -> None:
        """From now on objects go to the hostile web server, or to the hub's own; the center is started anew."""
        if by_web != self.by_web and self.center is not None:
            end(self.center)
            self.by_web = by_web
            self.start_center()

    def _run(self, command: list[str], name: str, way: dict[str, Any] | None = None) -> "subprocess.Popen[bytes]":
        return run(command, self.folder / f"{name}.log", way, self.times)


class Truck:
    """One truck of the city, for one run."""

    def __init__(
        self, city: City, name: str, seed: int, *, quota_bytes: int = 10**12, uplink: str = "", up: Lane = UP, down: Lane = DOWN,
        link: Callable[..., Any] = HostileLink, watch: bool = True, short: bool = False,
    ) -> None:  # fmt: skip
        """`uplink`: more lines for the configuration's table of that name. `link`: HostileLink, or its Child."""
        self.city, self.name, self._watch, self._short = city, name, watch, short
        self.chance = random.Random(seed)
        self.folder = city.folder / name
        self.spool = self.folder / "spool"
        self.spool.mkdir(parents=True)
        self.no_dns, self.interface = self.folder / "no-dns", self.folder / "interface"
        self.link = link([("127.0.0.1", city.info["c2s_port"]), ("127.0.0.1", city.objects_port)], up, down, seed)
        self.config = self.folder / "truck.toml"
        self.live = self.folder / "live"
        self.config.write_text(
            f'name = "{name}"\nspool = "{self.spool}"\nlive_socket = "{self.live}"\nspool_quota_bytes = {quota_bytes}\n'
            "free_reserve_bytes = 0\nthinning_reserve_bytes = 0\nimages_segment_bytes = 150_000\n"
            f"{hub_table(city.info, name, NAME)}[uplink]\nnetwork_manager = false\n{uplink}"
        )
        self.graveyard = self.folder / "graveyard"
        self.graveyard.mkdir()
        self.oracle = Oracle(name, self.spool, city.archive, self.graveyard)
        self.process: subprocess.Popen[bytes] | None = None
        self.sweeper: subprocess.Popen[bytes] | None = None
        self.number = 0
        self._watching = self.oracle.watching()

    def __enter__(self) -> "Truck":
        if self._watch:
            self._watching.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for process in (self.process, self.sweeper):
            if process is not None and process.poll() is None:
                kill(process)
        self.link.stop()
        if self._watch:
            self._watching.__exit__(*error)

    def seal(self, count: int = 1, stream: str | None = None, size: int = 120_000) -> set[str]:
        """`count` segments as the recorder makes them, every third one of readings unless `stream` says which; returns their ids."""
        made = set()
        for _ in range(count):
            self.number += 1
            kind = stream or ("readings" if self.number % 3 == 1 else "images")
            made.add(self.oracle.owe(seal(self.spool, self.name, self.number, kind, size, self.chance)))
        return made

    def start(self, drain_seconds: float = 20) -> None:
        """Start the uplink; told to end, it has so long to deliver what is sealed."""
        way = {
            "ports": {self.city.info["c2s_port"]: self.link.ports[0], self.city.info["http_port"]: self.link.ports[1]},
            "name": NAME, "no_dns": str(self.no_dns), "interface": str(self.interface),
        }  # fmt: skip
        command = ["-m", "gateway.uplink", str(self.config), "--drain", str(drain_seconds)]
        self.process = run(command, self.folder / "uplink.log", way, self.city.times)

    def kill(self) -> None:
        """SIGKILL to the uplink."""
        assert self.process is not None
        kill(self.process)

    def start_sweeper(self) -> None:
        """Start the sweeper; it looks twice a second."""
        self.sweeper = run(
            ["-m", "gateway.sweeper", str(self.config), "--every", "0.5"], self.folder / "sweeper.log",
            {"graveyard": str(self.graveyard), "truck": self.name},
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """What the uplink says of itself; {} while it has said nothing."""
        path = self.spool / "uplink.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def turns(self, count: int) -> range:
        """How often a fault comes: in the short form a third of it."""
        return range(max(1, count // 3) if self._short else count)

    def pause(self, least: float, most: float | None = None) -> None:
        """Wait for a random time within these seconds."""
        time.sleep(self.chance.uniform(least, most or least))

    def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait for it; returns how long it took in seconds. The uplink must not have ended by itself."""

        def met() -> object:
            if self.process is not None and self.process.poll() not in (None, -signal.SIGKILL):
                raise RuntimeError(f"the uplink ended by itself: {(self.folder / 'uplink.log').read_text()[-2000:]}")
            return condition()

        return wait(met, seconds, what)

    def arrived(self, segment_ids: set[str] | None = None, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until these (everything sealed) count as delivered; returns how long it took in seconds."""
        return self.until(lambda: self.oracle.delivered(segment_ids), f"all segments of {self.name}", seconds)

    def end(self) -> Verdict:
        """End the processes in order; what came of it."""
        for process in (self.sweeper, self.process):
            if process is not None and process.poll() is None:
                end(process)
        return self.oracle.verdict()


def seal(spool: Path, truck: str, number: int, stream: str, size: int, chance: random.Random) -> Path:
    """A sealed segment of about `size` bytes; of readings one of some kB."""
    name = f"{number:06d}-{stream}"
    camera = channels.camera_topic("front")
    identity = Identity(f"{truck}-{BOOT}-{name}", truck, stream, f"{BOOT[:8]}-0000-4000-8000-000000000000")
    types = channels.channel_types(stream, ["front"] if stream == "images" else ())
    writer = SegmentWriter.create(spool / BOOT / f"{name}.mcap", identity, types, {})
    at = number * 100_000  # long ago on every machine's clock: the sweeper leaves the newest images alone
    if stream == "images":
        writer.append([Entry(camera, at + i, UTC_NS + at + i, _picture(size // 4, chance)) for i in range(4)])
    else:
        times = [at + i * 1_000 for i in range(60)]
        clock = [ClockMapping(boottime_ns=t, utc_ns=UTC_NS + t, source="gnss", error_s=chance.random()) for t in times]
        writer.append([Entry(channels.CLOCK, t, UTC_NS + t, c.SerializeToString()) for t, c in zip(times, clock, strict=True)])
    writer.seal()
    return spool / BOOT / f"{name}.mcap"


def _picture(size: int, chance: random.Random) -> bytes:
    from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

    return CompressedImage(frame_id="front", format="jpeg", data=b"\xff\xd8" + chance.randbytes(size) + b"\xff\xd9").SerializeToString()


def hub_table(info: dict[str, Any], user: str, host: str) -> str:
    """The table [hub] of a configuration."""
    return (
        f'[hub]\ndomain = "{info["domain"]}"\nhost = "{host}"\nport = {info["c2s_port"]}\nca_file = "{info["ca_file"]}"\n'
        f'password_file = "{Path(info["secrets"], user)}"\n'
    )


def run(command: list[str], log: Path, way: dict[str, Any] | None = None, times: Times | None = None) -> "subprocess.Popen[bytes]":
    """Start a process of ours, on another way to the hub if one is given; what it says goes to the end of `log`."""
    env = environment(way, times) if way is not None else None
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=out, stderr=out, env=env)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL, and wait for the end."""
    process.kill()
    process.wait(30)


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM; SIGKILL if that does not help."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        kill(process)


def wait(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Until it is so; returns how long it took in seconds. Raises TimeoutError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.03)
    return time.monotonic() - began
