"""The particle sensors' vectors and drivers, on CPython and on MicroPython."""

from pathlib import Path

import both_interpreters as both
import pytest

SCRIPTS = [Path(__file__).with_name(name) for name in ("particle_vectors_on_both.py", "particles_on_both.py", "sps30_i2c_busy_on_both.py")]
CHECKS = [pytest.param(script, name, id=name) for script in SCRIPTS for name in both.check_names(script)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("script", "name"), CHECKS)
def test_particle_sensor_on_cpython(script: Path, name: str) -> None:
    both.run_here(script, name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("script", "name"), CHECKS)
def test_particle_sensor_on_micropython(script: Path, name: str) -> None:
    both.run_there(script, name)
