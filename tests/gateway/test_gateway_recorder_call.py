"""The call for the recorder over its real socket."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from gateway_request_parts import listening

from gateway.recorder_call import DETAIL_MOST, SOCKET_NAME, Ear, mark
from gateway.uplink_socket import short_path

pytestmark = pytest.mark.timeout(30)
Listen = Callable[[Callable[[str, str], bool]], Ear]


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Listen]:
    with ExitStack() as ends:
        yield lambda bookmark: ends.enter_context(listening(tmp_path, bookmark))
    assert not (tmp_path / SOCKET_NAME).exists()


def test_a_mark_reaches_the_recorder_and_its_answer_comes_back(tmp_path: Path, listen: Listen) -> None:
    heard: list[tuple[str, str]] = []

    def bookmark(source: str, detail: str) -> bool:
        heard.append((source, detail))
        return len(heard) < 2

    listen(bookmark)
    assert os.stat(tmp_path / SOCKET_NAME).st_mode & 0o777 == 0o600
    assert mark(tmp_path, "center", "r" * 1000) is None
    assert mark(tmp_path, "center") == "the recorder's disk stalls and its memory is full"
    assert heard == [("center", "r" * DETAIL_MOST), ("center", "")]


def test_without_a_recorder_the_caller_is_told_so_at_once(tmp_path: Path, listen: Listen) -> None:
    assert mark(tmp_path, "center") == "no recorder runs"
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with short_path(tmp_path, SOCKET_NAME) as path:
        dead.bind(path)
    dead.close()
    assert mark(tmp_path, "center") == "no recorder runs", "a killed recorder's socket"
    listen(lambda source, detail: True)
    assert mark(tmp_path, "center") is None
    assert mark(tmp_path / "nowhere", "center") == "no recorder runs"


def test_a_recorder_that_does_not_answer_holds_nobody_up(tmp_path: Path, listen: Listen) -> None:
    released = threading.Event()
    listen(lambda source, detail: released.wait(20))
    assert mark(tmp_path, "center", seconds=0.2) == "the recorder did not answer within 0.2 s"
    released.set()
    assert mark(tmp_path, "center") is None, "its late answer went to nobody"


def test_a_call_that_says_nothing_is_counted_and_the_next_one_heard(tmp_path: Path, listen: Listen) -> None:
    ear = listen(lambda source, detail: True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller, short_path(tmp_path, SOCKET_NAME) as path:
        for datagram in (b"full", b'{"reboot": {}}', b'{"bookmark": {"source": 1}}', b"", b'{"bookmark": {"source": "x"}}'):
            caller.sendto(datagram, path)
    assert mark(tmp_path, "center") is None and ear.malformed == 4, "what nobody waits for is taken, too"
