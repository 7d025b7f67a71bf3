"""start, poll, read_into and the technician's commands of the SPS30 on either wire against its bytes, on both interpreters."""

import math

import checking
from checking import without_heap
from mock_particles import Sps30Line, Sps30Words, encode_reply
from particle_runs import WRAP, Quiet, Run, one

from drivers import sps30, sps30_i2c
from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, FAN_CLEANING, NO_ACKNOWLEDGE, OTHER, POWER_ON_VALUES, TIME_OUT

BUFFER = bytearray(64)


def numbers(samples):
    """The number of each sample of the mock SPS30."""
    return [round(sps30.decode(b"", raw)["pm2_5"] * 1e9) for raw in samples]


def on_both_wires():
    """(driver, wire) of the SPS30, twice."""
    line, words = Sps30Line(), Sps30Words()
    return ((sps30.SPS30(line), line), (sps30_i2c.SPS30I2C(words), words))


# --- SPS30 on either wire


def check_sps30_delivers_every_sample_once_over_the_wrap_of_the_ticks():
    for driver, wire in on_both_wires():
        run = Run(driver, wire, WRAP - 2000)
        run.turn(10_000)
        assert driver.configured and driver.trim() == b"\x02\x03ABC123" and run.codes == []
        assert numbers(run.samples) == list(range(1, wire.sensor.samples + 1)) and len(run.samples) >= 9
        checking.near(sps30.decode(driver.trim(), run.samples[6])["pm2_5"], 7e-9, 1e-16)
        ready = 0x03 if driver.__class__ is sps30.SPS30 else 0x0202
        assert wire.commands.count(ready) < 40  # what is not there is asked for again after 100 ms, not at once


def check_sps30_configures_in_order():
    line, words = on_both_wires()
    Run(line[0], line[1]).turn(500)
    assert line[1].commands[:5] == [0x11, 0x01, 0xD1, 0xD0, 0x00]
    Run(words[0], words[1]).turn(500)
    assert words[1].commands[:6] == [0x1103, 0x1103, 0x0104, 0xD100, 0xD033, 0x0010]


def check_sps30_failure_in_the_status_register_stops_delivery_until_it_has_stayed_away():
    for driver, wire in on_both_wires():
        for failure in (1 << 4, 1 << 5):
            run = Run(driver, wire)
            run.turn(3500)
            wire.sensor.failing = failure
            assert run.turn(5000) == [] and set(run.codes) == {DEVICE_FAULT} and len(run.codes) >= 4
            wire.sensor.failing = 0
            run.turn(1200)  # the last failure may be seen once more
            told = len(run.codes)
            assert len(run.turn(5000)) >= 2 and len(run.codes) == told and driver.degraded == 0


def check_sps30_failure_that_comes_back_before_it_is_believed_gone_delivers_nothing():
    for driver, wire in on_both_wires():
        run = Run(driver, wire)
        run.turn(2500)
        for _ in range(4):  # the register is cleared, and set again two checks later
            wire.sensor.status = 1 << 4
            assert run.turn(2500) == []
        assert set(run.codes) == {DEVICE_FAULT}


def check_sps30_failure_of_a_sensor_that_makes_no_samples_is_seen():
    for driver, wire in on_both_wires():
        run = Run(driver, wire)
        run.turn(2500)
        wire.sensor.next_at = None
        wire.sensor.begin = lambda: None
        wire.sensor.status = 1 << 5
        run.turn(3500)
        assert DEVICE_FAULT in run.codes


def check_sps30_fan_speed_out_of_range_is_degraded_and_delivers():
    for driver, wire in on_both_wires():
        run = Run(driver, wire)
        run.turn(1500)
        wire.sensor.status = 1 << 21
        assert len(run.turn(3000)) == 3 and driver.degraded == DEVICE_FAULT and run.codes == []
        wire.sensor.status = 0
        run.turn(2000)
        assert driver.degraded == 0


def check_sps30_before_firmware_2_2_is_never_asked_for_its_status():
    for driver, wire in on_both_wires():
        wire.sensor.version = (2, 1)
        run = Run(driver, wire)  # the mock refuses the command
        assert len(run.turn(5000)) >= 4 and run.codes == []
        driver.set_auto_clean(1000)
        run.turn(500)
        assert wire.sensor.interval == driver.auto_clean == 1000


def check_sps30_fan_cleaning_delivers_nothing_and_is_a_gap():
    for old in (False, True):
        for driver, wire in on_both_wires():
            if old:
                wire.sensor.version = (2, 1)
            run = Run(driver, wire)
            run.turn(2500)
            driver.start_cleaning()
            assert run.turn(10_900) == [] and wire.sensor.cleanings == 1
            assert driver.gap_reason == driver.degraded == FAN_CLEANING
            driver.gap_reason = 0
            assert len(run.turn(3000)) >= 2 and run.codes == [] and driver.gap_reason == driver.degraded == 0


