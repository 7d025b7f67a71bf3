"""A hostile upload service: a TLS web server of ours in the place of the hub's, with the hub's own certificate.

    with HostileHttp(server_pem, server_key_pem) as web:      # web.port; the hub gives the slots, the bytes come here
        web.plan("PUT", ["503", "lie", "flip"])               # of the next requests, one each; then all is well again
        web.always("GET", "silent")                           # of every request, until web.always("GET", None)

What a PUT may meet: `store` (all is well), three digits (that status, the body is read), `early 413` (that status before the body is
read, then closed), `lie` (201, nothing kept), `halve`, `flip`, `another` (201; kept: half of it, one bit changed, other bytes of the same
size), `slow` (the answer takes SLOW_SECONDS), `cut` (reset in the middle), `lost answer` (kept whole, then reset), `silent` (read, never
answered), `deaf` (not even read), `noise` (an answer that is not HTTP).

What a GET may meet: `serve`, three digits, `halve` (ends in the middle of what it promised), `short`, `long` (a byte less or more than
announced, in order), `flip`, `another`, `slow` (in pieces over SLOW_SECONDS), `cut`, `silent`, `noise`.

Objects are kept in memory. One request a connection. `requests` counts what came, by method and behaviour."""

import contextlib
import os
import socket
import ssl
import struct
import threading
import time
from collections import Counter, deque
from pathlib import Path

SLOW_SECONDS = 1.0
BLOCK = 65_536
_RST = struct.pack("ii", 1, 0)


class _Over(Exception):
    """The client left, or the server ends."""


class HostileHttp:
    """The server, a thread for each connection; `port` is on loopback."""

    def __init__(self, certificate: str | Path, key: str | Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self.objects: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self._plans: dict[str, deque[str]] = {"PUT": deque(), "GET": deque()}
        self._always: dict[str, str | None] = {"PUT": None, "GET": None}
        self._ended = threading.Event()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    def __enter__(self) -> "HostileHttp":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def plan(self, method: str, behaviours: list[str]) -> None:
        """What the next requests of `method` meet, one each."""
        self._plans[method].extend(behaviours)

    def always(self, method: str, behaviour: str | None) -> None:
        """What every request of `method` meets from now on; None: the plan, or nothing bad."""
        self._always[method] = behaviour

    def forget(self) -> None:
        """All is well from now on."""
        for method, plan in self._plans.items():
            plan.clear()
            self._always[method] = None

    def planned(self) -> int:
        """Requests that are still to meet something."""
        return sum(len(plan) for plan in self._plans.values())

    def stop(self) -> None:
        """No more connections; those that are open are closed."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                end, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(end,), daemon=True).start()

    def _connection(self, bare: socket.socket) -> None:
        bare.settimeout(60)
        try:
            with self._context.wrap_socket(bare, server_side=True) as end:
                self._open.add(end)
                try:
                    self._request(end)
                finally:
                    self._open.discard(end)
        except (OSError, _Over):  # the client left, or we reset it
            bare.close()

    def _request(self, end: ssl.SSLSocket) -> None:
        head, rest = _head(end)
        method, path, _ = head[0].split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        behaviour = self._behaviour(method)
        self.requests[f"{method} {behaviour}"] += 1
        if method == "PUT":
            self._put(end, path, int(headers.get("content-length", "0")), rest, behaviour)
        else:
            self._get(end, path, behaviour)

    def _behaviour(self, method: str) -> str:
        always = self._always.get(method)
        if always is not None:
            return always
        plan = self._plans.get(method)
        return plan.popleft() if plan else {"PUT": "store"}.get(method, "serve")

    def _put(self, end: ssl.SSLSocket, path: str, size: int, rest: bytes, behaviour: str) -> None:
        if behaviour.startswith("early "):
            _answer(end, int(behaviour[6:]))
            return
        if behaviour == "deaf":
            self._wait(end)
        body = _body(end, size // 2 if behaviour == "cut" else size, rest)
        if behaviour == "cut":
            _cut(end)
        if behaviour == "silent":
            self._wait(end)
        if behaviour == "noise":
            end.sendall(os.urandom(200))
            return
        if behaviour == "slow":
            self._ended.wait(SLOW_SECONDS)
        kept = {"halve": body[: size // 2], "flip": _flipped(body), "another": os.urandom(size)}.get(behaviour, body)
        if behaviour != "lie" and not (behaviour.isdigit() and behaviour not in ("200", "201")):
            self.objects[path] = kept
        if behaviour == "lost answer":
            _cut(end)
        _answer(end, int(behaviour) if behaviour.isdigit() else 201)

    def _get(self, end: ssl.SSLSocket, path: str, behaviour: str) -> None:
        if behaviour == "silent":
            self._wait(end)
        if behaviour == "noise":
            end.sendall(os.urandom(200))
            return
        body = self.objects.get(path)
        if behaviour.isdigit() or body is None:
            _answer(end, int(behaviour) if behaviour.isdigit() else 404)
            return
        promised = len(body)
        match behaviour:
            case "short":
                body, promised = body[:-1], len(body) - 1
            case "long":
                body, promised = body + b"!", len(body) + 1
            case "flip":
                body = _flipped(body)
            case "another":
                body = os.urandom(len(body))
        end.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {promised}\r\nConnection: close\r\n\r\n".encode())
        if behaviour in ("halve", "cut"):
            end.sendall(body[: len(body) // 2])
            if behaviour == "cut":
                _cut(end)
            return
        if behaviour == "slow":
            for begin in range(0, len(body), max(1, len(body) // 4)):
                end.sendall(body[begin : begin + max(1, len(body) // 4)])
                self._ended.wait(SLOW_SECONDS / 4)
            return
        end.sendall(body)

    def _wait(self, end: ssl.SSLSocket) -> None:
        """Say nothing until the client has had enough."""
        until = time.monotonic() + 120
        while not self._ended.wait(0.05) and time.monotonic() < until:
            end.settimeout(0.05)
            # Not read: what lies in the kernel's buffers stays there, so the sender's bytes stop moving.
            if _left(end):
                break
        raise _Over


def _left(end: ssl.SSLSocket) -> bool:
    """Whether the other end has closed or reset the connection (its state in TCP_INFO is no longer ESTABLISHED)."""
    return end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1


def _head(end: ssl.SSLSocket) -> tuple[list[str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        block = end.recv(BLOCK)
        if not block or len(data) > 65_536:
            raise _Over
        data += block
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), rest


def _body(end: ssl.SSLSocket, size: int, rest: bytes) -> bytes:
    body = bytearray(rest)
    while len(body) < size:
        block = end.recv(min(BLOCK, size - len(body)))
        if not block:
            raise _Over
        body += block
    return bytes(body[:size])


def _answer(end: ssl.SSLSocket, status: int) -> None:
    location = "Location: https://127.0.0.1:9/elsewhere\r\n" if 300 <= status < 400 else ""
    end.sendall(f"HTTP/1.1 {status} As Told\r\nContent-Length: 0\r\nConnection: close\r\n{location}\r\n".encode())


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0x10]) + body[middle + 1 :] if body else body


def _cut(end: ssl.SSLSocket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    raise _Over
