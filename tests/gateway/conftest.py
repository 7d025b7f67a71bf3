"""One hub for the modules here that only need one: each has trucks of its own. It starts with the first test that asks for it."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRUCKS = (
    *("whole", "cut", "bare"),  # test_gateway_uplink_news.py
    *("old", "viewer"),  # test_gateway_uplink_carsensor.py
    "truck-1",  # test_gateway_uplink_requests_hub.py
)
START_SECONDS = 60.0


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The ready file of `python -m hub serve` with TRUCKS. A module that stops its hub has one of its own."""
    if shutil.which("erl") is None:
        pytest.skip("ejabberd is not installed")
    folder = tmp_path_factory.mktemp("hub")
    ready = folder / "hub.json"
    command = [sys.executable, "-m", "hub", "serve", "--home", str(folder / "hub"), "--ready", str(ready), "--trucks", ",".join(TRUCKS)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + START_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"the hub did not start: {process.communicate()[1]}")
        time.sleep(0.05)
    yield json.loads(ready.read_text("utf-8"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
