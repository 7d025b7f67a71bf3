"""Child processes of the demo: restarted, stopped, measured, and never left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim import processes
from sim.processes import Child, ChildFailed, Memory

pytestmark = pytest.mark.timeout(60)

SLEEPER = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(100)"]
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(100)"


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Waits for something another process does; the time is a limit, not a measure."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "did not happen"
        time.sleep(0.01)
    return found


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """child(argv, **settings): a Child that is killed at the end of the test."""
    made: list[Child] = []

    def make(argv: list[str], **settings: Any) -> Child:
        made.append(Child("sleeper", argv, tmp_path / f"{len(made)}.log", **settings))
        return made[-1]

    yield make
    for one in made:
        one.signal(signal.SIGKILL)
        one.wait(10)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_that_may_be_restarted_comes_back_after_its_delay_and_is_counted(child, monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(processes.time, "monotonic", lambda: now[0])
    one = child([sys.executable, "-c", "raise SystemExit(3)"], restart=True)
    one.start()
    first = one.pid
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    one.watch()
    now[0] += processes.RESTART_DELAY - 0.01
    one.watch()
    assert one.restarts == 0 and one.returncode == 3
    now[0] += 0.02
    one.watch()
    assert one.restarts == 1 and one.pid != first


def test_a_child_that_may_not_be_restarted_is_a_failure_that_quotes_its_last_line(child) -> None:
    one = child([sys.executable, "-c", "print('first'); print('no such port'); raise SystemExit(1)"])
    one.start()
    os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ChildFailed, match="sleeper: no such port .*--home keeps its log"):
        one.watch()


def test_a_child_that_was_stopped_is_not_started_again(child) -> None:
    one = child(SLEEPER, restart=True)
    one.start()
    until(lambda: one.last_line() == "ready")
    assert one.stop(30) is True
    one.watch()
    assert not one.running() and one.restarts == 0 and one.returncode == -signal.SIGTERM


def test_a_child_that_does_not_end_is_killed_and_that_is_told(child) -> None:
    one = child([sys.executable, "-c", STUBBORN])
    one.start()
    until(lambda: one.last_line() == "ready")
    assert one.stop(0.1) is False
    assert one.returncode == -signal.SIGKILL


def test_a_child_that_never_began_is_neither_running_nor_in_the_way(child) -> None:
    one = child(SLEEPER)
    assert (one.pid, one.running(), one.returncode, one.last_line()) == (0, False, None, "exit code None")
    one.watch()
    one.signal(signal.SIGTERM)
    assert one.stop(1) is True


PARENT = """
import sys, time
from pathlib import Path
from sim.processes import Child
one = Child("one", [sys.executable, "-c", "import time; time.sleep(100)"], Path(sys.argv[1]))
one.start()
print(one.pid, flush=True)
time.sleep(100)
"""


def test_a_child_dies_with_a_demo_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not alive(pid))


def test_a_child_whose_demo_died_before_it_could_ask_ends_at_once() -> None:
    pid = os.fork()
    if pid == 0:
        processes.before_program(1 << 30, 0)  # not our parent: it is gone
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_a_child_is_out_of_reach_of_ctrl_c_in_the_terminal(child) -> None:
    one = child(SLEEPER)
    one.start()
    assert os.getsid(one.pid) == one.pid != os.getsid(0)


NEST = """
import subprocess, sys
block = bytearray(60_000_000)
block[::4096] = b"x" * len(block[::4096])
inner = subprocess.Popen([sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(100)"])
inner.wait()
"""


def test_peak_memory_is_told_of_a_process_and_of_its_descendants(child) -> None:
    one = child([sys.executable, "-c", NEST])
    one.start()
    until(lambda: one.last_line() == "ready")
    memory = Memory()
    memory.sample({one.pid: "one", 0: "never began"})
    (inner,) = [name for name in memory.peaks if name != "one"]
    assert inner.startswith("one/python")
    assert memory.peaks["one"] > 60_000_000 > memory.peaks[inner] > 1_000_000
    for pid in Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    one.stop(10)
    peaks = dict(memory.peaks)
    memory.sample({one.pid: "one"})
    assert memory.peaks == peaks, "a peak outlives its process"
