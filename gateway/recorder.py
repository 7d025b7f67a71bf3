"""`python -m gateway.recorder CONFIG`: chips, receiver and cameras to disk, from ignition on to ignition off (SIGTERM, SIGINT).

Start: lock the spool, seal what a killed recorder left open, learn which head frames are durable, then start each source on its own
thread. Stop, in order: tell it, end cameras and positions, drain the head and wait until what it sent is durable and acknowledged,
seal. It may be killed at any moment instead: the next start finds every committed chunk, and the head still has the rest.

Where the ignition is wired ([inputs]), a shift is from on to off: then everything is sealed, for the uplink to announce, and the process
parks: nothing is recorded, the live snapshot says so, and when the ignition is on again the next shift begins in a folder of its own. A
switch that cannot be read keeps no truck parked.

A disk that refuses (full, dead, read-only) ends nothing: what was taken waits in memory, the live view goes on with an alarm (sensor `disk`
of the snapshot), a full one calls the sweeper. That holds for a start on such a disk, too.

Exit codes: 0 ended in order, 1 something that was taken could not be written, 2 bad configuration, or the spool is in use."""

import errno
import fcntl
import itertools
import os
import resource
import secrets
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType

from gateway import notify
from gateway.clock import Clock as UtcClock
from gateway.clock import Mapping, boottime_ns
from gateway.config import ConfigError, Inputs, Truck, load
from gateway.disk_trouble import DiskTrouble
from gateway.inputs import ignition_is_on
from gateway.journal import Entry, Journal, event
from gateway.live import LiveSender
from gateway.live_blocks import LiveBlocks
from gateway.live_events import LiveEvents
from gateway.memory import keep_freed
from gateway.previous import last_messages
from gateway.rtc import Rtc
from gateway.snapshot import Snapshot
from gateway.sources import Sources, counts, topics
from gateway.supervision import Supervisor
from gateway.sweeper_call import call
from logbook.channels import CLOCK, GAP, HEALTH, IMAGES, READINGS, camera_topic
from logbook.reader import Message
from logbook.recovery import Report, last_head_frames, recover_spool
from logbook.schemas import cruisers_pb2 as pb
from logbook.segment import Segments, WriterDied

NANO = 1_000_000_000
SNAPSHOT_SECONDS = 1.0
HEALTH_SECONDS = 5.0
CLOCK_SECONDS = 10.0
# The head drains 5 s and waits 3 s for the disk; a camera that hangs does so for 3 s.
STOP_SECONDS = 12.0
STALL_SECONDS = 2.0  # a commit that takes longer is told as trouble of the disk
PARKED_SECONDS = 0.5  # between two looks at the ignition
PARKED_SNAPSHOTS = 20  # looks from one snapshot to the next
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
RECORDER = "recorder"
DISK = "disk"
DISK_ERROR, DISK_WELL = "disk_error", "disk_well"
DISK_ERRNOS = (errno.EROFS, errno.EIO, errno.ENOSPC)  # trouble of the disk, not of the configuration


class SpoolError(Exception):
    """The spool cannot be used: why, in one line."""


