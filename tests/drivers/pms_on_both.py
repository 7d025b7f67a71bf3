"""start, poll and read_into of the PMS5003 against its bytes, on both interpreters."""

import checking
from checking import without_heap
from mock_particles import PmsLine
from particle_runs import WRAP, Quiet, Run, one

from drivers import pms5003
from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, OTHER, POWER_ON_VALUES, TIME_OUT

BUFFER = bytearray(64)


def warm(epoch=0):
    line = PmsLine()
    run = Run(pms5003.PMS5003(line), line, epoch)
    assert run.turn(29_900) == [] and run.driver.configured and run.driver.trim() == b"\x97" and run.codes == []
    run.turn(3500)
    return run, line


def masses(samples):
    return [raw[11] for raw in samples]


def check_pms_is_quiet_while_it_warms_up_and_then_delivers_once_a_second_over_the_wrap():
    run, line = warm(WRAP - 31_000)
    samples = run.turn(10_000)
    assert len(samples) == 10 and line.next_at is None and run.codes == []
    assert masses(samples) == [(masses(samples)[0] + index) & 0xFF for index in range(10)]
    assert set(pms5003.decode(b"", samples[0])) == set(pms5003.QUANTITIES)


def check_pms_that_did_not_hear_the_command_for_passive_mode_hears_it_again():
    line = PmsLine()
    line.brown_out(1700)  # deaf for the first commands
    run = Run(pms5003.PMS5003(line), line)
    assert run.turn(29_900) == [] and line.next_at is None and line.requests.count(b"\xe1\x00\x00") >= 2
    assert len(run.turn(4000)) >= 2 and run.codes == []


def check_pms_that_never_goes_quiet_is_refused():
    line = PmsLine()
    line.write = lambda data: len(data)
    run = Run(pms5003.PMS5003(line), line)
    assert run.turn(12_000) == [] and run.codes[0] == OTHER and not run.driver.configured


def check_pms_broken_reply_is_asked_for_again_in_the_same_second():
    run, line = warm()
    for cut in (lambda frame: frame[:20], lambda frame: frame[:8] + b"\x01" + frame[9:], lambda frame: frame[:3] + frame[4:]):
        run.codes = []
        line.answers = [cut(line.frame())]
        samples = run.turn(3000)
        assert run.codes == [BAD_CHECKSUM] and len(samples) >= 2, run.codes


def check_pms_reply_behind_junk_is_found():
    run, line = warm()
    line.answers = [b"\x42\x4d\x00\x1c\x00BM" + line.frame()]
    assert len(run.turn(1000)) == 1 and run.codes == []


def check_pms_that_lost_its_power_warms_up_again():
    for away in (1400, 2000, 2900, 10_000):
        run, line = warm()
        run.turn(330)
        line.brown_out(away)
        before = len(run.samples)
        run.turn(away + 5000)
        assert POWER_ON_VALUES in run.codes and len(run.samples) == before
        assert run.turn(20_000) == []
        assert len(run.turn(15_000)) >= 3


def check_pms_never_delivers_what_it_says_unasked_however_long_it_starts():
    run, line = warm()
    for away in range(1330, 10_000, 333):
        line.pace = 2300 if away % 2 else 200
        line.brown_out(away)
        before = len(run.samples)
        run.turn(away + 25_000, 20)
        assert POWER_ON_VALUES in run.codes and len(run.samples) == before, away
        run.turn(9000, 20)
        assert len(run.samples) > before, away
        run.codes = []


def check_pms_that_is_back_within_a_second_and_speaks_in_step_with_the_requests_is_found_out():
    in_step = 0
    for away in (500, 1000, 1050, 1150):
        run, line = warm()
        run.turn(2000)
        while not run.turn(10):
            pass
        line.brown_out(away)
        before = len(run.samples)
        run.turn(12_000)
        assert POWER_ON_VALUES in run.codes and len(run.samples) - before <= 8, away
        in_step = max(in_step, len(run.samples) - before)
        assert run.turn(17_000) == []
    assert in_step  # so the case is tested


def check_pms_answer_that_comes_late_is_no_loss_of_power():
    line = PmsLine()
    line.delays = [0, 300, 700, 20, 1100, 500] * 40
    run = Run(pms5003.PMS5003(line), line)
    run.turn(120_000, 20)  # its longest answer is learned; a supervisor may start it anew meanwhile
    assert set(run.codes) <= {TIME_OUT}
    run.codes = []
    samples = run.turn(30_000, 20)
    assert len(samples) >= 20 and run.codes == []
    assert len(set(masses(samples))) == len(samples)


def check_pms_frame_that_arrives_when_a_request_is_due_is_heard_to_its_end():
    run, line = warm()
    run.turn(run.driver._next - run.now - 40)
    asked = len(line.requests)
    frame = line.frame()
    for byte in range(0, 32, 4):  # 8 turns: the request becomes due while it arrives
        run.turn(10)
        line.late(frame[byte : byte + 4])
    run.turn(10)
    assert run.codes == [POWER_ON_VALUES] and len(line.requests) <= asked + 1


def check_pms_missing_reply_of_a_sensor_that_kept_its_power_costs_no_warm_up():
    run, line = warm()
    line.answers = [b""]
    run.turn(1000)
    assert run.codes == [TIME_OUT]
    assert len(run.turn(7000)) >= 2 and run.codes == [TIME_OUT]


def check_pms_error_byte_is_a_fault_and_no_sample():
    run, line = warm()
    line.error = 1
    assert run.turn(3000) == [] and set(run.codes) == {DEVICE_FAULT}
    line.error = 0
    assert len(run.turn(2000)) == 2


def check_pms_that_says_so_from_its_start_on_is_asked_on_for_a_new_start_would_cost_its_warm_up():
    line = PmsLine()
    line.error = 1
    run = Run(pms5003.PMS5003(line), line)
    assert run.turn(12_000) == [] and set(run.codes) == {DEVICE_FAULT} and run.driver.configured
    line.error = 0
    assert run.turn(18_000) == [] and len(run.turn(5000)) >= 3


def check_pms_sleeps_and_warms_up_after_it_woke():
    run, line = warm()
    run.driver.sleep()
    assert run.turn(3000) == [] and line.asleep
    asked = len(line.requests)
    run.turn(3000)
    assert len(line.requests) == asked
    run.driver.start(run.now)
    assert run.turn(30_000) == [] and run.codes == []
    assert len(run.turn(5000)) >= 2


def check_pms_absent_is_a_time_out():
    line = PmsLine()
    line.write = lambda data: len(data)
    line.next_at = None
    run = Run(pms5003.PMS5003(line), line)
    run.turn(4000)
    assert run.codes == [TIME_OUT] and not run.driver.configured


def check_pms_polls_allocate_nothing():
    run, line = warm()
    run.driver._uart = Quiet(b"\x42\x00\x42" + line.frame())
    assert without_heap(lambda: one(run.driver, run.now, BUFFER, 2000)) == 32


if __name__ == "__main__":
    checking.run(globals())
