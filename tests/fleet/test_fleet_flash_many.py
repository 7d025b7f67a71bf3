"""`cruisers flash` as a technician calls it: several units in one command, each in a process of its own."""

import json
from pathlib import Path

import pytest
from flash_rig import PARTS, board_files, plan, program, units
from typer.testing import CliRunner

from cruisers.__main__ import app
from fleet import flash_build, flash_many
from fleet.passport import Folder

UNITS = 2  # 20 in the long form


@pytest.fixture
def small_program(monkeypatch: pytest.MonkeyPatch) -> None:
    small, files = program("1.0.0"), board_files()
    monkeypatch.setattr(flash_build, "program", lambda: small)
    monkeypatch.setattr(flash_build, "board_files", lambda: files)


@pytest.mark.usefixtures("small_program")
def test_units_are_flashed_in_one_command_and_the_next_one_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "passports"
    parts = tmp_path / "parts.json"
    parts.write_text(json.dumps(PARTS))
    with units(tmp_path, UNITS) as made:
        ports = [word for unit in made for word in ("--port", str(unit.link))]
        trucks = [word for number in range(UNITS) for word in ("--truck", f"truck-{number:03}")]
        call = ["flash", *ports, "--passports", str(folder), "--parts", str(parts), "--json"]
        first = CliRunner().invoke(app, [*call, *trucks])
        assert first.exit_code == 0, first.output
        assert [row["truck"] for row in json.loads(first.stdout)["units"]] == ["truck-000", "truck-001"]
        kept = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert len(kept) == 3 * UNITS  # passport, label and key each
        flash = [unit.flash.read_bytes() for unit in made]
        second = CliRunner().invoke(app, call)  # the passports know the trucks
        assert second.exit_code == 0, second.output
        assert [row["written"] for row in json.loads(second.stdout)["units"]] == [0] * UNITS
        assert [unit.flash.read_bytes() for unit in made] == flash
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept


def test_a_unit_whose_time_is_over_is_ended_and_gets_no_passport(tmp_path: Path) -> None:
    with units(tmp_path, 1) as (unit,):
        wanted = plan(unit, tmp_path / "passports")
        outcome = flash_many.flash([wanted], lambda *_: None, limit_s=0.1)[0]
    assert outcome.error == "not done within 0 s"
    assert Folder(tmp_path / "passports").passport("e6614c311b7d4f00") is None


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--port", "/dev/nothing", "--truck", "truck-001"], "/dev/nothing: no such port"),
        (["--port", "/dev/null", "--truck", "Truck 1"], "no truck's name"),
        (["--port", "/dev/null", "--truck", "a", "--truck", "b"], "2 trucks for 1 boards"),
        (["--port", "/dev/null", "--image", "nothing.image"], "name the trusted key"),
        (["--port", "/dev/null", "--parts", "/dev/null"], "/dev/null: not JSON"),
    ],
)
@pytest.mark.usefixtures("small_program")
def test_bad_input_is_one_line_and_nothing_is_done(words: list[str], why: str) -> None:
    done = CliRunner().invoke(app, ["flash", *words])
    assert done.exit_code == 2
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("small_program")
def test_an_image_is_made_shown_and_refused_under_another_key(tmp_path: Path) -> None:
    for name in ("fleet.pem", "other.pem"):
        assert CliRunner().invoke(app, ["image", "key", str(tmp_path / name)]).exit_code == 0
    assert (tmp_path / "fleet.pem").stat().st_mode & 0o777 == 0o600
    path = str(tmp_path / "head.image")
    assert CliRunner().invoke(app, ["image", "make", path, "--key", str(tmp_path / "fleet.pem")]).exit_code == 0
    shown = CliRunner().invoke(app, ["image", "show", path, "--key", str(tmp_path / "fleet.pem.pub")])
    assert shown.exit_code == 0
    assert "version 1.0.0, 5 files, signature good" in shown.stdout
    refused = CliRunner().invoke(app, ["flash", "--port", "/dev/null", "--image", path, "--key", str(tmp_path / "other.pem.pub")])
    assert (refused.exit_code, "not signed by a key that is trusted here" in refused.stderr) == (2, True)
    again = CliRunner().invoke(app, ["image", "key", str(tmp_path / "fleet.pem")])  # never over a key that is there
    assert (again.exit_code, "File exists" in again.stderr) == (2, True)
