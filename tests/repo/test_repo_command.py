"""The command `cruisers` itself: its rooms are found, and imported no earlier than they are called."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cruisers.__main__ import ROOMS, app


def test_the_help_names_every_room_with_what_it_is_for() -> None:
    done = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    lines = [line.strip("│ ") for line in done.stdout.splitlines()]
    for name in (*ROOMS, "demo", "sense"):
        assert any(line.startswith(f"{name} ") and len(line.split()) > 2 for line in lines), name


@pytest.mark.parametrize(("typed", "meant"), [("segmnt", "segment"), ("centre", "center"), ("sence", "sense")])
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(typed: str, meant: str) -> None:
    done = CliRunner().invoke(app, [typed])
    assert done.exit_code == 2 and meant in done.stderr


def test_a_command_starts_without_the_rooms_that_it_does_not_need() -> None:
    program = (
        "import sys, cruisers.__main__; print({name.partition('.')[0] for name in sys.modules} & {'slixmpp', 'numpy', 'sim', 'center'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
