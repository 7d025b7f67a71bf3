"""The connection to the hub: how long it waits, and what it says while there is none. The conversation itself: test_center_hub.py."""

import asyncio
import contextlib
import random
import socket
from pathlib import Path

import pytest

from center.announcement import Receipt
from center.config import Hub
from center.fleet_state import Fleet
from center.link import BACK_OFF_MOST_S, Link, back_off
from sox.errors import SoxError


def test_waiting_doubles_is_bounded_and_differs_from_center_to_center():
    random.seed(1)
    for failures in range(1, 200):
        waits = {back_off(failures, 1.0) for _ in range(20)}
        most = min(BACK_OFF_MOST_S, 2.0 ** (failures - 1))
        assert all(most / 2 <= wait <= most for wait in waits)
        assert len(waits) > 10


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """A hub that does not exist: a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (tmp_path / "secret").write_text("x")
    (tmp_path / "ca.pem").write_text("no certificate")
    return Hub("hub.test", "127.0.0.1", port, str(tmp_path / "ca.pem"), str(tmp_path / "secret"))


@pytest.mark.timeout(60)
async def test_a_hub_that_cannot_be_reached_is_tried_again_and_the_status_says_why(hub):
    link = Link(hub, Fleet(["truck-1"]), lambda *_: None, back_off_first_s=0.001)
    assert link.status().error == "not connected yet"
    running = asyncio.ensure_future(link.run())
    for _ in range(1000):
        await asyncio.sleep(0.005)
        if link.attempts >= 3:
            break
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert link.attempts >= 3
    assert not link.status().connected
    assert "certificate" in link.status().error


async def test_a_receipt_without_connection_is_an_error_and_not_forgotten_silently(hub):
    link = Link(hub, Fleet(["truck-1"]), lambda *_: None)
    with pytest.raises(SoxError):
        await link.publish("truck-1", Receipt("x", "stored", "", 0, ""))
