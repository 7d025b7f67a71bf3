"""The thread of a server of the truck: any number of programs on one socket, each request led by its length in little endian, each served
in turn. What a request means and how its reply looks is the server's own (sim/busserver.py, sim/kernel/server.py)."""

import logging
import selectors
import socket
import threading
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)


class Connection:
    """One program, and what it has sent of its next request so far."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()


C = TypeVar("C", bound=Connection)


class Server(ABC, Generic[C]):
    """Serves who connects to `listener`, from `start` to `stop`; `error` is the exception that ended it, if one did.

    `called`: its name in the log and of its thread; `length_bytes`: of the number before each request."""

    def __init__(self, called: str, listener: socket.socket, length_bytes: int) -> None:
        self.error: Exception | None = None
        self._called = called
        self._listener = listener
        self._length_bytes = length_bytes
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=called, daemon=True)

    @abstractmethod
    def _connected(self, sock: socket.socket) -> C:
        """What is kept of a program that has just connected."""

    @abstractmethod
    def _reply(self, connection: C, request: bytes) -> bytes | None:
        """All that is sent for one request, which is without its length; None = the program gets none."""

    def start(self) -> None:
        """Begins to serve; programs may connect before."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and closes every socket."""
        self._wake_write.send(b"x")
        if self._thread.is_alive():
            self._thread.join()
        for sock in (self._listener, self._wake_read, self._wake_write):
            sock.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            try:
                self._serve(selector)
            except Exception as error:  # noqa: BLE001  a chip or the world failed: the programs lose their truck, and the owner sees why
                self.error = error
                _log.exception("the %s ended", self._called)
            finally:
                for key in list(selector.get_map().values()):
                    if isinstance(key.data, Connection):
                        key.data.sock.close()

    def _serve(self, selector: selectors.BaseSelector) -> None:
        while True:
            for key, _ in selector.select():
                if key.fileobj is self._wake_read:
                    return
                if key.fileobj is self._listener:
                    connection = self._connected(self._listener.accept()[0])
                    selector.register(connection.sock, selectors.EVENT_READ, connection)
                elif not self._receive(key.data):
                    selector.unregister(key.data.sock)
                    key.data.sock.close()

    def _receive(self, connection: C) -> bool:
        """Answers what has come; False when the program is gone."""
        received, begin = connection.received, self._length_bytes
        try:
            chunk = connection.sock.recv(65536)
            received += chunk
            while len(received) >= begin:
                end = begin + int.from_bytes(received[:begin], "little")
                if len(received) < end:
                    break
                request = bytes(received[begin:end])
                del received[:end]
                reply = self._reply(connection, request)
                if reply is not None:
                    connection.sock.sendall(reply)
        except ConnectionError:
            return False
        return bool(chunk)
