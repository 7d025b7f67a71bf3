"""A hostile link between a truck and the hub: a TCP proxy of ours that is as bad as told.

    with HostileLink([("127.0.0.1", c2s_port), ("127.0.0.1", http_port)], up=Lane(5e6, 0.03), down=Lane(20e6, 0.03)) as link:
        truck dials 127.0.0.1:link.ports[0] and link.ports[1] instead
        link.set(up=Lane(50e6))        # another lane from now on
        link.dark(True)                # a tunnel: nothing moves, nothing is closed, new connections hang; dark(False): out of it
        link.half_open()               # present connections swallow every byte for ever and are never closed
        link.cut()                     # present connections are reset (RST) at both ends
        link.closing(True)             # new connections are accepted and closed at once
        link.counts()                  # what passed: {"up": bytes, "down": bytes, "connections": n, "resets": n, ...}

Or as a process of its own, so that it has its own interpreter lock (`Child` below starts it; the same methods):

    python hostile_link.py --to 127.0.0.1:5222 --to 127.0.0.1:5443 --up '{"rate": 5e6}' --seed 1
        first line on stdout {"ports": [...]}; then one JSON list [method, {arguments}] a line on stdin, its result a line on stdout;
        ends with its stdin

Each direction is a Lane: one queue of QUEUE_BYTES for all connections together, from which bytes leave at `rate` bit/s, arrive `latency`
seconds later, and do so in the order in which they entered. What does not fit waits with the senders, in small receive buffers, as with
a modem. `loss` is the chance that a chunk (1.4 to 16 kB) is lost and sent again: its connection waits `stall` seconds, the others go on.
`reset_after`: each connection is reset at a random byte, on average after so many (0: never). Counted are the bytes of the TCP streams
(TLS included); IP and TCP headers are not. A handshake costs no time here. Carries more than 100 Mbit/s on one core.
"""

import argparse
import contextlib
import json
import math
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

QUEUE_BYTES = 256_000  # of one direction, all connections together
KERNEL_BYTES = 16_384  # SO_RCVBUF and SO_SNDBUF on either side: the kernel doubles them
SEGMENT_BYTES = 1_448  # of TCP, as on Ethernet: with the 64 kB of loopback a small buffer would stop and go
WAITING_BYTES = 65_536  # delivered and not taken by the receiver: beyond it no more is read for it
CHUNK_SECONDS = 0.002
_RST = struct.pack("ii", 1, 0)  # SO_LINGER: close by reset


class Lane(NamedTuple):
    """One direction. `rate` in bit/s, times in seconds, `reset_after` in bytes (mean)."""

    rate: float = math.inf
    latency: float = 0.0
    loss: float = 0.0
    stall: float = 0.3
    reset_after: float = 0.0


class _Flow:
    """One direction of one connection: `source` is read, `sink` is written."""

    def __init__(self, source: socket.socket, sink: socket.socket, way: "_Way") -> None:
        self.source, self.sink, self.way = source, sink, way
        self.other: _Flow  # the way back
        self.reading = True  # the source has not ended
        self.swallow = False
        self.out: deque[bytes] = deque()
        self.waiting = 0  # bytes in `out`
        self.ended = False  # nothing comes after `out`
        self.held_until = 0.0
        self.passed = 0
        self.reset_at = way.reset_point()


