"""The link to the sensor head (docs/formats.md 1): every frame exactly once into the log, and acknowledged only when durable.

Protocol. The head keeps each numbered frame in its ring until it is acknowledged. Whenever the link cannot be sure of what comes
next (a port was opened, the head is another boot, a number is missing) it asks with HELLO?, naming the newest frame that is on
disk; the head answers HELLO and sends its ring from there. Frames before that answer are ignored, repeats after it are dropped and
counted: so nothing is missing and nothing is twice, whichever end was interrupted. A boot of the head is asked only after some PINGs,
so that its samples can be placed in time.

A hole that remains after asking is real: the ring was full, or the frame was damaged ASKS times in a row. It is written as a Gap.

`durable()` comes from the segment writer's thread after fdatasync; the ACK goes out from the link's own thread, which alone uses the
port. The log's batch is committed BATCH_SECONDS after its first frame. If the disk stalls, the log keeps its batch.

Live only. When the log holds HELD_FRAMES, or the next one has no way into its batch, the disk has refused for long (the journal's memory
is full, minutes of frames). The link reads on, so that the live view goes on, but frames are only shown: nothing of them is kept,
numbered or acknowledged. The head keeps them in its ring, whose oldest drop out when it is full (>= 20 s); it sends each once, whether
acknowledged or not. When the batch has been taken the head is asked as after any interruption, and sends its ring: what was shown comes
again and is written, once. What has dropped out is a Gap with the disk's own words.

Ignition off. What the chips had measured must come along, and a head that goes on sampling must not hold the stop. So: a PING; from its
PONG on SETTLE_SECONDS, in which the head reads what its chips hold; then HELLO?, whose answer names the newest frame in the ring: when
that one has come and is durable, all is."""

import json
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping

import serial

from firmware import frames
from gateway.clock import boottime_ns
from gateway.disk_trouble import DiskTrouble
from gateway.head_live import HEAD, HeadLive
from gateway.head_log import HeadLog
from gateway.imu_times import HeadClock
from gateway.journal import Journal
from gateway.snapshot import Snapshot
from gateway.supervision import Outage

NANO = 1_000_000_000

# A power cut may cost 1.0 s: 0.05 in the chip's FIFO, 0.05 on the line, a batch at its longest, and what the disk takes (the head's ring,
# which bridges everything else, is gone with the power).
BATCH_SECONDS = 0.5  # of frames in one chunk
BATCH_FRAMES = 256  # or this many: the ring comes at once after an outage
DECIDE_SECONDS = 0.25  # longer, where the next drains tell how many IMU samples a gap is (imu_gaps.py)
DECIDE_FRAMES = 32  # more, the same
HELD_FRAMES = 1_024  # in the batch that the disk does not take; beyond that live only
READ_SECONDS = 0.02  # also how late an ACK or a batch can be
WRITE_SECONDS = 0.5
REOPEN_SECONDS = 0.5
PING_SECONDS = 1.0
FIRST_PINGS = 5  # exchanges before HELLO?, so that the first samples are placed well
FIRST_PINGS_SECONDS = 1.0  # but then one must do
HELLO_SECONDS = 2.0  # without an answer it is asked again
SILENCE_SECONDS = 3.0  # no valid frame: the head does not answer (it answers a PING a second)
HANGING_SECONDS = 10.0  # then the port is opened anew: a USB device can hang while its port stays
ASKS = 3  # for the same frame, before it counts as lost
SETTLE_SECONDS = 0.2  # the head empties the IMU's FIFO every 50 ms and looks at each slow chip within 150 ms
DRAIN_SECONDS = 5.0  # at most, whatever the head still holds
ACK_SECONDS = 3.0  # to wait for the disk at the end; what is not acknowledged then stays in the head

TAKE, REPEAT, ASK, IGNORE = range(4)
SILENT = "the head does not answer"


