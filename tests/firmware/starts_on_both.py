"""The words that survive a reset, on both interpreters: a main.py and a version that write them, beside older ones that do not."""

from array import array

import checking

from firmware import leave, slots, starts, wire
from firmware.main import restart

MAINTENANCE, FAN_RUNNING, TRIAL_OVER, ERROR = 1, 2, 3, 4


class Chip:
    """`machine` of a board; a reset only counts."""

    def __init__(self):
        self.words = array("I", [0, 0, 0, 0])
        self.resets = 0

    def mem_backup(self):
        return self.words

    def reset(self):
        self.resets += 1

    def power_cut(self):
        for index in range(4):
            self.words[index] = 0

    def started(self, board=True, version=True):
        """A start by a main.py that counts, or not, of a version that does, or not: what HELLO then says."""
        if board:
            slots.begin(self)
        return starts.begin(self) if version else None


class OldChip:
    """`machine` of MicroPython 1.28."""

    resets = 0

    def reset(self):
        self.resets += 1


def check_starts_are_counted_from_1_and_a_power_cut_begins_anew():
    for board in (True, False):
        chip = Chip()
        assert [chip.started(board) for _ in range(3)] == [(1, ""), (2, ""), (3, "")]
        chip.power_cut()
        assert chip.started(board) == (1, "")


def check_a_reset_of_the_programs_own_is_told_once_and_by_name():
    chip = Chip()
    for why, name in ((MAINTENANCE, "maintenance"), (FAN_RUNNING, "fan running"), (TRIAL_OVER, "trial over"), (ERROR, "error"), (9, "9")):
        chip.power_cut()
        chip.started()
        restart(chip, why)
        assert chip.started() == (2, name)
        assert chip.started() == (3, "")  # the watchdog's
    assert chip.resets == 5


def check_a_stay_in_maintenance_is_told_afterwards_with_what_led_there():
    for why, name in ((MAINTENANCE, "maintenance"), (FAN_RUNNING, "fan running"), (0, "maintenance")):
        chip = Chip()
        chip.started()
        if why:  # else a tool asked for it
            restart(chip, why)
        slots.stay(*slots.begin(chip))
        assert chip.started() == (3, name)


def check_a_newer_main_py_counts_the_starts_of_an_older_version_and_no_marker_outlives_them():
    chip = Chip()
    chip.started()
    restart(chip, TRIAL_OVER)
    chip.started(version=False)
    chip.started(version=False)
    assert chip.started() == (4, "")
    restart(chip, ERROR)
    assert chip.started() == (5, "error")


def check_a_newer_version_under_an_older_main_py_counts_itself():
    chip = Chip()
    assert chip.started(board=False) == (1, "")
    restart(chip, ERROR)
    assert chip.started(board=False) == (2, "error")
    assert chip.started() == (3, "")  # the board's files are new now
    assert chip.started(board=False) == (4, "")


def check_what_another_program_or_the_bootrom_left_in_the_words_is_not_believed():
    for word in (0xFFFFFFFF, 0x03000000, 0x2BFFFFFF, 12345):
        chip = Chip()
        for index in range(4):
            chip.words[index] = word
        count, marker = chip.started()
        assert (marker == "" and count == 1) or word >> 24 == 0x2B, (word, count, marker)
        assert chip.started()[1] == ""


def check_mark_of_maintenance_and_the_fourth_word_are_left_alone():
    chip = Chip()
    chip.words[0] = 77
    chip.words[3] = 88
    chip.started()
    restart(chip, ERROR)
    chip.started()
    assert (chip.words[0], chip.words[3]) == (77, 88)


def check_without_such_memory_nothing_is_invented():
    chip = OldChip()
    words, count = slots.begin(chip)
    words[2] = 1 << 24 | count
    assert starts.begin(chip) == (0, "")
    restart(chip, ERROR)
    assert chip.resets == 1 and slots.begin(chip)[0][2] == 0


class Fan:
    """A driver whose sensor stops when it was told often enough."""

    def __init__(self, after):
        self.after = after

    def sleep(self):
        self.after -= 1

    def asleep(self):
        return self.after <= 0


class Watched:
    def __init__(self, driver, state=wire.OK):
        self.driver = driver
        self.state = state
        self.supply = None


def turns(watched, why=TRIAL_OVER):
    """After how many turns, of half a second, the head resets, and the reason that it leaves."""
    chip = Chip()
    chip.started()
    going = leave.Leave(chip, watched, why)
    count = 0
    while not chip.resets:
        going.turn()
        count += 1
    return count, chip.words[2] >> 24


def check_a_reset_waits_for_a_start_and_for_the_fan_and_for_neither_without_end():
    assert turns([Watched(None)]) == (1, TRIAL_OVER)
    assert turns([Watched(None), Watched(Fan(1))]) == (2, TRIAL_OVER)
    assert turns([Watched(Fan(3))]) == (4, TRIAL_OVER)
    assert turns([Watched(None, wire.CONFIGURING)]) == (20, TRIAL_OVER)
    assert turns([Watched(Fan(99), wire.FAILED)]) == (7, TRIAL_OVER)
    assert turns([Watched(Fan(99), wire.CONFIGURING)]) == (26, TRIAL_OVER)  # 13 s


def check_the_names_of_the_reasons_are_where_their_numbers_say():
    named = {leave.MAINTENANCE: "maintenance", leave.FAN_RUNNING: "fan running", leave.TRIAL_OVER: "trial over"}
    for number, name in named.items():
        assert starts.MARKERS[number - 1] == name
    assert max([len(name) for name in starts.MARKERS]) <= 11  # HELLO has no room for more


if __name__ == "__main__":
    checking.run(globals())
