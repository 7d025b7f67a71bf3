"""A fleet without trucks: the live data of any number of them, each 1 Hz of values and 1 Hz of packed IMU blocks, through real uplinks, one
real hub and one real center, all on this machine. What it finds out: does every block arrive, and how late is a value at the center.

    feeder (here) ─live sockets─> gateway.uplink × PROCESSES ─TLS─> hub (ejabberd) ─TLS─> center ─HTTP /api/live─> here

Only the recorders are left out: the feeder sends the datagrams that they would send (docs/formats.md 4). Each truck has a world of its own;
of its IMU there are VARIANTS seconds, made once and sent again and again at new times, for a core would not make a hundred a second.
The trucks' seconds begin one after the other, as unrelated trucks' do. Lateness is the center's: UTC at which an item was taken there,
minus UTC at which the datagram was made, both of this machine's clock.

With `most` the fleet grows in steps until its p99 passes `late_s`, or to `most` trucks: what one hub and center on this machine carry."""

import base64
import heapq
import json
import math
import os
import socket
import struct
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from logbook import block
from logbook.quantities import TABLE, G
from sim.clock import boottime_ns, utc_ns
from sim.processes import Child, ChildFailed
from sim.world import World

PROCESSES = 4  # of uplinks, which share the trucks: a moment in which one is busy delays few others
VARIANTS = 8
IMU_HZ = 102.27
READY_SECONDS = 180.0  # accounts and nodes of a thousand trucks take a minute
WARM_UP_SECONDS = 5.0  # after the last truck is connected: first items, first certificates
STEP = 1.5  # from one size of the fleet to the next
GRACE_SECONDS = 15.0
SETTLE_SECONDS = 3.0  # at the end, for what is under way
SPARE = ("particles_above_",)  # quantities of spares, which a standard truck has not
_FIRST_BOOTTIME = struct.Struct("<Q")  # at 10 in a block (docs/formats.md 3)
_FIRST_BOOTTIME_AT = 10

# As a head's ICM-20948 at ±4 g, ±500 °/s (docs/formats.md 3): unit per step, and the quantities.
COLUMNS = [
    *({"id": f"acceleration_{axis}", "scale": G / 8192} for axis in "xyz"),
    *({"id": f"angular_rate_{axis}", "scale": math.radians(1 / 65.5)} for axis in "xyz"),
    *({"id": f"magnetic_field_{axis}", "scale": 0.15e-6} for axis in "xyz"),
]


class FleetError(Exception):
    """Why the fleet cannot be run, in one line."""


class Options(NamedTuple):
    """What `cruisers sim fleet` was asked for. `most`: grow up to so many trucks (0: do not grow)."""

    trucks: int = 100
    seconds: float = 30.0
    most: int = 0
    late_s: float = 1.0
    seed: int = 1
    home: Path | None = None


class Size(NamedTuple):
    """What was seen of one size of the fleet in `seconds` after the warm-up; packed blocks are counted from the first to the last, and
    `missing` of them did not arrive. Latencies of values in seconds; `cpu` is the share of one core by process."""

    trucks: int
    seconds: float
    snapshots_sent: int
    snapshots: int
    blocks_sent: int
    blocks: int
    missing: int
    p50_s: float
    p99_s: float
    most_s: float
    feeder_late_s: float
    cpu: dict[str, float]


def truck_name(number: int) -> str:
    """Of truck `number`, from 1."""
    return f"truck-{number:04d}"


