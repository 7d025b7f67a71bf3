"""`cruisers doctor` as a whole: it always ends, never with a traceback, and says it within 80 columns; and the spool."""

import fcntl
import json
import os
import time
import unicodedata
from pathlib import Path
from typing import Any

import doctor_scene
import msgspec
import pytest
from doctor_machine import Trees, told
from gateway_recording import truck, write_config
from gateway_status_parts import says
from rich.console import Console
from typer.testing import CliRunner

from cruisers.__main__ import app
from fleet import doctor, doctor_report, doctor_spool
from fleet.doctor import CHECKS, Result, all_well, examine
from fleet.doctor_finding import GREEN, GREY, RED, YELLOW, Finding, Say, green, grey, red, say, yellow
from fleet.doctor_visit import RECORDER_LOCK, Visit
from fleet.doctor_words import LANGUAGES, WORDS, fields
from gateway.clock import NANO, boottime_ns
from gateway.config import Truck
from gateway.uplink_status import write_json

MAGIC = doctor_spool.MAGIC


@pytest.fixture
def config(tmp_path: Path) -> Truck:
    (tmp_path / "spool").mkdir()
    return truck(tmp_path)


# --- running


def test_a_check_that_fails_is_red_with_its_error_and_the_others_go_on(config: Truck) -> None:
    def fails(visit: Visit) -> list[Finding]:
        raise RuntimeError("of two\nlines")

    results = examine(Visit(config), ["a", "b"], {"a": fails, "b": lambda visit: [green("power_speed")]})
    assert [(result.name, result.colour) for result in results] == [("a", RED), ("b", GREEN)]
    assert results[0].findings[0].saw.values == {"error": "of two lines", "kind": "RuntimeError"}
    assert not all_well(results)


def test_a_check_that_hangs_is_left_behind_and_all_run_at_once(config: Truck) -> None:
    def hangs(visit: Visit) -> list[Finding]:
        time.sleep(30)
        return []

    began = time.monotonic()
    names = [f"slow-{number}" for number in range(20)]
    results = examine(Visit(config), names, dict.fromkeys(names, hangs), dict.fromkeys(names, 0.2))
    assert time.monotonic() - began < 10
    assert all(told(result.findings) == {"check_late": RED} and result.late for result in results)


def test_a_command_that_hangs_is_an_error_of_its_check_alone(tmp_path: Path, config: Truck, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = Trees(tmp_path)
    trees.command("vcgencmd", seconds=30)
    run = type(trees.machine).run
    monkeypatch.setattr(type(trees.machine), "run", lambda self, *command: run(self, *command, seconds=0.2))
    (result,) = examine(trees.visit(config), ["power"])
    assert told(result.findings) == {"check_failed": RED} and not result.late
    assert result.findings[0].saw.values["error"] == "vcgencmd did not answer within 0.2 s"


# --- the command


def bare(config: Truck, folder: Path) -> Path:
    """A truck with nothing but a spool and a hub that nobody serves."""
    return write_config(config, folder)


def test_the_exit_code_says_whether_anything_is_to_be_seen_to(config: Truck, tmp_path: Path) -> None:
    path = str(bare(config, tmp_path))
    runner = CliRunner()
    well = runner.invoke(app, ["doctor", "--config", path, "--only", "head", "--only", "camera"])
    assert well.exit_code == 0 and "2 not applicable" in well.stdout
    wrong = runner.invoke(app, ["doctor", "--config", path, "--only", "spool", "--lang", "ja"])
    assert wrong.exit_code == 1 and "異常 1" in wrong.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--config", "/no/such/truck.toml"], "cruisers doctor: /no/such/truck.toml: No such file or directory"),
        (["--only", "engine"], "cruisers doctor: --only engine: there are power, disk,"),
        (["--lang", "de"], "cruisers doctor: --lang de: it takes one of en, ja"),
    ],
)
def test_bad_input_is_one_line_and_2(arguments: list[str], line: str) -> None:
    done = CliRunner().invoke(app, ["doctor", *arguments])
    assert done.exit_code == 2 and done.stderr.startswith(line) and done.stderr.count("\n") == 1 and not done.stdout


def test_json_is_one_object_with_keys_that_no_language_changes(config: Truck, tmp_path: Path) -> None:
    path = str(bare(config, tmp_path))
    told_by = {}
    for language in LANGUAGES:
        done = CliRunner().invoke(app, ["doctor", "--config", path, "--only", "head", "--only", "spool", "--json", "--lang", language])
        assert done.exit_code == 1 and done.stdout.count("\n") == 1
        told_by[language] = json.loads(done.stdout)
    english, japanese = told_by["en"], told_by["ja"]
    assert english["truck"] == "truck-1" and english["colour"] == "red" and [one["name"] for one in english["checks"]] == ["head", "spool"]
    finding = english["checks"][0]["findings"][0]
    assert finding == {"colour": "grey", "key": "head_none", "saw": "no head and no box is configured", "do_key": None, "do": None}
    keys = [
        [(finding["key"], finding["do_key"]) for check in said["checks"] for finding in check["findings"]] for said in (english, japanese)
    ]
    assert keys[0] == keys[1] and english != japanese


# --- on paper


