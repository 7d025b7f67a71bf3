"""The slots on the real MicroPython and a LittleFS: what starts, falls back, is left by a power cut. The long form is `make brick`."""

import json
from pathlib import Path

import brick
import brick_story
import numpy
import pytest
from brick_cuts import flash_after, operations

from firmware.boot_trial import Trial
from firmware.wire import DEGRADED, OK
from sim.pico import Pico

SPARE_BYTES = 4000  # when the watchdog starts; running takes less than 1 kB of it
CUTS = 1  # operations of each step, by chance, each cut after {0, 1, half, all but 1} of its bytes


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> dict[str, brick_story.Step]:
    return {step.name: step for step in brick_story.story(tmp_path_factory.mktemp("brick"))}


@pytest.fixture
def updated(life: dict[str, brick_story.Step], tmp_path: Path) -> Pico:
    """A board with v1 good and v2 to be tried."""
    return life["first start"].before.copy(tmp_path / "updated.flash")


def on(board: Pico, text: str) -> list[str]:
    (board.host / "text.py").write_text(text)
    return board.run("text.py")


DAMAGE = """
for slot in {slots!r}:
    path = slot + "/{name}"
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 1
    with open(path, "wb") as file:
        file.write(data)
"""


@pytest.mark.parametrize("name", ["installation", "update", "confirmation", "fall back"])
def test_a_head_that_loses_power_starts_a_whole_version_and_the_next_run_completes(
    life: dict[str, brick_story.Step], tmp_path: Path, name: str
) -> None:
    result = brick.run_step(life[name], tmp_path, only=CUTS)
    assert result.bricks == [] and result.cuts == CUTS * len(brick.SHARES)


@pytest.mark.parametrize("part", ["0", "1", "half", "less"])
def test_the_flash_after_a_cut_follows_from_the_record_of_a_run(life: dict[str, brick_story.Step], tmp_path: Path, part: str) -> None:
    step = life["rollback"]
    board, uses = step.uses(tmp_path / "cut.flash", 1, part)
    done = operations(uses)
    assert len(done) == 2  # none is recorded after the cut
    before = numpy.frombuffer(step.before.flash.read_bytes(), numpy.uint8)
    count = {"0": 0, "1": 1, "half": done[1].size // 2, "less": done[1].size - 1}[part]
    assert flash_after(before, done, 1, count).tobytes() == board.flash.read_bytes()


def test_a_version_that_does_not_confirm_itself_falls_back_after_three_starts(updated: Pico) -> None:
    assert [brick_story.running(updated.start())[1:] for _ in range(5)] == [("v2", True)] * 3 + [("v1", False)] * 2


def test_a_confirmed_version_stays_and_can_be_rolled_back(updated: Pico) -> None:
    assert brick_story.running(updated.start())[1:] == ("v2", True)
    updated.run("confirm.py")
    assert [brick_story.running(updated.start())[1:] for _ in range(4)] == [("v2", False)] * 4
    updated.run("roll_back.py")
    assert brick_story.running(updated.start())[1:] == ("v1", False)


def test_a_version_that_breaks_when_it_is_imported_resets_and_falls_back(life: dict[str, brick_story.Step], tmp_path: Path) -> None:
    broken = brick_story.version_files("v3", "raise ValueError('broken')")
    host = brick_story.host_folder(tmp_path / "host", "v3", "first", broken)
    board = Pico(life["update"].before.copy(tmp_path / "broken.flash").flash, host)
    assert board.run("update.py")[-1].startswith("#updated")
    for _ in range(3):
        said = board.start()
        assert "ValueError: broken" in said and said[-1] == "#reset", said
    assert brick_story.running(board.start())[1:] == ("v1", False)


@pytest.mark.parametrize("name", ["firmware/same.mpy", "manifest", "drivers/pad.mpy"])
def test_one_bit_in_the_good_slot_starts_the_other_and_in_both_leads_into_maintenance(updated: Pico, name: str) -> None:
    updated.run("confirm.py")
    good = brick_story.running(updated.start())[0]
    on(updated, DAMAGE.format(slots=good, name=name))
    assert brick_story.running(updated.start())[1] == "v1"
    on(updated, DAMAGE.format(slots="b" if good == "a" else "a", name=name))
    said = updated.start()
    assert any(line.startswith("no whole slot") for line in said) and said[-1] == "#waits", said
    assert updated.run("update.py")[-1].startswith("#updated")
    assert brick_story.running(updated.start())[1] == "v2"


def test_what_no_manifest_lists_is_never_on_the_path(updated: Pico) -> None:
    on(updated, "open('a/drivers/extra.mpy', 'wb').close()\nopen('b/json.mpy', 'wb').close()")
    said = on(updated, "from firmware import slots\nprint(slots.fault('a'))\nprint(slots.fault('b'))")
    assert "drivers: a file that the manifest does not list" in said and "more or less in it than a version has" in said


def test_one_damaged_switch_record_leaves_the_other_and_two_leave_a_whole_slot(updated: Pico) -> None:
    on(updated, DAMAGE.format(slots=[""], name="").replace('slot + "/"', '"switch.0"'))
    assert brick_story.running(updated.start())[1] in ("v1", "v2")
    for record in ("switch.0", "switch.1"):
        on(updated, f"with open('{record}', 'wb') as file: file.write(b'\\xff no record')")
    assert brick_story.running(updated.start())[1] in ("v1", "v2")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("data = data.replace(b'version v2', b'version v9')", "not signed with this unit's key"),
        ("data = signed(body.replace(b'micropython 1.28', b'micropython 9.0'), key)", "needs MicroPython 9.0"),
        ("data = signed(body.replace(b'mpy 6', b'mpy 5'), key)", "bytecode of another MicroPython"),
        ("data = signed(body.replace(b'drivers/', b'../x/'), key)", "unknown line"),
        ("data = signed(body, bytes(32))", "not signed with this unit's key"),
        ("data = b''", "not signed with this unit's key"),
    ],
)
def test_a_manifest_of_another_unit_or_interpreter_touches_nothing(updated: Pico, change: str, why: str) -> None:
    said = on(
        updated,
        "from firmware import slots\n"
        "key = open('/host/unit.key', 'rb').read()\n"
        "def signed(body, key): return body + ('hmac ' + slots.sign(key, body) + '\\n').encode()\n"
        "data = open('/host/new/manifest', 'rb').read()\n"
        "body = data[: data.rfind(b'hmac')]\n"
        f"{change}\n"
        "u = {}\n"
        "exec(open('/host/firmware_update.py').read(), u)\n"
        "slot = u['prepare']()\n"
        "with open(slot + '/manifest.new', 'wb') as file: file.write(data)\n"
        "try: u['begin'](slot)\n"
        "except slots.Fault as fault: print(fault)\n"
        "print(slots.fault('a'), slots.fault('b'))",
    )
    assert why in said[1] and said[2].strip() == "", said


