"""start, poll and read_into of each driver, on CPython and on MicroPython."""

from pathlib import Path

import both_interpreters as both
import pytest

SCRIPT = Path(__file__).with_name("buses_on_both.py")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", both.check_names(SCRIPT))
def test_driver_on_cpython(name: str) -> None:
    both.run_here(SCRIPT, name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", both.check_names(SCRIPT))
def test_driver_on_micropython(name: str) -> None:
    both.run_there(SCRIPT, name)