def lock_spool(spool: Path) -> int:
    """Takes the spool for this process (the kernel lets go of it however we end); the lock's file descriptor. Raises SpoolError, or OSError
    of DISK_ERRNOS where the disk takes no new file and there is none."""
    path = spool / "recorder.lock"
    try:
        spool.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno not in DISK_ERRNOS or not path.exists():
                raise
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # locks just as well
    except OSError as error:
        if error.errno in DISK_ERRNOS:
            raise
        raise SpoolError(f"spool {spool}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise SpoolError(f"spool {spool}: another recorder writes there") from error
    return lock


class Recorder:
    """One shift of a truck's recording. `start()`, `run()` until `stopping` is set, `stop()`; then `parked()` as long as it stands."""

    def __init__(self, config: Truck) -> None:
        self._config = config
        self._spool = Path(config.spool)
        self._boot_id = BOOT_ID.read_text().strip()
        self.folder = f"{self._boot_id[:8]}-{secrets.token_hex(4)}"
        self.stopping = threading.Event()  # ignition off, the process is to end, or nothing can be written
        self.failed = False
        self._sources_stop = threading.Event()
        self._disk = DiskTrouble()
        self._disk_news: deque[tuple[str, str]] = deque(maxlen=100)  # kind and text; told by the writers' threads, written by ours
        self._disk_told = ("ok", "")
        self._images: Segments | None = None
        self._sources: Sources | None = None

    def start(self) -> None:
        """Takes the spool, recovers it and starts the sources. Raises SpoolError."""
        self._lock: int | None = None
        try:
            self._lock = lock_spool(self._spool)
        except OSError as error:
            self._told_disk_error(error)
        reports, resume, before = self._recover()  # resume: newest durable sequence by boot of the head
        rtc = Rtc(self._spool / "rtc.json", self._boot_id)
        self._clock = UtcClock(rtc=rtc.mapping)
        self._live = LiveSender(self._config.live_socket)
        self._snapshot = Snapshot(self._config.name, self.folder, self._clock, self._live)
        number = itertools.count(1).__next__
        self._readings = self._segments(READINGS, number, self._config.readings_segment_seconds, None, ())
        if self._config.cameras:
            cameras = [camera_topic(camera.name) for camera in self._config.cameras]
            seconds, size = self._config.images_segment_seconds, self._config.images_segment_bytes
            self._images = self._segments(IMAGES, number, seconds, size, cameras)
        self._journal = Journal(self._readings, self._clock, lambda: self._snapshot.count("gaps"))
        self._blocks = LiveBlocks(self._config.name, self.folder, self._clock, self._journal, self._live)
        self._news = LiveEvents(self._config.name, self.folder, self._clock, self._journal, self._live)
        self._sources = Sources(
            self._config, self._clock, self._journal, self._snapshot, self._images, resume, before, self._disk, self._ignition
        )
        self._journal.write([event("ignition_on", RECORDER, f"recorder {os.getpid()} in {self.folder}"), *_recovered(reports)])
        self._supervisor = Supervisor(self._journal, self._fatal)
        self._supervisor.start("rtc", lambda stop: rtc.run(self._clock, stop), self._sources_stop)
        self._sources.start(self._supervisor, self._sources_stop)

    def _recover(self) -> tuple[list[Report], dict[int, int], dict[str, Message]]:
        """What is left of the recorders before this one. A disk that cannot be read is told, and ends nothing: the head then sends what it
        still has, some of it perhaps again, and its frames' numbers say so."""
        try:
            reports = recover_spool(self._spool)
            before = last_messages(self._spool, self._boot_id[:8], topics(self._config), counts)
            return reports, last_head_frames(self._spool), before
        except OSError as error:
            self._told_disk_error(error)
            return [], {}, {}

    def _segments(self, stream: str, number: Callable[[], int], seconds: float, size: int | None, cameras: Sequence[str]) -> Segments:
        return Segments(
            self._spool,
            self._config.name,
            self._boot_id,
            stream,
            self.folder,
            number,
            seconds,
            size,
            on_durable=self._durable,
            on_sealed=lambda path: None,  # the uplink finds sealed segments in the spool, by their names
            on_error=self._told_disk_error,
            on_recovered=self._told_disk_well,
            preamble=self._preamble if stream == READINGS else tuple,
            topics=cameras,
        )

    # --- called by other threads

    def _durable(self, token: object) -> None:
        if self._sources is not None:
            self._sources.durable(token)

    def _told_disk_error(self, error: OSError) -> None:
        print(f"recorder: disk: {error}", file=sys.stderr, flush=True)
        self._disk.told(error)
        self._disk_news.append((DISK_ERROR, str(error)))
        if error.errno == errno.ENOSPC:
            call(self._spool)

    def _told_disk_well(self, error: OSError) -> None:
        self._disk_news.append((DISK_WELL, f"after: {error}"))

    def _ignition(self, on: bool) -> None:
        if not on:
            self.stopping.set()

    def _fatal(self, error: Exception) -> None:
        print(f"recorder: {error}", file=sys.stderr, flush=True)
        self.failed = True
        self.stopping.set()

    def _preamble(self) -> list[tuple[str, int, int, bytes]]:
        """A segment can be read alone: the trims in force, and the clock."""
        mapping = self._clock.mapping()
        entries = [*(self._sources.trims() if self._sources is not None else ()), _clock_entry(mapping)]
        return [(entry.topic, entry.log_time, mapping.utc_ns, entry.data) for entry in entries]

    # --- the main thread

    def run(self) -> None:
        """Snapshots, clock and health until `stopping` is set."""
        due = {"snapshot": 0.0, "health": HEALTH_SECONDS, "clock": 0.0}
        began = boottime_ns()
        source = ""
        while not self.stopping.is_set():
            now = (boottime_ns() - began) / NANO
            try:
                if now >= due["snapshot"]:
                    due["snapshot"] = now - now % SNAPSHOT_SECONDS + SNAPSHOT_SECONDS
                    self._watch_disk()
                    if self._sources is not None:
                        self._sources.settle()
                    self._snapshot.send()
                    self._blocks.send()
                    self._news.send()
                mapping = self._clock.mapping()
                if now >= due["clock"] or mapping.source != source:
                    due["clock"], source = now + CLOCK_SECONDS, mapping.source
                    self._journal.write([_clock_entry(mapping)])
                if now >= due["health"]:
                    due["health"] = now + HEALTH_SECONDS
                    self._journal.write([self._health()])
                while self._disk_news:
                    kind, text = self._disk_news.popleft()
                    self._journal.write([event(kind, RECORDER, text), *self._left_behind(kind)])
            except WriterDied as error:
                self._fatal(error)
            notify.alive()
            self.stopping.wait(max(0.01, due["snapshot"] - (boottime_ns() - began) / NANO))

    def stop(self) -> bool:
        """Ends in order; see the module's text. False if something that was taken could not be written."""
        self._attempt(lambda: self._journal.write([event("ignition_off", RECORDER, "stopping in order")]))
        self._sources_stop.set()
        for name in self._supervisor.join(STOP_SECONDS):
            print(f"recorder: {name} does not end; going on without it", file=sys.stderr, flush=True)
        if self._sources is not None:
            self._attempt(self._sources.finish)
        self._attempt(lambda: self._journal.write([self._health()]))
        whole = all([self._attempt(segments.close) for segments in self._writers()])
        self._snapshot.send()
        if self._lock is not None:
            os.close(self._lock)
        return whole and not self.failed

    def parked(self, inputs: Inputs, ended: threading.Event) -> bool:
        """Waits while the ignition is off; False when the process is to end first."""
        self._snapshot.park()
        looks = 0
        while not ended.wait(PARKED_SECONDS):
            if ignition_is_on(inputs) is not False:
                return True
            notify.alive()
            if looks % PARKED_SNAPSHOTS == 0:
                self._snapshot.send()
            looks += 1
        return False

    def close(self) -> None:
        """The last thing: no snapshot is sent any more."""
        self._live.close()

    def counts(self) -> dict[str, int]:
        """The counters of the live snapshot (docs/formats.md 4)."""
        return self._snapshot.counts()

    def _watch_disk(self) -> None:
        """Tells the snapshot what the disk does: `failed` while it refuses, `degraded` while a commit is late."""
        stall = max(segments.stats().stall_s for segments in self._writers())
        state, reason = "ok", ""
        if self._refused():
            state, reason = "failed", self._disk.reason() if self._journal.has_room() else f"live only: {self._disk.reason()}"
        elif stall > STALL_SECONDS:
            state, reason = "degraded", "a commit is late"
        if (state, reason) != self._disk_told:
            self._disk_told = (state, reason)
            self._snapshot.sensor(DISK, state, reason)

    def _left_behind(self, kind: str) -> list[Entry]:
        """Seals the files at which the disk refused, once it is well for all writers (one that has not yet written again elsewhere what
        such a file lacks would make recovery tell of a loss): the uplink need not wait for the next shift."""
        return _recovered(recover_spool(self._spool)) if kind == DISK_WELL and not self._refused() else []

    def _refused(self) -> bool:
        """Whether the disk refuses a writer."""
        return any(segments.problem() is not None for segments in self._writers())

    def _writers(self) -> list[Segments]:
        return [segments for segments in (self._readings, self._images) if segments is not None]

    def _attempt(self, work: Callable[[], bool | None]) -> bool:
        """What `work()` says (True if nothing); False if nothing can be written any more."""
        try:
            return work() is not False
        except WriterDied as error:
            self._fatal(error)
            return False

    def _health(self) -> Entry:
        counters: dict[str, float] = {f"snapshot.{name}": value for name, value in self.counts().items()}
        for stream, segments in ((READINGS, self._readings), (IMAGES, self._images)):
            if segments is not None:
                counters |= {f"{stream}.{name}": float(value) for name, value in segments.stats()._asdict().items()}
        counters |= {"live.sent": self._live.sent, "live.dropped": self._live.dropped, "clock.rejected": self._clock.rejected}
        counters |= {"live.blocks_passed_over": self._blocks.passed_over, "live.events_passed_over": self._news.passed_over}
        if self._sources is not None:
            counters |= self._sources.counters()
        counters["memory_peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        at = boottime_ns()
        return Entry(HEALTH, at, pb.Health(source=RECORDER, boottime_ns=at, counters=counters).SerializeToString())


def _clock_entry(mapping: Mapping) -> Entry:
    message = pb.ClockMapping(**mapping._asdict())
    return Entry(CLOCK, mapping.boottime_ns, message.SerializeToString())


def _recovered(reports: Iterable[Report]) -> list[Entry]:
    """What recovery did; the gaps of a file that was set aside are written here, for it cannot say them itself."""
    entries = []
    for report in reports:
        detail = f"{report.path.name}: {report.reason}; kept {report.kept_chunks} chunks, {report.damaged_chunks} damaged"
        detail += f", {report.cut_bytes} bytes cut" + (f"; {report.error}" if report.error else "")
        entries.append(event("segment_recovered" if report.recovered else "segment_set_aside", "spool", detail))
        if not report.recovered:
            entries += [Entry(GAP, gap.to_boottime_ns or gap.from_boottime_ns, gap.SerializeToString()) for gap in report.gaps]
    return entries


def main(arguments: list[str]) -> int:
    """The command; returns its exit code."""
    if len(arguments) != 1:
        print("usage: python -m gateway.recorder CONFIG", file=sys.stderr)
        return 2
    ended = threading.Event()
    shifts: list[Recorder] = []

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()
        for shift in shifts:
            shift.stopping.set()

    keep_freed()
    try:
        config = load(arguments[0])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        while True:
            if not _shift(config, shifts, ended):
                return 1
            if ended.is_set() or config.inputs is None or not shifts[0].parked(config.inputs, ended):
                return 0
            shifts.pop().close()
    except (ConfigError, SpoolError) as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 2


def _shift(config: Truck, shifts: list[Recorder], ended: threading.Event) -> bool:
    """One shift, which becomes the one of `shifts`; False if something that was taken could not be written."""
    recorder = Recorder(config)
    shifts.append(recorder)
    recorder.start()
    notify.ready()
    if ended.is_set():  # the signal came before there was somebody to stop
        recorder.stopping.set()
    recorder.run()
    if ended.is_set():
        notify.stopping()
    return recorder.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
