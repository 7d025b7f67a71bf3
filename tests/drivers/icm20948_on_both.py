"""The ICM-20948's driver against its registers: frames, gaps, restarts, flipped bits, the magnetometer. On both interpreters."""

import checking
from checking import near, raises
from mock_buses import Bus
from mock_icm20948 import FRAME, Icm20948, made, numbers
from turns import WRAP, failing, running, turn

from drivers import icm20948
from drivers.errors import FIFO_BROKEN, FIFO_ODD, FIFO_OVERFLOW, OTHER, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError


def check_delivers_every_sample_in_order():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    samples = running(driver, bus, WRAP - 2000, 5000)
    assert driver.trim() == b"\x1d\x1b\x00\x0a\x0a" and driver.degraded == 0 and driver.gap_reason == 0
    assert len(samples) + len(chip.fifo) // FRAME == chip.samples > 460
    assert numbers(samples) == list(range(1, len(samples) + 1))
    assert icm20948.split(samples[0])[6:] == (1335, 100, -50, 7, 0x1001)
    assert chip.mag[0x32] == 1 and chip.mag[0x31] == 8 and chip.banks[0][0x05] == 0 and chip.banks[0][0x69] == 0


def check_reads_at_most_ten_frames_and_never_more_than_fit():
    chip, bus, driver = made()
    for _ in range(14):
        chip.push()
    expected = len(chip.fifo) // FRAME
    assert driver.poll(500) == expected > 13
    buf = bytearray(250)
    assert driver.read_into(buf, 19) == 10 * FRAME
    assert driver.poll(501) == expected - 10  # what was counted is delivered before it is counted anew
    assert driver.read_into(bytearray(50), 3) == 2 * FRAME
    assert driver.read_into(bytearray(FRAME - 1)) == 0
    assert driver.read_into(memoryview(buf), 19) == (expected - 12) * FRAME
    assert driver.poll(502) == 0 and not chip.fifo


def check_every_range_can_be_chosen_and_the_trim_tells_it():
    for acceleration, accel_code in ((2, 0x19), (4, 0x1B), (8, 0x1D), (16, 0x1F)):
        for rate, gyro_code in ((250, 0x19), (500, 0x1B), (1000, 0x1D), (2000, 0x1F)):
            bus = Bus(Icm20948(ranges=(accel_code, gyro_code)))
            driver = icm20948.ICM20948(bus, 0x68, acceleration_g=acceleration, rate_dps=rate)
            assert running(driver, bus)
            assert driver.trim() == bytes((accel_code, gyro_code, 0, 10, 10))
    for wrong in ({"acceleration_g": 3}, {"rate_dps": 125}, {"acceleration_g": "8"}, {"rate_dps": 0}):
        error = raises(ValueError, lambda options=wrong: icm20948.ICM20948(None, **options))
        assert "must be" in str(error) and "\n" not in str(error)


# --- frames lost: always a gap


def check_overflow_and_odd_count_empty_the_fifo_and_are_counted_as_a_gap():
    chip, bus, driver = made()
    for _ in range(40):
        chip.push()
    assert len(chip.fifo) == 512
    assert driver.poll(600) == 0 and driver.gap_reason == FIFO_OVERFLOW and not chip.fifo
    driver.gap_reason = 0
    chip.overflowed = True  # overflowed, but the count looks whole
    chip.fifo = bytearray(22 * FRAME)
    assert driver.poll(700) == 0 and driver.gap_reason == FIFO_OVERFLOW and not chip.fifo
    driver.gap_reason = 0
    chip.push()
    chip.fifo += b"\x00"
    assert driver.poll(800) == 0 and driver.gap_reason == FIFO_ODD and not chip.fifo
    chip.push()
    assert driver.poll(900) == 1
    assert driver.read_into(bytearray(FRAME)) == FRAME


