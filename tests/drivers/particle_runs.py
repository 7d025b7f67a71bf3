"""Runs of the particle sensors' drivers against the wires of mock_particles.py, for checks on both interpreters."""

from drivers.errors import POWER_ON_VALUES, BusError, from_oserror

WRAP = 1 << 30


class Run:
    """A driver and its wire in their own time: `now` ms since the start, which is at tick `epoch`. Every sample is kept in `samples`."""

    def __init__(self, driver, wire, epoch=0):
        self.driver = driver
        self.wire = wire
        self.epoch = epoch
        self.now = 0
        self.samples = []
        self.codes = []
        self._buf = bytearray(64)
        wire.advance(0)
        driver.start(epoch)
        assert driver.trim() == b""

    def turn(self, milliseconds, pace=10):
        """Poll on; the samples of this time. Trouble goes into `codes`, and a driver that lost its sensor is started again."""
        before = len(self.samples)
        end = self.now + milliseconds
        while self.now < end:
            self.now += pace
            self.wire.advance(self.now)
            tick = (self.epoch + self.now) % WRAP
            try:
                if self.driver.poll(tick):
                    assert self.driver.read_into(self._buf, 3) == self.driver.RAW_SIZE
                    self.samples.append(bytes(self._buf[3 : 3 + self.driver.RAW_SIZE]))
            except BusError as error:
                self.codes.append(error.code)
                if error.code == POWER_ON_VALUES:
                    self.driver.start(tick)
            except OSError as error:
                self.codes.append(from_oserror(error).code)
        return self.samples[before:]


class Quiet:
    """A UART that hands out prepared bytes, and takes all, without allocating."""

    def __init__(self, reply):
        self.reply = reply
        self.left = 0

    def any(self):
        return self.left

    def readinto(self, buf):
        count = min(self.left, len(buf))
        start = len(self.reply) - self.left
        for index in range(count):
            buf[index] = self.reply[start + index]
        self.left -= count
        return count

    def write(self, data):
        self.left = len(self.reply)


def one(driver, now, buf, milliseconds):
    """Poll until a sample was read."""
    for _ in range(milliseconds // 10):
        now += 10
        if driver.poll(now):
            return driver.read_into(buf, 19)
    return 0
