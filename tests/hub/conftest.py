"""A real hub for the whole room: started as its command is, with four trucks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sox.client import SoxClient

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0


class Hub:
    """`python -m hub serve` as a child: `info` is its ready file."""

    def __init__(
        self, folder: Path, *arguments: str, command: tuple[str, ...] = (sys.executable,), env: dict[str, str] | None = None
    ) -> None:
        self.home = folder / "hub"
        self.ready = folder / "hub.json"
        self.process = subprocess.Popen(
            [*command, "-m", "hub", "serve", "--home", str(self.home), "--ready", str(self.ready), *arguments],
            cwd=ROOT, env={**os.environ, **(env or {})}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.info: dict = {}

    def wait_ready(self) -> "Hub":
        until = time.monotonic() + START_SECONDS
        while not self.ready.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                pytest.fail(f"the hub did not start: {self.process.communicate()[1]}")
            time.sleep(0.05)
        self.info = json.loads(self.ready.read_text("utf-8"))
        return self

    def client(self, user: str, password: str | None = None) -> SoxClient:
        info = self.info
        secret = (Path(info["secrets"]) / user).read_text("ascii") if password is None else password
        return SoxClient(f"{user}@{info['domain']}", secret, info["host"], info["c2s_port"], info["ca_file"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture(scope="session")
def needs_ejabberd() -> None:
    if shutil.which("erl") is None:
        pytest.skip("ejabberd is not installed")


@pytest.fixture(scope="session")
def hub_class() -> type[Hub]:
    """For fixtures that start hubs of their own."""
    return Hub


@pytest.fixture(scope="session")
def hub(needs_ejabberd: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = Hub(tmp_path_factory.mktemp("hub"), "--trucks", "truck-1,truck-2,truck-3,truck-4", "--no-reaper").wait_ready()
    yield running
    assert running.stop() == 0


@pytest.fixture
def start_hub(needs_ejabberd: None) -> Iterator[Callable[..., Hub]]:
    """Start further hubs; those still running at the end of the test are stopped."""
    started: list[Hub] = []

    def start(folder: Path, *arguments: str, **options: object) -> Hub:
        started.append(Hub(folder, *arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.stop()
        if running.process.stderr is not None:
            running.process.stderr.close()
