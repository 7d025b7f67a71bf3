"""Child processes of the demo: started with a log file each, restarted where a truck's systemd would restart them, stopped by their own
process id, and measured (peak resident memory of each and of its descendants).

A child dies with the demo even when the demo is SIGKILLed (PR_SET_PDEATHSIG, prctl(2)), and lives in a session of its own, so that Ctrl-C
in the terminal reaches the demo alone, which then stops its children in order.
"""

import ctypes
import functools
import os
import signal
import subprocess
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

RESTART_DELAY = 1.0  # seconds, as RestartSec in the truck's units


def before_program(parent: int, nice: int, mask: set[signal.Signals | int] | None = None) -> None:
    """In the child, before its program: asks for SIGTERM when `parent` dies, ends if that is dead already, steps back by `nice`, and takes
    `mask` as its blocked signals (a child begins with its parent's)."""
    os.nice(nice)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def as_hardware() -> bool:
    """Gives this process (its later threads and children too) real-time priority where the system permits it (root does); returns
    whether it did. Chips and head stand for silicon: an ICM-20948 overflows its FIFO after 215 ms, and the RP2040 does not wait that long
    for a core because a database starts next to it. They use a few percent of one."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return False
    return True


def as_program() -> None:
    """Takes the real-time priority back that a parent had by `as_hardware`."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class ChildFailed(RuntimeError):
    """A child ended before it was ready; the text is its last line."""


class Child:
    """One process: `argv` with its output in `log`. With `restart` it is started again `RESTART_DELAY` after it ended by itself.
    `user`: run as this user (needs root): a program that changes its user by itself clears PR_SET_PDEATHSIG and would outlive the demo.
    `nice`: how far it steps back for others when cores are short (nice(2))."""

    def __init__(self, name: str, argv: list[str], log: Path, *, restart: bool = False, user: str | None = None, nice: int = 0):
        self.name = name
        self.argv = argv
        self.log = log
        self.restart = restart
        self.user = user
        self.nice = nice
        self.restarts = 0
        self.expected_to_run = False
        self._ended_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; its output is appended to its log."""
        self.expected_to_run = True
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=functools.partial(before_program, os.getpid(), self.nice),  # after the change of user, which would clear it
                user=self.user,
            )

    @property
    def pid(self) -> int:
        """Its process id (0 before the first start)."""
        return self._process.pid if self._process else 0

    def running(self) -> bool:
        """Whether it is alive now."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll() if self._process else None

    def last_line(self) -> str:
        """The last line that it printed."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else f"exit code {self.returncode}"

    def watch(self) -> None:
        """Restarts it where it should run and does not; raises ChildFailed where it may not be restarted."""
        if not self.expected_to_run or self.running():
            return
        if not self.restart:
            raise ChildFailed(f"{self.name}: {self.last_line()} (--home keeps its log)")
        now = time.monotonic()
        self._ended_at = self._ended_at or now
        if now - self._ended_at >= RESTART_DELAY:
            self._ended_at = 0.0
            self.restarts += 1
            self.start()

    def signal(self, number: signal.Signals) -> None:
        """Sends it `number`, if it runs."""
        if self._process is not None and self.running():
            self._process.send_signal(number)

    def stop(self, timeout: float) -> bool:
        """Ends it in order (SIGTERM), after `timeout` seconds by force; False if force was needed."""
        self.expected_to_run = False
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float) -> bool:
        """Waits for its end; kills it after `timeout` seconds and returns False."""
        self.expected_to_run = False
        if self._process is None:
            return True
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True


class Memory:
    """Peak resident memory in bytes by process name: VmHWM of /proc/PID/status (proc_pid_status(5)), sampled while the process lives."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}

    def sample(self, names: dict[int, str]) -> None:
        """Looks at the processes `names` (pid to name) and at all their descendants."""
        children: dict[int, list[tuple[int, str, int]]] = {}
        own: dict[int, int] = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                fields = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
            except (OSError, ProcessLookupError):
                continue  # it ended between the listing and the reading
            pid, peak = int(folder.name), int(fields.get("VmHWM", "0").split()[0]) * 1024
            own[pid] = peak
            children.setdefault(int(fields["PPid"]), []).append((pid, fields["Name"], peak))
        for pid, name in names.items():
            if pid not in own:
                continue  # it ended, or never began (0)
            self._note(name, own[pid])
            stack = list(children.get(pid, ()))
            while stack:
                child, comm, peak = stack.pop()
                self._note(f"{name}/{comm}", peak)
                stack.extend(children.get(child, ()))

    def _note(self, name: str, peak: int) -> None:
        self.peaks[name] = max(self.peaks.get(name, 0), peak)