class _Way:
    """One direction of the link."""

    def __init__(self, lane: Lane, chance: random.Random) -> None:
        self.lane, self._chance = lane, chance
        self.queue: deque[tuple[_Flow, bytes, float]] = deque()  # flow, bytes (b"": its end), entered
        self.queued = 0
        self.flight: deque[tuple[float, _Flow, bytes]] = deque()
        self.left_at = 0.0  # when the last chunk left the queue
        self.carried = 0

    def reset_point(self) -> float:
        return 1 + self._chance.expovariate(1 / self.lane.reset_after) if self.lane.reset_after else math.inf

    def chunk(self) -> int:
        wanted = min(16_384.0, max(1_448.0, self.lane.rate / 8 * CHUNK_SECONDS))
        return min(int(wanted), QUEUE_BYTES - self.queued)

    def enter(self, flow: _Flow, data: bytes, now: float) -> None:
        self.queue.append((flow, data, now))
        self.queued += len(data)

    def leaving(self) -> float:
        """When the first chunk of the queue leaves it."""
        if not self.queue:
            return math.inf
        _, data, entered = self.queue[0]
        return max(self.left_at, entered) + (len(data) * 8 / self.lane.rate if self.lane.rate > 0 else math.inf)

    def serve(self, now: float) -> None:
        """Move what has left the queue into the air."""
        while (at := self.leaving()) <= now:
            flow, data, _ = self.queue.popleft()
            self.queued -= len(data)
            self.carried += len(data)
            self.left_at = at
            self.flight.append((at + self.lane.latency, flow, data))

    def lost(self) -> bool:
        return self.lane.loss > 0 and self._chance.random() < self.lane.loss


