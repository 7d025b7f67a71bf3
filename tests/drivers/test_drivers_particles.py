"""The particle sensors' vectors and drivers, on CPython and on MicroPython."""

from collections.abc import Callable

import both_interpreters as both


@both.each_check(__file__, "particle_vectors_on_both.py", "particles_on_both.py", "sps30_i2c_busy_on_both.py")
def test_particle_sensor_on_both_interpreters(run: Callable[[], None]) -> None:
    run()
