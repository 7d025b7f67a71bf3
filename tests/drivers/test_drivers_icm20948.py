"""The ICM-20948's driver on CPython and on MicroPython; icm20948_on_host.py takes too long there, or asks what only CPython can say."""

from pathlib import Path

import both_interpreters as both
import pytest

SCRIPT = Path(__file__).with_name("icm20948_on_both.py")
HOST_ONLY = Path(__file__).with_name("icm20948_on_host.py")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", both.check_names(SCRIPT))
def test_driver_on_cpython(name: str) -> None:
    both.run_here(SCRIPT, name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", both.check_names(SCRIPT))
def test_driver_on_micropython(name: str) -> None:
    both.run_there(SCRIPT, name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", both.check_names(HOST_ONLY))
def test_driver_on_the_host_alone(name: str) -> None:
    both.run_here(HOST_ONLY, name)
