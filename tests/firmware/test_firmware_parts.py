"""Frames, ring, outbox, link, supervisor and the list of parts, on CPython and on MicroPython."""

from pathlib import Path

import both_interpreters as both
import pytest

SCRIPTS = [Path(__file__).with_name(f"{name}_on_both.py") for name in ("frames", "supervisor", "head_parts", "parts")]
CHECKS = [pytest.param(script, name, id=name) for script in SCRIPTS for name in both.check_names(script)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("script", "name"), CHECKS)
def test_part_on_cpython(script: Path, name: str) -> None:
    both.run_here(script, name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("script", "name"), CHECKS)
def test_part_on_micropython(script: Path, name: str) -> None:
    both.run_there(script, name)
