"""The slow I2C chips' drivers: their own checks and vectors, on CPython and on MicroPython."""

from pathlib import Path

import both_interpreters as both
import pytest

pytestmark = pytest.mark.timeout(60)

SCRIPTS = [Path(__file__).with_name(name) for name in ("slow_buses_on_both.py", "slow_costs_on_both.py", "slow_vectors_on_both.py")]
CHECKS = [pytest.param(script, name, id=name) for script in SCRIPTS for name in both.check_names(script)]


@pytest.mark.parametrize(("script", "name"), CHECKS)
def test_slow_chip_on_cpython(script: Path, name: str) -> None:
    both.run_here(script, name)


@pytest.mark.parametrize(("script", "name"), CHECKS)
def test_slow_chip_on_micropython(script: Path, name: str) -> None:
    both.run_there(script, name)