def check_sps30_silence_while_it_cleans_is_no_failure_and_a_lost_answer_is_asked_again():
    for driver, wire in on_both_wires():
        run = Run(driver, wire)
        run.turn(2500)
        driver.start_cleaning()
        if isinstance(wire, Sps30Line):
            wire.answers = [None, b""] if driver._asked else [b""]
        else:
            wire.errors = [0, 5] if driver._asked else [5]
        run.turn(300)
        assert len(run.codes) == 1
        wire.sensor.next_at = wire.sensor.now + 9000
        assert run.turn(10_000) == [] and len(run.codes) == 1 and wire.sensor.cleanings >= 1
        assert len(run.turn(3000)) >= 2


def check_sps30_sleeps_and_wakes():
    for driver, wire in on_both_wires():
        run = Run(driver, wire)
        run.turn(2500)
        driver.sleep()
        run.turn(500)
        assert wire.sensor.asleep
        told = len(wire.commands)
        assert run.turn(5000) == [] and len(wire.commands) == told
        driver.start(run.epoch + run.now)
        assert len(run.turn(3000)) >= 2 and run.codes == [] and not wire.sensor.asleep


def check_sps30_before_firmware_2_is_stopped_instead():
    for driver, wire in on_both_wires():
        wire.sensor.version = (1, 0)
        run = Run(driver, wire)
        assert len(run.turn(3500)) >= 2 and run.codes == []
        driver.sleep()
        run.turn(5000)
        assert not wire.sensor.measuring and not wire.sensor.asleep


def check_sps30_auto_clean_interval_is_read_and_written():
    for driver, wire in on_both_wires():
        run = Run(driver, wire)
        assert driver.auto_clean == -1
        driver.ask_auto_clean()
        run.turn(500)
        assert driver.auto_clean == 604800
        driver.set_auto_clean(0)
        run.turn(500)
        assert driver.auto_clean == wire.sensor.interval == 0
        assert len(run.turn(3000)) >= 2


# --- SPS30 on its serial line


def check_sps30_of_firmware_1_that_ignores_wake_is_started():
    line = Sps30Line()
    line.answers = [b""]
    assert len(Run(sps30.SPS30(line), line).turn(3000)) == 2


def check_sps30_late_broken_and_missing_replies():
    line = Sps30Line()
    run = Run(sps30.SPS30(line), line)
    run.turn(1000)
    line.late(encode_reply(0x01, 0, b""))  # of an earlier command: thrown away
    assert len(run.turn(1000)) == 1
    for answer, code in (
        (b"\x7e\x00\x03\x00\x00\xfb\x7e", BAD_CHECKSUM),
        (encode_reply(0x03, 0, bytes(40))[:20], TIME_OUT),
        (encode_reply(0x03, 0, bytes(30)), OTHER),
        (encode_reply(0x03, 0x28, b""), OTHER),
    ):
        run.turn(500)
        run.codes = []
        line.answers = [answer]
        before = numbers(run.samples)[-1]
        samples = run.turn(2000)
        assert run.codes == [code], (run.codes, code)
        assert numbers(samples) == [before + 1, before + 2]  # nothing is lost, nothing twice


def check_sps30_brown_out_is_noticed_within_a_second_and_a_sample_comes_in_the_next():
    for driver, wire in on_both_wires():
        run = Run(driver, wire)
        run.turn(2500)
        wire.sensor.brown_out()
        before = wire.sensor.samples
        run.turn(3500)
        assert run.codes == [POWER_ON_VALUES if isinstance(wire, Sps30Line) else TIME_OUT]
        assert numbers(run.samples)[-1] > before


def check_sps30_device_fault_bit_is_masked_and_degrades_old_firmware():
    line = Sps30Line()
    driver = sps30.SPS30(line)
    line.sensor.version = (2, 1)
    run = Run(driver, line)
    run.turn(1500)
    line.state = 0x80
    assert len(run.turn(1000)) == 1 and driver.degraded == DEVICE_FAULT and run.codes == []
    line = Sps30Line()
    driver = sps30.SPS30(line)
    line.state = 0x80
    run = Run(driver, line)
    assert len(run.turn(2500)) >= 1 and run.codes == [] and driver.degraded == 0  # the register says that nothing is wrong


def check_sps30_status_that_gets_no_answer_holds_the_sample_until_it_does():
    line = Sps30Line()
    run = Run(sps30.SPS30(line), line)
    run.turn(1700)
    before = len(run.samples)
    taken = line.commands.count(0xD2)
    while line.commands.count(0xD2) == taken:
        line.answers = [None] if line.commands[-1] != 0x03 or not line.sensor.fresh else []
        run.turn(10)
        if line.commands[-1] == 0x03 and not line.sensor.fresh and line.commands.count(0xD2) == taken:
            line.answers = [b"", b""] if run.driver._step == sps30._CHECKING else []
    samples = run.turn(1000)
    assert len(run.samples) - before == len(samples) >= 1


