"""The driver of the PMS5003, on CPython and on MicroPython."""

from collections.abc import Callable

import both_interpreters as both


@both.each_check(__file__, "pms_on_both.py")
def test_pms5003_on_both_interpreters(run: Callable[[], None]) -> None:
    run()
