"""The slow I2C chips: steady work and changes of gain allocate nothing, and read_into sends nothing."""

import checking
from buses_on_both import NVM, Canned
from checking import without_heap
from mock_buses import As7331, Bmp390, Bus, Opt3001, Sht45, Veml7700
from slow_buses_on_both import GOOD, SERIAL, WET, ready_at
from turns import running

from drivers import as7331, bmp390, opt3001, sht45, veml7700


def pairs():
    return (
        (Bmp390(NVM), bmp390.BMP390),
        (Sht45(SERIAL, GOOD), sht45.SHT45),
        (Opt3001(), opt3001.OPT3001),
        (As7331(), as7331.AS7331),
        (Veml7700(), veml7700.VEML7700),
    )


def check_every_poll_and_read_of_a_steady_second_allocates_nothing():
    options = (
        (Bmp390(NVM), lambda bus: bmp390.BMP390(bus, 0x77, True)),
        (Sht45(SERIAL, WET), lambda bus: sht45.SHT45(bus, 0x44, True)),
    )
    for chip, kind in pairs() + options:
        bus = Bus(chip)
        driver = kind(bus)
        before_it_heats = 300_000 if chip.address == 0x44 else 2900
        running(driver, bus, 0, before_it_heats)
        samples = locked(driver, bus, before_it_heats, 120)
        assert samples or chip.pulses == 1  # the last one is heated instead


def check_a_change_of_gain_and_time_allocates_nothing():
    def uv(*words):
        return "words", (0, 1838) + words

    changes = (
        (As7331, as7331.AS7331, uv(100, 200, 50), uv(100, 60_000, 50), 10),  # up to now raised each second; now nearly full
        (As7331, as7331.AS7331, uv(100, 200, 50), ("words", (0x4000, 1838, 0xFFFF, 200, 50)), 10),  # saturated
        (As7331, as7331.AS7331, uv(10_000, 200, 50), uv(100, 200, 50), 10),
        (Veml7700, veml7700.VEML7700, ("counts", 20_000), ("counts", 100), 2),
        (Veml7700, veml7700.VEML7700, ("counts", 100), ("counts", 60_000), 2),
        (Veml7700, veml7700.VEML7700, ("counts", 100), ("counts", 0xFFFF), 2),
    )
    for chip_kind, kind, first, then, place in changes:
        chip = chip_kind()
        setattr(chip, first[0], first[1])
        bus = Bus(chip)
        driver = kind(bus)
        running(driver, bus, 0, 2900)
        setattr(chip, then[0], then[1])
        samples = locked(driver, bus, 2900, 220)
        assert len(samples) >= 2 and len({sample[place:] for sample in samples}) >= 2, (driver.SENSOR, then)


def locked(driver, bus, now, polls):
    """Polls and reads every 10 ms with the heap locked; the samples.

    The mock chips allocate: what they would say is recorded in a dry run on a twin, and answered without a heap."""
    buf = bytearray(64)
    samples = []
    for _ in range(polls):
        bus.advance(now)
        tape = Tape(bus)
        driver._i2c = tape
        before = snapshot(driver)
        count = driver.poll(now)
        restore(driver, before)
        tape.rewind()
        assert without_heap(lambda d=driver, t=now: d.poll(t)) == count
        if count:
            assert without_heap(lambda d=driver: d.read_into(buf, 19)) == driver.RAW_SIZE
            samples.append(bytes(buf[19 : 19 + driver.RAW_SIZE]))
        driver._i2c = bus
        now += 10
    return samples


class Tape:
    """Passes transactions to a bus and records the replies; rewound, it gives them again without allocating."""

    def __init__(self, bus):
        self.bus = bus
        self.replies = []
        self.at = -1

    def rewind(self):
        self.at = 0

    def readfrom_mem_into(self, address, register, buf):
        if self.at < 0:
            self.bus.readfrom_mem_into(address, register, buf)
            self.replies.append(bytes(buf))
        else:
            reply = self.replies[self.at]
            self.at += 1
            for index in range(len(buf)):
                buf[index] = reply[index]

    def readfrom_into(self, address, buf):
        if self.at < 0:
            self.bus.readfrom_into(address, buf)
            self.replies.append(bytes(buf))
        else:
            self.readfrom_mem_into(address, 0, buf)

    def writeto_mem(self, address, register, buf):
        if self.at < 0:
            self.bus.writeto_mem(address, register, buf)

    def writeto(self, address, buf):
        if self.at < 0:
            self.bus.writeto(address, buf)


def snapshot(driver):
    """The integers of a driver's state, and copies of its buffers."""
    return {name: bytes(value) if isinstance(value, bytearray) else value for name, value in driver.__dict__.items() if name != "_i2c"}


def restore(driver, before):
    for name, value in before.items():
        now = getattr(driver, name)
        if isinstance(now, bytearray):
            now[:] = value
        else:
            setattr(driver, name, value)


def check_read_into_of_every_slow_chip_sends_nothing():
    for chip, kind in pairs():
        bus = Bus(chip)
        driver = kind(bus)
        running(driver, bus, 0, 2900)
        ready_at(driver, bus, 2900)
        sent = bus.transactions
        driver._i2c = Canned()
        buf = bytearray(64)
        assert driver.read_into(buf, 5) == driver.RAW_SIZE and bytes(buf[:5]) == bytes(5)
        assert bytes(buf[5 + driver.RAW_SIZE :]) == bytes(59 - driver.RAW_SIZE) and bus.transactions == sent


if __name__ == "__main__":
    checking.run({name: value for name, value in globals().items() if name.startswith("check_")})
