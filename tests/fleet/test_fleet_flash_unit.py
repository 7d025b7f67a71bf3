"""One unit: the real MicroPython with a LittleFS, installed, updated, cut, damaged and rolled back over its serial line.

What is flashed is a small program (tests/support/flash_rig.py); the last test flashes the real one, with simulated chips. The long forms
are tests/support/flash_long.py."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flash_rig import PARTS, plan, program, units

from fleet import flash_build
from fleet.flash_unit import Plan, Proof, UnitError, run
from fleet.passport import Folder
from gateway import head_duty, head_reach, head_repl
from sim.unit import AIR, Trouble, Unit


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong here is so at once."""
    monkeypatch.setattr(head_repl, "CALL_S", 1.0)
    monkeypatch.setattr(head_repl, "LONG_CALL_S", 3.0)
    monkeypatch.setattr(head_duty, "SELF_TEST_S", 5.0)
    monkeypatch.setattr(head_reach, "REACH_S", 5.0)


@pytest.fixture(scope="module")
def flashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Unit, Path, Proof]]:
    """A unit with version 1.0.0, its passports, and the proof of that."""
    folder = tmp_path_factory.mktemp("flash")
    with units(folder, 1) as (unit,):
        proof = run(plan(unit, folder / "passports"))
        Folder(folder / "passports").keep(proof.passport)
        yield unit, folder / "passports", proof


def test_a_blank_board_is_installed_and_a_repeated_run_writes_nothing(flashed: tuple[Unit, Path, Proof]) -> None:
    unit, folder, proof = flashed
    passport = proof.passport
    assert (passport.unit, passport.truck, passport.version) == ("e6614c311b7d4f00", "truck-001", "1.0.0")
    assert passport.sensors["sht45"].values["temperature"] == pytest.approx(298.15, abs=0.01)
    assert {path[2:]: digest for path, digest in passport.files.items() if path[1:2] == "/" and path != "a/manifest"} == program(
        "1.0.0"
    ).hashes()
    flash = unit.flash.read_bytes()
    again = run(plan(unit, folder))
    assert (again.written, again.known) == (0, True)
    assert unit.flash.read_bytes() == flash


def test_an_update_goes_to_the_other_slot_writes_what_differs_and_can_be_taken_back(flashed: tuple[Unit, Path, Proof]) -> None:
    unit, folder, _ = flashed
    updated = run(plan(unit, folder, "1.1.0"))
    assert updated.passport.version == "1.1.0"
    assert "b/manifest" in updated.passport.files
    with pytest.raises(UnitError, match=r"version 1\.0\.0 is older than 1\.1\.0"):
        run(plan(unit, folder, "1.0.0"))
    back = run(plan(unit, folder, None))
    assert back.passport.version == "1.0.0"
    assert {path for path in back.passport.files if path.startswith("b/")} == set()


@pytest.mark.parametrize("power", [False, True], ids=["unplugged in a first installation", "power cut in an update"])
def test_after_a_cut_a_second_run_completes(flashed: tuple[Unit, Path, Proof], power: bool) -> None:
    unit, folder, _ = flashed
    version = "2.0.0" if power else "1.9.0"
    if not power:
        unit.blank()
    unit.arm(Trouble(cut=9_000) if power else Trouble(unplug=22_000))
    with pytest.raises(UnitError):
        run(plan(unit, folder, version))
    unit.power_on() if power else unit.replug()
    assert run(plan(unit, folder, version)).passport.version == version


def test_a_byte_damaged_on_the_line_is_never_believed(flashed: tuple[Unit, Path, Proof]) -> None:
    unit, folder, _ = flashed
    for number, at in enumerate((3_000, 5_500)):
        unit.arm(Trouble(to_unit=at))
        with pytest.raises(UnitError):
            run(plan(unit, folder, f"3.{number}.0"))
    unit.arm(Trouble())
    assert run(plan(unit, folder, "3.1.0")).passport.version == "3.1.0"


def test_a_sensor_that_is_not_well_is_named_and_the_unit_gets_no_proof(
    flashed: tuple[Unit, Path, Proof], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, folder, _ = flashed
    monkeypatch.setattr(head_duty, "SELF_TEST_S", 0.5)
    wanted = plan(unit, folder, "3.1.0")
    with pytest.raises(UnitError, match=r"bmp390: absent \(not heard of\)"):
        run(Plan(wanted.port, wanted.truck, wanted.image, wanted.board_files, folder, [*PARTS, {"part": "bmp390"}]))


def test_a_port_where_nobody_answers_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_reach, "REACH_S", 0.5)
    began = time.monotonic()
    with pytest.raises(UnitError, match="not reached: no such port"):
        run(Plan(str(tmp_path / "port"), "truck-001", program("1.0.0"), {}, tmp_path))
    assert time.monotonic() - began < 30


def test_the_real_program_is_proved_with_all_its_sensors(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "unit", bytes.fromhex("e6614c311b7d4f2a"))
    try:
        proof = run(Plan(str(unit.link), "truck-001", flash_build.program(), flash_build.board_files(), tmp_path / "passports"))
    finally:
        unit.stop()
    assert set(proof.passport.sensors) == {"icm20948", "bmp390", "sht45", "opt3001", "as7331", "sps30"}
    assert proof.passport.sensors["bmp390"].values["pressure"] == pytest.approx(AIR["pressure"], abs=100)
    assert proof.passport.version == flash_build.version()
