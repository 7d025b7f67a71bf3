"""`cruisers head console`: what a head on duty says, now. A live page for people, one JSON object for machines.

It listens as the recorder would, and acknowledges nothing: what the head measured stays in its ring for the gateway (20 s of it; what is
older is dropped meanwhile, and reported). PING keeps the head sending at full pace. A port that goes (a head that restarts, a cable) is
opened again when it is back."""

import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.live import Live

from firmware import frames
from gateway.ending import Ending
from gateway.head_console_page import as_json, page
from gateway.head_console_seen import Seen
from gateway.head_duty import Duty
from gateway.head_repl import LineError
from gateway.shown import width

PING_S = 0.5  # the head sends in bursts to who spoke within the last 1.5 s
ASK_S = 1.0
SHOW_S = 0.5
REOPEN_S = 0.5
ANSWER_S = 6.0  # so long nothing at all may come: a head starts within 5 s
ONCE_S = 8.0  # that --once and --json wait for a sensor that has not delivered; HEALTH comes every 5 s


class Request(NamedTuple):
    """What was asked for: the `port`, one page instead of a live one, so many seconds, JSON."""

    port: str
    once: bool = False
    seconds: float | None = None
    json: bool = False


class Follower:
    """Keeps a head's line open and `seen` up to date. `trouble`: why the line is not open now, "" if it is."""

    def __init__(self, port: str) -> None:
        """Raises BusyError, LineError: the port cannot be used."""
        self.port = port
        self.seen = Seen()
        self.trouble = ""
        self._bad = 0
        self._asked = self._pinged = self._tried = 0.0
        self._line: Duty | None = Duty(port)

    def step(self) -> None:
        """Asks what is due and takes what came; waits a little."""
        if self._line is None:
            self._reopen()
            return
        try:
            self._talk(self._line, time.monotonic())
            came = self._line.listen()
            self.seen.damage(self._line.bad - self._bad)
            self._bad = self._line.bad
            for frame in came:
                self.seen.take(frame, time.monotonic())
        except LineError as error:
            self.close()
            self.trouble = f"{self.port} is gone" if not Path(self.port).exists() else str(error)

    def close(self) -> None:
        """Leaves the port."""
        if self._line is not None:
            self._line.__exit__()
            self._line = None

    def _talk(self, line: Duty, now: float) -> None:
        if self.seen.hello is None and now - self._asked >= ASK_S:
            self._asked = now
            line.command(frames.HELLO_REQUEST)
        elif now - self._pinged >= PING_S:
            self._pinged = now
            line.command(frames.PING)

    def _reopen(self) -> None:
        time.sleep(REOPEN_S)
        if not Path(self.port).exists():
            return
        try:
            self._line = Duty(self.port)
        except LineError as error:
            self.trouble = str(error)
            return
        self._bad, self.trouble = 0, ""
        self.seen.reconnect()


def run(request: Request) -> int:
    """Listens until Ctrl-C, or as `request` says; returns the exit code: 0 done, 1 nothing answers, 2 it cannot write. Raises BusyError and
    LineError where the port cannot be opened."""
    with Ending() as ending:
        follower = Follower(request.port)
        try:
            return _run(request, follower, ending)
        finally:
            follower.close()


def _run(request: Request, follower: Follower, ending: Ending) -> int:
    seen = follower.seen
    try:
        _follow(request, follower, ending)
        if seen.heard is not None and request.json:
            print(json.dumps(as_json(seen, request.port, time.monotonic()), ensure_ascii=False), flush=True)
        elif seen.heard is not None:
            Console(width=width(), highlight=False).print(page(seen, request.port, follower.trouble, time.monotonic()))
    except OSError as error:  # trouble of the port is shown: this is the output's
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  what is left of it would be written again at the end
        print(f"cruisers head console: cannot write: {error.strerror}", file=sys.stderr)
        return 2
    if seen.heard is not None or (ending.wished and not follower.trouble):
        return 0
    hint = "a new board gets its program by `cruisers flash`"
    print(f"cruisers head console: nothing answers at {request.port}: {follower.trouble or hint}", file=sys.stderr)
    return 1


def _follow(request: Request, follower: Follower, ending: Ending) -> None:
    """Until it is time to end."""
    quiet = request.once or request.json
    limit = request.seconds if request.seconds is not None else ONCE_S if quiet else float("inf")
    console = Console(width=width(), highlight=False)
    live = None if quiet else Live(console=console, auto_refresh=False, transient=True)  # what it said last is printed whole at the end
    seen = follower.seen
    begin = time.monotonic()
    drawn = 0.0
    try:
        if live is not None:
            live.start()
        while not ending.wished and (now := time.monotonic()) - begin < limit:
            follower.step()
            if seen.heard is None and now - begin > ANSWER_S:
                break
            if quiet and request.seconds is None and seen.settled:
                break
            if live is not None and seen.heard is not None and now - drawn >= SHOW_S:
                drawn = now
                live.update(page(seen, request.port, follower.trouble, now, console.height - 1), refresh=True)
    finally:
        if live is not None:
            live.stop()
