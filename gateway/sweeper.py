"""The sweeper keeps the spool bounded: `python -m gateway.sweeper CONFIG`.

It deletes only what the center has receipted, oldest first, and only while the spool is above `spool_quota_bytes` or the disk has less
than `free_reserve_bytes` left. It does not know what is receipted: it asks the ledger through the uplink's socket before every batch.
Without an uplink it deletes nothing and comes again. A spool that is full of unreceipted segments stays as it is, and the status says so.

Every deletion is logged (stderr) before the next one and counted in the ledger. A kill between a deletion and telling the ledger is
harmless: the uplink sees at its next look into the folder that a receipted file is gone.
"""

import logging
import os
import re
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import Any

from gateway import config
from gateway.clock import boottime_ns
from gateway.uplink_arguments import Parser, seconds
from gateway.uplink_socket import NoUplink, Refused, ask
from gateway.uplink_status import write_json

SWEEP_SECONDS = 10.0  # 252 GB a day are 2.9 MB/s: 30 MB between two looks, a small part of the 1 GB reserve
BATCH = 50  # deletions between two questions: the pressure is measured anew after each
ASK_MOST = 1000  # segments in one answer of the uplink
STATUS_NAME = "sweeper.json"

_RELATIVE = re.compile(r"[A-Za-z0-9-]+/\d{6,}-[a-z]+\.mcap")
_SPOOLED = re.compile(r".*\.mcap(\.open)?")

log = logging.getLogger("sweeper")


def spooled_bytes(spool: Path) -> int:
    """Bytes of all segments in the spool, open ones too; files that vanish meanwhile count as 0."""
    total = 0
    for folder in _scan(spool):
        if folder.is_dir(follow_symlinks=False):
            for entry in _scan(Path(folder.path)):
                if _SPOOLED.fullmatch(entry.name):
                    total += _size(entry)
    return total


def free_bytes(spool: Path) -> int:
    """Bytes an ordinary process may still write on the spool's disk."""
    disk = os.statvfs(spool)
    return disk.f_bavail * disk.f_frsize


class Sweeper:
    """One truck's sweeper. Counters are of this process; the ledger keeps the ones for ever."""

    def __init__(self, truck: config.Truck) -> None:
        self._truck = truck
        self._spool = Path(truck.spool)
        self.deleted_segments = 0
        self.deleted_bytes = 0
        self.kept: set[str] = set()  # receipted, yet not deleted: the disk refuses, or the file is not what the ledger knows
        self.last_deleted: str | None = None

    def excess(self) -> int:
        """Bytes that must go: above the quota or missing in the reserve, whichever is more; 0 if neither."""
        over_quota = spooled_bytes(self._spool) - self._truck.spool_quota_bytes
        return max(0, over_quota, self._truck.free_reserve_bytes - free_bytes(self._spool))

    def sweep(self) -> str | None:
        """Delete what must and may go. Returns the problem in one line when there is still too much, None when all is well."""
        while (excess := self.excess()) > 0:
            try:
                # Those that cannot go are always the oldest: they must not hide the others.
                segments = ask(self._spool, {"ask": "deletable", "limit": min(BATCH + len(self.kept), ASK_MOST)})["segments"]
                deleted = self._delete(segments, excess)
                if deleted:
                    ask(self._spool, {"tell": "deleted", "segment_ids": deleted})
            except NoUplink as trouble:
                return f"{excess} bytes too much, but {trouble}"
            except (Refused, KeyError, TypeError) as trouble:
                return f"{excess} bytes too much, but the uplink's answer is no list of segments: {trouble!r}"
            if not deleted:
                return f"{excess} bytes too much, and nothing more is receipted"
        return None

    def write_status(self, problem: str | None) -> None:
        """Replace <spool>/sweeper.json."""
        status: dict[str, Any] = {
            "truck": self._truck.name,
            "pid": os.getpid(),
            "boottime_ns": boottime_ns(),
            "spool_bytes": spooled_bytes(self._spool),
            "quota_bytes": self._truck.spool_quota_bytes,
            "free_bytes": free_bytes(self._spool),
            "reserve_bytes": self._truck.free_reserve_bytes,
            "deleted_segments": self.deleted_segments,
            "deleted_bytes": self.deleted_bytes,
            "kept": len(self.kept),
            "last_deleted": self.last_deleted,
            "problem": problem,
        }
        write_json(self._spool / STATUS_NAME, status)

    def _delete(self, segments: list[dict[str, Any]], excess: int) -> list[str]:
        """Delete in the given order until `excess` bytes are gone; returns the ids whose files are gone, durably."""
        gone: list[str] = []
        folders: set[Path] = set()
        for segment in segments:
            if excess <= 0:
                break
            path = self._spool / str(segment["path"])
            try:
                found = self._check(path, segment)
                path.unlink()
            except FileNotFoundError:
                gone.append(segment["segment_id"])
                continue
            except (OSError, _NotOurs) as trouble:
                if segment["segment_id"] not in self.kept:
                    log.error("kept %s: %s", segment["path"], trouble)
                self.kept.add(segment["segment_id"])
                continue
            self.kept.discard(segment["segment_id"])
            log.info("deleted %s (%d bytes): receipted by the center, %d bytes too much", segment["path"], found, excess)
            self.deleted_segments += 1
            self.deleted_bytes += found
            self.last_deleted = segment["segment_id"]
            excess -= found
            gone.append(segment["segment_id"])
            folders.add(path.parent)
        for folder in folders:
            _sync(folder)
        return gone

    def _check(self, path: Path, segment: dict[str, Any]) -> int:
        """The file's size; raises _NotOurs if it is not exactly the file that was receipted."""
        if not _RELATIVE.fullmatch(str(segment["path"])):
            raise _NotOurs("not the path of a sealed segment")
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != segment["size"]:
            raise _NotOurs(f"not the file that was receipted (size {found.st_size}, receipted {segment['size']})")
        return found.st_size


class _NotOurs(Exception):
    """Why a file is not deleted."""


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _sync(folder: Path) -> None:
    """Make deletions durable: a receipted file that came back after a power cut would be uploaded again."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def main(arguments: list[str] | None = None) -> int:
    """Sweep until SIGTERM. Exit codes: 0 ended in order, 2 bad configuration."""
    parser = Parser(prog="python -m gateway.sweeper", description="Delete receipted segments when the disk gets full.")
    parser.add_argument("config", help="the truck's TOML file")
    parser.add_argument("--every", type=seconds, default=SWEEP_SECONDS, metavar="SECONDS", help="time between two looks")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        truck = config.load(options.config)
        Path(truck.spool).mkdir(parents=True, exist_ok=True)
    except config.ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"spool {truck.spool}: {error.strerror}", file=sys.stderr)
        return 2
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    _run(Sweeper(truck), options.every, end)
    return 0


def _run(sweeper: Sweeper, every: float, end: threading.Event) -> None:
    said: str | None = None
    while not end.is_set():
        try:
            problem = sweeper.sweep()
            sweeper.write_status(problem)
        except OSError as error:  # the disk itself: full for the status file, gone, read-only. Never an exit
            problem = f"disk: {error.strerror or error}"
        if problem and _kind(problem) != _kind(said):
            log.warning("%s", problem)
        said = problem
        end.wait(every)


def _kind(problem: str | None) -> str:
    """A problem without its numbers: the same one is logged once, not every ten seconds."""
    return re.sub(r"\d+", "", problem or "")


if __name__ == "__main__":
    sys.exit(main())