def check_an_overflow_between_the_count_and_the_read_delivers_nothing():
    for whole in (False, True):
        chip, bus, driver = made()
        for _ in range(5):
            chip.push()
        driver.poll(500)

        def overflow(chip=chip, whole=whole):
            for _ in range(30):
                chip.push()
            if whole:  # a chip that drops whole frames
                chip.fifo = chip.fifo[6:]

        bus.before_fifo = overflow
        assert driver.read_into(bytearray(250)) == 0 and driver.poll(510) == 0
        assert driver.gap_reason == FIFO_OVERFLOW and not chip.fifo
        chip.push()
        assert driver.poll(570) == 1


def check_gives_up_after_more_than_ten_fifo_failures_and_then_resets_the_chip():
    chip, bus, driver = made()
    for attempt in range(10):
        chip.fifo = bytearray(5)
        assert driver.poll(500 + 60 * attempt) == 0
    chip.fifo = bytearray(5)
    assert raises(BusError, driver.poll, 1500).code == FIFO_ODD
    running(driver, bus)
    assert chip.resets == 2


def check_a_read_that_breaks_off_anywhere_is_a_gap_and_never_a_silent_loss():
    for after in (0, 1, FRAME - 1, FRAME, 2 * FRAME, 40, 5 * FRAME):
        chip, bus, driver = made()
        for _ in range(5):
            chip.push()
        assert driver.poll(500) >= 5
        bus.break_after = after
        raises(OSError, driver.read_into, bytearray(250))
        assert driver.poll(510) == 0 and driver.gap_reason == FIFO_BROKEN and not chip.fifo
        driver.gap_reason = 0
        chip.push()
        chip.push()
        assert driver.poll(570) == 2
        buf = bytearray(2 * FRAME)
        assert driver.read_into(buf) == 2 * FRAME and numbers([buf[:FRAME], buf[FRAME:]]) == [chip.samples - 1, chip.samples]
        assert driver.gap_reason == 0


def check_a_broken_read_is_told_also_if_emptying_the_fifo_fails_at_first():
    chip, bus, driver = made()
    chip.push()
    driver.poll(500)
    bus.break_after = FRAME
    raises(OSError, driver.read_into, bytearray(250))
    for errors in ([5], [0, 5], [0, 0, 5]):
        bus.errors = errors
        raises(OSError, driver.poll, 510)
        assert driver.gap_reason == 0
    assert driver.poll(520) == 0 and driver.gap_reason == FIFO_BROKEN and chip.banks[0][0x68] == 0


def check_bytes_that_are_not_of_the_fifo_are_never_frames():
    for register in (0x71, 0x72, 0x74, 0x78, 0x60, 0x50, 0x30):  # one bit of the register's address is flipped
        chip, bus, driver = made()
        for _ in range(4):
            chip.push()
        assert driver.poll(500) >= 4
        bus.elsewhere = register
        assert driver.read_into(bytearray(250)) == 0
        assert driver.poll(510) == 0 and driver.gap_reason in (FIFO_BROKEN, FIFO_OVERFLOW)


def check_more_counted_than_there_is_delivers_nothing():
    chip, bus, driver = made()
    chip.push()
    chip.misread = lambda bank, register, value: value + FRAME if register == 0x71 else value
    assert driver.poll(500) >= 2
    chip.misread = None
    assert driver.read_into(bytearray(250)) == 0
    assert driver.poll(510) == 0 and driver.gap_reason == FIFO_BROKEN


def check_a_brown_out_between_the_count_and_the_read_delivers_nothing():
    chip, bus, driver = made()
    for _ in range(4):
        chip.push()
    driver.poll(500)
    bus.before_fifo = chip.reset
    assert driver.read_into(bytearray(250)) == 0 and driver.poll(510) == 0
    code, waited = failing(driver, bus, 520, 500)
    assert code == POWER_ON_VALUES and waited <= 120


