import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from demo_runs import RunningDemo


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., RunningDemo]]:
    """Starts demos; whatever still runs at the end is stopped in order, then by force."""
    running: list[RunningDemo] = []

    def start(*arguments: str) -> RunningDemo:
        running.append(RunningDemo(tmp_path / f"demo{len(running)}", *arguments))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGINT)
            try:
                one.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(one.process.pid, signal.SIGKILL)
