"""Start the hub detached from the terminal, stop it, and say how it is: what `cruisers hub` does beside changing accounts."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from hub import accounts, rights, running
from hub.ejabberd import START_SECONDS, STOP_SECONDS, find_libraries
from hub.errors import HubError
from hub.local import LocalCommands
from hub.serve import Settings, check

ROOT = Path(__file__).resolve().parent.parent  # the rooms are top-level packages: `python -m hub` finds them from here
OUTPUT = "serve.log"  # what the detached process says, which is nothing while all is well
READY_SECONDS = START_SECONDS + 60.0  # and the nodes of a hundred trucks
END_SECONDS = STOP_SECONDS + 10.0


def default_home() -> Path:
    """Where the hub of this user lives (XDG Base Directory Specification: state)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "cruisers" / "hub"


def ready_file(home: Path) -> Path:
    """The ready file of a hub that was started here."""
    return home / "hub.json"


def start(settings: Settings) -> tuple[dict[str, Any], bool]:
    """What the hub in `settings.home` says of itself, and whether it ran already; returns when it is ready. Raises HubError.

    It goes on when the terminal and this process end.
    """
    home = settings.home
    info = running.look(home)
    if info is not None:
        return info, True
    find_libraries()
    check(settings._replace(ready=home.parent if home.parent.is_dir() else Path("/")))  # its own folder is still to be made
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(home / OUTPUT, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "hub", "serve", *_arguments(settings)],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        raise HubError(f"{error.filename}: {error.strerror}") from error
    try:
        return _wait(process, home), False
    except BaseException:
        process.terminate()
        process.wait(END_SECONDS)
        raise


def stop(home: Path) -> bool:
    """End the hub in `home` and wait for it; False: none ran. Raises HubError."""
    return running.end(home, END_SECONDS)


def status(home: Path) -> dict[str, Any]:
    """All that is known of the hub in `home`, for people and machines; raises HubError. `connected` is None when it does not run."""
    info = running.look(home) or {}
    secrets = home / "secrets"
    given = rights.read(home)
    objects, taken = _uploads(home / "upload")
    connected = None
    if "c2s_port" in info:  # the admin is the hub itself: its reaper
        connected = [name for name in LocalCommands(home, info["domain"]).connected() if name != accounts.ADMIN]
    return {
        "running": bool(info),
        "ready": "c2s_port" in info,
        "home": str(home),
        **{key: info.get(key) for key in ("pid", "ejabberd_pid", "domain", "host", "c2s_port", "http_port", "ca_file")},
        "secrets": str(secrets),
        "trucks": accounts.truck_accounts(secrets),
        "readers": given.readers,
        "open_data": given.open_data,
        "devices": given.devices,
        "revoked": given.revoked,
        "connected": connected,
        "upload_objects": objects,
        "upload_bytes": taken,
        "disk_free_bytes": shutil.disk_usage(home).free if home.is_dir() else None,
    }


def _arguments(settings: Settings) -> list[str]:
    pairs = {
        "--home": settings.home, "--ready": settings.ready, "--domain": settings.domain, "--host": settings.host,
        "--trucks": ",".join(settings.trucks), "--open-data": ",".join(settings.open_data),
        "--federation": ",".join(settings.federation), "--federation-ca": settings.federation_ca,
        "--c2s-port": settings.c2s_port, "--http-port": settings.http_port, "--s2s-port": settings.s2s_port,
    }  # fmt: skip
    return [text for key, setting in pairs.items() if setting for text in (key, str(setting))]


def _wait(process: subprocess.Popen, home: Path) -> dict[str, Any]:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        info = running.look(home)
        if info is not None and info["pid"] == process.pid and "c2s_port" in info:
            return info
        if process.poll() is not None:
            said = (home / OUTPUT).read_text("utf-8", "replace").strip().splitlines()
            raise HubError(said[-1].removeprefix("hub: ") if said else f"it ended with {process.returncode}: see {home / 'log'}")
        time.sleep(0.05)
    raise HubError(f"not ready within {READY_SECONDS:g} s: see {home / 'log'}")


def _uploads(folder: Path) -> tuple[int, int]:
    """Objects in `folder` and their bytes; what goes away meanwhile is not counted."""
    objects = taken = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                taken += os.stat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                continue
            objects += 1
    return objects, taken


def to_json(status: dict[str, Any]) -> str:
    """`status` as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(status)).decode()
