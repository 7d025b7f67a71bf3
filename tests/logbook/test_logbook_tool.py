"""`cruisers segment`: exit codes 0 clean, 1 failed, 2 usage, 3 recovered with loss; files being written are left alone."""

import fcntl
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from logbook import channels
from logbook.recovery import recover
from logbook.tool import app

pytestmark = pytest.mark.timeout(60)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def rows(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_ls_fits_in_80_columns_and_tells_the_state_of_every_segment(make_open) -> None:
    made = make_open(channels.READINGS, 4)
    spool = made.path_open.parent.parent
    recover(made.fresh(made.data, "sealed"))
    result = run("ls", spool)
    assert result.exit_code == 0
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert "not sealed" in result.stdout and "89abcdef-01234567/000001-readings" in result.stdout
    states = {row["path"]: (row["state"], row["chunks"]) for row in rows(run("ls", "--json", spool))}
    assert states[str(made.path_open)] == ("not sealed", 4)
    assert states[str(made.path_open.parent.parent / "copy-sealed" / made.path_open.parent.name / "000001-readings.mcap")] == ("sealed", 5)


def test_cat_prints_the_messages_of_one_topic(make_open) -> None:
    made = make_open(channels.READINGS, 2)
    result = run("cat", made.path_open, "--topic", "/head/frames")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2 and "last_sequence: 8" in result.stdout
    (first,) = rows(run("cat", made.path_open, "--json", "--limit", 1))
    assert (first["topic"], first["log_time"], first["message"]["sensor"]) == ("/reading/bmp390", 1_000_000_000, "bmp390")
    images = make_open(channels.IMAGES, 1)
    assert "jpeg, 401 bytes" in run("cat", images.path_open).stdout


def test_cat_shows_a_column_block() -> None:
    golden = Path(__file__).parent / "golden" / "000001-readings.mcap"
    assert "50 samples of 2 columns" in run("cat", golden, "--topic", "/imu/block").stdout
    (row,) = rows(run("cat", golden, "--topic", "/imu/block", "--json"))
    assert row["block"]["columns"][0][:2] == [-70, -67]


def test_doctor_is_content_with_whole_segments_and_names_what_is_wrong(make_open) -> None:
    made = make_open(channels.READINGS, 4)
    sealed = recover(made.fresh(made.data)).path
    assert run("doctor", sealed).exit_code == 0
    data = bytearray(sealed.read_bytes())
    data[made.durable[2] + 80] ^= 1
    sealed.write_bytes(data)
    result = run("doctor", sealed)
    assert result.exit_code == 1 and "damaged chunk" in result.stdout
    assert rows(run("doctor", "--json", sealed))[0]["problems"][0] == "data section does not match its CRC"
    assert run("doctor", made.path_open).exit_code == 1, "an open file without writer waits for recovery"


def test_recover_is_clean_at_a_chunk_boundary_and_3_with_loss(make_open) -> None:
    made = make_open(channels.READINGS, 4)
    result = run("recover", made.fresh(made.data, "clean"))
    assert result.exit_code == 0 and "4 chunks kept" in result.stdout
    torn = run("recover", "--json", made.fresh(made.data[:-3], "torn").parent)
    assert torn.exit_code == 3
    (row,) = rows(torn)
    assert row["kept_chunks"] == 3 and row["gaps"][0]["source"] == "readings" and row["lossless"] is False
    headless = run("recover", made.fresh(made.data[:100], "headless"))
    assert headless.exit_code == 1 and "set aside" in headless.stdout


def test_a_file_being_written_is_refused_when_named_and_skipped_in_a_spool(make_open) -> None:
    made = make_open(channels.READINGS, 2)
    with made.path_open.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert run("recover", made.path_open).exit_code == 1
        spool = run("recover", made.path_open.parent.parent)
        assert spool.exit_code == 0 and "nothing to recover" in spool.stdout
        assert run("doctor", made.path_open).exit_code == 1
        assert run("doctor", made.path_open.parent.parent).exit_code == 0
        assert "being written" in run("ls", made.path_open).stdout
        assert made.path_open.read_bytes() == made.data


def test_wrong_use_is_one_line_and_2(make_open) -> None:
    made = make_open(channels.READINGS, 1)
    sealed = recover(made.path_open).path
    for arguments in (("ls", "/nowhere"), ("cat", "/nowhere"), ("doctor", "/nowhere"), ("recover", "/nowhere"), ("recover", sealed)):
        result = run(*arguments)
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert run("recover").exit_code == 2
    (sealed.parent / "x.mcap").write_bytes(b"junk")
    assert run("cat", sealed.parent / "x.mcap").exit_code == 1
    assert run("ls", sealed.parent).exit_code == 1


def test_every_command_has_help_of_80_columns_with_an_example() -> None:
    for command in ("ls", "cat", "doctor", "recover", "export"):
        result = run(command, "--help")
        assert result.exit_code == 0 and f"Example: cruisers segment {command} " in result.stdout
        assert max(map(len, result.stdout.splitlines())) <= 80
    assert "personal data" in run("export", "--help").stdout


@pytest.mark.parametrize("command", ["doctor", "recover", "export"])
def test_long_work_shows_a_bar_on_a_terminal_and_nothing_anywhere_else(make_open, command: str, tmp_path: Path) -> None:
    made = make_open(channels.READINGS, 4)
    path = made.path_open if command == "recover" else recover(made.path_open).path
    arguments = [sys.executable, "-m", "logbook.tool", command, str(path), *(["--csv", str(tmp_path / "t")] if command == "export" else [])]
    terminal, line = pty.openpty()
    subprocess.run(
        arguments, stdout=subprocess.PIPE, stderr=line, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"}, timeout=30, check=False
    )
    os.close(line)
    shown = b""
    with suppress(OSError):  # EIO: all has been read, the other end is closed
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    assert {"doctor": b"checking", "recover": b"recovering", "export": b"exporting"}[command] in shown
    if command != "recover":
        piped = subprocess.run([*arguments, "--force"] if command == "export" else arguments, capture_output=True, timeout=30, check=False)
        assert b"ing" not in piped.stderr.replace(b"missing", b"")
