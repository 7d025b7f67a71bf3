"""The slow I2C chips' drivers: their own checks and vectors, on CPython and on MicroPython."""

from collections.abc import Callable

import both_interpreters as both


@both.each_check(__file__, "slow_buses_on_both.py", "slow_costs_on_both.py", "slow_vectors_on_both.py")
def test_slow_chip_on_both_interpreters(run: Callable[[], None]) -> None:
    run()