def cells(line: str) -> int:
    """Columns in a terminal set for Japanese, where characters of ambiguous width take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "AWF" else 1 for character in line)


class Anything(float):
    """Stands for a number or a text."""

    def __format__(self, spec: str) -> str:
        return float.__format__(self, spec) if spec else "/dev/serial/by-id/usb-Raspberry_Pi_Pico_E6614C311B7D4F2A-if00"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_fits_into_80_columns_with_long_values(language: str) -> None:
    said = [
        Say(key, {name: Anything(123_456.789) for name in fields(english) - {"reason"}} | {"reason": "time-out"})
        for key, (english, _) in WORDS.items()
    ]
    findings = [Finding(RED, one) for one in said if not one.key.startswith("do_")]
    findings += [Finding(RED, findings[0].saw, one) for one in said if one.key.startswith("do_")]
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115  closed with the process
    console.print(doctor_report.table("truck-1", [Result("receiver", findings, 1.0)], language), width=78)
    lines = console.export_text().splitlines()
    assert len(lines) > len(said) and max(map(cells, lines)) <= 80


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pictures_in_the_document_are_what_the_program_prints(language: str) -> None:
    found = doctor_scene.block(doctor_scene.DOCUMENT.read_text("utf-8"), language)
    assert found[0] == doctor_scene.picture(language), "PYTHONPATH=tests/support:. python -m doctor_scene"


def test_the_document_names_every_check() -> None:
    document = doctor_scene.DOCUMENT.read_text("utf-8")
    assert [line.split("|")[1].strip() for line in document.splitlines() if line.startswith("| ")][1:] == list(CHECKS)


def test_the_last_line_counts_checks_by_their_worst_finding() -> None:
    bad = red("spool_none", say("do_mount"), spool="x")
    poor = yellow("chrony_absent", say("do_chrony"))
    results = [Result("spool", [bad, poor], 1.0), Result("clock", [poor], 1.0), Result("head", [grey("head_none")], 1.0)]
    assert doctor_report._sum("truck-1", results, "en") == "[bold]truck-1[/]: [bold red]1 wrong, 1 to look at, 1 not applicable[/]"
    assert [result.colour for result in results] == [RED, YELLOW, GREY] and all_well(results[2:])


# --- the spool


def segment(config: Truck, name: str, content: bytes = MAGIC + b"records" + MAGIC) -> Path:
    path = Path(config.spool) / "aaaaaaaa-bbbbbbbb" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def running(config: Truck, **changes: Any) -> None:
    """Uplink and sweeper are this process, and said so just now."""
    spool = Path(config.spool)
    write_json(spool / "uplink.json", says() | {"set_aside": [], "receipted_bytes_per_s": 2_000_000.0} | changes)
    write_json(spool / "sweeper.json", {"truck": "truck-1", "pid": os.getpid(), "boottime_ns": boottime_ns(), "problem": None})


def test_a_spool_that_is_worked_on_is_green(config: Truck) -> None:
    running(config)
    segment(config, "000001-readings.mcap")
    with (Path(config.spool) / RECORDER_LOCK).open("w") as lock, segment(config, "000002-readings.mcap.open").open() as being_written:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(being_written, fcntl.LOCK_EX)
        found = doctor_spool.check(Visit(config))
    assert told(found) == {"process_runs": GREEN, "backlog": GREEN, "quota_well": GREEN}
    assert found[0].saw.values["names"] == "recorder, uplink, sweeper"


def test_a_recorder_that_is_parked_is_no_fault(config: Truck) -> None:
    parked = says()["recorder"] | {"parked": True}
    running(config, recorder=parked)
    assert told(doctor_spool.processes(Visit(config))) == {"process_runs": GREEN, "parked": GREY}
    running(config, recorder=parked | {"heard_boottime_ns": boottime_ns() - 60 * NANO})  # it parks no more: nobody hears it
    assert told(doctor_spool.processes(Visit(config)))["process_not_running"] == RED


def test_what_nobody_looks_after_in_a_spool_is_told(config: Truck) -> None:
    running(config, problem="disk: full", set_aside=says()["set_aside"], receipted_bytes_per_s=100.0)
    write_json(Path(config.spool) / "sweeper.json", {"truck": "truck-1", "pid": 2**22 + 1, "boottime_ns": boottime_ns() - NANO})
    segment(config, "000001-readings.mcap", b"cut")
    segment(config, "000002-images.mcap", MAGIC + b"no end")
    segment(config, "000003-readings.mcap.open")
    found = doctor_spool.check(Visit(msgspec.structs.replace(config, spool_quota_bytes=10)))
    assert told(found) == {
        "process_not_running": RED, "process_problem": YELLOW, "backlog_long": YELLOW, "set_aside": YELLOW, "quota_over": RED,
        "open_left": YELLOW, "damaged": YELLOW,
    }  # fmt: skip
    damaged = next(finding for finding in found if finding.saw.key == "damaged")
    assert damaged.saw.values["count"] == 2 and damaged.do is not None and "000001" in damaged.do.values["path"]


def test_a_status_that_is_none_is_the_checks_own_error(config: Truck) -> None:
    (Path(config.spool) / "uplink.json").write_text("{")
    results = {result.name: told(result.findings) for result in examine(Visit(config), ["spool", "link"])}
    assert results == {"spool": {"check_failed": RED}, "link": {"check_failed": RED}}
    assert doctor.LIMITS.keys() <= CHECKS.keys()