class Feeder:
    """One truck's recorder, as its uplink sees it."""

    def __init__(self, number: int, seed: int, live_socket: Path, blocks: list[bytes]) -> None:
        self.name = truck_name(number)
        self._path = str(live_socket)
        self._world = World(seed + number, utc_ns(), solar_hour=10.5)
        self._boot = f"{number:08x}-{seed:08x}"
        self._began_ns = boottime_ns()
        self._blocks = blocks
        self._number = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.snapshots = 0
        self.packed = 0

    def send(self) -> None:
        """The datagrams of this second. Raises OSError where the uplink does not take them: then the fleet is no fleet."""
        self._number += 1
        at, utc = boottime_ns(), utc_ns()
        head = {"truck": self.name, "boot": self._boot, "number": self._number, "boottime_ns": at, "utc_ns": utc, "utc_source": "gnss"}
        self._put(
            {**head, "values": self._values(at), "counts": {}, "sensors": {}, "head": None, "image": None, "place": None, "parked": False}
        )
        self.snapshots += 1
        data = bytearray(self._blocks[self._number % len(self._blocks)])
        _FIRST_BOOTTIME.pack_into(data, _FIRST_BOOTTIME_AT, at - 1_000_000_000)
        packed = {**head, "kind": "packed", "boottime_ns": at - 1_000_000_000, "utc_ns": utc - 1_000_000_000, "utc_error_s": 0.001}
        self._put({**packed, "columns": block.describe(COLUMNS), "block": base64.b64encode(data).decode()})
        self.packed += 1

    def _values(self, at: int) -> dict[str, dict[str, Any]]:
        found = self._world.at((at - self._began_ns) // 1000)
        return {
            quantity.id: {"value": found[quantity.id], "reason": None, "raw": "12345", "boottime_ns": at, "calibrated": False}
            for quantity in TABLE
            if not quantity.id.startswith(SPARE)
        }

    def _put(self, datagram: dict[str, Any]) -> None:
        self._socket.sendto(json.dumps(datagram).encode(), self._path)

    def close(self) -> None:
        """Closes its socket."""
        self._socket.close()


def imu_seconds(seed: int, count: int) -> list[bytes]:
    """`count` blocks of one second of a driving truck's IMU."""
    world = World(seed)
    samples = round(IMU_HZ)
    blocks = []
    for index in range(count):
        began = 60_000_000 + index * 7_000_000
        rows = [world.at(began + round(sample / IMU_HZ * 1e6)) for sample in range(samples)]
        raw = np.array([[round(row[str(column["id"])] / float(str(column["scale"]))) for column in COLUMNS] for row in rows])
        times = np.array([round(sample / IMU_HZ * 1e9) for sample in range(samples)])
        blocks.append(block.encode(1, times, np.clip(raw, -32767, 32766).astype(np.int16)))
    return blocks


class Fleet:
    """The processes of one fleet in the folder `home`."""

    def __init__(self, options: Options, home: Path) -> None:
        self._options = options
        self._home = home
        self._children: dict[str, Child] = {}
        self._hub: dict[str, Any] = {}
        self._page = ""
        self._feeders: list[Feeder] = []
        self._blocks = imu_seconds(options.seed, VARIANTS)

    def start(self, trucks: int) -> None:
        """Hub and center, for `trucks` of them. Raises ChildFailed, FleetError."""
        names = [truck_name(number) for number in range(1, trucks + 1)]
        hub_ready, center_ready = self._home / "hub.json", self._home / "center.json"
        hub = ["-m", "hub", "serve", "--home", str(self._home / "hub"), "--ready", str(hub_ready), "--trucks", ",".join(names)]
        self._hub = self._ready(self._child("hub", hub), hub_ready)
        config = self._home / "center.toml"
        listed = ", ".join(f'"{name}"' for name in names)
        config.write_text(
            f'archive = "{self._home}/archive"\nfree_reserve_bytes = 0\ntrucks = [{listed}]\n[hub]\n{self._hub_toml("center")}'
        )
        center = self._child("center", ["-m", "center", str(config), "--ready", str(center_ready)])
        self._page = str(self._ready(center, center_ready)["url"])

    def grow(self, trucks: int) -> None:
        """Further uplinks, until there are `trucks`, each connected and heard of by the center."""
        numbers = list(range(len(self._feeders) + 1, trucks + 1))
        configs = {number: self._truck_config(number) for number in numbers}
        for index in range(min(PROCESSES, len(numbers))):
            mine = [str(configs[number]) for number in numbers[index::PROCESSES]]
            self._child(f"uplinks {len(self._children)}", ["-m", "gateway.uplink", *mine])
        self._until(lambda: all(self._connected(number) for number in numbers), f"{trucks} uplinks are connected")
        self._feeders += [Feeder(number, self._options.seed, self._socket(number), self._blocks) for number in numbers]

    def run(self, seconds: float, words: str) -> Size:
        """Feeds all trucks for `seconds` and says what was seen of them."""
        self._live(reset=True)
        sent_before = sum(feeder.packed for feeder in self._feeders)
        feeding = _Feeding(self._feeders)
        feeding.start()
        try:
            time.sleep(WARM_UP_SECONDS)
            warm = self._live(reset=True)
            before, cpu, began = feeding.sent(), self._cpu(), time.monotonic()
            stderr = Console(stderr=True)
            for _ in track(range(round(seconds)), words, console=stderr, transient=True, disable=not stderr.is_terminal):
                time.sleep(1.0)
                self._watch()
            after, spent, took = feeding.sent(), self._cpu(), time.monotonic() - began
        finally:
            feeding.stop()
        time.sleep(SETTLE_SECONDS)
        found = self._live(reset=False)
        blocks_sent = sum(feeder.packed for feeder in self._feeders) - sent_before
        blocks = warm["blocks"] + found["blocks"]
        return Size(
            len(self._feeders), took, after[0] - before[0], found["snapshots"], blocks_sent, blocks, blocks_sent - blocks,
            found["p50_s"], found["p99_s"], found["most_s"], feeding.late_s,
            {name: (spent[name] - cpu.get(name, 0.0)) / took for name in spent},
        )  # fmt: skip

    def stop(self) -> None:
        """Ends everything in order."""
        for feeder in self._feeders:
            feeder.close()
        for child in self._children.values():
            child.expected_to_run = False
        for name in sorted(self._children, key=lambda name: name == "hub"):
            self._children[name].stop(GRACE_SECONDS)

    def _child(self, name: str, arguments: list[str]) -> Child:
        (self._home / "logs").mkdir(exist_ok=True)
        child = Child(name, [sys.executable, *arguments], self._home / "logs" / f"{name.replace(' ', '-')}.log")
        self._children[name] = child
        child.start()
        return child

    def _ready(self, child: Child, file: Path) -> dict[str, Any]:
        self._until(file.exists, f"{child.name} is ready")
        loaded: dict[str, Any] = json.loads(file.read_text())
        return loaded

    def _until(self, ready: Any, what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            self._watch()
            if time.monotonic() > deadline:
                raise ChildFailed(f"not within {READY_SECONDS:.0f} s: {what}")
            time.sleep(0.1)

    def _watch(self) -> None:
        for child in self._children.values():
            child.watch()

    def _hub_toml(self, account: str) -> str:
        hub = self._hub
        return (
            f'domain = "{hub["domain"]}"\nhost = "{hub["host"]}"\nport = {hub["c2s_port"]}\nca_file = "{hub["ca_file"]}"\n'
            f'password_file = "{hub["secrets"]}/{account}"\n'
        )

    def _folder(self, number: int) -> Path:
        return self._home / "trucks" / f"{number}"

    def _socket(self, number: int) -> Path:
        return self._folder(number) / "live"

    def _truck_config(self, number: int) -> Path:
        folder = self._folder(number)
        folder.mkdir(parents=True)
        path = folder / "truck.toml"
        path.write_text(
            f'name = "{truck_name(number)}"\nspool = "{folder}/spool"\nlive_socket = "{self._socket(number)}"\n'
            f"free_reserve_bytes = 0\nthinning_reserve_bytes = 0\n[hub]\n{self._hub_toml(truck_name(number))}"
            "[uplink]\nnetwork_manager = false\n"
        )
        return path

    def _connected(self, number: int) -> bool:
        try:
            return bool(json.loads((self._folder(number) / "spool" / "uplink.json").read_text())["connected"])
        except FileNotFoundError:
            return False

    def _live(self, reset: bool) -> dict[str, Any]:
        """What the center saw of live data since the last reset."""
        with urllib.request.urlopen(f"{self._page}api/live{'?reset=1' if reset else ''}", timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def _cpu(self) -> dict[str, float]:
        """Seconds of CPU so far, by kind of process; the hub's with ejabberd below it."""
        spent: dict[str, float] = {}
        for name, child in self._children.items():
            kind = name.partition(" ")[0]
            spent[kind] = spent.get(kind, 0.0) + sum(_cpu_seconds(pid) for pid in _family(child.pid))
        spent["feeder"] = time.process_time()
        return spent


class _Feeding(threading.Thread):
    """Sends every truck's datagrams once a second, the trucks evenly spread over it."""

    def __init__(self, feeders: list[Feeder]) -> None:
        super().__init__(name="feeding", daemon=True)
        self._feeders = feeders
        self._ending = threading.Event()
        self._error: OSError | None = None
        self.late_s = 0.0  # at most: a feeder that is late makes no load

    def run(self) -> None:
        began = time.monotonic()
        due = [(began + index / len(self._feeders), index) for index in range(len(self._feeders))]
        heapq.heapify(due)
        while not self._ending.wait(max(0.0, due[0][0] - time.monotonic())):
            at, index = due[0]
            try:
                self._feeders[index].send()
            except OSError as error:
                self._error = error
                return
            heapq.heapreplace(due, (at + 1.0, index))
            self.late_s = max(self.late_s, time.monotonic() - at)

    def sent(self) -> tuple[int, int]:
        """Snapshots and packed blocks so far; raises FleetError when an uplink refused."""
        if self._error is not None:
            raise FleetError(f"an uplink took no datagram: {self._error.strerror}")
        return sum(feeder.snapshots for feeder in self._feeders), sum(feeder.packed for feeder in self._feeders)

    def stop(self) -> None:
        """Ends; raises FleetError as `sent`."""
        self._ending.set()
        self.join()
        self.sent()


def _family(root: int) -> list[int]:
    """`root` and all processes below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += parents.get(pid, [])
    return found


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0  # utime, stime


def _stat(pid: int) -> list[str]:
    """Fields 3 and on of /proc/PID/stat (proc(5)); empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def sizes(options: Options) -> list[Size]:
    """Runs the fleet; one Size, or with `most` one for each step. Raises FleetError, ChildFailed."""
    if not 1 <= options.trucks <= 5000 or (options.most and options.most < options.trucks):
        raise FleetError(f"trucks: {options.trucks} to {options.most or options.trucks}, not 1 to 5000 and rising")
    with tempfile.TemporaryDirectory(prefix="fleet-") as temporary:
        home = options.home or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        fleet = Fleet(options, home.resolve())
        try:
            fleet.start(max(options.trucks, options.most))
            found: list[Size] = []
            trucks = options.trucks
            while True:
                fleet.grow(trucks)
                found.append(fleet.run(options.seconds, f"{trucks} trucks"))
                if trucks >= options.most or found[-1].p99_s > options.late_s:
                    return found
                trucks = min(options.most, math.ceil(trucks * STEP))
        finally:
            fleet.stop()


def run(options: Options, as_json: bool) -> int:
    """The command: a table, or JSON; 1 if a block did not arrive at the size asked for."""
    try:
        found = sizes(options)
    except (FleetError, ChildFailed) as error:
        print(f"cruisers sim fleet: {error}", file=sys.stderr)
        return 2 if isinstance(error, FleetError) else 1
    if as_json:
        print(json.dumps([size._asdict() for size in found], indent=1))
    else:
        _show(found)
    return 1 if found[0].missing else 0


def _show(found: list[Size]) -> None:
    table = Table(
        title="Each truck: values and a packed block once a second, one hub and center", title_justify="left", box=None, pad_edge=False
    )
    for heading in ("trucks", "s", "blocks", "missing", "p50 ms", "p99 ms", "most ms", "hub", "center", "uplinks"):
        table.add_column(heading, justify="right")
    for size in found:
        shares = [f"{size.cpu.get(name, 0.0):.0%}" for name in ("hub", "center", "uplinks")]
        late = [f"{seconds * 1e3:.0f}" for seconds in (size.p50_s, size.p99_s, size.most_s)]
        table.add_row(str(size.trucks), f"{size.seconds:.0f}", str(size.blocks), str(size.missing), *late, *shares)
    table.caption, table.caption_justify = "ms from collection to the center; hub, center, uplinks: CPU, 100% is a core", "left"
    Console(width=80 if Console().width < 80 else None).print(table)