def check_sps30_absent_or_silent_is_a_time_out():
    line = Sps30Line()
    line.write = lambda data: len(data)
    run = Run(sps30.SPS30(line), line)
    run.turn(400)
    assert run.codes[:1] == [TIME_OUT] and not run.driver.configured
    line = Sps30Line()
    run = Run(sps30.SPS30(line), line)
    run.turn(3000)
    line.sensor.next_at = None
    run.turn(7000)
    assert run.codes == [TIME_OUT]


# --- SPS30 on I2C


def check_sps30_on_i2c_one_wrong_word_rejects_the_whole_sample():
    words = Sps30Words()
    run = Run(sps30_i2c.SPS30I2C(words), words)
    run.turn(1500)
    for place in (0, 2, 31, 59):
        words.damage = {}
        run.codes = []
        ask = len(run.samples)
        while words.commands[-1] != 0x0300 or not run.driver._asked:
            run.turn(10)
        words.damage = {place: 0x10}
        run.turn(500)
        assert run.codes == [BAD_CHECKSUM] and len(run.samples) == ask
        assert len(run.turn(1500)) >= 1


def check_sps30_on_i2c_absent_is_no_acknowledge_and_is_set_up_when_it_appears():
    words = Sps30Words()
    words.errors = [5] * 60
    run = Run(sps30_i2c.SPS30I2C(words), words)
    run.turn(500)
    assert set(run.codes) == {NO_ACKNOWLEDGE} and not run.driver.configured and run.driver.trim() == b""
    words.errors = []
    assert len(run.turn(3000)) >= 2


def check_sps30_on_i2c_bus_that_hangs_is_told_at_once():
    words = Sps30Words()
    words.errors = [110]
    run = Run(sps30_i2c.SPS30I2C(words), words)
    run.turn(20)
    assert run.codes == [TIME_OUT]
    words.errors = [0, 0, 0, 110]  # both wakes and the stop are heard; the version is asked for
    run.turn(100)
    assert run.codes == [TIME_OUT, TIME_OUT]
    assert len(run.turn(3000)) >= 1 and len(run.codes) == 2


def check_sps30_on_i2c_that_falls_silent_is_started_again():
    words = Sps30Words()
    run = Run(sps30_i2c.SPS30I2C(words), words)
    run.turn(2500)
    words.sensor.next_at = None
    words.sensor.begin = lambda: None
    starts = words.commands.count(0x0010)
    run.turn(12_000)
    assert set(run.codes) == {TIME_OUT} and len(run.codes) == 3 and words.commands.count(0x0010) == starts + 3


# --- memory


class QuietWords:
    """An I2C bus that hands out prepared replies by their length, without allocating."""

    def __init__(self, replies):
        self.replies = replies

    def writeto(self, address, buf):
        pass

    def readfrom_into(self, address, buf):
        reply = self.replies[len(buf)]
        for index in range(len(buf)):
            buf[index] = reply[index]


def check_sps30_polls_from_one_sample_to_the_next_allocate_nothing():
    line = Sps30Line()
    line.sensor.version = (2, 1)
    run = Run(sps30.SPS30(line), line)
    run.turn(1500)
    buf = bytearray(64)
    run.driver._uart = Quiet(encode_reply(0x03, 0, b"\x7e\x7d" + bytes(38)))
    assert without_heap(lambda: one(run.driver, run.now, buf, 2000)) == 40 and buf[19:21] == b"\x7e\x7d"
    run.driver._uart = Quiet(encode_reply(0x03, 0, b""))
    assert without_heap(lambda: one(run.driver, run.now + 2000, buf, 1000)) == 0


def check_sps30_reading_the_status_allocates_nothing():
    line = Sps30Line()
    run = Run(sps30.SPS30(line), line)
    run.turn(1500)
    run.driver._uart = Quiet(encode_reply(0x03, 0, bytes(40)))
    now = run.now
    while run.driver._step != sps30._CHECKING:
        now += 10
        assert run.driver.poll(now) == 0
    run.driver._uart = Quiet(encode_reply(0xD2, 0, bytes(5)))
    assert without_heap(lambda: one(run.driver, now, BUFFER, 100)) == 40


def check_sps30_on_i2c_polls_allocate_nothing():
    words = Sps30Words()
    run = Run(sps30_i2c.SPS30I2C(words), words)
    run.turn(1500)
    run.driver._i2c = QuietWords({3: b"\x00\x01\xb0", 60: b"\x00\x00\x81" * 20, 6: b"\x00\x00\x81" * 2})
    assert without_heap(lambda: one(run.driver, run.now, BUFFER, 2000)) == 40


def check_any_floats_have_a_reason_or_are_bounded():
    for raw in (b"\xff" * 40, b"\x7f\x80\x00\x00" * 10, b"\x80\x00\x00\x01" * 10, b"\x00\x00\x00\x01" * 10):
        for value in sps30.decode(b"", raw).values():
            assert isinstance(value, str) or (math.isfinite(value) and 0 <= value <= 3e9)


if __name__ == "__main__":
    checking.run(globals())
