"""A driver on a bus of mock chips is polled, on both interpreters."""

from drivers.errors import BusError, from_oserror

WRAP = 1 << 30


def turn(driver, bus, start, milliseconds, pace=10):
    """Poll every `pace` ms from tick `start` on and read what is ready; the list of raw samples. Chip time is the tick less bus.epoch."""
    samples = []
    buf = bytearray(256)
    for now in range(0, milliseconds, pace):
        bus.advance((start + now - bus.epoch) % WRAP)
        count = driver.poll((start + now) % WRAP)
        while count:
            size = driver.read_into(buf, 3)
            if size == 0:  # what was there cannot be trusted
                break
            for begin in range(3, 3 + size, driver.RAW_SIZE):
                samples.append(bytes(buf[begin : begin + driver.RAW_SIZE]))
            count -= size // driver.RAW_SIZE
    return samples


def running(driver, bus, start=0, milliseconds=400):
    bus.epoch = start
    driver.start(start)
    assert driver.trim() == b""
    samples = turn(driver, bus, start, milliseconds)
    assert driver.configured
    return samples


def failing(driver, bus, now, milliseconds, pace=10):
    """Poll until it raises; (code, ms until then)."""
    for wait in range(0, milliseconds, pace):
        bus.advance((now + wait - bus.epoch) % WRAP)
        try:
            if driver.poll((now + wait) % WRAP):
                driver.read_into(bytearray(256))
        except BusError as error:
            return error.code, wait
        except OSError as error:
            return from_oserror(error).code, wait
    raise AssertionError("it did not fail")
