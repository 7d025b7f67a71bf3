"""`python -m center CONFIG [--ready FILE]`: the center until SIGTERM or SIGINT. Exit code 2 and one line if it cannot start.

This process holds the archive and the connection to the hub, and shows the page; what costs time (fetch, verify, store, table) is done by
its workers (center/ingest.py), by itself only where the configuration says `workers = 0`."""

import argparse
import asyncio
import contextlib
import functools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from center import clock
from center.archive import Archive, ArchiveError
from center.config import Center, ConfigError, load
from center.fleet_state import Fleet
from center.ingest_crew import crew
from center.ingest_desk import Desk
from center.ingest_take import taker
from center.link import Link
from center.page import Board, application
from center.pictures import newest_picture
from center.receive import Receiver
from center.tables_turn import tabling
from logbook.channels import IMAGES
from logbook.reader import SegmentError
from sox.segments import Receipt

STOP_S = 3  # for open requests of viewers, at the end

log = logging.getLogger("center")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the center stops all its parts in order. Calls `on_started` once it accepts requests."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Service:
    """All parts of one center, joined."""

    def __init__(self, config: Center, path: Path) -> None:
        """Open the archive of the configuration that stands in `path`; raises ArchiveError, ConfigError."""
        self._config, self._path = config, path
        self.archive = Archive(config.store(), config.quarantine_bytes, config.state_folder)
        self.fleet = Fleet(config.trucks)
        hosts = config.hub.upload_hosts or [config.hub.host, config.hub.domain]
        self.desk = Desk(self.archive.folder)
        take = self.desk.take if config.workers else taker(config, self.archive).take
        self.receiver = Receiver(self.archive, take, self._publish, self._stored, hosts, config.max_object_bytes)
        self.link = Link(config.hub, self.fleet, self.receiver.announced)

    async def run(self, listener: socket.socket, ready: Path | None) -> None:
        """Serve until SIGTERM or SIGINT; writes `ready` once the page answers."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        board = Board(self.fleet, self.archive, self.link.status, clock.utc_ns)
        for truck in self.fleet.trucks:
            await self._stored(truck, IMAGES)
        web = uvicorn.Config(
            application(board, self._config.http_host), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=STOP_S
        )
        server = _Server(web, functools.partial(_announce, listener, ready))
        parts = [
            _named(server.serve(sockets=[listener]), "page"), _named(self.receiver.run(), "receiver"), _named(self.link.run(), "link"),
            _named(self._ingest(), "ingest"),
        ]  # fmt: skip
        stopping = _named(stop.wait(), "stop")
        try:
            done, _ = await asyncio.wait([*parts, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a part that ended by itself ended with an error
        finally:
            board.stopping.set()
            server.should_exit = True
            for task in (*parts[1:], stopping):
                task.cancel()
            await asyncio.gather(*parts, stopping, return_exceptions=True)
            self.archive.close()

    async def _ingest(self) -> None:
        """The workers and the desk where they get their work; without workers what else is theirs."""
        if self._config.workers:
            async with self.desk.serving():
                await crew(self._path, self._config.workers)
        else:
            await tabling(self.archive, self._config.tables)

    async def _publish(self, truck: str, receipt: Receipt) -> None:
        await self.link.publish(truck, receipt)

    async def _stored(self, truck: str, stream: str) -> None:
        if stream != IMAGES:
            return
        try:
            picture = await asyncio.to_thread(newest_picture, self.archive, truck)
        except (OSError, SegmentError) as error:  # the picture is for the eye: it must not cost a receipt
            log.warning("%s: no picture: %s", truck, error)
            return
        if picture is not None:
            self.fleet.trucks[truck].picture = picture


def _announce(listener: socket.socket, ready: Path | None) -> None:
    url = page_url(listener)
    print(url, flush=True)
    if ready is not None:
        part = ready.with_name(ready.name + ".part")
        part.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
        os.replace(part, ready)  # whoever waits for the file never reads half of it


def page_url(listener: socket.socket) -> str:
    """The address of the page on a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _named(coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    return asyncio.create_task(coroutine, name=name)


def _listen(config: Center) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.http_host else socket.AF_INET
    try:
        return socket.create_server((config.http_host, config.http_port), family=family)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"http_host {config.http_host}, http_port {config.http_port}: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m center", description="Receive, verify, receipt, archive and show what trucks send.")
    parser.add_argument("config", type=Path, help="TOML file (see center/config.py)")
    parser.add_argument("--ready", type=Path, help='JSON file {"url", "pid"}, written once the page answers, removed at the end')
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        config = load(options.config)
        if (unreadable := config.hub.unreadable_file()) is not None:
            raise ConfigError(unreadable)
        listener = _listen(config)
        service = Service(config, options.config)
    except (ConfigError, ArchiveError) as error:
        print(f"center: {error}", file=sys.stderr)
        return 2
    try:
        with listener:
            asyncio.run(service.run(listener, options.ready))
    finally:
        if options.ready is not None:
            options.ready.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
