"""For tests of the recorder: a truck's configuration, a recorder in this process or in its own, and what it has written down."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import numpy as np
from gateway_head import imu_number

from gateway.clock import Clock
from gateway.config import Camera, Gpsd, Head, Hub, Truck
from gateway.journal import Journal
from gateway.live import LiveSender
from gateway.recorder import Recorder
from gateway.snapshot import Snapshot
from logbook import block, channels, reader
from logbook.recovery import last_head_frames, recover_spool
from logbook.segment import Segments

PATIENCE = 20.0  # seconds; a busy machine is slow, not wrong


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Returns when `condition()` is true; fails the test with `what` after `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited in vain: {what}"
        time.sleep(0.02)


def truck(folder: Path, head: Path | None = None, gpsd_port: int | None = None, cameras: dict[str, str] | None = None) -> Truck:
    """A configuration whose spool and live socket are in `folder`."""
    return Truck(
        name="truck-1",
        spool=str(folder / "spool"),
        live_socket=str(folder / "live.sock"),
        hub=Hub("hub.test", "127.0.0.1", 5222, "ca.pem", "password"),
        head=None if head is None else Head(str(head)),
        gpsd=None if gpsd_port is None else Gpsd("127.0.0.1", gpsd_port),
        cameras=[Camera(name, source) for name, source in (cameras or {}).items()],
    )


def start_process(config: Truck, folder: Path) -> subprocess.Popen[bytes]:
    """`python -m gateway.recorder` with this configuration."""
    return subprocess.Popen([sys.executable, "-m", "gateway.recorder", str(write_config(config, folder))], stderr=subprocess.PIPE)


def write_config(config: Truck, folder: Path) -> Path:
    """The configuration as a file in `folder`."""
    path = folder / "truck.toml"
    path.write_text("\n".join(_toml(msgspec.to_builtins(config))))
    return path


def _toml(values: dict[str, Any]) -> list[str]:
    """The lines of a TOML file with `values`: plain ones, tables, and lists of tables. JSON strings and numbers are TOML's, too."""
    plain, tables = [], []
    for key, value in values.items():
        if isinstance(value, dict):
            tables += [f"[{key}]", *_toml(value)]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [line for table in value for line in (f"[[{key}]]", *_toml(table))]
        elif value is not None:
            plain.append(f"{key} = {json.dumps(value)}")
    return plain + tables


class Running:
    """A recorder in this process, running between `with` and its end."""

    def __init__(self, config: Truck) -> None:
        self.recorder = Recorder(config)
        self.whole: bool | None = None

    def __enter__(self) -> Recorder:
        self.recorder.start()
        self._thread = threading.Thread(target=self.recorder.run)
        self._thread.start()
        return self.recorder

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.recorder.stopping.set()
        self._thread.join()
        self.whole = self.recorder.stop()


class Bench:
    """Segments, journal and snapshot without a recorder, for one source alone. `durable` are the tokens that came back."""

    def __init__(self, folder: Path, cameras: tuple[str, ...] = ()) -> None:
        self.spool = folder / "spool"
        self.durable: list[object] = []
        self.clock = Clock(system=lambda: None)
        self.sender = LiveSender(folder / "live.sock")
        self.snapshot = Snapshot("truck-1", "bench", self.clock, self.sender)
        number = itertools.count(1).__next__
        self.readings = self._segments(channels.READINGS, number, ())
        self.images = self._segments(channels.IMAGES, number, cameras)
        self.journal = Journal(self.readings, self.clock, lambda: self.snapshot.count("gaps"))
        self.on_durable: Callable[[object], None] = lambda token: None

    def _segments(self, stream: str, number: Callable[[], int], cameras: tuple[str, ...]) -> Segments:
        return Segments(
            self.spool, "truck-1", "0" * 36, stream, "00000000-bench", number, 60.0,
            on_durable=self._told, on_sealed=lambda path: None, on_error=self._disk, topics=cameras,
        )  # fmt: skip

    def _told(self, token: object) -> None:
        self.durable.append(token)
        self.on_durable(token)

    def _disk(self, error: OSError) -> None:
        raise AssertionError(f"the disk of a test refused: {error}")

    def close(self) -> "Recording":
        """Seals; what was written."""
        assert self.readings.close() and self.images.close()
        self.sender.close()
        return Recording(self.spool)


class Source(Protocol):
    """What reads one device."""

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""


S = TypeVar("S", bound=Source)


class Reading(Generic[S]):
    """A source of positions on its bench, in a thread of its own from now on to `end`."""

    def __init__(self, bench: Bench, source: S) -> None:
        self.bench = bench
        self.source = source
        self._stop = threading.Event()
        self._thread = threading.Thread(target=source.run, args=(self._stop,), daemon=True)
        self._thread.start()

    def count(self) -> int:
        """Samples so far."""
        return self.bench.snapshot.counts().get("samples.gnss", 0)

    def state(self) -> dict[str, str]:
        """What the snapshot says of it."""
        return self.bench.snapshot.build()["sensors"].get("gnss", {})

    def end(self) -> "Recording":
        """What was written."""
        self._stop.set()
        self._thread.join()
        return self.bench.close()


class Recording:
    """Everything in a spool, in the order of the files: `messages` by topic; every file must be whole."""

    def __init__(self, spool: Path, recover: bool = False) -> None:
        if recover:
            recover_spool(spool)
        self.paths = sorted(spool.glob("*/*.mcap"), key=lambda path: (path.parent.stat().st_mtime_ns, path.name))
        self.resume = last_head_frames(spool)
        self.messages: dict[str, list[reader.Message]] = {}
        self.imu_times: list[int] = []
        self.imu_numbers: list[int] = []
        for path in self.paths:
            assert reader.verify(path) == []
            for message in reader.read(path):
                self.messages.setdefault(message.topic, []).append(message)
                if message.topic == channels.IMU_BLOCK:
                    _, times, columns = block.decode(message.data)
                    self.imu_times += times.tolist()
                    self.imu_numbers += [imu_number(row) for row in columns]
        assert np.all(np.diff(np.array(self.imu_times, dtype=np.int64)) > 0)

    def decoded(self, topic: str) -> list[Any]:
        """The messages of a topic as protobuf objects."""
        return [message.message for message in self.messages.get(topic, [])]

    def events(self, kind: str) -> list[Any]:
        """Events of one kind."""
        return [event for event in self.decoded(channels.EVENT) if event.kind == kind]

    def gaps(self, source: str) -> list[Any]:
        """Gaps of one source."""
        return [gap for gap in self.decoded(channels.GAP) if gap.source == source]

    def sequences(self) -> Counter[tuple[int, int]]:
        """How often each (boot, sequence) is named by a HeadFrames message."""
        named: Counter[tuple[int, int]] = Counter()
        for message in self.decoded(channels.HEAD_FRAMES):
            named.update((message.head_boot, number) for number in range(message.first_sequence, message.last_sequence + 1))
        return named


def pid_is_gone(pid: int) -> bool:
    """Whether no such process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
