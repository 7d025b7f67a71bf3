"""How the contract sweep reads one value: the same lines on CPython and MicroPython."""

STEP_MS = {"i2c": 5, "uart": 20}  # a line holds what comes meanwhile: a poll of it every 5 ms finds nothing three times of four
PATIENCE_MS = 60_000  # virtual: configuration, warm-up and conversion of the slowest part
SETTLED = 4  # samples: by then ranges have been found, and the magnetometer has come


def reading(driver, decode, wait_ms, wire):
    """What `decode` makes of a settled sample of `driver`, started at tick 0; `wait_ms(n)` lets time pass. None if none comes.

    A sample without a new one of the magnetometer, and one that only says that a range must be found, is not settled."""
    step_ms = STEP_MS[wire]
    raw = bytearray(12 * driver.RAW_SIZE)
    samples = 0
    now = 0
    driver.start(now)
    best = None
    while now < PATIENCE_MS:
        if driver.poll(now):
            length = driver.read_into(raw)
            samples += length // driver.RAW_SIZE
            if samples >= SETTLED and length:
                best = decode(driver.trim(), bytes(raw[length - driver.RAW_SIZE : length]))
                if "no new sample" not in best.values() and (samples >= 3 * SETTLED or "saturated" not in best.values()):
                    return best
        now += step_ms
        wait_ms(step_ms)
    return best
