"""A box of the first fleet as a source (drivers/first_fleet.py), beside a head or alone: every frame it sends, whole, on disk.

The box keeps nothing and repeats nothing, so what is not on disk at a power cut is lost: frames are handed over every BATCH_SECONDS and
written within 0.5 s more (logbook/segment.py), together less than the 1.0 s of the promise. It cannot be slowed down either: while the
disk stalls it writes on, and what memory refuses at last is counted by the writer as a Gap.

Recorded: each frame raw with its time of arrival; its identity and its Trim; once a second the newest sample as a Reading; what is missing
as Gaps, with the number of samples where the box's own numbering says it: within one connection, and over an interruption or another
recorder's death if it counted on (gateway/box_count.py). Times are those at which a frame was complete and confirmed by the next one's
header: 10 ms late by that, up to 20 ms more by the line's USB adapter and our own looking. What happened between two samples is exact by
their numbers.

Live values: a head's go before. With a head on the truck the box is recorded, and not shown."""

import json
import threading
from typing import Any

from drivers.errors import BusError
from drivers.first_fleet import BAUD, FRAMES_AT_ONCE, QUANTITIES, RAW_SIZE, SENSOR, FirstFleetBox
from drivers.first_fleet_frames import EVENT_A, EVENT_C
from drivers.first_fleet_sample import ERRORS, clean_air
from firmware.frames import REASONS
from gateway.box_count import Heard, heard, missing
from gateway.box_positions import BoxPositions
from gateway.clock import Clock, boottime_ns
from gateway.convert import Converter, raw_numbers
from gateway.journal import Entry, Journal, event, gap
from gateway.linux_bus import LinuxUart
from gateway.snapshot import Snapshot
from gateway.supervision import NANO, NO_DATA, START_SECONDS, STARTING, Outage
from logbook.channels import BOX_FRAMES, TRIM, reading_topic
from logbook.schemas import cruisers_pb2 as pb

BATCH_SECONDS = 0.25
READING_SECONDS = 1.0
LOOK_SECONDS = 0.01  # between two looks at the port
REOPEN_SECONDS = 0.5
ATTEMPTS = 5  # to set it up, before the port is opened anew: a USB device can hang while its port stays
TICKS = (1 << 30) - 1  # the driver's milliseconds wrap there
SAMPLE_AT = 2  # in an event A
SENTENCE_AT = 9  # in an event C
# Samples that one jump of the number within a connection is believed to be: a minute of them. Silence of 2 s ends a connection, so a
# larger jump is a damaged number that its XOR did not show.
LONGEST_JUMP = 6000


