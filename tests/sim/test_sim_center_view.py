"""The demo's terminal: at most 80 columns, shows what the center says, and survives a center that says nothing sensible."""

import io
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from logbook.quantities import TEN
from sim.center_view import CenterView

pytestmark = pytest.mark.timeout(60)


class OneAnswer:
    """A center that answers every request with the same bytes and hangs up."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.page = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(self._answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def view_of(page: str, **status: Any) -> CenterView:
    demo = SimpleNamespace(page=page, options=SimpleNamespace(truck="truck-1"), uplink_status=lambda: status)
    view = CenterView(demo)  # type: ignore[arg-type]
    view.console = Console(width=80, file=io.StringIO())
    return view


@pytest.fixture
def center(request: pytest.FixtureRequest) -> Iterator[OneAnswer]:
    server = OneAnswer(request.param)
    yield server
    server.close()


BODY = b'{"trucks": [{"truck": "other"}, {"truck": "truck-1", "images": 7}]}'


@pytest.mark.parametrize("center", [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)], indirect=True)
def test_the_truck_of_the_demo_is_found_among_others(center: OneAnswer) -> None:
    assert view_of(center.page)._truck() == {"truck": "truck-1", "images": 7}


@pytest.mark.parametrize(
    "center",
    [
        b"",  # hangs up without a word
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",  # cut off
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{{{",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        b"what?\r\n\r\n",
    ],
    indirect=True,
)
def test_a_center_that_breaks_off_is_told_and_does_not_end_the_demo(center: OneAnswer) -> None:
    view = view_of(center.page)
    assert view._truck() == {}
    assert view.words.startswith("the center does not answer: ")


def test_a_center_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        page = f"http://127.0.0.1:{closed.getsockname()[1]}"
    view = view_of(page)
    assert view._truck() == {} and "does not answer" in view.words


def shown(view: CenterView, truck: dict[str, Any], status: dict[str, Any]) -> list[str]:
    file = io.StringIO()
    Console(width=80, file=file).print(view._draw(truck, status))
    return file.getvalue().splitlines()


def test_the_table_fits_80_columns_and_shows_values_reasons_and_what_is_not_there_yet() -> None:
    view = view_of("http://127.0.0.1:65535/")
    values = {quantity: {"value": -1234.5, "reason": None, "age_s": 12.3, "raw": "1" * 200} for quantity in TEN}
    values["pressure"] = {"value": 101_325.0, "reason": None, "age_s": 0.4, "raw": "[red] 7"}
    values["uva"] = {"value": None, "reason": "saturated [sic]", "age_s": 1.0, "raw": ""}
    del values["speed"]
    truck = {"values": values, "images": 3, "position": {"latitude": 35.34, "longitude": 139.49}}
    lines = shown(view, truck, {"backlog_bytes": 2_500_000, "backlog_segments": 2, "segments": {"receipted": 5}})
    assert all(len(line) <= 80 for line in lines)
    (pressure,) = [line for line in lines if line.startswith("Pressure")]
    assert pressure.split() == ["Pressure", "1013.25", "hPa", "0.4", "s", "[red]", "7"]
    assert any("saturated [sic]" in line for line in lines), "words of the center are not markup"
    (speed,) = [line for line in lines if line.startswith("Speed")]
    assert speed.split() == ["Speed", "-", "km/h", "-"]
    assert any("35.340000 139.490000 · images 3 · backlog 2.5 MB in 2 segments · receipts 5" in line for line in lines)
    assert any("no position yet" in line for line in shown(view, {}, {}))


RESULT = {
    "ok": True,
    "missing": [],
    "wrong": [],
    "quantities": {"pressure": {"count": 5, "last": 101_325.0, "max_abs_error": 0.05, "unit": "Pa"},
                   "uva": {"count": 0, "last": None, "max_abs_error": None, "unit": "W/m²"}},
    "segments": {"announced": 2, "receipted": 2},
    "imu": {"chip_samples": 10, "center_samples": 10},
    "head_frames": {"missing": 0, "repeated": 0},
    "images": 1,
    "gaps": [],
    "wall_time_s": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said", "not_said"),
    [
        ({}, ["everything arrived"], "wrong"),
        ({"ok": False, "missing": ["uva"]}, ["did not arrive: uva"], "everything arrived"),
        ({"ok": False, "wrong": ["speed: off by 3 m/s [sic]"]}, ["wrong  speed: off by 3 m/s [sic]"], "everything arrived"),
        ({"gaps": ["head: [ring full] (3)"]}, ["gap  head: [ring full] (3)", "everything arrived"], "wrong"),
    ],
)
def test_the_summary_says_what_arrived_and_what_did_not(change: dict[str, Any], said: list[str], not_said: str) -> None:
    view = view_of("")
    view.summary({**RESULT, **change})
    text = view.console.file.getvalue()  # type: ignore[attr-defined]
    assert all(words in text for words in said) and not_said not in text
    assert "1013.25" in text and all(len(line) <= 80 for line in text.splitlines())