def check_one_flipped_bit_in_the_count_loses_nothing():
    chip, bus, driver = made()
    now = 400
    chip.samples = 0
    bus.advance(now)
    turn(driver, bus, now, 100)
    first = chip.samples - len(chip.fifo) // FRAME
    found = []
    for register in (0x70, 0x71):
        for bit in range(8):
            now += 100
            left = [1]

            def flip(bank, at, value, register=register, bit=bit, left=left):
                if at == register and left[0]:
                    left[0] -= 1
                    return value ^ 1 << bit
                return value

            chip.misread = flip
            found += turn(driver, bus, now, 100)
            assert driver.gap_reason == 0 and left == [0]
    assert numbers(found) == list(range(first + 1, first + len(found) + 1)) and len(found) > 150


# --- restarts


def check_a_restart_of_a_chip_that_runs_as_set_only_empties_its_fifo():
    chip, bus, driver = made()
    before, next_at = chip.samples, chip.next_at
    bus.advance(460)
    driver.start(460)
    assert not driver.configured and driver.trim() == b""
    transactions = bus.transactions
    assert driver.poll(460) == 0 and driver.configured and driver.trim() == b"\x1d\x1b\x00\x0a\x0a"
    assert bus.transactions - transactions < 30
    samples = turn(driver, bus, 470, 1000)
    assert chip.resets == 1 and chip.master_resets == 0 and driver.degraded == 0
    missing = numbers(samples)[0] - 1 - before
    assert 0 < missing < 10  # those that waited; the count goes on where it was
    near((chip.next_at - next_at) / 9.778, round((chip.next_at - next_at) / 9.778), 1e-6)  # in the same phase
    assert numbers(samples) == list(range(numbers(samples)[0], numbers(samples)[0] + len(samples)))


def check_a_restart_after_a_while_without_the_chip_resumes_too():
    chip, bus, driver = made()
    away = bus.chips.pop(0x68)
    for now in range(500, 2000, 300):
        driver.start(now)
        raises(OSError, driver.poll, now)
    bus.chips[0x68] = away
    driver.start(2000)
    bus.advance(2000)
    assert turn(driver, bus, 2000, 200) and chip.resets == 1


def check_trouble_right_behind_a_restart_does_not_cost_the_phase():
    """But a chip that never gives a sample again is reset at last, whatever its registers say."""
    chip, bus, driver = made()
    for restart in range(2):
        driver.start(400 + 100 * restart)
        assert driver.poll(400 + 100 * restart) == 0 and driver.configured
        bus.errors = [5]
        raises(OSError, driver.poll, 460 + 100 * restart)
    driver.start(700)
    bus.advance(700)
    assert turn(driver, bus, 700, 200) and chip.resets == 1
    for restart in range(5):
        driver.start(1000 + 100 * restart)
        driver.poll(1000 + 100 * restart)
    assert chip.resets == 2


def check_a_restart_finds_any_setting_that_changed_and_resets():
    for bank, register in ((0, 0x03), (0, 0x06), (0, 0x07), (0, 0x66), (0, 0x67), (0, 0x69), (2, 0x00), (2, 0x01), (2, 0x05), (2, 0x11),
                           (2, 0x14), (3, 0x01), (3, 0x03), (3, 0x05)):  # fmt: skip
        chip, bus, driver = made()
        chip.banks[bank][register] ^= 0x04
        driver.start(400)
        assert raises(BusError, driver.poll, 400).code == POWER_ON_VALUES, (bank, register)  # its phase is a new one: said
        assert not driver.configured, (bank, register)
        driver.poll(410)
        assert chip.resets == 2
        assert turn(driver, bus, 420, 600)
    chip, bus, driver = made()
    chip.banks[0][0] = 0x12
    driver.start(400)
    driver.poll(400)
    assert raises(BusError, driver.poll, 410).code == WRONG_IDENTITY


def check_a_resumed_chip_that_gives_no_sample_is_reset():
    chip, bus, driver = made()
    chip.frozen = True
    driver.start(400)
    code, waited = failing(driver, bus, 400, 2000)
    assert code == TIME_OUT and 400 < waited < 700
    chip.frozen = False
    driver.start(1100)
    assert turn(driver, bus, 1100, 600) and chip.resets == 2
    chip.frozen = True  # and one that falls silent while running is not resumed at all
    failing(driver, bus, 1700, 2000)
    chip.frozen = False
    driver.start(3000)
    assert turn(driver, bus, 3000, 600) and chip.resets == 3