class Box:
    """The source: `run(stop)` serves the box at serial port `port` until `stop` is set. Its faults end nothing but its own connection.

    `live`: its values go into the live snapshot. `positions`: it is the truck's only receiver, or None. `before`: the newest sample of a
    recorder before this one, of the same kernel boot. `trims()` (any thread) are the messages to restate at the start of a segment.
    `broken` counts frames that did not arrive whole."""

    def __init__(
        self,
        port: str,
        fan: bool,
        clock: Clock,
        journal: Journal,
        snapshot: Snapshot,
        live: bool = True,
        positions: BoxPositions | None = None,
        before: Heard | None = None,
    ) -> None:
        self._port_name = port
        self._fan = fan
        self._clock = clock
        self._journal = journal
        self._snapshot = snapshot
        self._live = live
        self._positions = positions
        self._converter = Converter()
        self._outage = Outage(journal, SENSOR)  # its gaps are counted here
        self._last = before  # the newest sample
        self._recorded = 0  # samples since then, read or not
        self._began_ns = boottime_ns()
        self._why = STARTING if before is None else "recorder was not running"
        self._buffer = bytearray(FRAMES_AT_ONCE * RAW_SIZE)
        self._now = 0
        self._frames: list[bytes] = []
        self._times: list[int] = []
        self._entries: list[Entry] = []
        self._newest: bytes | None = None
        self._reading_ns = self._batch_ns = 0
        self._state: tuple[str, str] | None = None
        self._identity = ""
        self._trims: tuple[Entry, ...] = ()
        self._broken_now = 0
        self.broken = 0

    def trims(self) -> tuple[Entry, ...]:
        """The trim as last told, if one was."""
        return self._trims

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; then the box is told to stop."""
        while not stop.is_set():
            try:
                uart = LinuxUart(self._port_name, BAUD)
                try:
                    self._serve(uart, stop)
                finally:
                    uart.close()
            except OSError as error:
                self._lost(f"port: {error.strerror or error}")
            self._commit()
            stop.wait(REOPEN_SECONDS)
        if self._outage.down:
            self._missed(boottime_ns(), 0)
            self._commit()
        if self._positions is not None:
            self._positions.finish()

    # --- one connection

    def _serve(self, uart: LinuxUart, stop: threading.Event) -> None:
        """Until `stop` is set or setting up fails ATTEMPTS times in a row; raises what a failing port raises."""
        driver = FirstFleetBox(uart, self._fan, self._frame)
        failures = 0
        fresh = True  # no sample since the driver began (again): the driver itself cannot count what is missing
        driver.start(boottime_ns() // 1_000_000 & TICKS)
        while not stop.is_set() and failures < ATTEMPTS:
            self._now = boottime_ns()
            tick = self._now // 1_000_000 & TICKS
            broken = driver.bad
            try:
                while driver.poll(tick):
                    self._samples(driver, bytes(self._buffer[: driver.read_into(self._buffer)]), fresh)
                    fresh, failures = False, 0
            except BusError as error:
                failures += 1
                self._lost(REASONS[error.code])
                driver.start(tick)
                fresh = True
            self._broken_now += driver.bad - broken
            if self._positions is not None and not self._outage.down:
                self._positions.pass_time(self._now)
            if self._now - self._batch_ns >= BATCH_SECONDS * NANO:
                self._commit()
            stop.wait(LOOK_SECONDS)
        if stop.is_set():
            driver.stop()

    def _frame(self, frame: bytearray, length: int) -> None:
        """Called by the driver with each frame that came whole."""
        self._frames.append(bytes(frame[:length]))
        self._times.append(self._now)
        if frame[1] == EVENT_A:
            self._recorded += self._last is not None and heard(frame[SAMPLE_AT:], 0).serial == self._last.serial
        elif frame[1] == EVENT_C and self._positions is not None:
            self._positions.sentence(bytes(frame[SENTENCE_AT : length - 1]), self._now)

    def _samples(self, driver: FirstFleetBox, raw: bytes, fresh: bool) -> None:
        """Samples as they came, oldest first."""
        newest = heard(raw[-RAW_SIZE:], self._now)
        if fresh:
            self._meet(driver.trim())
            self._missed(self._now, missing(self._last, newest, self._recorded) if self._last is not None else 0)
        elif driver.gap_reason and self._last is not None:
            reason = "samples missing on the line, by their numbers" if 0 < driver.missing <= LONGEST_JUMP else "box began anew"
            count = driver.missing if driver.missing <= LONGEST_JUMP else 0
            self._entries.append(gap(SENSOR, reason, self._last.at_ns, self._now, count))
        driver.missing = driver.gap_reason = self._recorded = 0
        self._outage.seen(self._now)
        self._why = NO_DATA
        self._last = newest
        self._newest = raw[-RAW_SIZE:]
        self._snapshot.count(f"samples.{SENSOR}", len(raw) // RAW_SIZE)

    def _meet(self, trim: bytes) -> None:
        """The box said what it is: told once for each time it is set up."""
        millivolts, celsius = clean_air(trim)
        serial, version, model = (trim[begin:end].rstrip(b"\0 ").decode("ascii", "replace") for begin, end in ((0, 4), (4, 8), (8, 18)))
        said = {"serial": serial, "version": version, "model": model, "clean_air_mv": millivolts, "clean_air_celsius": celsius}
        self._entries.append(event("box_identity", SENSOR, json.dumps(said), self._now))
        if self._converter.trim(SENSOR, trim) or not self._trims:
            entry = Entry(TRIM, self._now, pb.Trim(sensor=SENSOR, trim=trim).SerializeToString())
            self._entries.append(entry)
            self._trims = (entry,)
        self._identity = self._converter.unit = serial

    # --- what is missing

    def _lost(self, reason: str) -> None:
        self._commit()  # what it sent before it went; its values are not to be shown behind the loss
        self._why = reason
        self._outage.lost(reason)
        self._tell_state("failed", reason)
        if self._live:
            self._snapshot.values(boottime_ns(), dict.fromkeys(QUANTITIES, reason), {})
        if self._positions is not None:
            self._positions.lost(f"box: {reason}")

    def _missed(self, until_ns: int, count: int) -> None:
        """The gap since the newest sample before a (re)connection. A box that this recorder has never heard may take START_SECONDS."""
        since = self._began_ns if self._last is None else self._last.at_ns
        if self._last is not None or until_ns - since > START_SECONDS * NANO:
            self._entries.append(gap(SENSOR, self._why, since, until_ns, count))

    def _tell_state(self, state: str, reason: str) -> None:
        if (state, reason) != self._state:
            self._state = (state, reason)
            self._snapshot.sensor(SENSOR, state, reason)
            self._entries.append(event("sensor_state", SENSOR, f"{state}{': ' if reason else ''}{reason}"))

    # --- the batch

    def _commit(self) -> None:
        """Hands over what came since the last time. If memory is full the writer says so itself: a box cannot be asked again."""
        self._batch_ns = boottime_ns()
        if self._newest is not None and self._last is not None:
            self._read(self._newest, self._last)
            self._newest = None
        if self._broken_now:  # told once a batch, like the state: noise on the line must not fill the disk
            self._entries.append(event("broken_frames", SENSOR, f"{self._broken_now} did not arrive whole"))
            self.broken += self._broken_now
            self._broken_now = 0
        if self._frames:
            first = self._times[0]
            offsets = [(at - first) // 1000 for at in self._times]
            message = pb.BoxFrames(boottime_ns=first, offsets_us=offsets, frames=b"".join(self._frames), box=self._identity)
            self._entries.append(Entry(BOX_FRAMES, first, message.SerializeToString()))
            self._frames, self._times = [], []
        entries, self._entries = self._entries, []
        self._journal.write(entries)

    def _read(self, raw: bytes, sample: Heard) -> None:
        """The newest sample: its errors as the state; typed, to the live view each time, into the file once a second."""
        failing = [name for bit, name in ERRORS if raw[5] & bit]
        self._tell_state("degraded" if failing else "ok", ", ".join(failing))
        typed = self._converter.typed(SENSOR, raw, self._clock.utc_ns(sample.at_ns))
        if self._live:
            self._snapshot.values(sample.at_ns, typed.values, raw_numbers(SENSOR, raw), typed.corrected)
        if sample.at_ns - self._reading_ns < READING_SECONDS * NANO:
            return
        self._reading_ns = sample.at_ns
        reading = pb.Reading(sensor=SENSOR, sequence=sample.number, boottime_ns=sample.at_ns, raw=raw, profile=typed.profile)
        for quantity, value in typed.values.items():
            said: dict[str, Any] = {"reason": value} if isinstance(value, str) else {"number": value}
            reading.values.add(quantity=quantity, **said)
        self._entries.append(Entry(reading_topic(SENSOR), sample.at_ns, reading.SerializeToString()))
