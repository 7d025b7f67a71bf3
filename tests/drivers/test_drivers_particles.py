"""The particle sensors' vectors and drivers, on CPython and on MicroPython."""

from pathlib import Path

import both_interpreters as both
import pytest

NAMES = ("particle_vectors", "particles", "pms", "sps30_i2c_busy")
SCRIPTS = [Path(__file__).with_name(f"{name}_on_both.py") for name in NAMES if Path(__file__).with_name(f"{name}_on_both.py").exists()]
CHECKS = [pytest.param(script, name, id=name) for script in SCRIPTS for name in both.check_names(script)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("script", "name"), CHECKS)
def test_particle_sensor_on_cpython(script: Path, name: str) -> None:
    both.run_here(script, name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("script", "name"), CHECKS)
def test_particle_sensor_on_micropython(script: Path, name: str) -> None:
    both.run_there(script, name)
