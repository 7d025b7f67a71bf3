"""docs/technician.md: its screens fit a terminal, and what it tells to type exists."""

import importlib.util
import re
import unicodedata
from pathlib import Path

import pytest
from commands_named import reached

from firmware import frames
from gateway.head_console_seen import SILENT

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "technician.md").read_text()
SCREENS = dict(re.findall(r"<!-- screen ([a-z-]+) -->\n```text\n(.*?)```", TEXT, re.DOTALL))


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def test_every_screen_is_there_and_no_line_is_wider_than_80_columns() -> None:
    assert set(SCREENS) == {
        "sim", "flash-during", "flash", "all-during", "all", "console", "console-lacking", "doctor-en", "doctor-ja",
    }  # fmt: skip
    assert TEXT.count("```text") == len(SCREENS)
    for name, screen in SCREENS.items():
        lines = screen.splitlines()
        assert lines[0].startswith("$ cruisers ") and len(lines) > 1, name
        assert max(map(columns, lines)) <= 80, name


def test_the_screens_show_what_their_text_says() -> None:
    assert "━" in SCREENS["flash-during"] and "proved" not in SCREENS["flash-during"] and " proved" in SCREENS["flash"]
    assert {word for word in ("unchanged", "proved", "failed") if word in SCREENS["all"]} == {"unchanged", "proved", "failed"}
    assert all(line in SCREENS["console"] for line in ("head e661", "heap", "ring: frames", "icm20948  ok", "sps30     ok", "µg/m³"))
    assert len(SCREENS["console"].splitlines()) <= 1 + 24
    assert "opt3001   absent" in SCREENS["console-lacking"] and "opt3001" in SCREENS["doctor-en"] and "opt3001" in SCREENS["doctor-ja"]


def test_every_state_that_the_console_shows_is_explained() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)) == {*frames.STATES, SILENT}


def test_every_command_and_option_that_is_named_exists() -> None:
    typed = re.findall(r"`(?:sudo )?cruisers ([^`]+)`", TEXT)
    typed += [
        re.sub(r" \\\n", " ", line) for screen in SCREENS.values() for line in re.findall(r"^\$ cruisers ((?:.*\\\n)*.*)$", screen, re.M)
    ]
    assert reached(typed) == {"flash", "provision", "head console", "head update", "doctor", "sim head"}


def test_the_script_that_takes_the_screens_reads_a_terminal() -> None:
    spec = importlib.util.spec_from_file_location("take_screens", DOCS / "take_screens.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    screen = script.Screen()
    screen.feed("\x1b[?25lone\r\ntwo\r\n\x1b[1A\r\x1b[2K\x1b[1A\x1b[2K\x1b[1;32mnew 電\x1b[0m|\r\n")
    assert screen.lines() == ["new 電|"]
    line = script.shown("cruisers", "flash", *["--port", "ttyHEAD1"] * 6).splitlines()
    assert len(line) == 2 and line[0].endswith(" \\") and line[1].startswith("      --port ttyHEAD1")


@pytest.mark.parametrize("place", re.findall(r"\]\(([^)]+)\)", TEXT))
def test_what_it_refers_to_is_there(place: str) -> None:
    assert (DOCS / place).exists()
