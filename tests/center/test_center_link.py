"""The connection to the hub: that it tries again, and what it says while there is none. The conversation itself: test_center_hub.py."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from center.config import Hub
from center.fleet_state import Fleet
from center.link import Link
from sox.errors import SoxError
from sox.segments import Receipt


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
