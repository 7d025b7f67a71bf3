"""The USB serial port of a simulated board: a pty under a link, which can be pulled out and put back.

The port's own end stays open here, so it outlives the programs that open it; each time it is plugged in it is a new pty."""

import os
import tty
from pathlib import Path

PTYS = "/dev/pts/"


class Plug:
    """Out at first; a link that an earlier run left goes. `master` is the board's end (does not block; -1 while it is out), `path` the
    host's ("" while it is out), to which `link` leads."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.master = -1
        self.path = ""
        self._slave = -1
        if link.is_symlink() and os.readlink(link).startswith(PTYS):
            link.unlink()

    def put_in(self) -> None:
        """The port appears. OSError where the link cannot be made."""
        if self.master >= 0:
            return
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self._slave)
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.path)
        fresh.replace(self.link)

    def pull_out(self) -> None:
        """The port vanishes, with what it holds."""
        if self.master < 0:
            return
        self.link.unlink(missing_ok=True)
        os.close(self.master)
        os.close(self._slave)
        self.master = self._slave = -1
        self.path = ""
