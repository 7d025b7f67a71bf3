"""The hostile link itself: it must be as bad as it says, and no worse, or what is proved with it is proved of nothing."""

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hostile_link import QUEUE_BYTES, Child, HostileLink, Lane

pytestmark = pytest.mark.timeout(60)


class Echo:
    """Answers each connection with the SHA-256 of all it sent, after its end; `first` holds what came first of each."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = ("127.0.0.1", self.listener.getsockname()[1])
        self.took = 0
        self.arrivals: list[tuple[float, int]] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._one, args=(self.listener.accept()[0],), daemon=True).start()

    def _one(self, end: socket.socket) -> None:
        digest = hashlib.sha256()
        with end, contextlib.suppress(OSError):
            while data := end.recv(65_536):
                digest.update(data)
                self.took += len(data)
                self.arrivals.append((time.monotonic(), len(data)))
            end.sendall(digest.digest())


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.listener.close()


def dial(link: HostileLink | Child) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.ports[0]), timeout=10)


def send_all(end: socket.socket, data: bytes) -> bytes:
    end.sendall(data)
    end.shutdown(socket.SHUT_WR)
    return end.recv(64)


def until(condition: object) -> None:
    end = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)


def test_every_byte_arrives_in_order_both_ways_over_a_lossy_link(echo: Echo) -> None:
    data = os.urandom(700_000)
    with HostileLink([echo.target], up=Lane(100e6, 0.01, loss=0.02, stall=0.02), down=Lane(latency=0.01)) as link:
        with dial(link) as end:
            assert send_all(end, data) == hashlib.sha256(data).digest()
        assert link.counts()["up"] == len(data) and link.counts()["lost"] > 0


def test_it_carries_what_its_rate_says_and_connections_share_it(echo: Echo) -> None:
    data = bytes(500_000)
    with Child([echo.target], up=Lane(16e6)) as link:
        began = time.monotonic()
        ends = [dial(link) for _ in range(2)]
        threads = [threading.Thread(target=send_all, args=(end, data)) for end in ends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        assert link("counts")["up"] == 2 * len(data)
        for end in ends:
            end.close()
    assert took >= 0.5 * 0.99, "1 MB at 16 Mbit/s"


def test_the_shared_queue_holds_no_more_than_it_says_and_the_rest_waits_with_the_senders(echo: Echo) -> None:
    with HostileLink([echo.target], up=Lane(rate=8_000)) as link:
        ends = [dial(link) for _ in range(2)]
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            end.setblocking(False)
        sent = 0
        idle = 0
        while idle < 20:
            before = sent
            for end in ends:
                with contextlib.suppress(BlockingIOError):
                    sent += end.send(bytes(8192))
            idle = idle + 1 if sent == before else 0
            time.sleep(0.005)
        queued = link.counts()["queued"]
        assert QUEUE_BYTES - 16_384 <= queued <= QUEUE_BYTES
        assert sent < QUEUE_BYTES + len(ends) * 120_000
        for end in ends:
            end.close()


def test_in_the_dark_nothing_moves_and_after_it_everything_goes_on(echo: Echo) -> None:
    with HostileLink([echo.target]) as link, dial(link) as end:
        end.sendall(b"before")
        until(lambda: echo.took == 6)
        link.dark(True)
        end.sendall(b"within")
        with dial(link) as other:
            other.settimeout(0.2)
            other.sendall(b"x")
            with pytest.raises(TimeoutError):
                other.recv(1)
        assert echo.took == 6
        link.dark(False)
        end.shutdown(socket.SHUT_WR)
        assert end.recv(64) == hashlib.sha256(b"beforewithin").digest()


def test_a_half_open_connection_takes_every_byte_and_says_nothing(echo: Echo) -> None:
    with HostileLink([echo.target]) as link, dial(link) as end:
        end.sendall(b"before")
        until(lambda: echo.took == 6)
        link.half_open()
        end.sendall(bytes(300_000))
        end.shutdown(socket.SHUT_WR)
        end.settimeout(0.3)
        with pytest.raises(TimeoutError):
            end.recv(1)
        assert echo.took == 6
        with dial(link) as new:
            assert send_all(new, b"new") == hashlib.sha256(b"new").digest()


def test_connections_are_reset_at_a_random_byte_or_on_request_or_closed_at_once(echo: Echo) -> None:
    with HostileLink([echo.target], up=Lane(reset_after=50_000)) as link:
        with dial(link) as end, pytest.raises(ConnectionError):
            send_all(end, bytes(2_000_000))
            raise ConnectionResetError if end.recv(1) == b"" else AssertionError
        assert echo.took < 2_000_000 and link.counts()["resets"] == 1
        link.set(up=Lane())
        with dial(link) as end:
            end.sendall(b"x")
            until(lambda: link.counts()["open"] == 1)
            link.cut()
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        link.closing(True)
        with dial(link) as end:
            assert end.recv(1) == b""


def test_where_nobody_listens_the_truck_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = ("127.0.0.1", gone.getsockname()[1])
    with HostileLink([target]) as link, pytest.raises(ConnectionResetError), dial(link) as end:
        end.recv(1)
