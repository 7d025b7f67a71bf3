"""A session with a head in a process of its own, with a time limit: mpremote, and a close of a USB serial whose device has stopped reading,
can wait where no deadline of ours reaches.

The process is killed when its time is over; what it has not said then, it has not done. If its parent dies it ends at its next report, and
leaves the head on the way back to duty."""

import multiprocessing
import multiprocessing.connection
import signal
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from gateway.head_install import Report

LIMIT_S = 240.0  # a unit; one takes 20 to 90 s
TURN_S = 0.2  # from one look at a process to the next
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"

Given = TypeVar("Given")
Result = TypeVar("Result")


class ProcessError(Exception):
    """The process did not end by itself and well; one line says how."""


class Session(Generic[Given, Result]):
    """The process that does `work(given, report)`, from construction to `end`. `work` is a function of a module, everything can be pickled,
    and `errors` are those of its exceptions that come back as `error`; any other one ends the process."""

    def __init__(
        self, work: Callable[[Given, Report], Result], given: Given, errors: tuple[type[Exception], ...], limit_s: float = LIMIT_S
    ) -> None:
        context = multiprocessing.get_context(_METHOD)
        if _METHOD == "forkserver":
            context.set_forkserver_preload([work.__module__])
        self.pipe, theirs = context.Pipe(duplex=False)
        self.ended = False
        self.result: Result | None = None
        self.error: Exception | None = None
        self._limit_s = limit_s
        self._until = time.monotonic() + limit_s
        self._process = context.Process(target=_work, args=(work, given, errors, theirs), daemon=True)  # type: ignore[attr-defined]  # typeshed lacks it
        self._process.start()
        theirs.close()

    def look(self, report: Report) -> None:
        """Takes what the process said. When it has ended, or its time has, `ended` is set, and `error` unless it has a `result`."""
        try:
            while not self.ended and self.pipe.poll():
                kind, *said = self.pipe.recv()
                if kind == "stage":
                    report(*said)
                else:
                    self.ended = True
                    self.result, self.error = said
        except EOFError:
            self._failed("the process of this unit died")
        if not self.ended and time.monotonic() > self._until:
            self._failed(f"not done within {self._limit_s:.0f} s")

    def end(self) -> None:
        """The process is gone after this."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self.pipe.close()

    def _failed(self, why: str) -> None:
        self.ended = True
        self.error = ProcessError(why)


def run(
    work: Callable[[Given, Report], Result], given: Given, report: Report, errors: tuple[type[Exception], ...], limit_s: float = LIMIT_S
) -> Result | None:
    """What `work(given, report)` returns from a process of its own. Raises what it raised of `errors`, or ProcessError."""
    session = Session(work, given, errors, limit_s)
    try:
        while not session.ended:
            multiprocessing.connection.wait([session.pipe], TURN_S)
            session.look(report)
    finally:
        session.end()
    if session.error is not None:
        raise session.error
    return session.result


def _work(
    work: Callable[[Given, Report], Result],
    given: Given,
    errors: tuple[type[Exception], ...],
    pipe: "multiprocessing.connection.Connection[Any, Any]",
) -> None:
    """The process: ("stage", stage, part) again and again, at last ("end", result, None) or ("end", None, error)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    try:
        pipe.send(("end", work(given, lambda stage, part: pipe.send(("stage", stage, part))), None))
    except errors as error:
        pipe.send(("end", None, error))
