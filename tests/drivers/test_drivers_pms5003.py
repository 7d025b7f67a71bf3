"""The driver of the PMS5003, on CPython and on MicroPython."""

from pathlib import Path

import both_interpreters as both
import pytest

SCRIPT = Path(__file__).with_name("pms_on_both.py")

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("name", both.check_names(SCRIPT))
def test_pms5003_on_cpython(name: str) -> None:
    both.run_here(SCRIPT, name)


@pytest.mark.parametrize("name", both.check_names(SCRIPT))
def test_pms5003_on_micropython(name: str) -> None:
    both.run_there(SCRIPT, name)