class Intake:
    """Decides about each numbered frame, and knows what is durable. `resume`: newest durable sequence by boot of the head.

    `hole` after a TAKE: (first, last, reason) of the frames before it that will not come, or None."""

    def __init__(self, resume: Mapping[int, int]) -> None:
        self._durable = dict(resume)
        self._waiting = True  # for HELLO
        self._oldest = 0
        self._asked = 0  # times for the frame behind `received`
        self.boot = 0
        self.received = 0
        self.hole: tuple[int, int, str] | None = None

    def durable(self, boot: int) -> int:
        """The newest durable sequence of a boot, 0 if none."""
        return self._durable.get(boot, 0)

    def set_durable(self, boot: int, sequence: int) -> None:
        """The disk has everything up to `sequence`."""
        self._durable[boot] = max(sequence, self._durable.get(boot, 0))

    def disconnected(self) -> None:
        """Whatever comes next, only HELLO says where it stands."""
        self._waiting = True

    def hello(self, boot: int, oldest: int) -> None:
        """The head answered and will send its ring, from `oldest` or from what it was told is durable."""
        if boot != self.boot:
            self.boot = boot
            self.received = self.durable(boot)
            self._asked = 0
        self._oldest = oldest
        self._waiting = False

    def decide(self, boot: int, sequence: int) -> int:
        """TAKE it, REPEAT: known, ASK: with HELLO?, or IGNORE: until HELLO."""
        self.hole = None
        if self._waiting:
            return IGNORE
        if boot != self.boot:
            self._waiting = True
            return ASK
        if sequence <= self.received:
            return REPEAT
        if sequence > self.received + 1:
            ring_full = sequence == self._oldest  # there is nothing before it any more
            if not ring_full and self._asked < ASKS:
                self._asked += 1
                self._waiting = True
                return ASK
            reason = frames.REASONS[frames.RING_FULL] if ring_full else "lost on the link"
            self.hole = (self.received + 1, sequence - 1, reason)
        self.received = sequence
        self._asked = 0
        return TAKE


