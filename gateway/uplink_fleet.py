"""One process of one truck's uplink, or of several (the simulation of a fleet): all begin, or none; a signal ends all; a fault in one ends
the others, loudly."""

import asyncio
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Protocol

from gateway import notify

SPREAD_SECONDS = 1.0  # over which several begin: what each does once a second does not meet in one moment


class CannotStart(Exception):
    """Which truck and why, in one line; `code` is the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Runs(Protocol):
    """What is run: run() until stop(), or abandon() instead."""

    name: str

    async def run(self, drain_seconds: float = 0.0) -> None: ...

    def stop(self) -> None: ...

    def abandon(self) -> None: ...


def together(make: Callable[[str], Runs], paths: list[str], drain_seconds: float) -> int:
    """Make one of each path (`make` raises CannotStart) and run them until SIGTERM or SIGINT; returns the exit code."""
    code = 0
    try:
        asyncio.run(_all(make, paths, drain_seconds))
    except* CannotStart as group:
        for error in group.exceptions:
            print(error, file=sys.stderr)
            code = max(code, getattr(error, "code", 1))
    return code


async def _all(make: Callable[[str], Runs], paths: list[str], drain_seconds: float) -> None:
    made: list[Runs] = []
    try:
        for path in paths:
            made.append(make(path))
    except BaseException:
        for one in made:
            one.abandon()
        raise

    def stop() -> None:
        notify.stopping()
        for one in made:
            one.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with notify.beating(), asyncio.TaskGroup() as group:
        for index, one in enumerate(made):
            group.create_task(_one(one, drain_seconds, SPREAD_SECONDS * index / len(made)))
        notify.ready()


async def _one(one: Runs, drain_seconds: float, after_seconds: float) -> None:
    await asyncio.sleep(after_seconds)
    try:
        await one.run(drain_seconds)
    except (sqlite3.Error, OSError) as error:
        raise CannotStart(f"{one.name}: {error}", 1) from error