class HostileLink:
    """The link, in a thread of its own; `ports` (on loopback) stand for the targets, in their order. Methods may be called from any
    thread and act before they return."""

    def __init__(self, targets: list[tuple[str, int]], up: Lane | None = None, down: Lane | None = None, seed: int = 1) -> None:
        chance = random.Random(seed)
        self._ways = {"up": _Way(up or Lane(), chance), "down": _Way(down or Lane(), chance)}
        self._flows: list[_Flow] = []
        self._by_fd: dict[int, _Flow] = {}  # by the socket that is read
        self._interest: dict[int, int] = {}
        self._dark = self._closing = False
        self._counts = {"connections": 0, "resets": 0, "refused": 0, "lost": 0}
        self._by_target = [0] * len(targets)
        self._poll = select.epoll()
        self._listeners: dict[int, tuple[socket.socket, tuple[str, int]]] = {}
        self.ports = [self._listen(target) for target in targets]
        self._calls: deque[Callable[[], None]] = deque()
        self._waker, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._poll.register(self._woken, select.EPOLLIN)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    def __enter__(self) -> "HostileLink":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- what can be told

    def set(self, up: Lane | None = None, down: Lane | None = None) -> None:
        """Other lanes from now on. `reset_after` concerns connections that begin later."""

        def change() -> None:
            for name, lane in (("up", up), ("down", down)):
                if lane is not None:
                    way = self._ways[name]
                    way.lane, way.left_at = lane, max(way.left_at, time.monotonic())

        self._do(change)

    def dark(self, on: bool) -> None:
        """In a tunnel (or out of it): nothing moves, nothing is closed, new connections get no answer."""

        def change() -> None:
            self._dark = on
            for way in self._ways.values():
                way.left_at = time.monotonic()

        self._do(change)

    def half_open(self) -> None:
        """Present connections take every byte and give none, and are never closed from here. New ones are as before."""

        def change() -> None:
            for flow in self._flows:
                flow.swallow = True
                flow.out.clear()
                flow.waiting = 0

        self._do(change)

    def cut(self) -> None:
        """Reset all present connections."""
        self._do(lambda: [self._abort(flow) for flow in list(self._flows)])

    def closing(self, on: bool) -> None:
        """New connections are accepted and closed at once, or no longer."""
        self._do(lambda: setattr(self, "_closing", on))

    def counts(self) -> dict[str, Any]:
        """Bytes that left the queue of each direction, those in it, and what happened to connections, since the start; `by_target`: how
        many were made to each."""
        found: dict[str, Any] = {}

        def look() -> None:
            ways = self._ways
            found.update(self._counts, up=ways["up"].carried, down=ways["down"].carried, queued=ways["up"].queued)
            found.update(open=len(self._flows) // 2, by_target=list(self._by_target))

        self._do(look)
        return found

    def stop(self) -> None:
        """End the thread; every connection is reset."""
        if self._thread.is_alive():
            self._do(lambda: setattr(self, "_stopped", True))
            self._thread.join()

    # -- the thread

    def _do(self, call: Callable[[], object]) -> None:
        done = threading.Event()

        def work() -> None:
            call()
            done.set()

        self._calls.append(work)
        self._waker.send(b"!")
        if not done.wait(10):
            raise RuntimeError("the hostile link does not answer")

    def _run(self) -> None:
        try:
            while not self._stopped:
                self._step()
        finally:
            for flow in list(self._flows):
                self._abort(flow)
            for listener, _ in self._listeners.values():
                listener.close()
            self._waker.close()
            self._woken.close()
            self._poll.close()

    def _step(self) -> None:
        self._watch()
        ready = self._poll.poll(self._until())
        now = time.monotonic()
        for fd, events in ready:
            if fd == self._woken.fileno():
                self._woken.recv(4096)
                while self._calls:
                    self._calls.popleft()()
            elif fd in self._listeners:
                self._accept(*self._listeners[fd])
            elif (flow := self._by_fd.get(fd)) is not None:
                if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    self._read(flow, now)
                if events & select.EPOLLOUT:
                    self._flush(flow.other, now)
        if not self._dark:
            self._carry(time.monotonic())

    def _carry(self, now: float) -> None:
        for way in self._ways.values():
            way.serve(now)
            while way.flight and way.flight[0][0] <= now:
                _, flow, data = way.flight.popleft()
                self._arrive(flow, data, now)
        for flow in [f for f in self._flows if f.out and f.held_until and f.held_until <= now]:
            flow.held_until = 0.0
            self._flush(flow, now)

    def _until(self) -> float:
        """Seconds until something is due of itself."""
        if self._dark:
            return 1.0
        due = [way.leaving() for way in self._ways.values()]
        due += [way.flight[0][0] for way in self._ways.values() if way.flight]
        due += [flow.held_until for flow in self._flows if flow.out and flow.held_until]
        return min(1.0, max(0.0, min(due) - time.monotonic()))

    def _watch(self) -> None:
        """Tell the kernel what is of interest now."""
        for flow in self._flows:
            way = flow.way
            wanted = 0
            if not self._dark:
                room = flow.swallow or (way.queued + SEGMENT_BYTES <= QUEUE_BYTES and flow.waiting < WAITING_BYTES)
                if flow.reading and room:
                    wanted |= select.EPOLLIN
                if flow.other.out and not flow.other.held_until:
                    wanted |= select.EPOLLOUT
            self._ask(flow.source.fileno(), wanted)
        for fd in self._listeners:
            self._ask(fd, 0 if self._dark else select.EPOLLIN)

    def _ask(self, fd: int, wanted: int) -> None:
        """Without interest a socket is not registered at all: hang-ups are always told, and would wake us for nothing."""
        held = self._interest.get(fd, 0)
        if held == wanted:
            return
        if not wanted:
            self._poll.unregister(fd)
            del self._interest[fd]
        elif held:
            self._poll.modify(fd, wanted)
            self._interest[fd] = wanted
        else:
            self._poll.register(fd, wanted)
            self._interest[fd] = wanted

    def _listen(self, target: tuple[str, int]) -> int:
        listener = _small(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        listener.setblocking(False)
        self._listeners[listener.fileno()] = listener, target
        return int(listener.getsockname()[1])

    def _accept(self, listener: socket.socket, target: tuple[str, int]) -> None:
        try:
            truck, _ = listener.accept()
        except BlockingIOError:
            return
        self._counts["connections"] += 1
        self._by_target[[made for made, _ in self._listeners.values()].index(listener)] += 1
        if self._closing:
            truck.close()
            return
        hub = _small(socket.socket())
        try:
            hub.connect(target)
        except OSError:  # nobody listens there: the truck is told as the network would tell it
            self._counts["refused"] += 1
            hub.close()
            _reset(truck)
            return
        for end in (truck, hub):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        up, down = _Flow(truck, hub, self._ways["up"]), _Flow(hub, truck, self._ways["down"])
        up.other, down.other = down, up
        self._flows += [up, down]
        self._by_fd |= {truck.fileno(): up, hub.fileno(): down}

    def _read(self, flow: _Flow, now: float) -> None:
        size = 65_536 if flow.swallow else flow.way.chunk()
        if size <= 0 or not flow.reading:
            return
        try:
            data = flow.source.recv(size)
        except BlockingIOError:
            return
        except OSError:  # reset by its end
            self._gone(flow, reset=True)
            return
        if flow.swallow:
            if not data:
                self._gone(flow, reset=False)
            return
        flow.reading = bool(data)
        flow.way.enter(flow, data, now)

    def _gone(self, flow: _Flow, reset: bool) -> None:
        """An end has left. The other learns of it, unless the link is half open."""
        if not flow.swallow and reset:
            self._abort(flow)
            return
        flow.reading = False
        if not flow.other.reading:
            self._abort(flow)

    def _arrive(self, flow: _Flow, data: bytes, now: float) -> None:
        if flow not in self._flows or flow.swallow:
            return
        if flow.passed + len(data) >= flow.reset_at:
            rest = data[: int(flow.reset_at - flow.passed)]
            with contextlib.suppress(OSError):
                flow.sink.send(rest)
            self._counts["resets"] += 1
            self._abort(flow)
            return
        if not data:
            flow.ended = True
        else:
            flow.passed += len(data)
            flow.out.append(data)
            flow.waiting += len(data)
            if flow.way.lost():
                self._counts["lost"] += 1
                flow.held_until = max(now, flow.held_until) + flow.way.lane.stall
        if not flow.held_until:
            self._flush(flow, now)

    def _flush(self, flow: _Flow, now: float) -> None:
        if flow not in self._flows or flow.held_until > now:
            return
        try:
            while flow.out:
                sent = flow.sink.send(flow.out[0])
                flow.waiting -= sent
                if sent < len(flow.out[0]):
                    flow.out[0] = flow.out[0][sent:]
                    return
                flow.out.popleft()
            if flow.ended:
                flow.sink.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            self._abort(flow)
            return
        if flow.ended and flow.other.ended and not flow.other.out:
            self._drop(flow, reset=False)

    def _abort(self, flow: _Flow) -> None:
        self._drop(flow, reset=True)

    def _drop(self, flow: _Flow, reset: bool) -> None:
        """Forget a connection, both directions."""
        if flow not in self._flows:
            return
        for one in (flow, flow.other):
            self._flows.remove(one)
            self._ask(one.source.fileno(), 0)
            del self._by_fd[one.source.fileno()]
        for end in (flow.source, flow.sink):
            if reset:
                _reset(end)
            else:
                end.close()


class Child:
    """A link in a process of its own: `child.ports`, and the methods of HostileLink by name: `child("set", up={"rate": 5e6})`."""

    def __init__(self, targets: list[tuple[str, int]], up: Lane | None = None, down: Lane | None = None, seed: int = 1) -> None:
        to = [text for host, port in targets for text in ("--to", f"{host}:{port}")]
        lanes = [text for name, lane in (("--up", up), ("--down", down)) if lane for text in (name, json.dumps(lane._asdict()))]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *to, *lanes, "--seed", str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ports: list[int] = self._answer()["ports"]

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __call__(self, method: str, **arguments: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([method, arguments]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the hostile link ended")
        return json.loads(line)

    def stop(self) -> None:
        """End the process."""
        self.process.communicate(timeout=10)


def _small(end: socket.socket) -> socket.socket:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    return end


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    end.close()


def _lane(text: str) -> Lane:
    return Lane(**json.loads(text))


def main() -> None:
    """The process of its own."""
    parser = argparse.ArgumentParser(description="A hostile link: see the docstring.")
    parser.add_argument("--to", action="append", required=True, metavar="HOST:PORT")
    parser.add_argument("--up", type=_lane, default=Lane(), help='JSON, e.g. {"rate": 5e6, "latency": 0.03}')
    parser.add_argument("--down", type=_lane, default=Lane())
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    targets = [(host, int(port)) for host, _, port in (text.rpartition(":") for text in options.to)]
    with HostileLink(targets, options.up, options.down, options.seed) as link:
        print(json.dumps({"ports": link.ports}), flush=True)
        for line in sys.stdin:
            method, arguments = json.loads(line)
            if method == "set":
                arguments = {name: Lane(**lane) for name, lane in arguments.items()}
            print(json.dumps(getattr(link, method)(**arguments)), flush=True)


if __name__ == "__main__":
    main()
