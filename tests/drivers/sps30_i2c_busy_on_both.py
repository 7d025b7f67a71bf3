"""SPS30 on I2C: a reply that is asked for too early is waited for, on both interpreters. On Linux a command may go out some ms after the
driver was told the time."""

import errno

import checking
from mock_particles import Sps30Words
from particles_on_both import Run

from drivers.errors import NO_ACKNOWLEDGE
from drivers.sps30_i2c import SPS30I2C


class Late(Sps30Words):
    """Its replies are there so many ms later than the data sheet says."""

    def __init__(self, milliseconds):
        super().__init__()
        self.milliseconds = milliseconds

    def writeto(self, address, buf):
        super().writeto(address, buf)
        self._ready_at += self.milliseconds

    def readfrom_into(self, address, buf):
        if self.sensor.now < self._ready_at:
            raise OSError(errno.EIO)
        super().readfrom_into(address, buf)


def check_reply_that_comes_late_costs_nothing_but_the_wait():
    for milliseconds in (1, 4, 20):
        words = Late(milliseconds)
        run = Run(SPS30I2C(words), words)
        assert len(run.turn(10_000, 1)) in (8, 9) and run.codes == []


def check_reply_that_never_comes_is_no_acknowledge():
    words = Late(0)
    run = Run(SPS30I2C(words), words)
    run.turn(3000, 1)
    words.milliseconds = 10_000
    run.turn(400, 1)
    assert NO_ACKNOWLEDGE in run.codes


if __name__ == "__main__":
    checking.run(globals())
