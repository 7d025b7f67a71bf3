"""A small sensor head for tests of the gateway: speaks firmware.frames on a pty, keeps its ring until acknowledged, and can be
rebooted, unplugged, made to damage frames or to forget. Each IMU sample carries its own number, so a test can count every one."""

import json
import os
import pty
import select
import struct
import threading
import time
import tty
from collections.abc import Sequence
from pathlib import Path

from firmware import frames

IMU_PERIOD_US = 9_778
DRAIN_US = 50_000
TRIMS = {1: bytes((0x1D, 0x1B, 0, 10, 10)), 3: bytes.fromhex("0a0b0c0d"), 4: bytes.fromhex("3001")}
SHT45_RAW = bytes.fromhex("6667a28000a2")  # facts 1.4: 25.00267 °C, 56.50095 %
OPT3001_RAW = bytes.fromhex("34560000")  # facts 1.5: 88.80 lx


def imu_raw(number: int) -> bytes:
    """A FIFO frame with `number` in the accelerometer's x (low 15 bits) and y (above), 25 °C; a new magnetometer sample."""
    low, high = number & 0x7FFF, number >> 15
    return struct.pack(">7h", low, high, 4096, 0, 0, 0, 1335) + bytes((1,)) + struct.pack("<3h", 200, -100, 300) + bytes((0, 0))


def imu_number(row: Sequence[int]) -> int:
    """The number in a row of the column block."""
    return int(row[0]) | int(row[1]) << 15


