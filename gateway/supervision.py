"""Each source of the recorder runs on a thread of its own, and none may stop another.

`Supervisor` starts the threads and starts one again that failed in a way its author did not foresee (told as an event and on
stderr, never silently). `Outage` turns "no data" and "data again" of one source into events and gaps."""

import sys
import threading
import traceback
from collections.abc import Callable

from gateway.clock import boottime_ns
from gateway.journal import Entry, Journal, Sink, event, gap
from logbook.segment import WriterDied

RESTART_SECONDS = 1.0  # before a failed source is started again: a fault that stays must not fill the disk with events
START_SECONDS = 10.0  # a source that this recorder has never heard may take so long (boot of a receiver, of a camera)
STARTING = "starting"
NO_DATA = "no data"
NANO = 1_000_000_000


class Supervisor:
    """Threads of sources. `stop` is given to each; `join` waits for them.

    `fatal(error)` is called when nothing can be written any more: then no source can do its duty."""

    def __init__(self, journal: Journal, fatal: Callable[[Exception], None]) -> None:
        self._journal = journal
        self._fatal = fatal
        self._threads: list[threading.Thread] = []

    def start(self, name: str, run: Callable[[threading.Event], None], stop: threading.Event) -> None:
        """Runs `run(stop)` on its own thread until `stop` is set; whenever it raises, it is told and started again."""
        thread = threading.Thread(target=self._keep, args=(name, run, stop), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, seconds: float) -> list[str]:
        """Waits up to `seconds` for all threads; the names of those that still run (a driver that hangs: they are daemons)."""
        until = boottime_ns() + int(seconds * NANO)
        for thread in self._threads:
            thread.join(max(0.0, (until - boottime_ns()) / NANO))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _keep(self, name: str, run: Callable[[threading.Event], None], stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._once(name, run, stop)
            except WriterDied as error:
                self._fatal(error)
                return
            stop.wait(RESTART_SECONDS)

    def _once(self, name: str, run: Callable[[threading.Event], None], stop: threading.Event) -> None:
        try:
            run(stop)
        except WriterDied:
            raise
        except Exception as error:  # noqa: BLE001  whatever a source throws: it must not end the other sources
            traceback.print_exc(file=sys.stderr)
            if not stop.is_set():  # else the journal may be closed
                self._journal.write([event("source_failed", name, f"{type(error).__name__}: {error}")])


class Outage:
    """Whether one source delivers. `seen()` at each piece of data, `lost(reason)` when there is none, `finish()` at the end.

    Loss and return are events. With `grace_seconds` not None, what is missing is written as a Gap if it lasted longer than that, also
    if nobody called it lost.
    `since_ns` is when the source last delivered to a recorder before this one (of the same kernel boot), if one did: what is missing
    since then is a gap, too. Not thread safe: one source, one thread."""

    def __init__(self, journal: Sink, source: str, grace_seconds: float | None = None, since_ns: int | None = None) -> None:
        self._journal = journal
        self._source = source
        self._grace_ns = None if grace_seconds is None else int(grace_seconds * NANO)
        self._from_ns = boottime_ns() if since_ns is None else since_ns
        self._reason = STARTING if since_ns is None else "recorder was not running"
        self._fresh = since_ns is None
        self._down = True
        self._told = False

    @property
    def down(self) -> bool:
        """Whether the source does not deliver."""
        return self._down

    def seen(self, at_ns: int | None = None) -> None:
        """Data of boot time `at_ns` (default: now) came."""
        at = boottime_ns() if at_ns is None else at_ns
        if not self._down and (self._grace_ns is None or at - self._from_ns <= self._grace_ns):
            self._from_ns = at  # as nearly always
            return
        entries = self._gap(at)
        if self._down:
            entries.append(event("source_delivers", self._source, f"after: {self._reason}", at))
            self._down = self._told = self._fresh = False
            self._reason = NO_DATA
        self._journal.write(entries)
        self._from_ns = at

    def lost(self, reason: str) -> None:
        """The source does not deliver, because of `reason`; told when it begins and when the reason changes."""
        if not (self._down and self._told and reason == self._reason):
            self._journal.write([event("source_lost", self._source, reason)])
        self._down = self._told = True
        self._reason = reason

    def finish(self) -> None:
        """The recorder stops: an outage that still lasts is written as it stands."""
        if self._down:
            self._journal.write(self._gap(boottime_ns()))

    def _gap(self, to_ns: int) -> list[Entry]:
        if self._grace_ns is None:
            return []
        grace_ns = int(START_SECONDS * NANO) if self._fresh else self._grace_ns
        if to_ns - self._from_ns <= grace_ns:
            return []
        return [gap(self._source, self._reason, self._from_ns, to_ns)]