class HeadLink:
    """The source: `run(stop)` serves the head at serial port `port` until `stop` is set, then drains it in order. `disk` says why the disk
    refuses.

    `repeats`, `bad` (frames that did not decode) and `ignored` count frames."""

    def __init__(
        self,
        port: str,
        log: HeadLog,
        journal: Journal,
        snapshot: Snapshot,
        resume: Mapping[int, int],
        disk: DiskTrouble | None = None,
    ) -> None:
        self._port_name = port
        self._log = log
        self._snapshot = snapshot
        self._disk = disk or DiskTrouble()
        self._live: HeadLive | None = None  # while the disk refuses
        self._refused = ""  # why frames before the next one may be missing
        self._intake = Intake(resume)
        # What the head sampled meanwhile is in its ring: an outage of the link is no gap of its data.
        self._outage = Outage(journal, HEAD)
        self._durable_lock = threading.Lock()
        self._now_durable: dict[int, int] = {}
        self._clock_boot = 0
        self._clock = HeadClock()
        self._newest = 0  # in the head's ring when it answered HELLO?
        self._ping_number = 0
        self._batch_began = 0
        self.repeats = 0
        self.bad = 0
        self.ignored = 0

    def durable(self, token: object) -> None:
        """(boot, sequence) of a batch is on disk; called by the writer's thread."""
        if isinstance(token, tuple):
            boot, sequence = token
            with self._durable_lock:
                self._now_durable[boot] = max(sequence, self._now_durable.get(boot, 0))

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set and the head is drained."""
        while not stop.is_set():
            try:
                with serial.Serial(self._port_name, 115200, timeout=READ_SECONDS, write_timeout=WRITE_SECONDS, exclusive=True) as port:
                    self._serve(port, stop)
            except (OSError, serial.SerialException, termios.error) as error:  # pyserial lets termios.error through: a port that just went
                self._gone(f"port: {error}")
            self._commit()  # what the head sent before it went
            stop.wait(REOPEN_SECONDS)
        self._log.finish()
        self._commit()

    def _gone(self, reason: str) -> None:
        self._intake.disconnected()
        self._outage.lost(reason)
        self._snapshot.sensor(HEAD, "failed", reason)

    # --- one connection

    def _serve(self, port: serial.Serial, stop: threading.Event) -> None:
        """Until `stop` is set and the head is drained, or the head hangs; raises what a failing port raises."""
        self._intake.disconnected()
        self._decoder = frames.Decoder()
        self._met = self._heard = boottime_ns()
        self._ping_sent = self._hello_sent = 0
        self._pongs = self._acked = 0
        self._pinging = self._greeted = False
        while _seconds_since(self._heard) < HANGING_SECONDS:
            if stop.is_set():
                self._drain(port)
                return
            self._step(port)

    def _drain(self, port: serial.Serial) -> None:
        """Takes what the head holds at this moment and acknowledges it when it is durable. See the module's text."""
        until = boottime_ns() + int(DRAIN_SECONDS * NANO)
        self._commit()  # the head need not repeat this when it is asked
        pongs = self._pongs
        self._ping(port)
        self._step_until(port, lambda: self._pongs > pongs, until)
        settled = boottime_ns() + int(SETTLE_SECONDS * NANO)
        self._step_until(port, lambda: boottime_ns() >= settled, until)
        self._ask(port)
        self._step_until(port, lambda: self._greeted and self._intake.received >= self._newest, until)
        self._commit()
        until = boottime_ns() + int(ACK_SECONDS * NANO)
        while self._intake.durable(self._intake.boot) < self._intake.received and boottime_ns() < until:
            time.sleep(READ_SECONDS)
            self._acknowledge(port)

    def _step_until(self, port: serial.Serial, done: Callable[[], bool], until_ns: int) -> None:
        """Steps until `done()`, but not beyond boot time `until_ns`, nor with a head that is silent."""
        while not done() and boottime_ns() < until_ns and _seconds_since(self._heard) < SILENCE_SECONDS:
            self._step(port)

    def _step(self, port: serial.Serial) -> None:
        self._receive(port)
        self._talk(port)
        due = self._live is not None or self._batch_is_due()
        if due and not self._commit() and self._live is None and self._log.frames >= HELD_FRAMES:
            self._live_only()

    def _batch_is_due(self) -> bool:
        if not self._log.frames:
            return False
        frames_more, seconds_more = (DECIDE_FRAMES, DECIDE_SECONDS) if self._log.undecided else (0, 0.0)
        return self._log.frames >= BATCH_FRAMES + frames_more or _seconds_since(self._batch_began) >= BATCH_SECONDS + seconds_more

    def _receive(self, port: serial.Serial) -> None:
        data = port.read(1)
        if data:
            data += port.read(port.in_waiting)
        now = boottime_ns()
        bad = self._decoder.bad
        for frame in self._decoder.feed(data):
            if frame.type < frames.HELLO_REQUEST:  # not our own words: a head that was left in its REPL echoes them
                self._heard = now
            self._take(port, frame, now)
        self.bad += self._decoder.bad - bad
        if self._heard == now and self._greeted:
            if self._outage.down:
                self._show_state()
            self._outage.seen(now)

    def _talk(self, port: serial.Serial) -> None:
        """What is due to be said: PING, HELLO?, ACK."""
        if _seconds_since(self._heard) >= SILENCE_SECONDS:
            self._gone(SILENT)
            self._greeted = False  # whoever answers next is asked where it stands
        if not self._pinging and (self._pongs < FIRST_PINGS or _seconds_since(self._ping_sent) >= PING_SECONDS):
            self._ping(port)
        elif self._pinging and _seconds_since(self._ping_sent) >= PING_SECONDS:
            self._ping(port)  # the one before is lost
        first = self._pongs >= FIRST_PINGS or (self._pongs and _seconds_since(self._met) >= FIRST_PINGS_SECONDS)
        if not self._greeted and first and (not self._hello_sent or _seconds_since(self._hello_sent) >= HELLO_SECONDS):
            self._ask(port)
        self._acknowledge(port)

    def _send(self, port: serial.Serial, kind: int, payload: bytes) -> None:
        port.write(frames.pack(kind, 0, 0, 0, 0, payload))

    def _ping(self, port: serial.Serial) -> None:
        self._ping_number += 1
        self._pinging = True
        self._ping_sent = boottime_ns()
        self._send(port, frames.PING, struct.pack("<Q", self._ping_number))

    def _ask(self, port: serial.Serial) -> None:
        """HELLO? with the newest durable frame of the boot that the head is known to be in."""
        self._greeted = False
        boot = self._clock_boot
        self._hello_sent = boottime_ns()
        self._send(port, frames.HELLO_REQUEST, struct.pack("<II", boot, self._intake.durable(boot)))

    def _acknowledge(self, port: serial.Serial) -> None:
        with self._durable_lock:
            news, self._now_durable = self._now_durable, {}
        for boot, sequence in news.items():
            self._intake.set_durable(boot, sequence)
        boot = self._intake.boot
        durable = self._intake.durable(boot)
        if self._greeted and durable > self._acked:
            self._acked = durable
            self._send(port, frames.ACK, struct.pack("<II", boot, durable))

    # --- one frame

    def _take(self, port: serial.Serial, frame: frames.Frame, now: int) -> None:
        if frame.type == frames.PONG:
            self._pong(frame, now)
        elif frame.type == frames.HELLO:
            self._hello(frame)
        elif self._live is not None:
            if frame.boot == self._clock_boot and self._clock.ready:
                self._live.show(frame, self._clock)
        elif frame.sequence == 0:
            if self._greeted and frame.boot == self._intake.boot and self._log.has_way(frame):
                self._log.add(frame)
            else:
                self.ignored += 1
        else:
            self._numbered(port, frame)

    def _pong(self, frame: frames.Frame, now: int) -> None:
        if not self._pinging or frame.payload != struct.pack("<Q", self._ping_number):
            self.ignored += 1  # the answer to a PING given up
            return
        if frame.boot != self._clock_boot:
            self._meet(frame.boot)
        self._pinging = False
        self._pongs += 1
        self._clock.exchange(self._ping_sent, frame.ticks, now)

    def _meet(self, boot: int) -> None:
        """The head is in another boot than before: PINGs, then HELLO?."""
        self._intake.disconnected()
        self._clock_boot, self._clock = boot, HeadClock()
        self._met = boottime_ns()
        self._pongs = self._hello_sent = 0
        self._pinging = self._greeted = False

    def _hello(self, frame: frames.Frame) -> None:
        if frame.boot != self._clock_boot:
            self.ignored += 1
            self._meet(frame.boot)
            return
        if not self._hello_sent or self._greeted:  # nobody asked: the head has just started, or was asked twice
            self.ignored += 1
            return
        try:
            fields = json.loads(frame.payload)
            oldest, newest = int(fields["oldest"]), int(fields["newest"])
        except (ValueError, KeyError, TypeError):
            self.bad += 1
            return
        self._greeted = True
        self._newest = newest
        if self._live is not None:
            return
        if frame.boot != self._intake.boot:
            self._acked = 0
            if not self._commit():  # a batch is of one boot: the disk must take the old one first; the head is asked again then
                self._live_only()
                return
        self._intake.hello(frame.boot, oldest)
        self._log.hello(frame.boot, fields, self._clock, self._refused)

    def _numbered(self, port: serial.Serial, frame: frames.Frame) -> None:
        if self._greeted and not self._log.has_way(frame):
            self._live_only()
            return
        decision = self._intake.decide(frame.boot, frame.sequence)
        if decision == REPEAT:
            self.repeats += 1
            self._snapshot.count("head_repeats")
        elif decision == ASK:
            self.ignored += 1
            if frame.boot != self._clock_boot:
                self._meet(frame.boot)
            else:
                self._ask(port)
        elif decision == IGNORE:
            self.ignored += 1
        else:
            if not self._log.frames:
                self._batch_began = boottime_ns()
            if self._intake.hole is not None:
                first, last, reason = self._intake.hole
                self._log.missing(first, last, self._refused or reason, frame)
            self._refused = ""
            self._log.add(frame)

    # --- the batch

    def _commit(self) -> bool:
        if not self._log.commit():
            return False
        if self._live is not None:  # the disk goes on: what was only shown is asked for, and written
            self._live = None
            self._refused = self._disk.reason()
            self._show_state()
            self._intake.disconnected()
            self._greeted = False
            self._hello_sent = 0
        return True

    def _live_only(self) -> None:
        self._live = self._log.live()
        self._intake.disconnected()
        self._show_state()

    def _show_state(self) -> None:
        """Of a head that answers."""
        if self._live is None:
            self._snapshot.sensor(HEAD, "ok", "")
        else:
            self._snapshot.sensor(HEAD, "degraded", f"live only: {self._disk.reason()}")


def _seconds_since(moment_ns: int) -> float:
    return (boottime_ns() - moment_ns) / NANO