def check_notices_brown_out_silence_and_another_chip():
    chip, bus, driver = made()
    chip.reset()
    code, waited = failing(driver, bus, 400, 500)
    assert code == POWER_ON_VALUES and waited <= 120
    running(driver, bus)
    chip.frozen = True
    code, waited = failing(driver, bus, 400, 2000)
    assert code == TIME_OUT and 400 < waited < 700
    chip.banks[0][0] = 0x12
    driver.start(0)
    assert raises(BusError, driver.poll, 0).code == WRONG_IDENTITY


# --- flipped bits in registers


def check_every_setting_that_changes_while_running_is_seen_and_put_right():
    for bank, register in ((0, 0x05), (0, 0x07), (0, 0x66), (0, 0x69), (2, 0x00), (2, 0x01), (2, 0x02), (2, 0x04), (2, 0x10), (2, 0x14),
                           (2, 0x15), (3, 0x00), (3, 0x01), (3, 0x04), (3, 0x05)):  # fmt: skip
        chip, bus, driver = made()
        chip.banks[bank][register] ^= 0x02
        chip.frozen = True  # the mock refuses to make wrong samples
        code, waited = failing(driver, bus, 400, 450)
        assert code == POWER_ON_VALUES and waited <= 400, (bank, register, code)
        driver.start(900)
        turn(driver, bus, 900, 50)
        chip.frozen = False
        assert turn(driver, bus, 950, 700) and chip.resets == 2


def check_a_bit_flipped_on_the_wire_in_a_check_disturbs_nothing():
    chip, bus, driver = made()
    for bank, register in ((0, 0x03), (0, 0x06), (0, 0x67), (2, 0x01), (2, 0x14), (3, 0x05), (2, 0x7F), (0, 0x7F)):
        left = [1]

        def flip(at_bank, at, value, bank=bank, register=register, left=left):
            if (at_bank, at) == (bank, register) and left[0]:
                left[0] -= 1
                return value ^ 0x10
            return value

        chip.misread = flip
        start = bus.now
        assert len(turn(driver, bus, start, 600)) >= 55 and left == [0], (bank, register)
    assert chip.resets == 1 and driver.gap_reason == 0


def check_a_bank_select_that_flips_never_lets_other_registers_be_taken():
    chip, bus, driver = made()
    left = [0, 1]

    def flip(bank, register, value):
        if register == 0x7F:
            left[0] += 1
            if left[0] == left[1]:
                return value ^ 0x10
        return value

    chip.spoil = flip
    for number in range(1, 13):
        left[0], left[1] = 0, number
        assert len(turn(driver, bus, bus.now, 600)) >= 50
    assert chip.resets == 1 and driver.gap_reason == 0
    before = [bytes(bank) for bank in chip.banks]
    chip.spoil = lambda bank, register, value: None if register == 0x7F else value  # the selector is stuck
    code, waited = failing(driver, bus, bus.now, 1000)
    assert code == OTHER and chip.bank == 0
    assert [bytes(bank) for bank in chip.banks][1:] == before[1:]


def check_trouble_while_another_bank_is_selected_leaves_no_trace():
    for error_at in range(1, 60):
        chip, bus, driver = made()
        chip.push()
        bus.errors = [0] * error_at + [5]
        lost = 0
        found = []
        for now in range(400, 1100, 10):
            bus.advance(now)
            try:
                count = driver.poll(now)
                if count:
                    buf = bytearray(250)
                    size = driver.read_into(buf)
                    found += [bytes(buf[at : at + FRAME]) for at in range(0, size, FRAME)]
            except OSError:
                lost += 1
        assert lost == 1 and len(found) > 50 and driver.configured
        rows = numbers(found)
        holes = [index for index in range(1, len(rows)) if rows[index] != rows[index - 1] + 1]
        assert len(holes) <= (1 if driver.gap_reason else 0), (error_at, rows)


if __name__ == "__main__":
    checking.run(globals())
