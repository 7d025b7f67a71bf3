"""The page in a real browser: what a person sees after the script has run, not only what the server wrote."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import uvicorn

from center import page
from center.archive import Archive
from center.fleet_state import Fleet, Picture
from center.link import Status

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# The only browser call of these tests: no profile of a person, nothing but our own page is asked for.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NOW = 1_793_000_000_000_000_000
LONGEST_MS = 30_000  # the browser writes the DOM when the page has loaded, or then

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]


class Dom(HTMLParser):
    """Texts and states by key."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.tags: list[str] = []
        self._key = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        self._key = found.get("data-text", "")
        self.texts.setdefault(self._key, "")
        if "data-state-of" in found:
            self.states[found["data-state-of"]] = found.get("data-state", "")
        if "data-source-of" in found:
            self.sources[found["data-source-of"]] = found.get("src", "")

    def handle_data(self, data: str) -> None:
        self.texts[self._key] = data
        self._key = ""


def browse(url: str, profile: Path) -> str:
    """The DOM of `url` once it has loaded."""
    command = [CHROMIUM or "", *FLAGS, f"--user-data-dir={profile}", f"--timeout={LONGEST_MS}", "--dump-dom", url]
    at_home = {**os.environ, "HOME": str(profile), "XDG_CONFIG_HOME": str(profile)}  # it writes crash reports there
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=at_home).stdout


async def test_chromium_shows_live_values_reasons_ages_and_the_picture(tmp_path, live):
    import cv2
    import numpy as np

    jpeg = cv2.imencode(".jpg", np.full((9, 16, 3), 128, np.uint8))[1].tobytes()
    archive = Archive(tmp_path / "archive")
    fleet = Fleet(["truck-1", "truck-2"])
    board = page.Board(fleet, archive, lambda: Status(True, "", NOW, 1), lambda: NOW)
    fleet.trucks["truck-1"].take(live(NOW - 10**9, {"pressure": 99_000.0}), NOW)
    fleet.trucks["truck-1"].picture = Picture(jpeg, "front", "s", 1, NOW)
    paths: list[str] = []
    application = page.application(board, "127.0.0.1")

    twice = asyncio.Event()
    sent = 0

    async def watched(scope, receive, send) -> None:
        async def counted(message) -> None:
            nonlocal sent
            await send(message)
            sent += message.get("body", b"").startswith(b"event: fields")
            if sent >= 2:
                twice.set()

        paths.append(scope["path"])
        if scope["path"].endswith("/image"):
            # A page has loaded when its pictures have: the browser waits here until the script got its second event.
            await asyncio.wait_for(twice.wait(), LONGEST_MS / 1000)
        if scope["path"] == "/events":
            # These come after the page was written: only the script can show them.
            values = {"pressure": 101_325.0, "latitude": 35.339012, "longitude": 139.487654, "acceleration_z": 9.81, "pm2_5": 12.4e-9}
            fleet.trucks["truck-1"].take(live(NOW, {**values, "illuminance": "<b onclick=x>saturated</b>"}), NOW)
        await application(scope, receive, counted)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(watched, log_level="warning", lifespan="off", timeout_graceful_shutdown=2))
        serving = asyncio.ensure_future(server._serve([listener]))
        try:
            html = await asyncio.to_thread(browse, f"http://127.0.0.1:{listener.getsockname()[1]}/", tmp_path / "profile")
        finally:
            board.stopping.set()
            server.should_exit = True
            await serving
            archive.close()
    dom = Dom(html)
    assert dom.texts["truck-1/q/pressure/value"] == "1013.25"
    assert dom.texts["truck-1/q/acceleration_z/value"] == "9.810"
    assert dom.texts["truck-1/q/pm2_5/value"] == "12.4"
    assert dom.texts["truck-1/position"] == "35.339012, 139.487654"
    assert dom.texts["truck-1/q/illuminance/note"] == "<b onclick=x>saturated</b>"  # as text: html.parser has unescaped it
    assert "b" not in dom.tags
    assert (dom.states["truck-1/state"], dom.states["truck-2/state"]) == ("fresh", "offline")
    assert dom.texts["truck-1/q/pressure/mark"] == "未校正"
    assert dom.sources["truck-1/image/src"].startswith("/api/trucks/truck-1/image?")
    assert "/api/trucks/truck-1/image" in paths
    assert re.search(r'id="lost"[^>]*hidden', html)  # the stream lives