class HeadStandIn:
    """Runs on its own thread from `plug()` to `close()`. `link` is the path the gateway opens."""

    def __init__(self, folder: Path, boot: int = 0x1234567, ring_frames: int = 4_000) -> None:
        self.link = folder / "head.tty"
        self.ring_frames = ring_frames
        self.lock = threading.RLock()
        self.sampling = True
        self.silent = False
        self.in_repl = False  # then it only echoes
        self.damage = 0  # frames to damage on the wire
        self.bytes_at_once = 1_024  # every 5 ms
        self.pings = 0
        self.lose: set[int] = set()  # sequences never to be sent whole
        self.older = False  # a firmware that does not say present states behind HELLO
        self.hellos: list[tuple[int, int]] = []
        self.acks: list[tuple[int, int]] = []
        self.dropped = 0
        self.samples = 0
        self._master = self._slave = -1
        self._stop = threading.Event()
        self.reboot(boot)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.plug()

    # --- what a test does to it

    def reboot(self, boot: int) -> None:
        with self.lock:
            self.boot = boot
            self.sequence = 0
            self.ring: list[tuple[int, bytes]] = []
            self._sent = 0  # newest sequence sent
            self._out = b""
            self._start_us = self._boottime_us()
            self._drained_us = 0
            self._sampled = 0
            self._second = 0
            self._states: dict[int, bytes] = {}  # the newest of each sensor
            for sensor, trim in TRIMS.items():
                self._keep(frames.TRIM, bytes((sensor,)) + trim)
                self._keep(frames.STATE, struct.pack("<BBBH", sensor, frames.OK, 0, 0))

    def plug(self) -> None:
        with self.lock:
            self._master, self._slave = pty.openpty()
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            self._decoder = frames.Decoder()
            self._out = b""
            self.link.unlink(missing_ok=True)
            self.link.symlink_to(os.ttyname(self._slave))

    def unplug(self) -> None:
        with self.lock:
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1
            self.link.unlink()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        with self.lock:
            if self._master >= 0:
                self.unplug()

    def send_gap(self, sensor: int, reason: int, count: int) -> None:
        with self.lock:
            self._keep(frames.GAP, struct.pack("<BBI", sensor, reason, count))

    def send_raw_frame(self, kind: int, payload: bytes) -> None:
        with self.lock:
            self._keep(kind, payload)

    def announce(self) -> None:
        """HELLO unasked, as at its start, behind the first frame of its ring."""
        with self.lock:
            self._sent, encoded = self.ring[0]
            self._out = encoded
            self._hello()

    @property
    def acknowledged(self) -> int:
        """Newest acknowledged sequence of this boot."""
        with self.lock:
            return max((sequence for boot, sequence in self.acks if boot == self.boot), default=0)

    # --- the head

    @staticmethod
    def _boottime_us() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def _ticks(self) -> int:
        return self._boottime_us() - self._start_us

    def _frame(self, kind: int, sequence: int, payload: bytes) -> bytes:
        ticks = self._ticks()
        return frames.pack(kind, self.boot, sequence, ticks & (2**30 - 1), ticks >> 30, payload)

    def _keep(self, kind: int, payload: bytes) -> None:
        self.sequence += 1
        if kind == frames.STATE:
            self._states[payload[0]] = payload
        self.ring.append((self.sequence, self._frame(kind, self.sequence, payload)))
        while len(self.ring) > self.ring_frames:
            self.ring.pop(0)
            self.dropped += 1

    def _say(self, kind: int, payload: bytes) -> None:
        self._out += self._frame(kind, 0, payload)

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            with self.lock:
                self._sample()
                if self._master >= 0:
                    self._serve()

    def _sample(self) -> None:
        ticks = self._ticks()
        if not self.sampling or ticks - self._drained_us < DRAIN_US:
            return
        self._drained_us = ticks
        due = ticks // IMU_PERIOD_US - self._sampled
        while due > 0:
            count = min(due, 10)
            raw = b"".join(imu_raw(self.samples + index) for index in range(count))
            self._keep(frames.SAMPLE, bytes((1, count)) + raw)
            self.samples += count
            self._sampled += count
            due -= count
        if ticks // 1_000_000 > self._second:
            self._second = ticks // 1_000_000
            self._keep(frames.SAMPLE, bytes((3, 1)) + SHT45_RAW)
            self._keep(frames.SAMPLE, bytes((4, 1)) + OPT3001_RAW)
            self._keep(frames.HEALTH, struct.pack("<6I", 40_000, len(self.ring), self.dropped, 900, self._second, 0))

    def _serve(self) -> None:
        readable, writable, _ = select.select([self._master], [self._master], [], 0)
        if readable:
            data = os.read(self._master, 4096)
            if self.in_repl:
                os.write(self._master, data)
                return
            for frame in self._decoder.feed(data):
                self._command(frame)
        if self.silent or self.in_repl:
            self._out = b""
            return
        for sequence, encoded in self.ring:
            if len(self._out) > 2_000:
                break
            if sequence > self._sent:
                self._sent = sequence
                if self.damage > 0 or sequence in self.lose:
                    self.damage = max(0, self.damage - 1)
                    encoded = bytes((encoded[0], encoded[1] ^ 0x08)) + encoded[2:]
                self._out += encoded
        if writable and self._out:
            self._out = self._out[os.write(self._master, self._out[: self.bytes_at_once]) :]

    def _command(self, frame: frames.Frame) -> None:
        if frame.type == frames.PING:
            self.pings += 1
            if not self.silent:
                self._say(frames.PONG, frame.payload)
            return
        boot, sequence = struct.unpack("<II", frame.payload)
        if boot == self.boot:
            self.ring = [kept for kept in self.ring if kept[0] > sequence]
        if frame.type == frames.ACK:
            self.acks.append((boot, sequence))
        elif frame.type == frames.HELLO_REQUEST:
            self.hellos.append((boot, sequence))
            self._out = b""
            self._sent = 0
            self._hello()
            for sensor, trim in TRIMS.items():
                self._say(frames.TRIM, bytes((sensor,)) + trim)
            for state in () if self.older else self._states.values():
                self._say(frames.STATE, state)

    def _hello(self) -> None:
        oldest, newest = (self.ring[0][0], self.ring[-1][0]) if self.ring else (0, self.sequence)
        fields = {
            "firmware": "stand-in", "runtime": "test", "unique_id": "e6614103e7", "reset_cause": "power on",
            "ring_bytes": 65536, "oldest": oldest, "newest": newest,
        }  # fmt: skip
        self._say(frames.HELLO, json.dumps(fields).encode())
