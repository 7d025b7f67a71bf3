"""A link to a head whose gateway's disk can be made to refuse."""

import errno
import threading
from pathlib import Path

import pytest
from gateway_recording import Bench, Recording

from gateway.convert import Converter
from gateway.disk_trouble import DiskTrouble
from gateway.head import HeadLink
from gateway.head_log import HeadLog
from logbook import files


class Disk:
    """fdatasync that can be made to fail as a dying disk does."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.dead = False
        sync = files.sync_data

        def guarded(fd: int) -> None:
            if self.dead:
                raise OSError(errno.EIO, "Input/output error")
            sync(fd)

        patch.setattr(files, "sync_data", guarded)


class RefusingBench(Bench):
    """A bench whose disk may refuse: its words go to `trouble`."""

    def __init__(self, folder: Path) -> None:
        self.trouble = DiskTrouble()
        super().__init__(folder)

    def _disk(self, error: OSError) -> None:
        self.trouble.told(error)


class Refused:
    """A HeadLink on a bench whose disk may refuse."""

    def __init__(self, folder: Path, link: Path) -> None:
        self.bench = RefusingBench(folder)
        self.log = HeadLog(self.bench.journal, self.bench.snapshot, self.bench.clock, Converter())
        self.link = HeadLink(str(link), self.log, self.bench.journal, self.bench.snapshot, {}, self.bench.trouble)
        self.bench.on_durable = self.link.durable
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.link.run, args=(self.stop,), daemon=True)
        self.thread.start()

    def state(self) -> dict[str, str]:
        """The head's, in the live view."""
        return self.bench.snapshot.build()["sensors"].get("head", {})

    def shown_ns(self) -> int:
        """Boot time of the newest acceleration in the live view."""
        return int(self.bench.snapshot.build()["values"].get("acceleration_x", {}).get("boottime_ns", 0))

    def durable(self) -> int:
        """The newest frame on disk."""
        return max(token[1] for token in self.bench.durable if isinstance(token, tuple))

    def live_only(self) -> bool:
        """Whether the disk has refused for long."""
        return self.state().get("state") == "degraded"

    def end(self) -> Recording:
        """Stops in order; what was written."""
        self.stop.set()
        self.thread.join()
        assert self.bench.readings.close() and self.bench.images.close()
        self.bench.sender.close()
        return Recording(self.bench.spool, recover=True)