def test_maintenance_is_entered_once(updated: Pico) -> None:
    updated.run("confirm.py")
    on(updated, "from firmware import boot_duty\nboot_duty.mark()")
    assert updated.start()[-1] == "#waits"
    assert brick_story.running(updated.start())[1] == "v2"


def test_the_head_itself_runs_from_a_slot_and_confirms_itself_with_what_memory_it_has(tmp_path: Path) -> None:
    """The longest list of parts, MicroPython's heap of 192 kB: 64-bit objects take twice the RP2040's room."""
    files = brick_story.head_files()
    host = brick_story.host_folder(tmp_path / "host", "0.1.0", "first", files)
    longest = ("icm20948", "bmp390", "sht45", "veml7700", "as7331", "sps30", "neo_m9n")
    (host / "parts.json").write_text(json.dumps([{"part": name} for name in longest]))
    board = Pico(tmp_path / "head.flash", host)
    board.blank()
    assert board.run("install.py") == ["#installed"]
    brick_story.put_version(host, "0.1.1", {**files, "drivers/zz.mpy": files["drivers/__init__.mpy"]})
    assert board.run("update.py")[-1] == "#updated a"
    for expected in ('"slot":"a on trial"', '"slot":"a"'):
        said = board.start()
        assert expected in "".join(said) and "#timer off" in said, said
        assert int(next(line for line in said if line.startswith("#watchdog")).split()[1]) > SPARE_BYTES
    assert "('a', 'good', 0)" in on(board, "from firmware import slots\nprint(slots.state())")


class _Part:
    def __init__(self, state: int) -> None:
        self.state = state
        self.acknowledged = True
        self.acknowledged_at = 0


def test_a_trial_ends_well_after_ten_whole_seconds_and_ill_after_three_minutes() -> None:
    sensor, link = _Part(OK), _Part(OK)
    trial = Trial("switch.0", 0, [sensor, _Part(OK)], link)

    def verdicts(begin: int, end: int) -> list[int]:
        found = []
        for now in range(begin, end, 500):
            link.acknowledged_at = now if link.state == OK else link.acknowledged_at
            found.append(trial.step(now))
        return found

    assert verdicts(0, 8000) == [0] * 16
    sensor.state = DEGRADED
    assert verdicts(8000, 8500) == [0]
    sensor.state = OK
    assert verdicts(8500, 18_000) == [0] * 19 and verdicts(18_000, 18_500) == [1]
    link.state = DEGRADED  # the gateway falls silent
    assert verdicts(20_000, 180_000)[-1] == 0 and verdicts(180_000, 180_500) == [-1]


def test_a_head_whose_file_system_cannot_be_mounted_is_formatted_and_can_be_installed_anew(updated: Pico) -> None:
    with updated.flash.open("r+b") as flash:
        flash.write(bytes(2 * 4096))
    assert updated.start() == ["#formatted", "#REPL"]
    assert updated.run("install.py") == ["#installed"]
    assert brick_story.running(updated.start())[1:] == ("v2", False)
