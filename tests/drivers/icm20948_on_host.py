"""The ICM-20948's driver: every bit of every transaction of its set-up flipped in turn, and numbers that the RP2040 has not."""

from mock_buses import Bus
from mock_icm20948 import FRAME, Icm20948

from drivers import icm20948
from drivers.errors import BusError

SETTLED_MS = 420


class Flipping(Bus):
    """Flips one bit of one transaction: of the register's address, or of the first byte of data."""

    def __init__(self, chip, number, bit):
        super().__init__(chip)
        self.number, self.bit, self.count = number, bit, 0

    def _mask(self, data):
        self.count += 1
        wanted = self.count == self.number
        return 1 << self.bit % 8 if wanted and (self.bit >= 8) == data else 0

    def writeto_mem(self, address, register, buf):
        mask, data = self._mask(False), bytearray(buf)
        self.count -= 1
        data[0] ^= self._mask(True)
        super().writeto_mem(address, register ^ mask, data)

    def readfrom_mem_into(self, address, register, buf):
        mask = self._mask(False)
        self.count -= 1
        flip = self._mask(True)
        super().readfrom_mem_into(address, register ^ mask, buf)
        buf[0] ^= flip


class Chip(Icm20948):
    """Every sample is checked to have been made with the right settings once the driver delivers."""

    def __init__(self):
        super().__init__()
        self.wrong = 0

    def push(self):
        try:
            super().push()
        except AssertionError:  # made with a wrong setting: marked, it must not arrive
            self.wrong += 1
            self.fifo += b"\x7b" * FRAME

    def _transfer(self, bank):
        try:
            super()._transfer(bank)
        except (AssertionError, KeyError):  # to nobody
            self.banks[0][0x17] = 0x50


def outcome(number, bit):
    """Starts until it runs, at most three times; what was delivered."""
    chip = Chip()
    bus = Flipping(chip, number, bit)
    driver = icm20948.ICM20948(bus)
    buf = bytearray(250)
    found = []
    driver.start(0)
    now = resting = 0
    while now < 2 * SETTLED_MS and len(found) < 12:
        now += 10
        bus.advance(now)
        if now < resting:
            continue
        try:
            count = driver.poll(now)
            while count:
                size = driver.read_into(buf)
                if not size:
                    break
                found += [bytes(buf[at : at + FRAME]) for at in range(0, size, FRAME)]
                count -= size // FRAME
        except BusError:  # as firmware/supervisor.py, which waits longer
            resting = now + 50
            driver.start(resting)
    return chip, driver, found, bus.count


def check_no_flipped_bit_of_the_set_up_ends_in_wrong_samples():
    _, _, _, transactions = outcome(0, 0)
    assert 90 < transactions < 200
    for number in range(1, transactions + 1):
        for bit in range(16) if number % 3 == 0 else (number % 16, (number + 5) % 16):
            chip, driver, found, _ = outcome(number, bit)
            rows = [icm20948.split(raw) for raw in found]
            assert driver.configured and len(rows) >= 10, (number, bit)
            for row in rows:
                assert row[2] == 4096 and row[6] == 1335 and row[7:10] == (100, -50, 7), (number, bit, row)
            steps = [after[0] - before[0] for before, after in zip(rows, rows[1:], strict=False)]
            assert all(step == 1 for step in steps) or driver.gap_reason, (number, bit, steps)


class Small(int):
    """An int that must fit into the RP2040's small integers (31 bits): a larger one would be made on its heap."""

    def __new__(cls, value):
        assert -(2**30) <= value < 2**30, value
        return super().__new__(cls, value)


def _small(name):
    plain = getattr(int, name)
    return lambda self, other: Small(plain(self, other))


for _name in (
    "__add__",
    "__radd__",
    "__sub__",
    "__rsub__",
    "__and__",
    "__rand__",
    "__or__",
    "__lshift__",
    "__rshift__",
    "__mul__",
    "__floordiv__",
):
    setattr(Small, _name, _small(_name))


def check_no_number_of_steady_work_exceeds_thirty_one_bits():
    wrap = 1 << 30
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    start = wrap - 1500
    driver.start(Small(start))
    delivered = 0
    for step in range(0, 8000, 10):
        bus.advance(step)
        if step == 2500:
            chip.mag[0x31] = 0  # its set-up while running too
        count = driver.poll(Small((start + step) % wrap))
        while count:
            size = driver.read_into(bytearray(250))
            delivered += size // FRAME
            count -= size // FRAME
    assert delivered > 700 and chip.mag[0x31] == 8 and driver.degraded == 0
