"""ejabberd as one child process of ours, in folders of ours, as whatever user we are.

Debian's ejabberdctl runs as root or the user ejabberd only, and with a node name: its distribution port then listens on all
addresses and an epmd outlives the stop. So `erl` is started directly, without a name (facts: measured.md). Nothing of
/etc/ejabberd or /var is read or written. The node stops by SIGTERM to its own pid, and gets it also when we die (PDEATHSIG).
"""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

from hub.accounts import REGISTER
from hub.certificates import Files
from hub.configuration import Addresses, Federation, render
from hub.errors import HubError
from hub.local import FOLDER, SOCKET

LIBRARIES = tuple(Path("/usr/lib").glob("*-linux-gnu*"))  # Debian keeps Erlang applications in the multiarch folder
INSTALL = "ejabberd is not installed: sudo apt-get install ejabberd"
# Stack of each of Erlang's threads: fast_xml writes an element back by recursion in C, and one stanza of 35 kB that was nothing but
# nested elements ended the whole node (SIGSEGV) on the 1 MB it has by default. The deepest that fits into MAX_STANZA (75,000) takes
# between 16 and 32 MB; this is 64 MB, of address space, not of memory.
STACK_KILOWORDS = 8192
START_SECONDS = 90.0  # 1 s on a free machine, 20 s on a Pi with eight other jobs
STOP_SECONDS = 20.0  # 3 s on a free machine: mnesia writes its tables


class PortTaken(HubError):
    """Another program listens where ejabberd should."""


def find_libraries(folders: Iterable[Path] = LIBRARIES) -> Path:
    """The ERL_LIBS folder with ejabberd in it; raises HubError with how to install it."""
    if shutil.which("erl") is not None:
        for folder in folders:
            if any(folder.glob("ejabberd-*/ebin/ejabberd.app")):
                return folder
    raise HubError(INSTALL)


class Ejabberd:
    """One ejabberd in `home`: db/, log/, run/, upload/ and ejabberd.yml there are its own; secrets/ gives it its accounts."""

    def __init__(
        self, home: Path, addresses: Addresses, certificates: Files, libraries: Path, federation: Federation | None = None
    ) -> None:
        self._home = home
        self._addresses = addresses
        self._certificates = certificates
        self._libraries = libraries
        self._federation = federation
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the running node."""
        if self._process is None:
            raise HubError("ejabberd is not running")
        return self._process.pid

    async def start(self) -> None:
        """Start and wait until it listens and every account is there; raises HubError, and leaves nothing running then."""
        for folder in ("db", "log", "upload", FOLDER):
            (self._home / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._home / FOLDER).chmod(0o700)  # who can reach the socket in it administers the hub
        configuration = self._home / "ejabberd.yml"
        text = render(self._addresses, self._certificates, str(self._home / "upload"), SOCKET, self._federation)
        configuration.write_text(text, "utf-8")
        registered = self._home / "registered"
        registered.unlink(missing_ok=True)
        console = self._home / "log" / "console.log"
        console.touch(mode=0o600)
        output = os.open(console, os.O_WRONLY | os.O_TRUNC)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(), env=self._environment(configuration, registered), cwd=self._home,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(output)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not registered.exists():
                    if self._process.returncode is not None:
                        raise self._why(console)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            await self.stop()
            raise HubError(f"ejabberd did not start within {START_SECONDS:g} s: see {console}") from None
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> int:
        """Until it ends; returns its exit code."""
        if self._process is None:
            raise HubError("ejabberd is not running")
        return await self._process.wait()

    async def stop(self) -> None:
        """End it by its own pid: in order, or by force after STOP_SECONDS; its helper processes are gone when this returns."""
        process, self._process = self._process, None
        if process is None:
            return
        helpers = _descendants(process.pid)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        # Erlang's port programs end when their pipe to the node closes.
        for _ in range(100):
            helpers = {pid: started for pid, started in helpers.items() if _start_time(pid) == started}
            if not helpers:
                return
            await asyncio.sleep(0.05)
        for pid in helpers:
            os.kill(pid, signal.SIGKILL)

    def _command(self) -> list[str]:
        database = str(self._home / "db").replace("\\", "\\\\").replace('"', '\\"')
        return [
            "setpriv", "--pdeathsig", "TERM", "erl",
            "-noinput", "+Bi",  # no console, no break handler
            "+fnu",  # file names are UTF-8
            "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none",  # no busy waiting: a demo shares the machine with a truck
            "+sss", str(STACK_KILOWORDS),
            "+Q", "65536",  # connections; the default follows the limit of open files, which containers set to a billion
            "-start_epmd", "false",
            "-mnesia", "dir", f'"{database}"',
            "-s", "ejabberd", "-eval", REGISTER,
        ]  # fmt: skip

    def _environment(self, configuration: Path, registered: Path) -> dict[str, str]:
        resolver = {name: os.environ[name] for name in ("ERL_INETRC",) if name in os.environ}  # other name servers, for federation
        return {
            **resolver,
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._home),
            "LC_ALL": "C.UTF-8",
            "ERL_LIBS": str(self._libraries),
            "ERL_CRASH_DUMP_BYTES": "0",  # a dump would hold keys
            "EJABBERD_CONFIG_PATH": str(configuration),
            "EJABBERD_LOG_PATH": str(self._home / "log" / "ejabberd.log"),
            "CONTRIB_MODULES_PATH": str(self._home / "modules"),
            "CRUISERS_DOMAIN": self._addresses.domain,
            "CRUISERS_SECRETS": str(self._home / "secrets"),
            "CRUISERS_REGISTERED": str(registered),
        }

    def _why(self, console: Path) -> HubError:
        text = console.read_text("utf-8", "replace")
        if "eaddrinuse" in text:
            ports = [self._addresses.c2s_port, self._addresses.http_port, *([self._federation.port] if self._federation else [])]
            taken = next((port for port in ports if f"{{{port}," in text), ports[0])
            return PortTaken(f"port {taken} on {self._addresses.host} is taken by another program")
        return HubError(f"ejabberd did not start: see {console}")


def _descendants(root: int) -> dict[int, str]:
    """All processes below `root` as {pid: start time} (the time tells a reused pid apart)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    found: dict[int, str] = {}
    below = {root}
    while below:
        below = {pid for pid, parent in parents.items() if parent in below and pid not in found}
        found |= {pid: _start_time(pid) for pid in below}
    return found


def _start_time(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else ""


def _stat(pid: int) -> list[str]:
    """Fields 3 and on of /proc/PID/stat (proc(5)); empty when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()
